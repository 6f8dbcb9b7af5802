#![allow(clippy::unwrap_used)]

use super::*;
use crate::{Condition, HoldReport};

const NOW_US: i64 = 1_760_000_000_000_000;

fn at(offset_s: f64) -> Timestamp {
    Timestamp::from_microseconds(NOW_US + (offset_s * 1e6) as i64).unwrap()
}

/// A heartbeat as its first version wrote it: five fields, `ts` that long ago.
fn beat(status: &str, age_s: f64) -> Heartbeat {
    serde_json::from_value(serde_json::json!({
        "status": status,
        "ts": at(-age_s).to_string(),
        "ingest_enabled": status == "running",
        "ingest_enabled_source": null,
        "last_symbol": null,
    }))
    .unwrap()
}

fn check(beat: &Heartbeat, thresholds: Thresholds, expected: Standing) -> Verdict {
    let verdict = judge(Observed::Document(beat), at(0.0), thresholds);
    assert_eq!(verdict.standing, expected, "{} (age {:?})", verdict.sentence, verdict.age_s);
    assert_eq!(verdict.tradeable, expected == Standing::Live);
    assert!(!verdict.sentence.is_empty());
    verdict
}

#[test]
fn age_decides_by_the_published_interval() {
    for (interval_s, age_s, expected) in [
        (15.0, 0.0, Standing::Live),
        (15.0, 31.9, Standing::Live),
        (15.0, 32.1, Standing::Late),
        (15.0, 44.9, Standing::Late),
        (15.0, 45.1, Standing::Stale),
        (5.0, 11.9, Standing::Live),
        (5.0, 12.1, Standing::Late),
        (5.0, 15.1, Standing::Stale),
        // Three intervals come first when the interval is short: the safe side.
        (1.0, 2.9, Standing::Live),
        (1.0, 3.1, Standing::Stale),
    ] {
        let mut beat = beat("running", age_s);
        beat.interval_s = Some(interval_s);
        check(&beat, Thresholds::Interval, expected);
    }
}

#[test]
fn a_missing_or_senseless_interval_counts_as_fifteen_seconds() {
    for interval_s in [None, Some(0.0), Some(-1.0), Some(f64::NAN), Some(f64::INFINITY)] {
        for (age_s, expected) in [(31.0, Standing::Live), (33.0, Standing::Late), (46.0, Standing::Stale)] {
            let mut beat = beat("running", age_s);
            beat.interval_s = interval_s;
            check(&beat, Thresholds::Interval, expected);
        }
    }
}

#[test]
fn presets_are_the_fixed_limits_of_the_reference() {
    check(&beat("running", 29.9), Thresholds::Display, Standing::Live);
    check(&beat("running", 30.1), Thresholds::Display, Standing::Stale);
    check(&beat("running", 119.9), Thresholds::Execution, Standing::Live);
    check(&beat("running", 120.1), Thresholds::Execution, Standing::Stale);
}

#[test]
fn fresh_and_paused_is_never_tradeable() {
    for thresholds in [Thresholds::Interval, Thresholds::Display, Thresholds::Execution] {
        check(&beat("paused", 1.0), thresholds, Standing::Paused);
    }
}

#[test]
fn a_dead_paused_producer_is_stale_not_paused() {
    check(&beat("paused", 46.0), Thresholds::Interval, Standing::Stale);
}

#[test]
fn a_time_in_the_future_is_never_fresh() {
    check(&beat("running", -4.9), Thresholds::Interval, Standing::Live);
    for ahead_s in [5.1, 60.0, 3.15e7] {
        check(&beat("running", -ahead_s), Thresholds::Interval, Standing::Stale);
        check(&beat("paused", -ahead_s), Thresholds::Execution, Standing::Stale);
    }
}

#[test]
fn the_stores_clock_beats_the_producers() {
    let mut wrong_clock = beat("running", -3600.0);
    wrong_clock.updated_at = Some(at(-1.0));
    check(&wrong_clock, Thresholds::Interval, Standing::Live);

    let mut dead_with_fast_clock = beat("running", 0.0);
    dead_with_fast_clock.updated_at = Some(at(-100.0));
    check(&dead_with_fast_clock, Thresholds::Interval, Standing::Stale);
}

#[test]
fn a_clean_stop_is_stopped_at_any_age() {
    for age_s in [0.0, 20.0, 1e6] {
        let mut beat = beat("running", age_s);
        beat.stopped_at = Some(at(-age_s));
        check(&beat, Thresholds::Interval, Standing::Stopped);
    }
}

#[test]
fn missing_and_unparsable_are_told_apart_and_neither_is_tradeable() {
    let missing = judge(Observed::Missing, at(0.0), Thresholds::Interval);
    assert_eq!((missing.standing, missing.tradeable), (Standing::Missing, false));

    let unparsable = judge(Observed::Unparsable("status is 7"), at(0.0), Thresholds::Interval);
    assert_eq!((unparsable.standing, unparsable.tradeable), (Standing::Stale, false));
    assert!(unparsable.sentence.contains("status is 7"));
}

#[test]
fn a_third_status_word_does_not_parse() {
    let document = serde_json::json!({
        "status": "degraded", "ts": at(0.0).to_string(), "ingest_enabled": true,
        "ingest_enabled_source": null, "last_symbol": null,
    });
    let error = serde_json::from_value::<Heartbeat>(document).unwrap_err().to_string();
    assert!(error.contains("degraded") && error.contains("running"), "{error}");
}

#[test]
fn alive_but_not_ingesting_is_late_and_says_why() {
    let mut mute = beat("running", 1.0);
    mute.conditions.push(Condition {
        kind: "Ingesting".into(),
        status: ConditionStatus::False,
        reason: "Waiting".into(),
        message: "connection refused; next try in 8 s".into(),
        last_transition_time: at(-9.0),
    });
    let verdict = check(&mute, Thresholds::Interval, Standing::Late);
    assert!(verdict.sentence.contains("connection refused"), "{}", verdict.sentence);
}

#[test]
fn a_pause_that_was_asked_but_is_not_complete_is_not_tradeable() {
    let mut draining = beat("running", 1.0);
    draining.ingest_enabled = false;
    check(&draining, Thresholds::Interval, Standing::Late);
}

#[test]
fn the_sentence_names_who_paused_and_why() {
    let mut paused = beat("paused", 1.0);
    paused.ingest_enabled_source = Some("file:/flags/ingest".into());
    paused.holds.push(HoldReport {
        source: "file:/flags/ingest".into(),
        scope: "all".into(),
        reason: Some("exchange maintenance".into()),
        actor: Some("kim".into()),
        since: at(-60.0),
        until: None,
    });
    let verdict = check(&paused, Thresholds::Interval, Standing::Paused);
    assert_eq!(verdict.sentence, "paused by file:/flags/ingest (kim): exchange maintenance");
}

#[test]
fn a_heartbeat_survives_json_unchanged() {
    let mut beat = beat("running", 0.123_456);
    beat.interval_s = Some(15.0);
    beat.started_at = Some(at(-60.0));
    let text = serde_json::to_string(&beat).unwrap();
    assert_eq!(serde_json::from_str::<Heartbeat>(&text).unwrap(), beat);
    assert!(text.contains(r#""stopped_at":null"#), "null is written as null: {text}");
}
