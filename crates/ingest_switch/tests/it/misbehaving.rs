//! Files that are lost, garbled, out of reach or hang: nothing but the operator's word changes the decision.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ingest_switch::watch::Config;

use crate::rig::{NEVER, Place, Rig, config, make_fifo, release_fifo, remembered, rename_over};

/// Loses the file by `lose` in both states, and finds it again.
async fn keeps_its_decision(lose: impl Fn(&Path), find: impl Fn(&Path, &str), named: &str) {
    for (text, enabled) in [("off", false), ("on", true)] {
        let (_place, flag) = Place::with_flag(text);
        let mut rig = Rig::watching(&flag).await;
        lose(&flag);
        assert_eq!(rig.until_stale().await.decision.enabled, enabled);
        find(&flag, text);
        rig.until_enabled(enabled).await;

        let source = format!("file:{}", flag.display());
        let warnings = rig.records().warnings();
        assert_eq!(warnings, [format!("{source}: {named}; its last decision stands")]);
        assert_eq!(rig.stop().await.statuses(), ["initial"], "no edge");
    }
}

#[tokio::test]
async fn a_deleted_file_keeps_its_decision() {
    keeps_its_decision(
        |flag| fs::remove_file(flag).unwrap(),
        |flag, text| fs::write(flag, text).unwrap(),
        "it does not exist",
    )
    .await;
}

#[tokio::test]
async fn an_emptied_file_keeps_its_decision() {
    keeps_its_decision(
        |flag| fs::write(flag, "").unwrap(),
        |flag, text| fs::write(flag, text).unwrap(),
        "it is blank",
    )
    .await;
}

#[tokio::test]
async fn garbage_keeps_the_decision() {
    let words = format!(
        "on: {}; off: {}",
        ingest_switch::flag::ON_WORDS.join(" "),
        ingest_switch::flag::OFF_WORDS.join(" ")
    );
    keeps_its_decision(
        |flag| fs::write(flag, "perhaps later").unwrap(),
        |flag, text| fs::write(flag, text).unwrap(),
        &format!("\"perhaps later\" is not understood ({words})"),
    )
    .await;
}

#[tokio::test]
async fn a_directory_in_place_of_the_file_keeps_the_decision() {
    keeps_its_decision(
        |flag| {
            let dir = flag.with_extension("dir");
            fs::create_dir(&dir).unwrap();
            fs::rename(flag, flag.with_extension("old")).unwrap();
            fs::rename(&dir, flag).unwrap();
        },
        |flag, text| {
            fs::rename(flag, flag.with_extension("away")).unwrap();
            rename_over(flag, text);
        },
        "it cannot be read: Is a directory (os error 21)",
    )
    .await;
}

#[tokio::test]
async fn a_link_to_nowhere_keeps_the_decision() {
    keeps_its_decision(
        |flag| {
            let link = flag.with_extension("link");
            symlink("nowhere", &link).unwrap();
            fs::rename(&link, flag).unwrap();
        },
        rename_over,
        "it does not exist",
    )
    .await;
}

#[tokio::test]
async fn a_remembered_hold_stands_while_the_file_is_missing_and_ends_with_its_word() {
    let place = Place::new();
    let flag = place.path("enabled");
    let config = Config { remembered: vec![remembered(&flag)], ..config(&flag) };
    let mut rig = Rig::start(config).await;
    let decision = rig.now();
    assert_eq!((decision.enabled, decision.flag_fresh), (false, false));
    assert_eq!(decision.holds, [remembered(&flag)]);
    fs::write(&flag, "on").unwrap();
    rig.until_enabled(true).await;
    assert_eq!(rig.stop().await.statuses(), ["initial", "resumed"]);
}

#[tokio::test]
async fn a_remembered_hold_of_another_source_is_ignored() {
    let place = Place::new();
    let flag = place.path("enabled");
    let other = remembered(&place.path("other"));
    let rig = Rig::start(Config { remembered: vec![other], ..config(&flag) }).await;
    assert_eq!((rig.now().enabled, rig.now().flag_fresh), (true, true));
}

#[tokio::test]
async fn the_first_decision_does_not_wait_for_a_file_that_hangs() {
    let place = Place::new();
    let flag = place.path("enabled");
    make_fifo(&flag);
    let began = Instant::now();
    let config = Config { remembered: vec![remembered(&flag)], ..config(&flag) };
    let rig = Rig::start(config).await;
    let took = began.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(3)).contains(&took), "{took:?}");
    let decision = rig.now();
    assert_eq!((decision.enabled, decision.flag_fresh), (false, false), "the remembered hold stands");
    assert_eq!(rig.records().warnings().len(), 1, "{}", rig.records());
    release_fifo(&flag);
    rig.stop().await;
}

/// Puts a pipe where the flag is, by a rename, and returns another name by which to release it.
fn begin_to_hang(place: &Place, flag: &Path) -> PathBuf {
    let (pipe, spare) = (flag.with_extension("pipe"), place.path("spare"));
    make_fifo(&pipe);
    fs::hard_link(&pipe, &spare).unwrap();
    fs::rename(&pipe, flag).unwrap();
    spare
}

/// A flag that begins to hang, is stirred while it does, and is then replaced.
async fn can_be_replaced(events: bool, poll: Duration) {
    let place = Place::new();
    let (dir, flag) = (place.path("dir"), place.path("dir/enabled"));
    fs::create_dir(&dir).unwrap();
    fs::write(&flag, "off").unwrap();
    let mut rig = Rig::start(Config { events, poll, ..config(&flag) }).await;
    let spare = begin_to_hang(&place, &flag);
    // Events that come while the look hangs, though the file remains the same one.
    let stirring = async {
        loop {
            fs::set_permissions(&flag, fs::metadata(&flag).unwrap().permissions()).unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let stale = tokio::select! {
        stale = rig.until_stale() => stale,
        () = stirring => unreachable!("it has no end"),
    };
    assert!(!stale.decision.enabled, "the last decision stands");
    for _ in 0..10 {
        fs::set_permissions(&flag, fs::metadata(&flag).unwrap().permissions()).unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    rename_over(&flag, "on");
    rig.until_enabled(true).await;
    // The hanging read has the events along, so nothing watches a directory that comes now.
    fs::rename(&dir, place.path("away")).unwrap();
    rig.until_stale().await;
    fs::create_dir(&dir).unwrap();
    fs::write(&flag, "off\nreason: last").unwrap();
    // What it brings is of a file long replaced; but it brings the events back.
    fs::write(&spare, "on\nreason: late").unwrap();
    let decision = rig.until_enabled(false).await.decision;
    assert_eq!(decision.holds[0].reason.as_deref(), Some("last"));
    assert_eq!(rig.stop().await.statuses(), ["initial", "resumed", "halted"]);
}

#[tokio::test]
async fn a_file_that_begins_to_hang_keeps_its_decision_and_can_be_replaced() {
    can_be_replaced(true, NEVER).await;
}

#[tokio::test]
async fn a_file_that_hangs_can_be_replaced_where_there_are_no_events() {
    can_be_replaced(false, Duration::from_millis(30)).await;
}

#[tokio::test]
async fn a_file_that_hung_counts_once_it_is_read() {
    let (place, flag) = Place::with_flag("on");
    let mut rig = Rig::watching(&flag).await;
    let spare = begin_to_hang(&place, &flag);
    rig.until_stale().await;
    fs::write(&spare, "off").unwrap();
    rig.until_enabled(false).await;
    assert_eq!(rig.stop().await.statuses(), ["initial", "halted"]);
}

#[test]
fn a_file_that_hangs_piles_up_no_threads_and_does_not_hold_the_exit() {
    let place = Place::new();
    let flag = place.path("enabled");
    make_fifo(&flag);
    fs::hard_link(&flag, place.path("first.spare")).unwrap();
    let threads = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&threads);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_start(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        })
        .build()
        .unwrap();
    runtime.block_on(async {
        let poll = Duration::from_millis(5);
        let mut rig = Rig::start(Config { poll, ..config(&flag) }).await;
        // A hundred polls, and events that say the file may have been replaced.
        for round in 0..100 {
            fs::set_permissions(&flag, fs::metadata(&flag).unwrap().permissions()).unwrap();
            let polls = tokio::time::sleep(poll);
            tokio::select! {
                () = polls => {}
                decided = rig.until_enabled(false) => panic!("round {round}: {decided:?}"),
            }
        }
        // Replaced by others that hang as well.
        for other in ["second", "third", "fourth"] {
            let other = place.path(other);
            make_fifo(&other);
            fs::hard_link(&other, other.with_extension("spare")).unwrap();
            fs::rename(&other, &flag).unwrap();
            let hung = tokio::time::timeout(Duration::from_millis(1_300), rig.until_enabled(false));
            assert!(hung.await.is_err(), "nobody wrote off");
        }
    });
    let began = Instant::now();
    runtime.shutdown_timeout(Duration::from_millis(100));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let threads = threads.load(Ordering::SeqCst);
    for spare in ["first.spare", "second.spare", "third.spare", "fourth.spare"] {
        release_fifo(&place.path(spare));
    }
    assert!((1..=2).contains(&threads), "{threads} threads hang");
}
