//! What a frame becomes as a whole, and what the messages about the connection say.

use alpaca_feed::decode::Decoder;
use alpaca_feed::encode::{Request, encode};
use alpaca_feed::message::{Batch, Codec, Control};
use alpaca_feed::subscription::{Channel, Subscriptions};
use alpaca_feed::symbol::Symbols;

use crate::codec_data::{frame, packed, synthetic};
use crate::codec_oracle::decode;

fn control(json: &str) -> Vec<Control> {
    let [json_read, packed_read] =
        [decode(Codec::Json, json.as_bytes()).0, decode(Codec::MessagePack, &packed(json)).0];
    assert_eq!(json_read, packed_read, "{json}");
    assert_eq!((json_read.malformed.count, json_read.events.len()), (0, 0), "{json}");
    json_read.control
}

#[test]
fn successes_and_errors_are_told_apart() {
    assert_eq!(control(r#"[{"T":"success","msg":"connected"}]"#), [Control::Connected]);
    assert_eq!(control(r#"[{"msg":"authenticated","T":"success"}]"#), [Control::Authenticated]);
    assert_eq!(control(r#"[{"T":"success","msg":"well"}]"#), [Control::OtherSuccess("well".into())]);
    for code in [400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 500, 65_535] {
        let expected = Control::Error { code, msg: "words".into() };
        assert_eq!(control(&format!(r#"[{{"T":"error","code":{code},"msg":"words"}}]"#)), [expected]);
    }
    assert_eq!(
        control(r#"[{"T":"error","code":7,"msg":null}]"#),
        [Control::Error { code: 7, msg: String::new() }]
    );
}

#[test]
fn the_text_of_an_error_is_cut_before_it_can_fill_logs_and_heartbeats() {
    let huge = "é".repeat(3_000_000);
    let read = control(&format!(r#"[{{"T":"error","code":500,"msg":"{huge}"}}]"#));
    assert_eq!(read, [Control::Error { code: 500, msg: "é".repeat(200) }]);
}

#[test]
fn an_acknowledgement_is_the_same_whether_empty_channels_are_listed_null_or_left_out() {
    let pairs = [(Channel::Trades, "SPY"), (Channel::Bars, "*"), (Channel::CancelErrors, "SPY")];
    let expected = [Control::Subscription(pairs.into_iter().collect())];
    for ack in [
        r#"[{"T":"subscription","trades":["SPY"],"bars":["*"],"cancelErrors":["SPY"]}]"#,
        r#"[{"T":"subscription","cancelErrors":["SPY"],"bars":["*"],"trades":["SPY"],"quotes":[],"lulds":null}]"#,
        r#"[{"T":"subscription","trades":["SPY","SPY"],"bars":["*"],"cancelErrors":["SPY"],"ticks":["A"],"n":1}]"#,
    ] {
        assert_eq!(control(ack), expected, "{ack}");
    }
    assert_eq!(control(r#"[{"T":"subscription"}]"#), [Control::Subscription(Subscriptions::default())]);
    let all: Vec<_> =
        Channel::ALL.into_iter().map(|channel| format!("\"{channel}\":[\"{channel}\"]")).collect();
    let every = Channel::ALL.into_iter().map(|channel| (channel, channel.as_str())).collect();
    assert_eq!(
        control(&format!(r#"[{{"T":"subscription",{}}}]"#, all.join(","))),
        [Control::Subscription(every)]
    );
}

#[test]
fn what_the_client_encodes_an_independent_parser_reads_in_both_codecs() {
    let symbols: Vec<String> = (0..70_000).map(|n| format!("S{n}")).collect();
    let wanted: Subscriptions = symbols.iter().map(|symbol| (Channel::Quotes, symbol.as_str())).collect();
    let long = "s".repeat(300);
    for request in [
        Request::Subscribe(&wanted),
        Request::Unsubscribe(&[(Channel::News, "*")].into_iter().collect()),
        Request::Auth { key: "\u{7f}\u{1f}\"", secret: &long },
    ] {
        let (mut json, mut message_pack) = (Vec::new(), Vec::new());
        encode(Codec::Json, &request, &mut json);
        encode(Codec::MessagePack, &request, &mut message_pack);
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let mut rest = &message_pack[..];
        let unpacked = rmpv::decode::read_value(&mut rest).unwrap();
        assert!(rest.is_empty());
        assert_eq!(as_json(&unpacked), json);
        let first = unpacked.as_map().unwrap()[0].0.as_str();
        assert_eq!(first, Some("action"));
    }
}

fn as_json(value: &rmpv::Value) -> serde_json::Value {
    if let Some(pairs) = value.as_map() {
        pairs.iter().map(|(key, value)| (key.as_str().unwrap().to_owned(), as_json(value))).collect()
    } else if let Some(values) = value.as_array() {
        values.iter().map(as_json).collect()
    } else {
        value.as_str().unwrap().into()
    }
}

#[test]
fn a_frame_cut_anywhere_keeps_what_was_whole_and_counts_one() {
    let elements: Vec<_> = synthetic(20).collect();
    let json = frame(&elements);
    for (codec, frame) in [(Codec::Json, json.clone().into_bytes()), (Codec::MessagePack, packed(&json))] {
        let (whole, _) = decode(codec, &frame);
        assert_eq!(whole.events.len(), elements.len());
        let mut kept = 0;
        for len in 0..frame.len() {
            let (batch, _) = decode(codec, &frame[..len]);
            assert_eq!(batch.malformed.count, 1, "{codec:?} cut at {len}");
            assert_eq!(batch.events[..], whole.events[..batch.events.len()], "{codec:?} cut at {len}");
            assert!(batch.events.len() >= kept, "{codec:?} cut at {len}");
            kept = batch.events.len();
        }
        assert!(kept >= elements.len() - 1);
    }
}

#[test]
fn what_is_no_frame_is_malformed_once() {
    for text in ["", " ", "null", "1", "\"x\"", "[", "]", "[,]", "[}", "{", "hello", "\u{0}"] {
        let (batch, _) = decode(Codec::Json, text.as_bytes());
        assert!(batch.events.is_empty(), "{text}");
        assert_eq!(batch.malformed.count, 1, "{text} {:?}", batch.malformed);
        assert!(batch.malformed.sample.is_some());
    }
    for bytes in [&[][..], &[0xc0], &[0xc1], &[0x07], &[0x91], &[0xdd, 0xff, 0xff, 0xff, 0xff], &[0xa1, b'x']]
    {
        let (batch, _) = decode(Codec::MessagePack, bytes);
        assert!(batch.events.is_empty(), "{bytes:x?}");
        assert_eq!(batch.malformed.count, 1, "{bytes:x?}");
    }
}

#[test]
fn a_structure_that_breaks_later_keeps_what_came_before() {
    let good = r#"{"T":"q","S":"A","bp":1,"ap":2,"t":"2026-10-06T14:30:00Z"}"#;
    for (tail, why) in [
        ("", "ends too early"),
        (",", "ends too early"),
        (" {}]", "broken here"),
        ("}", "broken here"),
        ("] x", "after the frame's end"),
        (r#",{"T":"q","S":"B]"#, "ends too early"),
        (r#",{"T":"q","c":[}]"#, "a text is expected"),
        (r#",{"T":"q","?":[}]"#, "broken here"),
        (r#",{"T":"q","S":7,"c":[}]"#, "a text is expected"),
    ] {
        let (batch, _) = decode(Codec::Json, format!("[{good},{good}{tail}").as_bytes());
        assert_eq!((batch.events.len(), batch.malformed.count), (2, 1), "{tail} {:?}", batch.malformed);
        assert!(batch.malformed.sample.as_ref().unwrap().contains(why), "{tail} {:?}", batch.malformed);
    }
}

#[test]
fn a_bad_element_and_a_break_after_it_are_two() {
    for text in ["[{}", "[1 2]", "[1,", "[{}]x"] {
        let (batch, _) = decode(Codec::Json, text.as_bytes());
        assert_eq!(batch.malformed.count, 2, "{text} {:?}", batch.malformed);
    }
}

#[test]
fn a_lone_object_is_a_frame_of_one_and_an_empty_array_of_none() {
    let good = r#"{"T":"q","S":"A","bp":1,"ap":2,"t":"2026-10-06T14:30:00Z"}"#;
    for (text, events) in [(good, 1), ("[]", 0), (" [ ] ", 0)] {
        for (codec, frame) in [(Codec::Json, text.as_bytes()), (Codec::MessagePack, &packed(text)[..])] {
            let (batch, _) = decode(codec, frame);
            assert_eq!((batch.events.len(), batch.malformed.count), (events, 0), "{codec:?} {text}");
        }
    }
}

#[test]
fn frames_append_to_the_batch_and_the_first_fault_leaves_the_sample() {
    let mut decoder = Decoder::new(Symbols::new());
    let mut batch = Batch::default();
    decoder.decode(Codec::Json, br#"[{"T":"success","msg":"connected"}]"#, &mut batch);
    decoder.decode(Codec::Json, br#"[{"T":"first"}, 7]"#, &mut batch);
    decoder.decode(Codec::MessagePack, &packed(r#"[{"T":"second"}, {}]"#), &mut batch);
    assert_eq!((batch.control.len(), batch.events.len(), batch.unknown), (1, 2, 2));
    assert_eq!(batch.malformed.count, 2);
    assert_eq!(batch.malformed.sample.as_deref(), Some("an object is expected, at byte 16 of 18: 7]"));
}

#[test]
fn a_frame_of_five_megabytes_decodes() {
    let content = "<p>\u{e9}\\\"</p>".repeat(400_000);
    let article =
        serde_json::json!([{"T": "n", "id": 1, "updated_at": "2026-10-06T14:30:00Z", "content": content}]);
    let json = article.to_string();
    assert!(json.len() > 5_000_000);
    for (codec, frame) in [(Codec::Json, json.as_bytes()), (Codec::MessagePack, &packed(&json)[..])] {
        let (batch, _) = decode(codec, frame);
        let [alpaca_feed::message::Event::News(news)] = &batch.events[..] else {
            panic!("{:?}", batch.malformed)
        };
        assert_eq!(news.content, content);
    }
}

#[test]
fn a_warm_decoder_allocates_nothing_for_hot_messages() {
    let hot: Vec<_> = synthetic(800)
        .filter(|element| {
            ["t", "b", "u", "d"].iter().any(|tag| element.contains(&format!("\"T\":\"{tag}\"")))
        })
        .chain([r#"{"T":"q","S":"AAPL","bx":"V","bp":1.5,"bs":1,"ax":"V","ap":2,"as":1,"c":["R"],"z":"C",
            "t":"2026-10-06T14:30:00.123456789Z"}"#
            .into()])
        .collect();
    let json = frame(&hot);
    for (codec, frame) in [(Codec::Json, json.as_bytes()), (Codec::MessagePack, &packed(&json)[..])] {
        let mut decoder = Decoder::new(Symbols::new());
        let mut batch = Batch::default();
        decoder.decode(codec, frame, &mut batch);
        assert_eq!((batch.events.len(), batch.malformed.count), (hot.len(), 0));
        batch.clear();
        let allocations = allocation_counter::measure(|| decoder.decode(codec, frame, &mut batch));
        assert_eq!((allocations.count_total, batch.events.len()), (0, hot.len()), "{codec:?}");
    }
}
