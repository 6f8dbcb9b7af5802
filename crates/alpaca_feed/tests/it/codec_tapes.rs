//! Recorded market data through the decoder, judged by an independent JSON parser.

use std::collections::BTreeMap;

use alpaca_feed::decode::Decoder;
use alpaca_feed::message::{Batch, Codec, Control, Kind};
use alpaca_feed::subscription::{Channel, Subscriptions};
use alpaca_feed::symbol::Symbols;
use serde_json::Value;

use crate::codec_data::{frame, packed, recorded, synthetic};
use crate::codec_oracle::{expected, shown};

/// Decodes one frame in both codecs and compares every field of every element with what it must be.
struct Judge {
    decoder: Decoder,
    symbols: std::sync::Arc<Symbols>,
    elements: usize,
}

impl Judge {
    fn new() -> Self {
        let symbols = Symbols::new();
        Self { decoder: Decoder::new(symbols.clone()), symbols, elements: 0 }
    }

    fn judge(&mut self, json: &str) {
        let elements: Value = serde_json::from_str(json).unwrap();
        let elements = elements.as_array().map_or(std::slice::from_ref(&elements), Vec::as_slice);
        for (codec, frame) in [(Codec::Json, json.as_bytes()), (Codec::MessagePack, &packed(json))] {
            let mut batch = Batch::default();
            self.decoder.decode(codec, frame, &mut batch);
            assert_eq!(
                (batch.malformed.count, batch.unknown),
                (0, 0),
                "{codec:?} {json} {:?}",
                batch.malformed
            );
            assert_eq!(batch.events.len() + batch.control.len(), elements.len(), "{codec:?} {json}");
            let (mut events, mut control) = (batch.events.iter(), batch.control.iter());
            for element in elements {
                match expected(element) {
                    Some(expected) => {
                        let shown = shown(events.next().unwrap(), &self.symbols.read());
                        assert_eq!(shown, expected, "{codec:?}");
                    }
                    None => assert_eq!(control.next(), Some(&expected_control(element)), "{codec:?}"),
                }
            }
        }
        self.elements += elements.len();
    }
}

fn expected_control(element: &Value) -> Control {
    let msg = || element["msg"].as_str().unwrap().to_owned();
    match element["T"].as_str().unwrap() {
        "success" if element["msg"] == "connected" => Control::Connected,
        "success" if element["msg"] == "authenticated" => Control::Authenticated,
        "success" => Control::OtherSuccess(msg()),
        "error" => Control::Error { code: element["code"].as_u64().unwrap().try_into().unwrap(), msg: msg() },
        "subscription" => {
            let listed = |channel: Channel| element.get(channel.as_str()).and_then(Value::as_array);
            let pairs = Channel::ALL.into_iter().flat_map(|channel| {
                listed(channel).into_iter().flatten().map(move |symbol| (channel, symbol.as_str().unwrap()))
            });
            Control::Subscription(pairs.collect::<Subscriptions>())
        }
        other => panic!("no message of ours: {other} in {element}"),
    }
}

#[test]
fn every_captured_frame_decodes_field_by_field() {
    let mut judge = Judge::new();
    let Some(lines) = recorded("alpaca_captures/iex_extended_20251009_frames.ndjson.gz") else {
        return synthetic_market_decodes(&mut judge);
    };
    for line in lines {
        let line: Value = serde_json::from_str(&line).unwrap();
        judge.judge(line["raw"].as_str().unwrap());
    }
    assert_eq!(judge.elements, 1 + 8 + 5_089 + 133 + 3);
    for line in recorded("alpaca_captures/sip_20210823_stream.ndjson").into_iter().flatten() {
        judge.judge(&format!("[{line}]"));
    }
    assert_eq!(judge.elements, 5_234 + 352);
    let mut excerpts = 0;
    for line in recorded("alpaca_captures/excerpts.ndjson").into_iter().flatten() {
        let line: Value = serde_json::from_str(&line).unwrap();
        // One is a program's printed form of a decoded message, in no codec.
        if line["class"] != "sdk-printed" {
            judge.judge(line["raw"].as_str().unwrap());
            excerpts += 1;
        }
    }
    assert_eq!(excerpts, 44);
}

#[test]
fn every_field_of_the_smoke_tape_equals_the_independent_reading() {
    let mut judge = Judge::new();
    let Some(lines) = recorded("equities_smoke.ndjson.gz") else {
        return synthetic_market_decodes(&mut judge);
    };
    in_frames(lines, |elements| judge.judge(&frame(elements)));
    assert_eq!(judge.elements, 16_025);
}

#[test]
fn every_field_of_the_recorded_bars_equals_the_independent_reading() {
    let mut judge = Judge::new();
    let Some(lines) = recorded("equities_bars.ndjson.zst") else {
        return synthetic_market_decodes(&mut judge);
    };
    in_frames(lines, |elements| judge.judge(&frame(elements)));
    assert_eq!(judge.elements, 11_374);
}

#[test]
fn the_whole_tape_decodes_to_its_own_counts_in_both_codecs() {
    let lines: Box<dyn Iterator<Item = String>> = match recorded("equities_ticks.ndjson.zst") {
        Some(lines) => Box::new(lines),
        None => Box::new(
            synthetic(20_000).filter(|line| line.contains(r#""T":"q""#) || line.contains(r#""T":"t""#)),
        ),
    };
    let symbols = Symbols::new();
    let mut decoder = Decoder::new(symbols.clone());
    let mut counts = [(); 2].map(|()| BTreeMap::<(Kind, String), u64>::new());
    let (mut expected, mut total, mut batch) = (BTreeMap::<(Kind, String), u64>::new(), 0, Batch::default());
    in_frames(lines, |elements| {
        for element in elements {
            let element: Value = serde_json::from_str(element).unwrap();
            let kind = if element["T"] == "q" { Kind::Quote } else { Kind::Trade };
            *expected.entry((kind, element["S"].as_str().unwrap().into())).or_default() += 1;
            total += 1;
        }
        let json = frame(elements);
        for (codec, counts) in [Codec::Json, Codec::MessagePack].into_iter().zip(&mut counts) {
            let packed = if codec == Codec::Json { json.clone().into_bytes() } else { packed(&json) };
            batch.clear();
            decoder.decode(codec, &packed, &mut batch);
            assert_eq!((batch.malformed.count, batch.unknown), (0, 0), "{:?}", batch.malformed);
            let names = symbols.read();
            for event in &batch.events {
                *counts.entry((event.kind(), names[event.symbol().unwrap()].into())).or_default() += 1;
            }
        }
    });
    assert_eq!(counts, [expected.clone(), expected.clone()]);
    assert_eq!(expected.values().sum::<u64>(), total);
    if recorded("equities_ticks.ndjson.zst").is_some() {
        assert_eq!(total, 1_743_751);
        assert_eq!(expected[&(Kind::Quote, "AIG".into())], 712_006);
        assert_eq!(expected[&(Kind::Trade, "SPY".into())], 439_677);
    }
}

#[test]
fn every_message_type_of_the_synthetic_market_decodes_field_by_field() {
    synthetic_market_decodes(&mut Judge::new());
}

fn synthetic_market_decodes(judge: &mut Judge) {
    in_frames(synthetic(3_200), |elements| judge.judge(&frame(elements)));
    assert_eq!(judge.elements, 3_200);
}

/// Groups lines into frames of 1 to 35, the sizes seen on the wire.
fn in_frames(lines: impl Iterator<Item = String>, mut take: impl FnMut(&[String])) {
    let (mut elements, mut size) = (Vec::new(), 1);
    for line in lines {
        elements.push(line);
        if elements.len() == size {
            take(&elements);
            elements.clear();
            size = size % 35 + 1;
        }
    }
    if !elements.is_empty() {
        take(&elements);
    }
}
