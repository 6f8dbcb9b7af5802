//! What one element becomes, or why it does not.

use alpaca_feed::message::{
    Bar, BarSpan, Batch, Code, Codec, Conditions, Event, Kind, Overflow, Quote, Trade,
};
use alpaca_feed::symbol::SymbolId;

use crate::codec_data::packed;
use crate::codec_oracle::decode;

const GOOD: &str = r#"{"T":"q","S":"GOOD","bp":1,"ap":2,"t":"2026-10-06T14:30:00Z"}"#;
const T: &str = r#""t":"2026-10-06T14:30:00.123456789Z""#;
const TS: i64 = 1_791_297_000_123_456_789;

fn conditions(codes: &[&str]) -> Conditions {
    let mut conditions = Conditions::default();
    assert!(codes.iter().all(|code| conditions.push(code)));
    conditions
}

fn code(text: &str) -> Code {
    Code::new(text).unwrap()
}

/// The one event of an element, the same from both codecs.
fn event(element: &str) -> Event {
    let [mut json, message_pack] = both(&format!("[{element}]"));
    assert_eq!(json, message_pack, "{element}");
    assert_eq!((json.events.len(), json.malformed.count), (1, 0), "{element} {:?}", json.malformed);
    json.events.remove(0)
}

fn both(frame: &str) -> [Batch; 2] {
    [decode(Codec::Json, frame.as_bytes()).0, decode(Codec::MessagePack, &packed(frame)).0]
}

/// Puts a bad element between two good ones: they survive, it is counted, and the sample tells why.
fn refused(element: &str, why: &str) {
    let frame = format!("[{GOOD},{element},{GOOD}]");
    let mut batches = vec![decode(Codec::Json, frame.as_bytes()).0];
    if serde_json::from_str::<serde_json::Value>(&frame).is_ok() {
        batches.push(decode(Codec::MessagePack, &packed(&frame)).0);
    }
    for batch in batches {
        assert_eq!((batch.events.len(), batch.malformed.count), (2, 1), "{element} {:?}", batch.malformed);
        let sample = batch.malformed.sample.unwrap();
        assert!(sample.contains(why), "{element} {sample}");
        assert!(sample.chars().count() <= 200, "{sample}");
    }
}

#[test]
fn a_trade_keeps_every_field() {
    let element = format!(
        r#"{{"T":"t","S":"ABCD","i":18446744073709551615,"x":"V","p":12.34,"s":100,"c":["@","I"],"z":"C",{T},
        "r":"2026-10-06T14:30:00.2Z","tks":"B","new":{{"deep":[1,"x"]}}}}"#
    );
    let trade = Trade {
        ts: TS,
        received_ts: Some(1_791_297_000_200_000_000),
        id: Some(u64::MAX),
        price: 12.34,
        size: 100.0,
        symbol: SymbolId(0),
        exchange: code("V"),
        tape: code("C"),
        taker_side: code("B"),
        conditions: conditions(&["@", "I"]),
    };
    assert_eq!(event(&element), Event::Trade(trade));
}

#[test]
fn a_quote_keeps_every_field() {
    let element = format!(
        r#"{{"T":"q","S":"ETH/USDT","bx":"V","bp":1815.55510989,"bs":8.24941727,"ax":"K","ap":1818.4,"as":0,
        "c":[" ","R"],"z":"A",{T}}}"#
    );
    let quote = Quote {
        ts: TS,
        received_ts: None,
        bid_price: 1815.55510989,
        bid_size: 8.24941727,
        ask_price: 1818.4,
        ask_size: 0.0,
        symbol: SymbolId(0),
        bid_exchange: code("V"),
        ask_exchange: code("K"),
        tape: code("A"),
        conditions: conditions(&[" ", "R"]),
    };
    assert_eq!(event(&element), Event::Quote(quote));
}

#[test]
fn a_bar_keeps_every_field_and_its_span() {
    for (tag, span, kind) in [
        ("b", BarSpan::Minute, Kind::Bar),
        ("u", BarSpan::UpdatedMinute, Kind::UpdatedBar),
        ("d", BarSpan::Day, Kind::DailyBar),
    ] {
        let event = event(&format!(
            r#"{{"T":"{tag}","S":"SPY","o":1,"h":4,"l":0.5,"c":2,"v":1.66283276,"n":162,"vw":0.25,{T}}}"#
        ));
        let bar = Bar {
            ts: TS,
            received_ts: None,
            open: 1.0,
            high: 4.0,
            low: 0.5,
            close: 2.0,
            volume: 1.66283276,
            vwap: 0.25,
            trade_count: 162,
            symbol: SymbolId(0),
            span,
        };
        assert_eq!((event.kind(), event), (kind, Event::Bar(bar)));
    }
}

#[test]
fn keys_come_in_any_order_and_twice_with_the_last_one_counting() {
    let usual = event(&format!(r#"{{"T":"t","S":"A","i":7,"p":2.5,"s":3,"c":["@"],{T}}}"#));
    for other in [
        format!(r#"{{{T},"c":["@"],"s":3,"p":2.5,"i":7,"S":"A","T":"t"}}"#),
        format!(r#"{{"p":2.5,"T":"t",{T},"S":"A","x":null,"s":3,"i":7,"c":["@"]}}"#),
        format!(
            r#" {{ "T" : "t" , "S" : "A" , "i" : 7.0 , "p" : 25e-1 , "s" : 3.0 , "c" : [ "@" ] , {T} }} "#
        ),
    ] {
        assert_eq!(event(&other), usual, "{other}");
    }
    let twice =
        format!(r#"[{{"T":"t","S":"B","S":"A","i":7,"p":9,"p":2.5,"s":3,"c":["LONG"],"c":["@"],{T}}}]"#);
    let (batch, symbols) = decode(Codec::Json, twice.as_bytes());
    assert_eq!(symbols.read()[batch.events[0].symbol().unwrap()], *"A");
    let Event::Trade(trade) = batch.events[0] else { panic!("{:?}", batch.events) };
    assert_eq!((trade.price, trade.conditions), (2.5, conditions(&["@"])));
}

#[test]
fn missing_and_null_optional_fields_are_empty() {
    for element in [
        format!(r#"{{"T":"t","S":"A","p":1,{T}}}"#),
        format!(
            r#"{{"T":"t","S":"A","p":1,{T},"i":null,"x":null,"s":null,"c":null,"z":null,"r":null,"tks":null}}"#
        ),
    ] {
        let Event::Trade(trade) = event(&element) else { panic!("{element}") };
        assert_eq!((trade.id, trade.size, trade.received_ts), (None, 0.0, None));
        assert!(trade.exchange.is_empty() && trade.tape.is_empty() && trade.conditions.is_empty());
    }
}

#[test]
fn option_messages_have_one_condition_as_a_text() {
    let Event::Trade(trade) = event(&format!(r#"{{"T":"t","S":"AAPL261218C00150000","p":1,"c":"S",{T}}}"#))
    else {
        panic!()
    };
    assert_eq!(trade.conditions, conditions(&["S"]));
    let Event::Quote(quote) = event(&format!(r#"{{"T":"q","S":"O","bp":0,"ap":0,"c":"",{T}}}"#)) else {
        panic!()
    };
    assert!(quote.conditions.is_empty());
}

#[test]
fn texts_that_do_not_fit_are_kept_in_full_beside_the_rest() {
    let element = format!(
        r#"{{"T":"t","S":"A","c":["@","LONG","I"],"i":7,"p":2.5,"s":3,{T},"tks":"B","x":"COINBASE","z":"C\u0000"}}"#
    );
    let Event::WideTrade(wide) = event(&element) else { panic!("not wide") };
    let overflow =
        |field, texts: &[&str]| Overflow { field, texts: texts.iter().map(|text| (*text).into()).collect() };
    assert_eq!(
        wide.overflow,
        [overflow("c", &["@", "LONG", "I"]), overflow("x", &["COINBASE"]), overflow("z", &["C\0"])]
    );
    assert_eq!((wide.compact.price, wide.compact.id, wide.compact.taker_side), (2.5, Some(7), code("B")));
    assert!(wide.compact.exchange.is_empty() && wide.compact.conditions.is_empty());
    let nine =
        event(&format!(r#"{{"T":"q","S":"A","bp":1,"ap":2,"c":["1","2","3","4","5","6","7","8","9"],{T}}}"#));
    assert_eq!((nine.kind(), nine.quote().map(|quote| quote.bid_price)), (Kind::Quote, Some(1.0)));
    assert!(matches!(nine, Event::WideQuote(wide) if wide.overflow[0].texts.len() == 9));
}

#[test]
fn a_missing_required_field_is_named() {
    let bar = r#""o":1,"h":1,"l":1,"c":1"#;
    for (fields, missing) in [
        (r#""T":"t","S":"A""#.to_owned() + r#","p":1"#, "t"),
        (format!(r#""T":"t","p":1,{T}"#), "S"),
        (format!(r#""T":"t","S":null,"p":1,{T}"#), "S"),
        (format!(r#""T":"t","S":"A",{T}"#), "p"),
        (format!(r#""T":"q","S":"A","bp":1,{T}"#), "ap"),
        (format!(r#""T":"q","S":"A","ap":1,{T}"#), "bp"),
        (format!(r#""T":"b","S":"A",{},{T}"#, bar.replace("\"h\"", "\"H\"")), "h"),
        (format!(r#""T":"c","S":"A","op":1,{T}"#), "cp"),
        (format!(r#""T":"x","S":"A",{T}"#), "p"),
        (format!(r#""T":"s","S":"A",{T}"#), "sc"),
        (format!(r#""T":"l","S":"A","u":1,{T}"#), "d"),
        (format!(r#""T":"i","S":"A",{T}"#), "p"),
        (format!(r#""T":"o","S":"A",{T},"a":[{{"p":1}}]"#), "s"),
        (r#""T":"p","S":"A""#.into(), "t"),
        (r#""T":"n","id":1"#.into(), "updated_at"),
        (r#""T":"n","created_at":"2026-10-06T14:30:00Z""#.into(), "id"),
        (r#""T":"success""#.into(), "msg"),
        (r#""T":"error","msg":"x""#.into(), "code"),
        (format!(r#""S":"A","p":1,{T}"#), "T"),
        (String::new(), "T"),
    ] {
        refused(&format!("{{{fields}}}"), &format!("required field {missing:?} is missing"));
    }
}

#[test]
fn a_value_of_the_wrong_kind_or_out_of_range_is_refused_and_its_field_named() {
    for (field, value, why) in [
        ("p", r#""1.5""#, "a number is expected"),
        ("p", "[1]", "a number is expected"),
        ("p", "true", "a number is expected"),
        ("p", "NaN", "a number is expected"),
        ("p", "-Infinity", "a number is expected"),
        ("p", "1e400", "not finite"),
        ("s", "-1e999", "not finite"),
        ("i", "-5", "not negative"),
        ("i", "1.5", "a whole number is expected"),
        ("i", "18446744073709551616", "out of range"),
        ("i", "1e17", "out of range"),
        ("S", "7", "a text is expected"),
        ("S", r#""""#, "a symbol of 1 to 64 bytes"),
        ("x", "{}", "a text is expected"),
        ("c", "{}", "an array is expected"),
        ("c", "[1]", "a text is expected"),
        ("t", "1791297000", "a time is expected"),
        ("t", r#""yesterday""#, "a time is expected"),
        ("t", r#""2026-02-30T00:00:00Z""#, "no such date"),
        ("t", r#""2300-01-01T00:00:00Z""#, "64-bit nanoseconds"),
        ("t", r#""1600-01-01T00:00:00Z""#, "64-bit nanoseconds"),
    ] {
        let mut fields = vec![("S", r#""A""#), ("i", "1"), ("p", "1"), ("t", r#""2026-10-06T14:30:00Z""#)];
        fields.retain(|(name, _)| *name != field);
        fields.push((field, value));
        let fields: Vec<_> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        let why = if matches!(value, "1e400" | "-1e999" | "NaN" | "-Infinity") {
            why.to_owned()
        } else {
            format!("field \"{field}\": ")
        };
        refused(&format!(r#"{{"T":"t",{}}}"#, fields.join(",")), &why);
    }
}

#[test]
fn broken_elements_between_intact_brackets_cost_only_themselves() {
    for element in [
        "1",
        "null",
        "\"text\"",
        "[]",
        "[[{}]]",
        "{}",
        r#"{"T":7}"#,
        r#"{"T":null}"#,
        r#"{"T"}"#,
        r#"{"T":}"#,
        r#"{"T":"t",}"#,
        r#"{"T":"t" "S":"A"}"#,
        r#"{"T":"t","S":"A"x}"#,
        r#"{T:"t"}"#,
        r#"{,"T":"t"}"#,
        r#"{"T":"t","p":1.2.3}"#,
        r#"{"T":"t","p":1 2}"#,
        r#"{"T":"t","p":-}"#,
        r#"{"T":"t","c":["a" "b"]}"#,
        r#"{"T":"q","S":"\x","bp":1}"#,
        "{\"T\":\"q\",\"S\":\"a\nb\"}",
        r#"{"T":"t","S":"A","p":01e,"x":[}"#,
    ]
    .into_iter()
    .filter(|element| !element.ends_with("[}"))
    {
        refused(element, "at byte");
    }
}

#[test]
fn texts_that_are_kept_are_checked_to_be_utf8_and_unread_ones_are_not() {
    for (element, good) in [
        (&b"{\"T\":\"t\",\"S\":\"\xff\",\"p\":1,\"t\":\"2026-10-06T14:30:00Z\"}"[..], false),
        (b"{\"T\":\"t\",\"S\":\"A\",\"x\":\"\xff\",\"p\":1,\"t\":\"2026-10-06T14:30:00Z\"}", false),
        (b"{\"T\":\"t\",\"S\":\"A\",\"c\":[\"\xff\"],\"p\":1,\"t\":\"2026-10-06T14:30:00Z\"}", false),
        (b"{\"T\":\"t\",\"S\":\"A\",\"?\xff\":\"\xff\",\"p\":1,\"t\":\"2026-10-06T14:30:00Z\"}", true),
    ] {
        let frame = [b"[", element, b",", GOOD.as_bytes(), b"]"].concat();
        let (batch, _) = decode(Codec::Json, &frame);
        let seen = (batch.events.len(), batch.malformed.count);
        assert_eq!(seen, if good { (2, 0) } else { (1, 1) }, "{}", element.escape_ascii());
    }
}

#[test]
fn a_received_time_of_another_shape_costs_nothing() {
    for r in ["true", "17", r#"{"a":[]}"#, r#""soon""#] {
        let Event::Trade(trade) = event(&format!(r#"{{"T":"t","S":"A","r":{r},"p":1,{T}}}"#)) else {
            panic!()
        };
        assert_eq!((trade.received_ts, trade.ts), (None, TS), "{r}");
    }
}

#[test]
fn unknown_types_are_kept_as_they_came_and_counted() {
    let plain = format!(r#"{{"T":"zz","S":"A",{T},"k":[1,{{"T":"t"}}]}}"#);
    let odd = r#"{"S":7,"t":"never","T":"a type with a name longer than any of ours"}"#;
    let frame = format!("[{plain}, {odd} ,{GOOD}]");
    for (codec, frame) in [(Codec::Json, frame.clone().into_bytes()), (Codec::MessagePack, packed(&frame))] {
        let (batch, symbols) = decode(codec, &frame);
        assert_eq!(
            (batch.events.len(), batch.unknown, batch.malformed.count),
            (3, 2, 0),
            "{:?}",
            batch.malformed
        );
        let [Event::Unknown(first), Event::Unknown(second), Event::Quote(_)] = &batch.events[..] else {
            panic!("{batch:?}")
        };
        assert_eq!((first.tag.as_str(), first.codec, first.ts), ("zz", codec, Some(TS)));
        assert_eq!(&*symbols.name(first.symbol.unwrap()), "A");
        assert_eq!((second.symbol, second.ts, batch.events[1].ts()), (None, None, 0));
        assert!(second.tag.starts_with("a type with"));
        if codec == Codec::Json {
            assert_eq!((&*first.raw, &*second.raw), (plain.as_bytes(), odd.as_bytes()));
        }
    }
}
