//! What a control document says. Operators write it by hand, so nothing in it can be relied on, and what cannot be
//! understood is told in its place.
//!
//! What decides (`scope`, `until`) must be right or the hold is told as wrong; what only explains is taken as it
//! comes where it can be.

use std::collections::HashMap;

use ::firestore::gcloud_sdk::google::firestore::v1::value::ValueType;
use ::firestore::gcloud_sdk::google::firestore::v1::{Document, Value};
use ingest_status::Timestamp;
use ingest_switch::Scope;

use super::time;
use crate::control::{ControlHold, ControlReading};

type Fields = HashMap<String, Value>;

/// Longest quotation of what was found, in characters.
const QUOTED_MAX: usize = 40;
/// Beyond 2^53 a double no longer counts by one.
const LARGEST_COUNT: f64 = 9_007_199_254_740_992.0;

/// Reads a control document.
pub(super) fn control(document: &Document) -> ControlReading {
    let generation = field(&document.fields, "generation").and_then(whole_number);
    let holds = field(&document.fields, "holds");
    if let Some(ValueType::MapValue(map)) = holds {
        let holds = map.fields.iter().map(|(id, value)| (id.clone(), hold(value))).collect();
        return ControlReading { generation, holds, garbled: None };
    }
    let garbled = format!("holds is {}; accepted: a map from id to hold", found(holds));
    ControlReading { generation, garbled: Some(garbled), ..ControlReading::default() }
}

fn hold(value: &Value) -> Result<ControlHold, String> {
    let Some(ValueType::MapValue(map)) = &value.value_type else {
        let found = found(value.value_type.as_ref());
        return Err(format!("it is {found}; accepted: a map of scope, reason, actor, since, until"));
    };
    Ok(ControlHold {
        scope: scope(&map.fields)?,
        reason: text(&map.fields, "reason")?,
        actor: text(&map.fields, "actor")?,
        since: instant(&map.fields, "since")?,
        until: instant(&map.fields, "until")?,
    })
}

fn scope(fields: &Fields) -> Result<Scope, String> {
    match field(fields, "scope") {
        Some(ValueType::StringValue(text)) => text.parse::<Scope>().map_err(|e| format!("scope: {e}")),
        other => Err(format!(
            "scope is {}; accepted: all, job:NAME, symbol:PATTERN, each perhaps with /CHANNEL",
            found(other)
        )),
    }
}

/// A text, or a plain value as the text that it looks like; a blank one is none.
fn text(fields: &Fields, name: &str) -> Result<Option<String>, String> {
    match field(fields, name) {
        None => Ok(None),
        Some(ValueType::StringValue(text)) if text.trim().is_empty() => Ok(None),
        Some(ValueType::StringValue(text)) => Ok(Some(text.clone())),
        Some(ValueType::BooleanValue(value)) => Ok(Some(value.to_string())),
        Some(ValueType::IntegerValue(value)) => Ok(Some(value.to_string())),
        Some(ValueType::DoubleValue(value)) => Ok(Some(value.to_string())),
        Some(other) => Err(format!("{name} is {}; accepted: text", found(Some(other)))),
    }
}

/// A time, native or written out; a blank text is none.
fn instant(fields: &Fields, name: &str) -> Result<Option<Timestamp>, String> {
    let value = field(fields, name);
    let instant = match value {
        None => return Ok(None),
        Some(ValueType::StringValue(text)) if text.trim().is_empty() => return Ok(None),
        Some(ValueType::StringValue(text)) => text.trim().parse().ok().map(jiff::Timestamp::into),
        Some(ValueType::TimestampValue(ts)) => time(*ts),
        Some(_) => None,
    };
    match instant {
        Some(instant) => Ok(Some(instant)),
        None => Err(format!(
            "{name} is {}; accepted: a timestamp, or text such as 2026-01-31T20:00:00Z",
            found(value)
        )),
    }
}

fn whole_number(value: &ValueType) -> Option<i64> {
    if let ValueType::IntegerValue(number) = value {
        Some(*number)
    } else if let ValueType::StringValue(text) = value {
        text.trim().parse().ok()
    } else if let ValueType::DoubleValue(number) = value
        && number.fract() == 0.0
        && number.abs() <= LARGEST_COUNT
    {
        Some(*number as i64)
    } else {
        None
    }
}

/// A field's value; null and absent are the same.
fn field<'a>(fields: &'a Fields, name: &str) -> Option<&'a ValueType> {
    fields.get(name)?.value_type.as_ref().filter(|value| !matches!(value, ValueType::NullValue(_)))
}

/// What was found, for a sentence: "… is the text "x"".
fn found(value: Option<&ValueType>) -> String {
    match value {
        None | Some(ValueType::NullValue(_)) => "missing".to_owned(),
        Some(ValueType::BooleanValue(value)) => value.to_string(),
        Some(ValueType::IntegerValue(value)) => format!("the number {value}"),
        Some(ValueType::DoubleValue(value)) => format!("the number {value}"),
        Some(ValueType::StringValue(text)) => {
            format!("the text {:?}", text.chars().take(QUOTED_MAX).collect::<String>())
        }
        Some(ValueType::TimestampValue(ts)) => match time(*ts) {
            Some(ts) => format!("the time {ts}"),
            None => "a time out of range".to_owned(),
        },
        Some(ValueType::MapValue(_)) => "a map".to_owned(),
        Some(ValueType::ArrayValue(_)) => "an array".to_owned(),
        Some(_) => "a value of another type".to_owned(),
    }
}

#[cfg(test)]
mod tests;
