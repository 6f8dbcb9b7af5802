#![allow(clippy::unwrap_used)]

use ingest_switch::watch::Decided;
use ingest_switch::{Decision, Scope, Source};
use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::job::JobState;
use crate::lease::Fence;
use crate::report::{Identity, WEDGED_AFTER};

fn snapshot(paused: bool) -> Snapshot {
    let state = if paused { "paused" } else { "running" };
    Snapshot {
        paused,
        liveness: format!("{state}\n2026-11-22T23:00:00.000Z\nbatches=1\ndocuments=2\nerrors=3\n"),
        holds: String::new(),
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn readiness_is_there_exactly_while_running_and_no_part_of_a_write_stays() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("made/on/demand");
    for (paused, expected) in [
        (false, &["holds", "liveness", "readiness"][..]),
        (true, &["holds", "liveness"]),
        (true, &["holds", "liveness"]),
        (false, &["holds", "liveness", "readiness"]),
    ] {
        snapshot(paused).write(&dir).unwrap();
        assert_eq!(names(&dir), expected);
    }
}

#[test]
fn a_file_that_cannot_be_written_keeps_the_others_from_nothing() {
    let dir = tempfile::tempdir().unwrap();
    snapshot(false).write(dir.path()).unwrap();
    std::fs::remove_file(dir.path().join("liveness")).unwrap();
    std::fs::create_dir(dir.path().join("liveness")).unwrap();
    assert!(snapshot(true).write(dir.path()).is_err());
    assert!(!dir.path().join("readiness").exists(), "it went all the same");
}

#[test]
fn a_hold_is_one_line_whatever_its_words() {
    let at: Timestamp = "2026-11-22T23:00:00Z".parse().unwrap();
    let hold = Hold {
        source: Source::new("file:/tmp/control/state"),
        scope: Scope::ALL,
        reason: Some("two\nlines\tand a tab".to_owned()),
        actor: None,
        since: at,
        until: None,
    };
    assert_eq!(
        hold_line(&hold),
        "file:/tmp/control/state\tall\t2026-11-22T23:00:00Z\t-\t-\ttwo lines and a tab\n"
    );
}

#[test]
fn an_inspection_tells_the_state_and_whether_anybody_vouches_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let written: Timestamp = "2026-11-22T23:00:00Z".parse().unwrap();
    assert!(inspect(dir.path(), written).is_err(), "nothing there");
    let mut paused = snapshot(true);
    paused.holds = "signal:SIGUSR1\tall\n".to_owned();
    paused.write(dir.path()).unwrap();
    let fault = |seconds| {
        let told = inspect(dir.path(), written + SignedDuration::from_secs(seconds)).unwrap();
        assert!(told.text.starts_with("paused\n2026-"), "{}", told.text);
        assert!(
            told.text.ends_with("errors=3\nreadiness=absent\nhold=signal:SIGUSR1\tall\n"),
            "{}",
            told.text
        );
        told.fault
    };
    assert_eq!(fault(0), None);
    assert_eq!(fault(10), None);
    assert!(fault(11).unwrap().contains("11 s"));
    assert!(fault(-11).is_some(), "a time from the future vouches for nobody");

    std::fs::write(dir.path().join("liveness"), "running\nsoon\n").unwrap();
    assert!(inspect(dir.path(), written).unwrap().fault.is_some());
}

#[tokio::test]
async fn a_job_that_does_not_turn_is_not_vouched_for_until_it_turns_again() {
    let now = Timestamp::now();
    let decision = Decision {
        enabled: true,
        source: None,
        holds: Vec::new(),
        flag_fresh: true,
        doubts: Vec::new(),
        generation: None,
        since: now,
    };
    let (_decisions, decided) = watch::channel(Decided { decision, at: Instant::now(), seq: 0 });
    let turned = Instant::now().checked_sub(WEDGED_AFTER + Duration::from_secs(1)).unwrap();
    let mut wedged = JobState::new("iex", now.into(), turned);
    let (job, shown) = watch::channel(wedged.clone());
    let identity = Identity {
        instance_id: "i".into(),
        revision: None,
        started_at: now.into(),
        interval: Duration::from_secs(15),
    };
    let report = Arc::new(Report::new(
        identity,
        decided,
        vec![shown],
        Vec::new(),
        Fence::held(1),
        crate::gaps::GapBook::new(),
    ));
    let dir = tempfile::tempdir().unwrap();
    let (stop, stopping) = watch::channel(false);
    let running = tokio::spawn(HealthFiles::new(dir.path().to_owned(), report).run(stopping));

    assert!(timeout(INTERVAL * 2, there(dir.path())).await.is_err(), "nothing is written");
    wedged.tick = Instant::now();
    job.send(wedged).unwrap();
    timeout(INTERVAL * 2, there(dir.path())).await.unwrap();

    stop.send(true).unwrap();
    running.await.unwrap();
    assert_eq!(names(dir.path()), ["holds", "liveness"]);
}

/// Completes once there is a `liveness`.
async fn there(dir: &Path) {
    while !dir.join(LIVENESS).exists() {
        sleep(Duration::from_millis(5)).await;
    }
}
