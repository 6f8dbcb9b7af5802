//! Input for the codec's tests: recorded market data, a small synthetic market where that is absent, and an encoder of
//! MessagePack that shares nothing with the crate.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;

use rmpv::Value as Packed;
use serde_json::{Value, json};

/// The lines of a recorded file, or `None`, said loudly, where the recordings are absent.
pub(crate) fn recorded(name: &str) -> Option<impl Iterator<Item = String>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name);
    let Ok(file) = File::open(&path) else {
        eprintln!("NOT TESTED ON RECORDED DATA: {name} is absent; the synthetic market stands in");
        return None;
    };
    let reader: Box<dyn Read> = match path.extension().and_then(|extension| extension.to_str()) {
        Some("zst") => Box::new(zstd::Decoder::new(file).unwrap()),
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(file)),
        _ => Box::new(file),
    };
    Some(BufReader::with_capacity(1 << 16, reader).lines().map(Result::unwrap))
}

/// Elements of every type the protocol has, with values that differ from one to the next.
pub(crate) fn synthetic(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|n| {
        let symbol = ["SPY", "AAPL", "BRK.B", "BTC/USD", "AAPL261218C00150000"][n % 5];
        let price = 100.0 + (n % 7919) as f64 / 100.0;
        let ts = format!("2026-10-06T14:{:02}:{:02}.{n:09}Z", n / 60 % 60, n % 60);
        let ts = ts.replace(".000000000Z", "Z");
        let size = n % 900 + 1;
        let element = match n % 16 {
            0 => json!({"T": "b", "S": symbol, "o": price, "h": price + 1.0, "l": 99, "c": price, "v": size, "t": ts,
                "n": n, "vw": price / 3.0}),
            1 => json!({"T": "u", "S": symbol, "o": price, "h": price, "l": price, "c": price, "v": 1.25, "t": ts}),
            2 => json!({"T": "d", "S": symbol, "o": 1, "h": 2, "l": 1, "c": 2, "v": 0, "t": ts, "n": 0, "vw": 0}),
            3 => json!({"T": "c", "S": symbol, "x": "M", "oi": n, "op": price, "os": size, "oc": [" ", "7"],
                "ci": n + 1, "cp": price, "cs": size, "cc": ["@"], "z": "B", "t": ts}),
            4 => json!({"T": "x", "S": symbol, "i": n, "x": "D", "p": price, "s": size, "a": "C", "z": "C", "t": ts}),
            5 => json!({"T": "s", "S": symbol, "sc": "H", "sm": "Trading \"Halt\"", "rc": "T12", "rm": "é 😀\n",
                "z": "C", "t": ts}),
            6 => json!({"T": "l", "S": symbol, "u": price, "d": price - 1.0, "i": "B", "z": "C", "t": ts}),
            7 => json!({"T": "i", "S": symbol, "p": price, "ps": size, "is": 7, "side": "B", "at": "O", "z": "C",
                "t": ts}),
            8 => json!({"T": "o", "S": symbol, "t": ts, "r": n % 2 == 0, "a": [],
                "b": [{"p": price, "s": 0.5}, {"p": 1, "s": 0}]}),
            9 => json!({"T": "p", "S": symbol, "x": "GLOBAL", "ip": price, "mp": price, "fr": -0.0001, "oi": 12.5,
                "ft": ts, "t": ts}),
            10 => json!({"T": "n", "id": n, "headline": "h", "summary": "", "author": "a", "created_at": ts,
                "updated_at": ts, "url": "https://example.com/", "content": "<p>é</p>", "symbols": [symbol, "SPY"],
                "source": "s"}),
            11 | 12 => json!({"T": "t", "S": symbol, "i": u64::MAX - n as u64, "x": "V", "p": price, "s": size,
                "c": ["@", "I"], "z": "C", "t": ts}),
            13 => json!({"T": "t", "S": symbol, "i": n, "p": price, "s": 0.00012, "t": ts, "tks": "B"}),
            _ => json!({"T": "q", "S": symbol, "bx": "V", "bp": price, "bs": size, "ax": "ZZZZZ", "ap": price + 0.01,
                "as": 100, "c": ["R"], "z": "C", "t": ts}),
        };
        // `T` comes first on the wire; elsewhere in some, since the decoder takes it anywhere.
        let (text, tag) = (element.to_string(), format!("\"T\":{},", element["T"]));
        if n % 7 == 0 { text } else { format!("{{{tag}{}", &text.replacen(&tag, "", 1)[1..]) }
    })
}

/// Joins elements into a frame.
pub(crate) fn frame<S: AsRef<str>>(elements: &[S]) -> String {
    let elements: Vec<_> = elements.iter().map(AsRef::as_ref).collect();
    format!("[{}]", elements.join(","))
}

/// JSON as the venue would send it in MessagePack: times as extensions, `T` first, the other keys in their order.
pub(crate) fn packed(json: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, &pack(&serde_json::from_str(json).unwrap(), "")).unwrap();
    bytes
}

fn pack(value: &Value, field: &str) -> Packed {
    match value {
        Value::Null => Packed::Nil,
        Value::Bool(bool) => Packed::Boolean(*bool),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(unsigned), _) => Packed::from(unsigned),
            (None, Some(signed)) => Packed::from(signed),
            (None, None) => Packed::F64(number.as_f64().unwrap()),
        },
        Value::String(text) if matches!(field, "t" | "r" | "ft" | "created_at" | "updated_at") => {
            text.parse().map_or_else(|_| text.as_str().into(), extension_time)
        }
        Value::String(text) => text.as_str().into(),
        Value::Array(values) => Packed::Array(values.iter().map(|value| pack(value, "")).collect()),
        Value::Object(pairs) => {
            let mut pairs: Vec<_> = pairs.iter().collect();
            pairs.sort_by_key(|(key, _)| key.as_str() != "T");
            Packed::Map(
                pairs.into_iter().map(|(key, value)| (key.as_str().into(), pack(value, key))).collect(),
            )
        }
    }
}

/// The shortest of the three forms that holds the time, as the specification asks.
fn extension_time(time: jiff::Timestamp) -> Packed {
    let nanos = time.as_nanosecond();
    let (seconds, nanos) = (nanos.div_euclid(1_000_000_000) as i64, nanos.rem_euclid(1_000_000_000) as u32);
    let bytes = match (u32::try_from(seconds), u64::try_from(seconds)) {
        (Ok(seconds), _) if nanos == 0 => seconds.to_be_bytes().to_vec(),
        (_, Ok(seconds)) if seconds < 1 << 34 => (u64::from(nanos) << 34 | seconds).to_be_bytes().to_vec(),
        _ => [&nanos.to_be_bytes()[..], &seconds.to_be_bytes()].concat(),
    };
    Packed::Ext(-1, bytes)
}
