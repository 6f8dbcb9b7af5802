#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;

fn hold(source: &str, scope: &str) -> Value {
    json!({ "source": source, "scope": scope, "since": "2026-01-01T00:00:00Z" })
}

fn job(status: &str, phase: &str) -> Value {
    json!({
        "status": status, "since": "2026-01-01T00:00:00Z", "phase": phase, "connected": phase == "live",
        "subscribed": 3, "messages": 0,
    })
}

fn beat(generation: Value, holds: Vec<Value>, jobs: Value) -> Heartbeat {
    serde_json::from_value(json!({
        "status": "running", "ts": "2026-01-01T00:00:10Z", "ingest_enabled": true, "ingest_enabled_source": null,
        "last_symbol": null, "instance_id": "i", "seq": 7, "effective_generation": generation, "holds": holds,
        "jobs": jobs,
    }))
    .unwrap()
}

fn change(verb: Verb, scopes: &[&str], holds: &[&str]) -> Change {
    Change {
        verb,
        generation: 4,
        holds: holds.iter().map(|id| (*id).to_owned()).collect(),
        scopes: scopes.iter().map(|scope| scope.parse().unwrap()).collect(),
        before: None,
        closed_before: Vec::new(),
    }
}

/// The effect waits for exactly these, each told by a part of its sentence.
#[track_caller]
fn waits(change: &Change, beat: &Heartbeat, expected: &[&str]) {
    let missing = change.waits_for(beat);
    assert_eq!(missing.len(), expected.len(), "{missing:?}");
    for (sentence, part) in missing.iter().zip(expected) {
        assert!(sentence.contains(part), "{sentence:?} does not tell of {part:?}");
    }
}

#[test]
fn a_pause_is_effective_when_the_generation_the_hold_and_the_closed_jobs_show_it() {
    let all = change(Verb::Pause, &["all"], &["all-ann"]);
    let held = || vec![hold("control:all-ann", "all")];
    waits(&all, &beat(json!(4), held(), json!({ "iex": job("paused", "halted") })), &[]);
    waits(&all, &beat(json!(9), held(), json!({ "iex": job("stopped", "stopped") })), &[]);
    waits(&all, &beat(json!(3), held(), json!({ "iex": job("paused", "halted") })), &["3 is effective"]);
    waits(&all, &beat(Value::Null, held(), json!({ "iex": job("paused", "halted") })), &["tells of none"]);
    waits(&all, &beat(json!(4), vec![], json!({ "iex": job("paused", "halted") })), &["all-ann to stand"]);
    waits(&all, &beat(json!(4), held(), json!({ "iex": job("running", "closing") })), &["iex to close"]);
    waits(
        &all,
        &beat(json!(3), vec![], json!({ "iex": job("running", "live") })),
        &["generation 4", "all-ann to stand", "it is running, live"],
    );
}

#[test]
fn a_pause_of_one_job_waits_for_no_other() {
    let jobs = || json!({ "iex": job("paused", "halted"), "sip": job("running", "live") });
    let one = change(Verb::Pause, &["job:iex"], &["x"]);
    waits(&one, &beat(json!(4), vec![hold("control:x", "job:iex")], jobs()), &[]);
    for scope in ["symbol:AAPL", "all/quotes", "job:sip/bars"] {
        let part = change(Verb::Pause, &[scope], &["x"]);
        waits(&part, &beat(json!(4), vec![hold("control:x", scope)], jobs()), &[]);
    }
}

#[test]
fn an_effect_is_never_read_out_of_the_heartbeat_before_the_change() {
    let beat = beat(json!(57), vec![hold("control:x", "all")], json!({}));
    let mut change = change(Verb::Pause, &["all"], &["x"]);
    change.before = Some(Mark::of(&beat));
    waits(&change, &beat, &["newer"]);
    let later = Heartbeat { seq: 8, ..beat.clone() };
    waits(&change, &later, &[]);
    let another = Heartbeat { instance_id: "j".to_owned(), ..beat };
    waits(&change, &another, &[]);
}

#[test]
fn a_resume_is_effective_when_the_hold_is_gone_and_the_jobs_are_connected() {
    let all = change(Verb::Resume, &["all"], &["all-ann"]);
    waits(&all, &beat(json!(4), vec![], json!({ "iex": job("running", "live") })), &[]);
    waits(
        &all,
        &beat(json!(4), vec![hold("control:all-ann", "all")], json!({ "iex": job("paused", "halted") })),
        &["all-ann to go"],
    );
    waits(&all, &beat(json!(4), vec![], json!({ "iex": job("starting", "dialing") })), &["iex to connect"]);
    waits(&all, &beat(json!(4), vec![], json!({ "iex": job("failed", "waiting") })), &["failed, waiting"]);
    let other = vec![hold("env:INGEST_ENABLED", "all")];
    waits(&all, &beat(json!(4), other, json!({ "iex": job("paused", "halted") })), &[]);
}

#[test]
fn who_still_holds_is_told_by_whole_and_part() {
    let all = change(Verb::Resume, &["all"], &["mine"]);
    let sources = |holds: Vec<&HoldReport>| holds.iter().map(|h| h.source.clone()).collect::<Vec<_>>();
    let beat_of = |holds: &[(&str, &str)], status: &str| {
        let holds = holds.iter().map(|(source, scope)| hold(source, scope)).collect();
        beat(json!(4), holds, json!({ "iex": job(status, "x") }))
    };
    for (holds, status, whole, part) in [
        (&[("file:/f", "all"), ("control:mine", "all")][..], "paused", &["file:/f"][..], &[][..]),
        (&[("control:b", "symbol:AAPL")], "running", &[], &["control:b"]),
        (
            &[("control:b", "symbol:A*"), ("control:c", "symbol:B*")],
            "paused",
            &["control:b", "control:c"],
            &[],
        ),
        (&[("control:b", "job:iex")], "paused", &["control:b"], &[]),
        (&[("control:b", "what is this")], "running", &[], &["control:b"]),
        (&[], "running", &[], &[]),
    ] {
        let beat = beat_of(holds, status);
        let (found_whole, found_part) = all.still_held(&beat);
        assert_eq!(sources(found_whole), whole, "{holds:?}");
        assert_eq!(sources(found_part), part, "{holds:?}");
    }
}

#[test]
fn what_no_job_that_can_carry_it_carries_is_still_held_whatever_other_jobs_do() {
    let parts = |jobs: Value, holds: Vec<Value>, scope: &str| {
        let released = change(Verb::Resume, &[scope], &["mine"]);
        let beat = beat(json!(4), holds, jobs);
        let (whole, part) = released.still_held(&beat);
        (whole.len(), part.len())
    };
    let closed = || json!({ "iex": job("paused", "halted"), "crypto-us": job("running", "live") });
    let vendor = || vec![hold("control:job-iex-ann", "job:iex")];
    assert_eq!(parts(closed(), vendor(), "symbol:AAPL"), (1, 0), "crypto carries no AAPL");
    assert_eq!(parts(closed(), vendor(), "symbol:?P*"), (1, 0));
    assert_eq!(parts(closed(), vendor(), "symbol:BTC/USD"), (0, 1), "crypto carries it");
    assert_eq!(parts(closed(), vendor(), "all"), (0, 1), "crypto flows");

    let mut named = job("running", "live");
    named["paused_symbols"] = json!(["AAPL"]);
    let channels =
        ["trades", "quotes", "bars"].map(|c| hold(&format!("control:{c}"), &format!("symbol:AAPL/{c}")));
    assert_eq!(parts(json!({ "iex": named }), channels.to_vec(), "symbol:aapl"), (3, 0));
    let mut partly = job("running", "live");
    partly["paused_symbols"] = json!(["AAPL/trades"]);
    let trades = vec![hold("control:trades", "symbol:AAPL/trades")];
    assert_eq!(parts(json!({ "iex": partly }), trades, "symbol:AAPL"), (0, 1), "its quotes flow");
}
