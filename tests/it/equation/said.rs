//! What a record says, in a form that is the same for an element of a tape and for a line of a sink, and small enough to
//! compare a whole day of them.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Deserialize;
use serde_json::value::RawValue;

/// What one record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Said {
    /// Of all of it.
    pub(crate) hash: u64,
    /// Market time, nanoseconds since 1970.
    pub(crate) ts: i64,
    /// The venue's letter, and the beginning of the symbol: to name what is missing.
    pub(crate) kind: u8,
    pub(crate) symbol: [u8; 3],
}

/// A line of either, read.
pub(crate) struct Line {
    pub(crate) said: Said,
    /// Of the key; of a tape's element nothing.
    pub(crate) key: u64,
    pub(crate) live: bool,
}

/// A field that this does not know is an error: it would not be compared.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    #[serde(rename = "type", alias = "T")]
    kind: &'a str,
    #[serde(alias = "S")]
    symbol: &'a str,
    #[serde(alias = "t")]
    ts: &'a str,
    i: Option<u64>,
    n: Option<u64>,
    x: Option<&'a str>,
    z: Option<&'a str>,
    tks: Option<&'a str>,
    bx: Option<&'a str>,
    ax: Option<&'a str>,
    p: Option<f64>,
    s: Option<f64>,
    bp: Option<f64>,
    bs: Option<f64>,
    ap: Option<f64>,
    #[serde(rename = "as")]
    ask_size: Option<f64>,
    o: Option<f64>,
    h: Option<f64>,
    l: Option<f64>,
    v: Option<f64>,
    vw: Option<f64>,
    /// A number in bars, a list elsewhere.
    #[serde(borrow)]
    c: Option<&'a RawValue>,
    // What the service adds.
    key: Option<&'a str>,
    origin: Option<&'a str>,
    #[serde(rename = "job")]
    _job: Option<&'a str>,
    #[serde(rename = "received_ts")]
    _received_ts: Option<&'a str>,
    #[serde(rename = "epoch")]
    _epoch: Option<u64>,
    #[serde(rename = "seq")]
    _seq: Option<u64>,
}

/// Reads a line of a tape or of an `ndjson` file.
pub(crate) fn said(line: &str) -> Line {
    let fields: Fields<'_> = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
    let at: jiff::Timestamp = fields.ts.parse().expect("a time");
    let ts = at.as_nanosecond() as i64;
    let mut hasher = DefaultHasher::new();
    (fields.kind, fields.symbol, ts, fields.i, fields.n).hash(&mut hasher);
    for text in [fields.x, fields.z, fields.tks, fields.bx, fields.ax] {
        text.filter(|text| !text.is_empty()).hash(&mut hasher);
    }
    let prices = [fields.p, fields.s, fields.bp, fields.bs, fields.ap, fields.ask_size];
    for number in prices.into_iter().chain([fields.o, fields.h, fields.l, fields.v, fields.vw]) {
        number.map(f64::to_bits).hash(&mut hasher);
    }
    if let Some(c) = fields.c {
        match serde_json::from_str::<f64>(c.get()) {
            Ok(close) => close.to_bits().hash(&mut hasher),
            Err(_) => {
                let conditions: Vec<&str> = serde_json::from_str(c.get()).expect("a list");
                conditions.iter().for_each(|condition| condition.hash(&mut hasher));
            }
        }
    }
    let mut symbol = [b' '; 3];
    symbol.iter_mut().zip(fields.symbol.bytes()).for_each(|(to, from)| *to = from);
    let said = Said { hash: hasher.finish(), ts, kind: fields.kind.as_bytes()[0], symbol };
    let key = fields.key.map_or(0, |key| {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        hasher.finish()
    });
    Line { said, key, live: fields.origin == Some("live") }
}
