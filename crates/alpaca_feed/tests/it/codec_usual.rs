//! The guess at the usual spelling reads what the tolerant path reads, and falls back without loss: every element is
//! decoded as it is and in a spelling that means the same and that no guess knows.

use alpaca_feed::decode::Decoder;
use alpaca_feed::message::{Batch, Codec};
use alpaca_feed::symbol::Symbols;

const CASES: u32 = 60_000;

/// The same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn one_of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len() as u64) as usize]
    }
}

fn decode(decoder: &mut Decoder, codec: Codec, frame: &[u8]) -> Batch {
    let mut batch = Batch::default();
    decoder.decode(codec, frame, &mut batch);
    // It tells where in the frame, which differs.
    batch.malformed.sample = None;
    batch
}

const SYMBOLS: [&str; 10] =
    ["A", "SPY", "BRK.B", "BTC/USD", "ABCDEFGH", "SPY260116C00650000", "é", "A B", r"A\u0042", ""];
const LETTERS: [&str; 6] = ["V", " ", "", "é", "NY", r#"\""#];
const LISTS: [&str; 8] = [
    r#"["R"]"#,
    r#"["@","I"]"#,
    r#"[" ","F","T","I"]"#,
    "[]",
    r#"["NY"]"#,
    r#"[null,"R"]"#,
    "null",
    r#"["1","2","3","4","5","6","7","8","9"]"#,
];
const NUMBERS: [&str; 22] = [
    "0",
    "1",
    "100",
    "12345678",
    "123456789",
    "1.5",
    "387.38",
    "0.0001",
    "99999999.12345678",
    "1234567.123456789",
    "10.123456789012345",
    "1e3",
    "1.5E-2",
    "-1",
    "-0.5",
    "1.",
    ".5",
    "01",
    "18446744073709551616",
    "9007199254740993",
    "null",
    "\"7\"",
];
const WHOLES: [&str; 9] = [
    "0",
    "4711",
    "12345678",
    "52983525033527",
    "9007199254740993",
    "9999999999999999999",
    "18446744073709551615",
    "5.0",
    "-1",
];
const TIMES: [&str; 12] = [
    "2026-10-06T14:30:00.123456789Z",
    "2026-10-06T14:30:59.5Z",
    "2026-10-06T14:30:07Z",
    "2026-10-06T14:31:00.000000001Z",
    "2026-10-06T14:30:60Z",
    "2026-10-06T14:30:00.1234567891Z",
    "2026-10-06T14:30:00.12345678Z",
    "2026-10-06T10:30:00-04:00",
    "2026-02-30T14:30:00Z",
    "2262-04-11T23:47:16.854775807Z",
    "2026-10-06T14:30:00.Z",
    "0000-00-00T00:00:00Z",
];

/// An element's fields, each as JSON.
fn fields(random: &mut Random) -> Vec<(&'static str, String)> {
    let text = |text: &str| format!("\"{text}\"");
    let mostly = |random: &mut Random, usual: &str, all: &[&str]| {
        if random.below(12) > 0 { usual.to_owned() } else { random.one_of(all).to_owned() }
    };
    let price = format!("{}.{:02}", random.below(1000), random.below(100));
    let size = random.below(90_000).to_string();
    let mut fields = if random.below(3) == 0 {
        vec![
            ("T", text("t")),
            ("S", text(&mostly(random, "SPY", &SYMBOLS))),
            ("i", mostly(random, &size, &WHOLES)),
            ("x", text(&mostly(random, "V", &LETTERS))),
            ("p", mostly(random, &price, &NUMBERS)),
            ("s", mostly(random, &size, &NUMBERS)),
        ]
    } else {
        vec![
            ("T", text("q")),
            ("S", text(&mostly(random, "SPY", &SYMBOLS))),
            ("bx", text(&mostly(random, "V", &LETTERS))),
            ("bp", mostly(random, &price, &NUMBERS)),
            ("bs", mostly(random, &size, &NUMBERS)),
            ("ax", text(&mostly(random, "K", &LETTERS))),
            ("ap", mostly(random, &price, &NUMBERS)),
            ("as", mostly(random, &size, &NUMBERS)),
        ]
    };
    fields.extend([
        ("c", mostly(random, LISTS[0], &LISTS)),
        ("z", text(&mostly(random, "C", &LETTERS))),
        ("t", text(&mostly(random, TIMES[0], &TIMES))),
    ]);
    match random.below(20) {
        0 => drop(fields.remove(2 + random.below(7) as usize)),
        1 => fields.push(("z", text("A"))),
        2 => fields.swap(3, 5),
        3 => fields.push(("new", "[1,{}]".to_owned())),
        _ => {}
    }
    fields
}

#[test]
fn json_is_read_alike_in_the_usual_and_in_any_other_spelling() {
    let mut random = Random(1);
    let mut decoder = Decoder::new(Symbols::new());
    let mut whole = 0;
    for case in 0..CASES {
        let fields = fields(&mut random);
        let spelled = |open: &str| {
            let fields: Vec<_> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            format!("[{{{open}{}}}]", fields.join(","))
        };
        // The usual spelling has no space.
        let usual = decode(&mut decoder, Codec::Json, spelled("").as_bytes());
        let other = decode(&mut decoder, Codec::Json, spelled(" ").as_bytes());
        assert_eq!(usual, other, "case {case}: {}", spelled(""));
        whole += usual.events.len();
        // Cut anywhere, nothing is made up.
        let text = spelled("");
        let cut = random.below(text.len() as u64) as usize;
        let torn = decode(&mut decoder, Codec::Json, &text.as_bytes()[..cut]);
        assert!(torn.events.len() <= usual.events.len(), "case {case}: {} cut at {cut}", spelled(""));
    }
    assert!(whole > CASES as usize / 3, "{whole} of {CASES} were right");
}

#[test]
fn message_pack_is_read_alike_in_the_usual_and_in_any_other_spelling() {
    let mut random = Random(2);
    let mut decoder = Decoder::new(Symbols::new());
    let mut whole = 0;
    for case in 0..CASES {
        let fields = fields(&mut random);
        let mut packed: Vec<(rmpv::Value, rmpv::Value)> = Vec::new();
        for (name, value) in &fields {
            let Ok(value) = serde_json::from_str::<serde_json::Value>(value) else { continue };
            packed.push(((*name).into(), pack(name, &value, &mut random)));
        }
        if random.below(3) == 0 {
            packed.push(("r".into(), time(1_791_297_000 + random.below(99), random.below(999_999_999))));
        }
        let spelled = |more: bool| {
            let mut packed = packed.clone();
            if more {
                packed.push(("unheard of".into(), rmpv::Value::Nil));
            }
            let mut frame = Vec::new();
            rmpv::encode::write_value(&mut frame, &rmpv::Value::Array(vec![rmpv::Value::Map(packed)]))
                .unwrap();
            frame
        };
        let usual = decode(&mut decoder, Codec::MessagePack, &spelled(false));
        let other = decode(&mut decoder, Codec::MessagePack, &spelled(true));
        assert_eq!(usual, other, "case {case}: {fields:?}");
        whole += usual.events.len();
        let frame = spelled(false);
        let cut = random.below(frame.len() as u64) as usize;
        let torn = decode(&mut decoder, Codec::MessagePack, &frame[..cut]);
        assert!(torn.events.len() <= usual.events.len(), "case {case}: {fields:?} cut at {cut}");
    }
    assert!(whole > CASES as usize / 3, "{whole} of {CASES} were right");
}

fn time(seconds: u64, nanos: u64) -> rmpv::Value {
    rmpv::Value::Ext(-1, (nanos << 34 | seconds).to_be_bytes().to_vec())
}

fn pack(name: &str, value: &serde_json::Value, random: &mut Random) -> rmpv::Value {
    use serde_json::Value;
    match value {
        Value::String(_) if name == "t" => match random.below(8) {
            0 => rmpv::Value::Ext(-1, (random.below(1 << 31) as u32).to_be_bytes().to_vec()),
            1 => time(1_791_297_000, 1_000_000_000 + random.below(9)),
            2 => value.as_str().unwrap().into(),
            _ => time(1_791_297_000 + random.below(99), random.below(1_000_000_000)),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(values) => rmpv::Value::Array(values.iter().map(|v| pack("", v, random)).collect()),
        Value::Number(number) => match number.as_u64() {
            Some(whole) => whole.into(),
            None => rmpv::Value::F64(number.as_f64().unwrap()),
        },
        Value::Null | Value::Bool(_) | Value::Object(_) => rmpv::Value::Nil,
    }
}
