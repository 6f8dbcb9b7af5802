//! MessagePack as the venue writes and reads it.
//!
//! Elements are kept as JSON text and transcoded in one pass without a tree. Number forms follow the field, not the
//! JSON spelling: prices are always floats, ids and bar volumes full-width integers, other sizes as short as
//! they fit. Timestamps become extension -1. `T` is always the first key: strict clients drop the frame otherwise.
//! Client messages go the other way, into a JSON tree: there the variety of encoders is what matters.

use std::fmt;

use jiff::Timestamp;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::channel::Channel;

/// Appends the JSON element `json` to `out` as MessagePack, its type written as `letter`; with `received_after_ns`,
/// trades and quotes get the extra field `r`, that many nanoseconds after `t`.
///
/// Errors when the text is not one JSON object; `out` may then end in a partial element.
pub(crate) fn transcode(
    json: &[u8],
    letter: &str,
    fields: Fields,
    received_after_ns: Option<i64>,
    out: &mut Vec<u8>,
) -> Result<(), serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    ElementSeed {
        out,
        letter,
        fields,
        received_after_ns: received_after_ns
            .filter(|_| matches!(fields.channel, Channel::Trades | Channel::Quotes)),
    }
    .deserialize(&mut reader)?;
    reader.end()
}

/// Appends a JSON tree as MessagePack.
fn write_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(0xc0),
        Value::Bool(b) => write_bool(out, *b),
        Value::Number(n) => {
            if let Some(u) = n.as_u64() {
                write_uint(out, u);
            } else if let Some(i) = n.as_i64() {
                write_int(out, i);
            } else {
                write_f64(out, n.as_f64().unwrap_or(f64::NAN));
            }
        }
        Value::String(s) => write_str(out, s),
        Value::Array(items) => {
            write_array_len(out, items.len());
            for item in items {
                write_value(out, item);
            }
        }
        Value::Object(map) => {
            write_len(out, map.len(), 0x80, 0xde);
            for (key, item) in map {
                write_str(out, key);
                write_value(out, item);
            }
        }
    }
}

/// Appends a map whose fields keep the order given.
pub(crate) fn write_fields(out: &mut Vec<u8>, fields: &[(&str, Value)]) {
    write_len(out, fields.len(), 0x80, 0xde);
    for (key, item) in fields {
        write_str(out, key);
        write_value(out, item);
    }
}

/// Appends the header of an array of `len` elements.
pub(crate) fn write_array_len(out: &mut Vec<u8>, len: usize) {
    write_len(out, len, 0x90, 0xdc);
}

/// Appends a timestamp as extension -1, in the shortest of its three forms, as Go's library does.
pub(crate) fn write_timestamp(out: &mut Vec<u8>, at: Timestamp) {
    let (mut seconds, mut nanos) = (at.as_second(), i64::from(at.subsec_nanosecond()));
    if nanos < 0 {
        seconds -= 1;
        nanos += 1_000_000_000;
    }
    match (u64::try_from(seconds), nanos) {
        (Ok(s), 0) if u32::try_from(s).is_ok() => {
            out.extend_from_slice(&[0xd6, 0xff]);
            out.extend_from_slice(&(s as u32).to_be_bytes());
        }
        (Ok(s), _) if s >> 34 == 0 => {
            out.extend_from_slice(&[0xd7, 0xff]);
            out.extend_from_slice(&(((nanos as u64) << 34) | s).to_be_bytes());
        }
        _ => {
            out.extend_from_slice(&[0xc7, 0x0c, 0xff]);
            out.extend_from_slice(&(nanos as u32).to_be_bytes());
            out.extend_from_slice(&seconds.to_be_bytes());
        }
    }
}

fn write_len(out: &mut Vec<u8>, len: usize, fix: u8, wide: u8) {
    if len < 16 {
        out.push(fix | len as u8);
    } else if let Ok(short) = u16::try_from(len) {
        out.push(wide);
        out.extend_from_slice(&short.to_be_bytes());
    } else {
        out.push(wide + 1);
        out.extend_from_slice(&(len as u32).to_be_bytes());
    }
}

fn write_bool(out: &mut Vec<u8>, value: bool) {
    out.push(if value { 0xc3 } else { 0xc2 });
}

fn write_f64(out: &mut Vec<u8>, value: f64) {
    out.push(0xcb);
    out.extend_from_slice(&value.to_be_bytes());
}

fn write_uint(out: &mut Vec<u8>, value: u64) {
    if value < 0x80 {
        out.push(value as u8);
    } else if let Ok(v) = u8::try_from(value) {
        out.extend_from_slice(&[0xcc, v]);
    } else if let Ok(v) = u16::try_from(value) {
        out.push(0xcd);
        out.extend_from_slice(&v.to_be_bytes());
    } else if let Ok(v) = u32::try_from(value) {
        out.push(0xce);
        out.extend_from_slice(&v.to_be_bytes());
    } else {
        write_wide(out, value);
    }
}

fn write_wide(out: &mut Vec<u8>, value: u64) {
    out.push(0xcf);
    out.extend_from_slice(&value.to_be_bytes());
}

fn write_int(out: &mut Vec<u8>, value: i64) {
    out.push(0xd3);
    out.extend_from_slice(&value.to_be_bytes());
}

fn write_str(out: &mut Vec<u8>, value: &str) {
    let len = value.len();
    if len < 32 {
        out.push(0xa0 | len as u8);
    } else if let Ok(v) = u8::try_from(len) {
        out.extend_from_slice(&[0xd9, v]);
    } else if let Ok(v) = u16::try_from(len) {
        out.push(0xda);
        out.extend_from_slice(&v.to_be_bytes());
    } else {
        out.push(0xdb);
        out.extend_from_slice(&(len as u32).to_be_bytes());
    }
    out.extend_from_slice(value.as_bytes());
}

/// How the values of one field are written.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    /// The field is written already (`T`).
    Skip,
    Float,
    /// An integer in full width, which the official clients expect to meet.
    Wide,
    Time,
    Plain,
}

/// The rules that give each field its form.
#[derive(Clone, Copy)]
pub(crate) struct Fields {
    pub(crate) channel: Channel,
    /// Sizes of crypto are decimals.
    pub(crate) crypto: bool,
}

impl Fields {
    fn form(self, key: &str) -> Form {
        match key {
            "T" => Form::Skip,
            "t" | "r" | "ft" | "created_at" | "updated_at" => Form::Time,
            "i" | "ci" => Form::Wide,
            "oi" if self.channel == Channel::Corrections => Form::Wide,
            "v" | "s" | "bs" | "as" if self.crypto => Form::Float,
            "v" | "n" => Form::Wide,
            "p" | "bp" | "ap" | "o" | "h" | "l" | "c" | "vw" | "u" | "d" | "op" | "cp" | "ip" | "mp"
            | "fr" | "oi" => Form::Float,
            _ => Form::Plain,
        }
    }
}

struct ElementSeed<'a> {
    letter: &'a str,
    out: &'a mut Vec<u8>,
    fields: Fields,
    received_after_ns: Option<i64>,
}

impl<'de> DeserializeSeed<'de> for ElementSeed<'_> {
    type Value = ();
    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ElementSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an element: one JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let header = self.out.len();
        self.out.push(0);
        write_str(self.out, "T");
        write_str(self.out, self.letter);
        let mut len = 1;
        let mut time = None;
        while let Some(form) = map.next_key_seed(KeySeed { out: self.out, fields: self.fields })? {
            if form == Form::Skip {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            len += 1;
            let seen = map.next_value_seed(ValueSeed { out: self.out, fields: self.fields, form })?;
            time = time.or(seen);
        }
        if let (Some(after_ns), Some(at)) = (self.received_after_ns, time) {
            let received = at.checked_add(jiff::SignedDuration::from_nanos(after_ns)).unwrap_or(at);
            write_str(self.out, "r");
            write_timestamp(self.out, received);
            len += 1;
        }
        patch_len(self.out, header, len, 0x80, 0xde);
        Ok(())
    }
}

/// Writes the length of a map or array whose elements already follow the one byte kept at `header`.
fn patch_len(out: &mut Vec<u8>, header: usize, len: usize, fix: u8, wide: u8) {
    if len < 16 {
        out[header] = fix | len as u8;
        return;
    }
    let mut long = Vec::with_capacity(5);
    write_len(&mut long, len, fix, wide);
    out.splice(header..=header, long);
}

struct KeySeed<'a> {
    out: &'a mut Vec<u8>,
    fields: Fields,
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = Form;
    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Form, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = Form;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<Form, E> {
        let form = self.fields.form(key);
        if form != Form::Skip {
            write_str(self.out, key);
        }
        Ok(form)
    }
}

/// Writes one value; yields its time when it is the element's own timestamp.
struct ValueSeed<'a> {
    out: &'a mut Vec<u8>,
    fields: Fields,
    form: Form,
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Option<Timestamp>;
    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = Option<Timestamp>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        self.out.push(0xc0);
        Ok(None)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        write_bool(self.out, value);
        Ok(None)
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        match self.form {
            Form::Float => write_f64(self.out, value as f64),
            Form::Wide => write_wide(self.out, value),
            Form::Skip | Form::Time | Form::Plain => write_uint(self.out, value),
        }
        Ok(None)
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        match self.form {
            Form::Float => write_f64(self.out, value as f64),
            Form::Skip | Form::Wide | Form::Time | Form::Plain => write_int(self.out, value),
        }
        Ok(None)
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        write_f64(self.out, value);
        Ok(None)
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Self::Value, E> {
        if self.form != Form::Time {
            write_str(self.out, value);
            return Ok(None);
        }
        let Ok(at) = value.parse() else {
            // Not a time after all: a field of some other type that shares the name.
            write_str(self.out, value);
            return Ok(None);
        };
        write_timestamp(self.out, at);
        Ok(Some(at))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let header = self.out.len();
        self.out.push(0);
        let mut len = 0;
        while seq
            .next_element_seed(ValueSeed { out: self.out, fields: self.fields, form: Form::Plain })?
            .is_some()
        {
            len += 1;
        }
        patch_len(self.out, header, len, 0x90, 0xdc);
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let header = self.out.len();
        self.out.push(0);
        let mut len = 0;
        while let Some(form) = map.next_key_seed(KeySeed { out: self.out, fields: self.fields })? {
            if form == Form::Skip {
                return Err(A::Error::custom("a nested field named T"));
            }
            map.next_value_seed(ValueSeed { out: self.out, fields: self.fields, form })?;
            len += 1;
        }
        patch_len(self.out, header, len, 0x80, 0xde);
        Ok(None)
    }
}

/// Reads one MessagePack value, all of `bytes`; extensions read as null, since no client message needs one.
///
/// Yields `None` for anything that is not exactly one well-formed value, or that nests deeper than 16.
pub(crate) fn read_value(bytes: &[u8]) -> Option<Value> {
    let mut rest = bytes;
    let value = read_one(&mut rest, 16)?;
    rest.is_empty().then_some(value)
}

fn read_one(rest: &mut &[u8], depth: usize) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    let [tag] = take_array(rest)?;
    Some(match tag {
        0x00..=0x7f => Value::from(tag),
        0x80..=0x8f => read_map(rest, usize::from(tag & 0x0f), depth)?,
        0x90..=0x9f => read_array(rest, usize::from(tag & 0x0f), depth)?,
        0xa0..=0xbf => read_text(rest, usize::from(tag & 0x1f))?,
        0xc2 => Value::Bool(false),
        0xc3 => Value::Bool(true),
        0xc4 | 0xd9 => {
            let len = u8::from_be_bytes(take_array(rest)?);
            read_text(rest, len.into())?
        }
        0xc5 | 0xda => {
            let len = u16::from_be_bytes(take_array(rest)?);
            read_text(rest, len.into())?
        }
        0xc6 | 0xdb => {
            let len = u32::from_be_bytes(take_array(rest)?);
            read_text(rest, len as usize)?
        }
        0xca => float(f32::from_be_bytes(take_array(rest)?).into()),
        0xcb => float(f64::from_be_bytes(take_array(rest)?)),
        0xcc => u8::from_be_bytes(take_array(rest)?).into(),
        0xcd => u16::from_be_bytes(take_array(rest)?).into(),
        0xce => u32::from_be_bytes(take_array(rest)?).into(),
        0xcf => u64::from_be_bytes(take_array(rest)?).into(),
        0xd0 => i8::from_be_bytes(take_array(rest)?).into(),
        0xd1 => i16::from_be_bytes(take_array(rest)?).into(),
        0xd2 => i32::from_be_bytes(take_array(rest)?).into(),
        0xd3 => i64::from_be_bytes(take_array(rest)?).into(),
        0xd4..=0xd8 => {
            take(rest, 1 + (1 << (tag - 0xd4)))?;
            Value::Null
        }
        0xc7 => {
            let len = u8::from_be_bytes(take_array(rest)?);
            take(rest, 1 + usize::from(len))?;
            Value::Null
        }
        0xdc => {
            let len = u16::from_be_bytes(take_array(rest)?);
            read_array(rest, len.into(), depth)?
        }
        0xdd => {
            let len = u32::from_be_bytes(take_array(rest)?);
            read_array(rest, len as usize, depth)?
        }
        0xde => {
            let len = u16::from_be_bytes(take_array(rest)?);
            read_map(rest, len.into(), depth)?
        }
        0xdf => {
            let len = u32::from_be_bytes(take_array(rest)?);
            read_map(rest, len as usize, depth)?
        }
        0xe0..=0xff => Value::from(tag as i8),
        0xc0 => Value::Null,
        0xc1 | 0xc8 | 0xc9 => return None,
    })
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(head)
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    take(rest, N)?.try_into().ok()
}

fn read_text(rest: &mut &[u8], len: usize) -> Option<Value> {
    let text = std::str::from_utf8(take(rest, len)?).ok()?;
    Some(Value::from(text))
}

fn read_array(rest: &mut &[u8], len: usize, depth: usize) -> Option<Value> {
    let mut items = Vec::new();
    for _ in 0..len {
        items.push(read_one(rest, depth)?);
    }
    Some(Value::Array(items))
}

fn read_map(rest: &mut &[u8], len: usize, depth: usize) -> Option<Value> {
    let mut map = Map::new();
    for _ in 0..len {
        let Value::String(key) = read_one(rest, depth)? else {
            return None;
        };
        map.insert(key, read_one(rest, depth)?);
    }
    Some(Value::Object(map))
}

fn float(value: f64) -> Value {
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn stamp(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        write_timestamp(&mut out, text.parse().unwrap());
        out
    }

    #[test]
    fn timestamps_take_the_shortest_of_three_forms() {
        assert_eq!(
            stamp("2013-10-09T13:29:00Z"),
            [&[0xd6, 0xff][..], &1_381_325_340_u32.to_be_bytes()].concat()
        );
        let packed = (123_456_789_u64 << 34) | 1_381_325_340;
        assert_eq!(
            stamp("2013-10-09T13:29:00.123456789Z"),
            [&[0xd7, 0xff][..], &packed.to_be_bytes()].concat()
        );
        assert_eq!(
            stamp("1969-12-31T23:59:59.5Z"),
            [&[0xc7, 0x0c, 0xff][..], &500_000_000_u32.to_be_bytes(), &(-1_i64).to_be_bytes()].concat()
        );
    }

    #[test]
    fn t_comes_first_prices_are_floats_and_ids_full_width() {
        let mut out = Vec::new();
        let json = br#"{"i":7,"T":"t","S":"A","p":12,"s":100,"c":["@"],"t":"1970-01-01T00:00:01Z"}"#;
        let fields = Fields { channel: Channel::Trades, crypto: false };
        transcode(json, "t", fields, Some(500_000_000), &mut out).unwrap();
        let mut expected = vec![0x88, 0xa1, b'T', 0xa1, b't', 0xa1, b'i', 0xcf];
        expected.extend_from_slice(&7_u64.to_be_bytes());
        expected.extend_from_slice(&[0xa1, b'S', 0xa1, b'A', 0xa1, b'p', 0xcb]);
        expected.extend_from_slice(&12_f64.to_be_bytes());
        expected.extend_from_slice(&[0xa1, b's', 100, 0xa1, b'c', 0x91, 0xa1, b'@']);
        expected.extend_from_slice(&[0xa1, b't', 0xd6, 0xff, 0, 0, 0, 1]);
        expected.extend_from_slice(&[0xa1, b'r', 0xd7, 0xff]);
        expected.extend_from_slice(&((500_000_000_u64 << 34) | 1).to_be_bytes());
        assert_eq!(out, expected);
    }

    #[test]
    fn long_arrays_and_maps_get_long_headers() {
        let levels: Vec<Value> = (0..20).map(|i| serde_json::json!({"p": i, "s": 1.5})).collect();
        let json = serde_json::json!({"T": "o", "S": "BTC/USD", "b": levels, "a": []}).to_string();
        let mut out = Vec::new();
        let fields = Fields { channel: Channel::Orderbooks, crypto: true };
        transcode(json.as_bytes(), "o", fields, None, &mut out).unwrap();
        let back = read_value(&out).unwrap();
        assert_eq!(back["b"].as_array().unwrap().len(), 20);
        assert_eq!(back["b"][3]["p"], serde_json::json!(3.0));
    }

    #[test]
    fn malformed_client_messages_are_refused_and_do_not_allocate() {
        for bytes in [
            &[][..],
            &[0xc1],
            &[0x81, 0x01, 0x01],
            &[0xdd, 0xff, 0xff, 0xff, 0xff],
            &[0xdb, 0xff, 0xff, 0xff, 0xff, b'a'],
            &[0x01, 0x01],
            &[0x91; 40],
        ] {
            assert_eq!(read_value(bytes), None, "{bytes:x?}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let value = serde_json::json!({
            "action": "subscribe", "trades": ["A".repeat(40), "B"], "quotes": null,
            "n": -5, "big": u64::MAX, "f": 1.5, "yes": true, "long": "x".repeat(70_000)
        });
        let mut out = Vec::new();
        write_value(&mut out, &value);
        assert_eq!(read_value(&out), Some(value));
    }
}
