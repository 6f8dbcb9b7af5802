//! How fast edits are followed, and that fast edits are followed to the end.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use ingest_switch::watch::Config;
use jiff::{SignedDuration, Timestamp};

use crate::rig::{NEVER, Place, Rig, config, rename_over};

/// Edits `count` times, `pause` apart, and returns, sorted, the time from before each edit to its decision.
async fn latencies(rig: &mut Rig, count: usize, pause: Duration, edit: impl Fn(&str)) -> Vec<Duration> {
    let mut took = Vec::new();
    for round in 0..count {
        let enabled = round % 2 == 1;
        // Not a wait for anything: an operator's edits come apart, and that is what is measured.
        tokio::time::sleep(pause).await;
        let began = Instant::now();
        edit(if enabled { "on" } else { "off" });
        took.push(rig.until_enabled(enabled).await.at.duration_since(began));
    }
    took.sort();
    took
}

fn report(what: &str, took: &[Duration]) -> (Duration, Duration) {
    let (p50, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    println!("{what}: p50 {p50:?}, p99 {p99:?}, max {:?} of {}", took[took.len() - 1], took.len());
    (p50, p99)
}

#[tokio::test]
async fn an_edit_is_decided_within_200_ms_by_events() {
    let (_place, flag) = Place::with_flag("on");
    let mut rig = Rig::watching(&flag).await;
    for (what, pause) in [("apart", Duration::from_millis(10)), ("back to back", Duration::ZERO)] {
        let in_place = latencies(&mut rig, 150, pause, |text| fs::write(&flag, text).unwrap()).await;
        let renamed = latencies(&mut rig, 150, pause, |text| rename_over(&flag, text)).await;
        for (how, took) in [("in place", in_place), ("rename over", renamed)] {
            let (_, p99) = report(&format!("{how}, {what}"), &took);
            assert!(p99 <= Duration::from_millis(200), "{p99:?}");
        }
    }
}

#[tokio::test]
async fn an_edit_is_decided_within_the_poll_and_50_ms_without_events() {
    let (_place, flag) = Place::with_flag("on");
    let poll = Duration::from_millis(100);
    let mut rig = Rig::start(Config { events: false, poll, ..config(&flag) }).await;
    let took = latencies(&mut rig, 40, Duration::from_millis(7), |text| rename_over(&flag, text)).await;
    let (p50, _) = report("poll of 100 ms", &took);
    // Not p99: on a busy machine a bare timer is as late, and of 40 one such stall is the p99. That
    // a look is due exactly one poll after the last is shown on a clock that does not stall.
    let p90 = took[took.len() * 9 / 10];
    assert!(p90 <= poll + Duration::from_millis(50), "{p90:?}");
    assert!(p50 >= Duration::from_millis(20), "events were not asked for: {p50:?}");
}

#[tokio::test]
async fn events_alone_change_nothing_where_they_are_not_asked_for() {
    let (_place, flag) = Place::with_flag("on");
    let mut rig = Rig::start(Config { events: false, poll: NEVER, ..config(&flag) }).await;
    fs::write(&flag, "off").unwrap();
    let followed = tokio::time::timeout(Duration::from_millis(300), rig.until_enabled(false)).await;
    assert!(followed.is_err(), "only the poll may find it");
}

/// Toggles 1,000 times as fast as can be, ends with off, and expects to end there.
async fn last_value_wins(flag: &Path, edit: fn(&Path, &str)) {
    let mut rig = Rig::watching(flag).await;
    let toggled = flag.to_owned();
    let began = Instant::now();
    let toggling = tokio::task::spawn_blocking(move || {
        for round in 0..1_000 {
            edit(&toggled, if round % 2 == 0 { "off" } else { "on" });
        }
        edit(&toggled, "off\nreason: last");
    });
    toggling.await.unwrap();
    let took = began.elapsed();
    rig.until(|decision| {
        decision.flag_fresh && decision.holds.iter().any(|hold| hold.reason.as_deref() == Some("last"))
    })
    .await;

    let statuses = rig.stop().await.statuses();
    println!("{} edges were seen of 1,000 toggles in {took:?}", statuses.len() - 1);
    for (at, status) in statuses.iter().enumerate().skip(1) {
        assert_eq!(status, if at % 2 == 1 { "halted" } else { "resumed" }, "edges alternate");
    }
    assert_eq!(statuses.last().unwrap(), "halted");
}

#[tokio::test]
async fn after_a_thousand_writes_the_last_value_wins() {
    let (_place, flag) = Place::with_flag("on");
    last_value_wins(&flag, |flag, text| fs::write(flag, text).unwrap()).await;
}

#[tokio::test]
async fn after_a_thousand_renames_the_last_value_wins() {
    let (_place, flag) = Place::with_flag("on");
    last_value_wins(&flag, rename_over).await;
}

#[tokio::test]
async fn rewriting_the_same_word_in_place_never_crosses_an_edge() {
    for text in ["off", "on"] {
        let (_place, flag) = Place::with_flag(text);
        let mut rig = Rig::watching(&flag).await;
        for _ in 0..300 {
            fs::write(&flag, text).unwrap();
            tokio::task::yield_now().await;
        }
        fs::write(&flag, format!("{text}\nuntil: never")).unwrap();
        rig.until_enabled(text == "on").await;
        let warned = tokio::time::timeout(Duration::from_secs(10), async {
            while rig.records().warnings().iter().all(|warning| !warning.contains("\"never\"")) {
                tokio::task::yield_now().await;
            }
        });
        warned.await.expect("the bad line is named");
        let records = rig.stop().await;
        assert_eq!(records.statuses(), ["initial"]);
        println!("{text}: {} warnings besides in 300 rewrites", records.warnings().len() - 1);
    }
}

#[tokio::test]
async fn a_hold_with_an_end_resumes_once_by_itself() {
    let (_place, flag) = Place::with_flag("on");
    let mut rig = Rig::watching(&flag).await;
    let until = Timestamp::now() + SignedDuration::from_millis(400);
    rename_over(&flag, &format!("off\nuntil: {until}"));
    rig.until_enabled(false).await;
    rig.until_enabled(true).await;
    let late = Timestamp::now().duration_since(until);
    assert!(!late.is_negative(), "not before its time: {late:?}");
    println!("resumed {late:?} after its time");
    assert!(late <= SignedDuration::from_millis(500), "{late:?}");

    rename_over(&flag, "off");
    rig.until_enabled(false).await;
    assert_eq!(rig.stop().await.statuses(), ["initial", "halted", "resumed", "halted"]);
}
