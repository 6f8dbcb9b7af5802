//! Throughput of the decoder on generated frames: 85 % quotes, 13 % trades, 2 % bars over 11,000 symbols of which few
//! are hot, in both codecs at 1, 10 and 100 messages a frame. Read the middle of the `item/s` column: messages per
//! second of one core. Figures of two machines, or of two runs far apart, do not compare; ratios in one run do.
#![allow(missing_docs, clippy::unwrap_used)]

use alpaca_feed::decode::Decoder;
use alpaca_feed::message::{Batch, Codec};
use alpaca_feed::symbol::Symbols;
use divan::counter::{BytesCount, ItemsCount};
use rmpv::Value as Packed;
use serde_json::{Value, json};

const MESSAGES: usize = 100_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--passes", passes, codec] => count(passes.parse().unwrap(), codec),
        _ => divan::main(),
    }
}

/// Decodes all frames so many times, for whoever counts instructions: the difference of two runs is that of the passes.
fn count(passes: usize, codec: &str) {
    let (codec, frames) = match codec {
        "json" => (Codec::Json, json_frames(10)),
        "msgpack" => (Codec::MessagePack, message_pack_frames(10)),
        other => panic!("{other}: json or msgpack is expected"),
    };
    let mut decoder = Decoder::new(Symbols::new());
    let mut batch = Batch::default();
    for frame in std::iter::repeat_n(&frames, passes).flatten() {
        batch.clear();
        decoder.decode(codec, frame, &mut batch);
        divan::black_box(&batch);
    }
    println!("{} messages a pass", MESSAGES);
}

/// The fields of a message in wire order.
type Fields = Vec<(&'static str, Value)>;

#[divan::bench(args = [1, 10, 100])]
fn json(bencher: divan::Bencher<'_, '_>, per_frame: usize) {
    run(bencher, Codec::Json, &json_frames(per_frame));
}

fn json_frames(per_frame: usize) -> Vec<Vec<u8>> {
    frames(per_frame, |elements| {
        let field = |(name, value): &(&str, Value)| format!("\"{name}\":{value}");
        let element = |fields: &Fields| fields.iter().map(field).collect::<Vec<_>>().join(",");
        let elements: Vec<_> = elements.iter().map(|fields| format!("{{{}}}", element(fields))).collect();
        format!("[{}]", elements.join(",")).into_bytes()
    })
}

#[divan::bench(args = [1, 10, 100])]
fn message_pack(bencher: divan::Bencher<'_, '_>, per_frame: usize) {
    run(bencher, Codec::MessagePack, &message_pack_frames(per_frame));
}

fn message_pack_frames(per_frame: usize) -> Vec<Vec<u8>> {
    frames(per_frame, |elements| {
        let field = |(name, value): &(&str, Value)| ((*name).into(), pack(value));
        let element = |fields: &Fields| Packed::Map(fields.iter().map(field).collect());
        let mut frame = Vec::new();
        rmpv::encode::write_value(&mut frame, &Packed::Array(elements.iter().map(element).collect()))
            .unwrap();
        frame
    })
}

fn run(bencher: divan::Bencher<'_, '_>, codec: Codec, frames: &[Vec<u8>]) {
    let mut decoder = Decoder::new(Symbols::new());
    let mut batch = Batch::default();
    bencher
        .counter(ItemsCount::new(MESSAGES))
        .counter(BytesCount::new(frames.iter().map(Vec::len).sum::<usize>()))
        .bench_local(|| {
            for frame in frames {
                batch.clear();
                decoder.decode(codec, frame, &mut batch);
                divan::black_box(&batch);
            }
            assert_eq!(batch.malformed.count, 0);
        });
}

fn frames(per_frame: usize, to_frame: impl Fn(&[Fields]) -> Vec<u8>) -> Vec<Vec<u8>> {
    let mut state = 1_u64;
    let mut below = |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let elements: Vec<_> = (0..MESSAGES)
        .map(|n| {
            // A product of two even choices is more often low than high.
            let symbol = radix_26(below(105) * below(105));
            // As the venue writes them: hundredths, whose nearest double prints short.
            let cents = 1_000 + below(50_000);
            let (price, ask) = (cents as f64 / 100.0, (cents + 25) as f64 / 100.0);
            let ts = format!("2026-10-06T14:{:02}:{:02}.{:09}Z", n / 60 % 60, n % 60, below(1_000_000_000));
            let fields = match below(100) {
                0..85 => vec![
                    ("T", json!("q")),
                    ("S", json!(symbol)),
                    ("bx", json!("V")),
                    ("bp", json!(price)),
                    ("bs", json!(below(900))),
                    ("ax", json!("K")),
                    ("ap", json!(ask)),
                    ("as", json!(below(900))),
                    ("c", json!(["R"])),
                    ("z", json!("C")),
                ],
                85..98 => vec![
                    ("T", json!("t")),
                    ("S", json!(symbol)),
                    ("i", json!(below(1 << 31))),
                    ("x", json!("V")),
                    ("p", json!(price)),
                    ("s", json!(below(900))),
                    ("c", json!(["@", "I"])),
                    ("z", json!("C")),
                ],
                _ => vec![
                    ("T", json!("b")),
                    ("S", json!(symbol)),
                    ("o", json!(price)),
                    ("h", json!(price)),
                    ("l", json!(price)),
                    ("c", json!(price)),
                    ("v", json!(below(100_000))),
                    ("n", json!(below(900))),
                    ("vw", json!(price)),
                ],
            };
            [fields, vec![("t", json!(ts))]].concat()
        })
        .collect();
    elements.chunks(per_frame).map(to_frame).collect()
}

fn radix_26(mut number: u64) -> String {
    let mut name = String::new();
    loop {
        name.push(char::from(b'A' + (number % 26) as u8));
        number /= 26;
        if number == 0 {
            return name;
        }
    }
}

fn pack(value: &Value) -> Packed {
    match value {
        Value::Array(values) => Packed::Array(values.iter().map(pack).collect()),
        Value::String(text) => match text.parse::<jiff::Timestamp>() {
            Ok(time) => {
                let (seconds, nanos) = (time.as_second() as u64, time.subsec_nanosecond() as u64);
                Packed::Ext(-1, (nanos << 34 | seconds).to_be_bytes().to_vec())
            }
            Err(_) => text.as_str().into(),
        },
        Value::Number(number) => {
            number.as_u64().map_or_else(|| Packed::F64(number.as_f64().unwrap()), Packed::from)
        }
        Value::Null | Value::Bool(_) | Value::Object(_) => unreachable!("the generator writes none"),
    }
}
