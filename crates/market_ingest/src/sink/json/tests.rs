use alpaca_feed::decode::Decoder;
use alpaca_feed::message::Batch;
use serde_json::{Value, json};

use super::super::JobId;
use super::super::chunk::Origin;
use super::*;

fn encoded(message: &str) -> Value {
    let symbols = Symbols::new();
    let mut batch = Batch::default();
    Decoder::new(Arc::clone(&symbols)).decode(Codec::Json, format!("[{message}]").as_bytes(), &mut batch);
    assert_eq!(batch.events.len(), 1, "{message}: {:?}", batch.malformed);
    let record =
        Record { event: &batch.events[0], job: JobId(1), origin: Origin::Live, seq: Some(41), ordinal: 0 };
    let mut encoder = Encoder::new(symbols, ["iex", "sip"].map(Arc::from).into());
    let mut out = Vec::new();
    encoder.write(&mut out, &record, 7);
    let value: Value =
        serde_json::from_slice(&out).unwrap_or_else(|e| panic!("{e}: {:?}", out.escape_ascii()));
    let envelope =
        [("job", json!("sip")), ("origin", json!("live")), ("epoch", json!(7)), ("seq", json!(41))];
    for (field, expected) in envelope {
        assert_eq!(value[field], expected, "{value}");
    }
    assert!(value["key"].as_str().is_some_and(|key| !key.is_empty()));
    value
}

/// What the venue sent is what is written, under the names of the contract.
#[test]
fn every_field_of_every_kind_is_written_as_the_venue_named_it() {
    let rows = [
        r#"{"T":"t","S":"BAC","i":9007199254740993,"x":"P","p":13.72,"s":800,"c":[" ","T"],"z":"A","t":"2013-10-09T13:29:02.623Z"}"#,
        r#"{"T":"t","S":"BTC/USD","i":7,"p":1.5e-7,"s":0.1,"tks":"B","t":"2026-11-25T05:00:00Z"}"#,
        r#"{"T":"t","S":"A","i":7,"x":"LONG\"EXCHANGE","p":1,"s":1,"c":["AB","\\"],"z":"A","t":"2026-07-01T03:59:59Z"}"#,
        r#"{"T":"q","S":"IBM","bx":"P","bp":179.21,"bs":100,"ax":"Q","ap":179.5,"as":200,"c":["R"],"z":"A","t":"2013-10-09T13:29:00.2Z"}"#,
        r#"{"T":"q","S":"IBM","bx":"PPPPPP","bp":179.21,"bs":100,"ax":"Q","ap":0,"as":0,"z":"A","t":"2013-10-09T13:29:00.2Z"}"#,
        r#"{"T":"b","S":"SPY","o":1,"h":2,"l":0.5,"c":2,"v":3,"n":4,"vw":1.25,"t":"2026-07-01T14:00:00Z"}"#,
        r#"{"T":"u","S":"SPY","o":1,"h":2,"l":0.5,"c":2,"v":3,"n":4,"vw":1.25,"t":"2026-07-01T14:00:00Z"}"#,
        r#"{"T":"c","S":"SPY","x":"V","oi":1,"op":2.5,"os":3,"oc":["@"],"ci":4,"cp":5,"cs":6,"cc":["@","I"],"z":"B","t":"2026-07-01T14:00:00Z"}"#,
        r#"{"T":"x","S":"SPY","i":1,"x":"V","p":2.5,"s":3,"a":"C","z":"B","t":"2026-07-01T14:00:00Z"}"#,
        r#"{"T":"s","S":"SPY","sc":"H","sm":"Halt\u00e9\n","rc":"T12","rm":"","z":"C","t":"2026-07-01T14:00:00Z"}"#,
        r#"{"T":"l","S":"SPY","u":2,"d":1,"i":"B","z":"B","t":"2026-07-01T14:00:00Z"}"#,
        r#"{"T":"i","S":"SPY","p":2,"ps":1,"is":3,"side":"B","at":"O","z":"B","t":"2026-07-01T14:00:00Z"}"#,
        r#"{"T":"o","S":"BTC/USD","b":[{"p":1,"s":2},{"p":0.5,"s":0}],"a":[],"r":true,"t":"2026-07-01T14:00:00Z"}"#,
        r#"{"T":"p","S":"BTC-PERP","x":"X","ip":1.5,"mp":2,"fr":-0.001,"oi":10,"ft":"2026-07-01T16:00:00Z","t":"2026-07-01T14:00:00Z"}"#,
        r#"{"T":"n","id":24918784,"headline":"\"h\"","summary":"","author":"a","created_at":"2026-07-01T04:00:00Z","updated_at":"2026-07-01T04:00:01Z","url":"u","content":"<p>\t</p>","symbols":["SPY","QQQ"],"source":"s"}"#,
    ];
    for message in rows {
        let sent: Value = serde_json::from_str(message).unwrap();
        let written = encoded(message);
        for (field, value) in sent.as_object().unwrap() {
            let name = match field.as_str() {
                "T" => "type",
                "S" => "symbol",
                "t" => "ts",
                other => other,
            };
            let time = |value: &Value| value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
            match (time(value), value.as_f64()) {
                (Some(expected), _) => {
                    assert_eq!(time(&written[name]), Some(expected), "{name} of {written}")
                }
                (None, Some(number)) => {
                    assert_eq!(written[name].as_f64(), Some(number), "{name} of {written}");
                    assert_eq!(written[name].as_u64(), value.as_u64(), "{name} of {written}");
                }
                (None, None) => assert_eq!(&written[name], value, "{name} of {written}"),
            }
        }
    }
}

#[test]
fn a_time_has_nine_digits_also_before_1970_and_a_missing_receipt_is_null() {
    let written =
        encoded(r#"{"T":"q","S":"A","bp":1,"bs":1,"ap":1,"as":1,"t":"1969-12-31T23:59:59.000000001Z"}"#);
    assert_eq!(written["ts"], "1969-12-31T23:59:59.000000001Z");
    assert!(written["received_ts"].is_null() && written.as_object().unwrap().contains_key("received_ts"));
    assert!(!written.as_object().unwrap().contains_key("bx"));
}

#[test]
fn an_unknown_message_is_kept_whole() {
    let message = r#"{"T":"zz","S":"SPY","t":"2026-07-01T14:00:00Z","new":[1,2,{"a":"b"}]}"#;
    let written = encoded(message);
    assert_eq!((&written["type"], &written["symbol"]), (&json!("zz"), &json!("SPY")));
    assert_eq!((&written["codec"], &written["raw"]), (&json!("json"), &json!(message)));
}
