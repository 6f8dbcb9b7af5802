//! Random damage to one element of a frame: nothing panics, neighbours survive, and where the damaged element is still
//! well-formed the decoder and an independent judge agree on what it says or that it says nothing.

use alpaca_feed::decode::Decoder;
use alpaca_feed::message::{Batch, Codec, Event};
use alpaca_feed::symbol::Symbols;
use serde_json::Value;

use crate::codec_data::{packed, synthetic};
use crate::codec_oracle::{expected, shown};

const ROUNDS: u64 = 150_000;
const FIRST: &str = r#"{"T":"q","S":"FIRST","bp":1,"ap":2,"t":"2026-10-06T14:30:00Z"}"#;
const LAST: &str = r#"{"T":"t","S":"LAST","p":3,"s":4,"t":"2026-10-06T14:30:00Z"}"#;

/// A small generator whose whole state is the seed that a failure prints.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % bound.max(1)
    }

    /// Damages `bytes` in one to three places.
    fn damage(&mut self, bytes: &mut Vec<u8>, telling: &[u8]) {
        for _ in 0..=self.below(3) {
            let (at, other) = (self.below(bytes.len()), self.below(bytes.len()));
            let byte = telling[self.below(telling.len())];
            match self.below(8) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = self.below(256) as u8,
                2 => bytes[at] = byte,
                3 => bytes.insert(at, byte),
                4 => drop(bytes.remove(at)),
                5 => bytes.swap(at, other),
                6 => bytes.truncate(at.max(1)),
                _ => {
                    let (from, to) = (at.min(other), at.max(other).min(at.min(other) + 12));
                    let run = bytes[from..to].to_vec();
                    bytes.splice(other..other, run);
                }
            }
            if bytes.is_empty() {
                bytes.push(byte);
            }
        }
    }
}

struct Bench {
    decoder: Decoder,
    symbols: std::sync::Arc<Symbols>,
    batch: Batch,
    first: Event,
    last: Event,
}

impl Bench {
    fn new() -> Self {
        let symbols = Symbols::new();
        let mut bench = Self {
            decoder: Decoder::new(symbols.clone()),
            symbols,
            batch: Batch::default(),
            first: Event::Unknown(Box::new(alpaca_feed::message::Unknown {
                tag: String::new(),
                symbol: None,
                ts: None,
                codec: Codec::Json,
                raw: [].into(),
            })),
            last: Event::Unknown(Box::new(alpaca_feed::message::Unknown {
                tag: String::new(),
                symbol: None,
                ts: None,
                codec: Codec::Json,
                raw: [].into(),
            })),
        };
        bench.decode(Codec::Json, format!("[{FIRST},{LAST}]").as_bytes());
        bench.first = bench.batch.events[0].clone();
        bench.last = bench.batch.events[1].clone();
        bench
    }

    fn decode(&mut self, codec: Codec, frame: &[u8]) {
        self.batch.clear();
        self.decoder.decode(codec, frame, &mut self.batch);
    }

    /// Whether the damage stayed in the middle element: three elements are accounted for, the outer two unharmed.
    fn neighbours_survived(&self) -> bool {
        let Batch { events, control, malformed, .. } = &self.batch;
        events.len() as u64 + control.len() as u64 + malformed.count == 3
            && events.first() == Some(&self.first)
            && events.last() == Some(&self.last)
    }
}

#[test]
fn damaged_json_never_panics_or_harms_its_neighbours_and_reads_as_an_independent_parser_says() {
    let corpus: Vec<_> =
        synthetic(64).chain([FIRST.into(), r#"{"T":"error","code":406,"msg":"m"}"#.into()]).collect();
    let mut bench = Bench::new();
    let (mut well_formed, mut agreed) = (0, 0);
    for seed in 0..ROUNDS {
        let mut random = Random(seed);
        let mut element = corpus[random.below(corpus.len())].clone().into_bytes();
        random.damage(&mut element, br#"",:[]{}\0123456789.-+eEtTzZunlSp "#);
        let frame = [b"[", FIRST.as_bytes(), b",", &element, b",", LAST.as_bytes(), b"]"].concat();
        bench.decode(Codec::Json, &frame);
        let text = || String::from_utf8_lossy(&element);
        assert_eq!(bench.batch.events.first(), Some(&bench.first), "seed {seed}: {}", text());
        let Ok(value) = serde_json::from_slice::<Value>(&element) else { continue };
        well_formed += 1;
        assert!(bench.neighbours_survived(), "seed {seed}: {} {:?}", text(), bench.batch);
        let tag = value.get("T").and_then(Value::as_str).unwrap_or_default();
        if tag.len() != 1 || !"tqbudcxslopni".contains(tag) || has_a_key_twice(&value, &text()) {
            continue;
        }
        let seen =
            (bench.batch.events.len() == 3).then(|| shown(&bench.batch.events[1], &bench.symbols.read()));
        assert_eq!(seen, expected(&value), "seed {seed}: {} {:?}", text(), bench.batch.malformed);
        agreed += 1;
    }
    println!(
        "{ROUNDS} damaged elements, {well_formed} still well-formed, {agreed} of them judged value by value"
    );
    assert!(well_formed > ROUNDS / 10 && agreed > ROUNDS / 20);
}

/// Of such an element the judge reads the last value only, but the decoder refuses it if any is wrong.
fn has_a_key_twice(element: &Value, text: &str) -> bool {
    element.as_object().unwrap().keys().any(|key| text.matches(&format!("\"{key}\"")).count() > 1)
}

#[test]
fn damaged_message_pack_never_panics_or_harms_its_neighbours() {
    let corpus: Vec<_> = synthetic(64).map(|element| packed(&element)).collect();
    let (first, last) = (packed(FIRST), packed(LAST));
    let mut bench = Bench::new();
    let mut well_formed = 0;
    for seed in 0..ROUNDS {
        let mut random = Random(seed);
        let mut element = corpus[random.below(corpus.len())].clone();
        random.damage(
            &mut element,
            &[
                0x80, 0x81, 0x90, 0x9f, 0xa1, 0xc0, 0xc1, 0xc4, 0xc7, 0xca, 0xcb, 0xcf, 0xd3, 0xd6, 0xd7,
                0xd9, 0xdc, 0xdd, 0xdf, 0xff,
            ],
        );
        bench.decode(Codec::MessagePack, &[&[0x93][..], &first, &element, &last].concat());
        assert_eq!(bench.batch.events.first(), Some(&bench.first), "seed {seed}: {}", element.escape_ascii());
        let mut rest = &element[..];
        // The judge takes the byte that is never used for a null.
        let is_legal = !element.contains(&0xc1);
        if is_legal && rmpv::decode::read_value(&mut rest).is_ok() && rest.is_empty() {
            well_formed += 1;
            assert!(bench.neighbours_survived(), "seed {seed}: {} {:?}", element.escape_ascii(), bench.batch);
        }
    }
    println!("{ROUNDS} damaged elements, {well_formed} still well-formed");
    assert!(well_formed > ROUNDS / 10);
}

#[test]
fn noise_is_never_more_than_malformed() {
    let mut bench = Bench::new();
    for seed in 0..20_000 {
        let mut random = Random(seed);
        let frame: Vec<u8> = (0..random.below(64)).map(|_| random.below(256) as u8).collect();
        for codec in [Codec::Json, Codec::MessagePack] {
            bench.decode(codec, &frame);
            let understood = bench.batch.events.len() + bench.batch.control.len();
            assert!(
                understood > 0 || bench.batch.malformed.count > 0 || is_empty_array(&frame),
                "seed {seed} {codec:?}"
            );
        }
    }
}

/// The one kind of frame that holds nothing and is still right.
fn is_empty_array(frame: &[u8]) -> bool {
    matches!(frame, [0x90] | [0xdc, 0, 0] | [0xdd, 0, 0, 0, 0]) || frame.trim_ascii() == b"[]"
}
