//! Control documents as hands may leave them.

use ::firestore::gcloud_sdk::google::firestore::v1::{ArrayValue, MapValue};
use ::firestore::gcloud_sdk::prost_types;

use super::*;

fn value(value_type: ValueType) -> Value {
    Value { value_type: Some(value_type) }
}

fn text(text: &str) -> ValueType {
    ValueType::StringValue(text.to_owned())
}

fn seconds(seconds: i64) -> ValueType {
    ValueType::TimestampValue(prost_types::Timestamp { seconds, nanos: 123_456_789 })
}

fn map<const N: usize>(fields: [(&str, ValueType); N]) -> ValueType {
    let fields = fields.into_iter().map(|(name, field)| (name.to_owned(), value(field))).collect();
    ValueType::MapValue(MapValue { fields })
}

fn read<const N: usize>(fields: [(&str, ValueType); N]) -> ControlReading {
    let fields = fields.into_iter().map(|(name, field)| (name.to_owned(), value(field))).collect();
    control(&Document { fields, ..Document::default() })
}

/// The one hold of a document that holds only this.
fn hold_of(hold: ValueType) -> Result<ControlHold, String> {
    let mut read = read([("generation", ValueType::IntegerValue(1)), ("holds", map([("h", hold)]))]);
    assert_eq!(read.garbled, None);
    read.holds.remove("h").unwrap()
}

#[test]
fn a_hold_is_read_as_it_was_written_by_a_program_or_by_hand() {
    let us = Timestamp::from_microseconds;
    let full = ControlHold {
        scope: "job:iex/quotes".parse().unwrap(),
        reason: Some("maintenance".to_owned()),
        actor: Some("ann".to_owned()),
        since: us(1_700_000_000_123_456),
        until: us(1_700_003_600_123_456),
    };
    let program = map([
        ("scope", text("job:iex/quotes")),
        ("reason", text("maintenance")),
        ("actor", text("ann")),
        ("since", seconds(1_700_000_000)),
        ("until", seconds(1_700_003_600)),
    ]);
    assert_eq!(hold_of(program), Ok(full.clone()));
    let hand = map([
        ("scope", text(" JOB:iex/Quotes ")),
        ("reason", text("maintenance")),
        ("actor", text("ann")),
        ("since", text("2023-11-14T22:13:20.123456Z")),
        ("until", text(" 2023-11-15T00:13:20.123456+01:00 ")),
        ("ticket", text("OPS-1")),
    ]);
    assert_eq!(hold_of(hand), Ok(full));
}

#[test]
fn what_only_explains_may_be_missing_blank_or_of_another_plain_type() {
    let bare = ControlHold { scope: Scope::ALL, reason: None, actor: None, since: None, until: None };
    assert_eq!(hold_of(map([("scope", text("all"))])), Ok(bare.clone()));
    let blank = map([
        ("scope", text("all")),
        ("reason", text(" ")),
        ("actor", ValueType::NullValue(0)),
        ("since", text("")),
        ("until", ValueType::NullValue(0)),
    ]);
    assert_eq!(hold_of(blank), Ok(bare.clone()));
    let odd = map([
        ("scope", text("all")),
        ("reason", ValueType::IntegerValue(4711)),
        ("actor", ValueType::BooleanValue(true)),
    ]);
    let told = ControlHold { reason: Some("4711".to_owned()), actor: Some("true".to_owned()), ..bare };
    assert_eq!(hold_of(odd), Ok(told));
}

#[test]
fn a_hold_that_cannot_be_understood_says_what_was_found_and_what_is_accepted() {
    let all = || ("scope", text("all"));
    let rows = [
        (text("all"), r#"it is the text "all"; accepted: a map of scope, "#),
        (ValueType::NullValue(0), "it is missing; accepted: a map of scope, "),
        (ValueType::BooleanValue(true), "it is true; accepted: a map of scope, "),
        (ValueType::ArrayValue(ArrayValue::default()), "it is an array; accepted: a map of scope, "),
        (map([]), "scope is missing; accepted: all, job:NAME, "),
        (map([("scope", ValueType::IntegerValue(3))]), "scope is the number 3; accepted: all, "),
        (map([("scope", text("everything"))]), r#"scope: "everything" is no scope; accepted: all, "#),
        (map([("scope", text(""))]), r#"scope: "" is no scope; accepted: all, "#),
        (map([all(), ("reason", map([]))]), "reason is a map; accepted: text"),
        (
            map([all(), ("until", text("tomorrow"))]),
            r#"until is the text "tomorrow"; accepted: a timestamp, "#,
        ),
        (
            map([all(), ("until", text("2026-01-31T20:00:00"))]),
            r#"until is the text "2026-01-31T20:00:00"; "#,
        ),
        (map([all(), ("until", ValueType::IntegerValue(1_700_000_000))]), "until is the number 1700000000; "),
        (map([all(), ("until", ValueType::DoubleValue(0.5))]), "until is the number 0.5; accepted: "),
        (map([all(), ("since", seconds(i64::MAX))]), "since is a time out of range; accepted: "),
        (map([all(), ("since", text(&"x".repeat(500)))]), "since is the text \"xxxxxxxx"),
    ];
    for (hold, start) in rows {
        let told = hold_of(hold).unwrap_err();
        assert!(told.starts_with(start), "{told}");
        assert!(told.len() < 300, "{told}");
    }
}

#[test]
fn one_bad_hold_costs_its_neighbours_nothing() {
    let holds = map([("good", map([("scope", text("all"))])), ("bad", text("?"))]);
    let read = read([("generation", ValueType::IntegerValue(7)), ("holds", holds)]);
    assert_eq!((read.generation, read.garbled), (Some(7), None));
    assert!(read.holds["good"].is_ok() && read.holds["bad"].is_err());
}

#[test]
fn a_generation_is_any_whole_number_or_none() {
    let rows = [
        (ValueType::IntegerValue(-4), Some(-4)),
        (ValueType::DoubleValue(12.0), Some(12)),
        (text(" 12 "), Some(12)),
        (ValueType::DoubleValue(12.5), None),
        (ValueType::DoubleValue(f64::NAN), None),
        (ValueType::DoubleValue(f64::INFINITY), None),
        (ValueType::DoubleValue(1e300), None),
        (text("twelve"), None),
        (text("99999999999999999999"), None),
        (ValueType::NullValue(0), None),
        (map([]), None),
    ];
    for (generation, expected) in rows {
        let found = format!("{generation:?}");
        let read = read([("generation", generation), ("holds", map([]))]);
        assert_eq!((read.generation, read.garbled), (expected, None), "{found}");
    }
}

#[test]
fn a_document_without_a_map_of_holds_says_so() {
    let accepted = "accepted: a map from id to hold";
    let garbled = |holds| read([("holds", holds)]).garbled.unwrap();
    assert_eq!(read([]).garbled, Some(format!("holds is missing; {accepted}")));
    assert_eq!(garbled(text("pause!")), format!(r#"holds is the text "pause!"; {accepted}"#));
    assert_eq!(garbled(ValueType::NullValue(0)), format!("holds is missing; {accepted}"));
    assert_eq!(
        garbled(ValueType::ArrayValue(ArrayValue::default())),
        format!("holds is an array; {accepted}")
    );
    assert_eq!(read([("holds", map([]))]), ControlReading::default());
}
