//! What other sources say beside a real flag file, and the records that tell of it.

use std::fs;
use std::time::{Duration, Instant};

use ingest_switch::watch::{Config, Input};
use ingest_switch::{Doubt, JobPlan, Notes, Observation, Source};
use tokio::sync::mpsc;
use tracing::Level;

use crate::rig::{Place, Rig, config, rename_over};

fn off(scope: &str) -> Observation {
    let notes = Notes { reason: Some("test".to_owned()), actor: Some("al".to_owned()), ..Notes::default() };
    Observation::Off { scope: scope.parse().unwrap(), notes, since: None }
}

fn signal(observation: Observation) -> Input {
    Input::Source(Source::signal("SIGUSR1"), observation)
}

fn control(readings: Vec<(Source, Observation)>, generation: i64) -> Input {
    Input::Group { group: "control", readings, generation: Some(generation) }
}

#[tokio::test]
async fn a_signal_holds_though_the_file_says_running_at_every_poll() {
    let (_place, flag) = Place::with_flag("running");
    let (inputs, receiver) = mpsc::channel(8);
    let poll = Duration::from_millis(10);
    let mut rig = Rig::start(Config { poll, inputs: receiver, ..config(&flag) }).await;
    inputs.send(signal(off("all"))).await.unwrap();
    let decision = rig.until_enabled(false).await.decision;
    assert_eq!(decision.source.unwrap().as_str(), "signal:SIGUSR1");
    rename_over(&flag, "running\nreason: still");
    let undone = tokio::time::timeout(poll * 50, rig.until_enabled(true)).await;
    assert!(undone.is_err(), "fifty polls of a file that says running");
    inputs.send(signal(Observation::NoOpinion)).await.unwrap();
    rig.until_enabled(true).await;
    assert_eq!(rig.stop().await.statuses(), ["initial", "halted", "resumed"]);
}

#[tokio::test]
async fn a_file_pauses_again_after_a_pause_that_a_signal_did_not_release() {
    let (_place, flag) = Place::with_flag("running");
    let (inputs, receiver) = mpsc::channel(8);
    let mut rig = Rig::start(Config { inputs: receiver, ..config(&flag) }).await;
    for _ in 0..2 {
        fs::write(&flag, "pause").unwrap();
        rig.until_enabled(false).await;
        inputs.send(signal(Observation::NoOpinion)).await.unwrap();
        inputs.send(control(vec![], 1)).await.unwrap();
        assert!(!rig.until(|decision| decision.generation == Some(1)).await.decision.enabled);
        rename_over(&flag, "pause\nreason: again");
        let again = rig.until(|decision| decision.holds.iter().any(|hold| hold.reason.is_some())).await;
        assert!(!again.decision.enabled);
        fs::write(&flag, "running").unwrap();
        rig.until_enabled(true).await;
        inputs.send(control(vec![], 2)).await.unwrap();
        rig.until(|decision| decision.generation == Some(2)).await;
    }
    let expected = ["initial", "halted", "resumed", "halted", "resumed"];
    assert_eq!(rig.stop().await.statuses(), expected);
}

#[tokio::test]
async fn an_unknown_word_and_a_group_out_of_reach_warn_once_and_not_at_every_poll() {
    let (_place, flag) = Place::with_flag("maybe");
    let (inputs, receiver) = mpsc::channel(8);
    let poll = Duration::from_millis(5);
    let mut rig = Rig::start(Config { poll, inputs: receiver, ..config(&flag) }).await;
    for _ in 0..50 {
        let doubt = Doubt::Unreadable("no route".to_owned());
        inputs.send(Input::GroupDoubt { group: "control", doubt }).await.unwrap();
        tokio::time::sleep(poll).await;
    }
    let decision = rig.until_stale().await.decision;
    assert_eq!(decision.doubts.len(), 2, "{:?}", decision.doubts);
    inputs.send(control(vec![], 1)).await.unwrap();
    let decision = rig.until(|decision| decision.flag_fresh).await.decision;
    assert_eq!(decision.doubts.len(), 1, "the word: {:?}", decision.doubts);
    let warnings = rig.stop().await.warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("\"maybe\" is not understood") && warnings[1].contains("no route"));
}

#[tokio::test]
async fn holds_that_come_and_go_without_an_edge_are_told_once_each() {
    let (_place, flag) = Place::with_flag("on");
    let (inputs, receiver) = mpsc::channel(8);
    let plan = |name: &str| JobPlan { name: name.to_owned(), pairs: Vec::new() };
    let jobs = vec![plan("iex"), plan("sip")];
    let mut rig = Rig::start(Config { jobs, inputs: receiver, ..config(&flag) }).await;
    let one = (Source::control("1"), off("job:iex"));
    let two = (Source::control("2"), off("symbol:BTC*/quotes"));
    for (generation, readings) in [
        (1, vec![one.clone()]),
        (2, vec![one.clone(), two.clone()]),
        (3, vec![one.clone(), two.clone()]),
        (4, vec![two.clone()]),
        (5, vec![(Source::control("2"), off("job:sip"))]),
    ] {
        inputs.send(control(readings, generation)).await.unwrap();
        rig.until(|decision| decision.generation == Some(generation)).await;
    }
    // This one completes the cover: an edge, and so no other record of the hold.
    inputs.send(signal(off("job:iex"))).await.unwrap();
    let decision = rig.until_enabled(false).await.decision;
    assert_eq!(decision.source.unwrap().as_str(), "control:2");
    let records = rig.stop().await;
    assert_eq!(records.statuses(), ["initial", "halted"]);

    let told: Vec<_> = records
        .with_message(&["hold_placed", "hold_released"])
        .into_iter()
        .map(|line| {
            assert_eq!((line.level, line.target), (Level::INFO, "ingest_switch"));
            assert_eq!((line.field("reason"), line.field("actor")), (Some("test"), Some("al")));
            ["message", "source", "scope"].map(|name| line.field(name).unwrap().to_owned()).join(" ")
        })
        .collect();
    let expected = [
        "hold_placed control:1 job:iex",
        "hold_placed control:2 symbol:BTC*/quotes",
        "hold_released control:1 job:iex",
        "hold_placed control:2 job:sip",
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_flag_that_is_written_in_pieces_is_told_again_with_who_and_why() {
    let (_place, flag) = Place::with_flag("on");
    let mut rig = Rig::start(config(&flag)).await;
    // As a shell does it that writes line by line.
    std::fs::write(&flag, "off\n").unwrap();
    rig.until_enabled(false).await;
    std::fs::write(&flag, "off\nreason: trying it\nby: me\n").unwrap();
    rig.until(|decision| decision.holds.iter().any(|hold| hold.actor.is_some())).await;
    let records = rig.stop().await;
    assert_eq!(records.statuses(), ["initial", "halted"]);
    let told = records.with_message(&["hold_placed"]);
    let told: Vec<_> = told.iter().map(|line| (line.field("reason"), line.field("actor"))).collect();
    assert_eq!(told, [(Some("trying it"), Some("me"))]);
}

#[tokio::test]
async fn a_flag_that_is_not_there_at_the_start_is_told_once() {
    let place = Place::new();
    let (flag, poll) = (place.path("none/enabled"), Duration::from_millis(5));
    let rig = Rig::start(Config { poll, ..config(&flag) }).await;
    tokio::time::sleep(10 * poll).await;
    let records = rig.stop().await;
    let told = records.with_message(&["the flag file is not there; until it is, it has no opinion"]);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].field("file"), flag.to_str());
}

#[tokio::test]
async fn a_flood_of_inputs_does_not_delay_the_file() {
    let (_place, flag) = Place::with_flag("on");
    let (inputs, receiver) = mpsc::channel(1024);
    let mut rig = Rig::start(Config { inputs: receiver, ..config(&flag) }).await;
    let flood = std::thread::spawn(move || {
        let mut sent = 0;
        while inputs.blocking_send(control(vec![(Source::control("1"), off("symbol:X"))], sent)).is_ok() {
            sent += 1;
        }
        sent
    });
    rig.until(|decision| decision.generation.is_some()).await;
    let mut took = Vec::new();
    for round in 0..40 {
        let enabled = round % 2 == 1;
        let began = Instant::now();
        rename_over(&flag, if enabled { "on" } else { "off" });
        took.push(rig.until_enabled(enabled).await.at.duration_since(began));
    }
    rig.stop().await;
    let sent = flood.join().unwrap();
    took.sort();
    println!("{sent} inputs meanwhile; p50 {:?}, max {:?}", took[took.len() / 2], took[took.len() - 1]);
    assert!(sent > 1_000, "a flood: {sent}");
    assert!(took[took.len() - 1] <= Duration::from_millis(200), "{took:?}");
}
