//! The log records by which an operator follows the switch.

use std::fs;
use std::time::Duration;

use ingest_switch::watch::Config;
use tracing::Level;

use crate::rig::{Place, Rig, config, rename_over};

#[tokio::test]
async fn edges_are_logged_once_each_with_their_level_and_fields() {
    let (_place, flag) = Place::with_flag("on");
    let source = format!("file:{}", flag.display());
    let mut rig = Rig::watching(&flag).await;
    rename_over(&flag, "off\nreason: venue maintenance\nby: alice");
    rig.until_enabled(false).await;
    rename_over(&flag, "on\nreason: done\nby: bob");
    rig.until_enabled(true).await;
    let edges = rig.stop().await.edges();

    let expected = [
        (Level::INFO, "initial", "true", None, None),
        (Level::WARN, "halted", "false", Some("venue maintenance"), Some("alice")),
        (Level::INFO, "resumed", "true", Some("done"), Some("bob")),
    ];
    assert_eq!(edges.len(), expected.len());
    for (line, (level, status, enabled, reason, actor)) in edges.iter().zip(expected) {
        assert_eq!((line.level, line.target), (level, "ingest_switch"));
        assert_eq!(line.field("message"), Some("ingest_switch"));
        assert_eq!(line.field("status"), Some(status));
        assert_eq!(line.field("ingest_enabled"), Some(enabled));
        assert_eq!(line.field("ingest_enabled_source"), Some(source.as_str()));
        assert_eq!((line.field("reason"), line.field("actor")), (reason, actor));
    }
    assert_eq!(edges[0].field("holds"), Some("[]"));
    let holds = edges[1].field("holds").unwrap();
    assert!(holds.starts_with(&format!("[{source} all since 20")), "{holds}");
    assert!(holds.ends_with(" by \"alice\" reason \"venue maintenance\"]"), "{holds}");
}

#[tokio::test]
async fn a_halt_at_start_is_initial_and_not_an_edge() {
    let (_place, flag) = Place::with_flag("off\nreason: a");
    let rig = Rig::watching(&flag).await;
    let edges = rig.stop().await.edges();
    assert_eq!(edges.len(), 1);
    assert_eq!((edges[0].level, edges[0].field("status")), (Level::INFO, Some("initial")));
    assert_eq!(edges[0].field("ingest_enabled"), Some("false"));
    assert_eq!(edges[0].field("reason"), Some("a"));
}

#[tokio::test]
async fn a_hold_that_joins_another_is_not_an_edge() {
    let (_place, flag) = Place::with_flag("on");
    let mut rig = Rig::start(Config { env: Some("0".to_owned()), ..config(&flag) }).await;
    assert_eq!(rig.now().source.unwrap().as_str(), "env:INGEST_ENABLED");
    fs::write(&flag, "off").unwrap();
    rig.until(|decision| decision.holds.len() == 2).await;
    fs::write(&flag, "on").unwrap();
    let left = rig.until(|decision| decision.holds.len() == 1).await;
    assert!(!left.decision.enabled, "the hold of the environment stands");
    assert_eq!((left.seq, rig.stop().await.statuses()), (2, vec!["initial".to_owned()]));
}

#[tokio::test]
async fn looks_that_change_nothing_are_not_told() {
    let (_place, flag) = Place::with_flag("on");
    let poll = Duration::from_millis(5);
    let mut rig = Rig::start(Config { poll, ..config(&flag) }).await;
    for _ in 0..20 {
        rename_over(&flag, "on");
        tokio::time::sleep(poll).await;
    }
    rename_over(&flag, "off");
    assert_eq!(rig.until_enabled(false).await.seq, 1);
}

#[tokio::test]
async fn an_unknown_word_in_the_environment_warns_once_and_has_no_opinion() {
    let (_place, flag) = Place::with_flag("off");
    let env = Some("maybe".to_owned());
    let mut rig = Rig::start(Config { env, ..config(&flag) }).await;
    rename_over(&flag, "on");
    let decision = rig.until_enabled(true).await.decision;
    assert_eq!(decision.source.unwrap().kind(), "file");
    let warnings = rig.stop().await.warnings();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("env:INGEST_ENABLED: \"maybe\" is not understood"), "{}", warnings[0]);
}

#[tokio::test]
async fn without_a_file_the_environment_decides_for_the_life_of_the_process() {
    for (env, enabled, source) in [
        (None, true, None),
        (Some(" "), true, None),
        (Some("1"), true, Some("env:INGEST_ENABLED")),
        (Some("Paused"), false, Some("env:INGEST_ENABLED")),
    ] {
        let env = env.map(str::to_owned);
        let rig = Rig::start(Config { env, file: None, ..config("unused".as_ref()) }).await;
        let decision = rig.now();
        assert_eq!((decision.enabled, decision.flag_fresh), (enabled, true));
        assert_eq!(decision.source.as_ref().map(|source| source.as_str()), source);
        assert_eq!(rig.stop().await.statuses(), ["initial"]);
    }
}
