#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use ingest_status::Timestamp;
use ingest_switch::{Coverage, Hold, Source};

use super::*;
use crate::config::Config;
use crate::gaps::Cursor;

fn second(s: i64) -> Timestamp {
    Timestamp::from_nanoseconds(s * 1_000_000_000)
}

fn record(symbols: &[&str], channels: &[&str]) -> GapRecord {
    let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    GapRecord {
        id: "g".to_owned(),
        job: "iex".to_owned(),
        symbols: list(symbols),
        channels: list(channels),
        from: second(100),
        to: Some(second(200)),
        cause: "pause".to_owned(),
        state: GapState::Open,
        rows: 0,
        reason: None,
        opened_at: second(0),
        cursor: None,
    }
}

fn held(scopes: &[&str]) -> JobCoverage {
    let hold = |scope: &&str| Hold {
        source: Source::control(scope),
        scope: scope.parse().unwrap(),
        reason: None,
        actor: None,
        since: jiff::Timestamp::UNIX_EPOCH,
        until: None,
    };
    Coverage::new(&scopes.iter().map(hold).collect::<Vec<_>>()).job("iex")
}

fn history() -> History {
    let vars = [("ALPACA_STREAM_URL", "ws://127.0.0.1:1"), ("ALPACA_DATA_URL", "http://127.0.0.1:2/")];
    let vars = vars.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Config::from_vars(vars, false).unwrap().jobs[0].history.clone().unwrap()
}

fn planned(record: GapRecord, policy: BackfillConfig, coverage: &JobCoverage, known: &[&str]) -> Plan {
    let (history, mut part) = (history(), 0);
    let limits = Limits { history: Ok(&history), sinks: true, policy };
    let known: Vec<String> = known.iter().map(|name| (*name).to_owned()).collect();
    let new_id = || {
        part += 1;
        format!("g.{part}")
    };
    split(record, &limits, coverage, &known, new_id)
}

fn pairs(record: &GapRecord) -> BTreeSet<(String, String)> {
    let of = |channel: &String| {
        record.symbols.iter().map(|symbol| (channel.clone(), symbol.clone())).collect::<Vec<_>>()
    };
    record.channels.iter().flat_map(of).collect()
}

#[test]
fn what_alpaca_does_not_keep_is_told_apart_and_the_rest_is_fetched() {
    let plan = planned(record(&["SPY"], &["trades", "statuses"]), BackfillConfig::Full, &held(&[]), &[]);
    assert_eq!(plan.fetch.unwrap().channels, ["trades"]);
    let [(part, why)] = &plan.never[..] else { panic!() };
    assert_eq!((part.channels[0].as_str(), part.id.as_str()), ("statuses", "g.1"));
    assert!(why.contains("keeps no history"), "{why}");
    let plan = planned(record(&["SPY"], &["lulds"]), BackfillConfig::Full, &held(&[]), &[]);
    assert!(plan.fetch.is_none() && plan.never[0].0.id == "g");
}

#[test]
fn nothing_is_fetched_that_nobody_wants_or_nobody_takes() {
    let trades = || record(&["SPY"], &["trades"]);
    let plan = planned(trades(), BackfillConfig::None, &held(&[]), &[]);
    assert!(plan.fetch.is_none() && plan.never[0].1.contains("INGEST_BACKFILL"));
    let history = history();
    let limits = Limits { history: Ok(&history), sinks: false, policy: BackfillConfig::Full };
    let plan = split(trades(), &limits, &held(&[]), &[], String::new);
    assert!(plan.fetch.is_none() && plan.never[0].1.contains("INGEST_SINKS"));
    let limits = Limits { history: Err("no history"), ..limits };
    assert_eq!(split(trades(), &limits, &held(&[]), &[], String::new).never[0].1, "no history");
}

#[test]
fn a_window_leaves_out_what_is_older() {
    let window = BackfillConfig::Window(std::time::Duration::from_secs(30));
    let plan = planned(record(&["SPY"], &["trades"]), window, &held(&[]), &[]);
    let fetch = plan.fetch.unwrap();
    assert_eq!((fetch.from, fetch.to), (second(170), Some(second(200))));
    let (old, why) = &plan.never[0];
    assert_eq!((old.from, old.to), (second(100), Some(second(170))));
    assert!(why.contains("window"));
    let wide = BackfillConfig::Window(std::time::Duration::from_secs(3000));
    assert!(planned(record(&["SPY"], &["trades"]), wide, &held(&[]), &[]).never.is_empty());
}

#[test]
fn what_is_held_waits_and_no_pair_is_lost_or_doubled() {
    let symbols = ["AIG", "IBM", "SPY"];
    let channels = ["trades", "quotes", "bars"];
    for scopes in [
        &[][..],
        &["symbol:IBM"],
        &["symbol:IBM/trades"],
        &["symbol:IBM/trades", "symbol:A*/quotes", "symbol:SPY"],
        &["job:iex"],
        &["all/bars"],
    ] {
        let coverage = held(scopes);
        let whole = record(&symbols, &channels);
        let plan = planned(whole.clone(), BackfillConfig::Full, &coverage, &[]);
        let parts: Vec<&GapRecord> = plan.fetch.iter().chain(&plan.later).collect();
        let mut seen = BTreeSet::new();
        for part in &parts {
            for pair in pairs(part) {
                assert!(seen.insert(pair.clone()), "{scopes:?}: {pair:?} twice");
            }
            assert_eq!((part.from, part.to), (whole.from, whole.to));
        }
        assert_eq!(seen, pairs(&whole), "{scopes:?}");
        let ids: BTreeSet<_> = parts.iter().map(|part| &part.id).collect();
        assert!(ids.len() == parts.len() && ids.contains(&whole.id), "{scopes:?}: {ids:?}");
        if let Some(fetch) = &plan.fetch {
            let channels: Vec<Channel> = fetch.channels.iter().map(|word| word.parse().unwrap()).collect();
            assert!(!any_held(&coverage, &channels, &fetch.symbols), "{scopes:?}");
        }
        assert_eq!(plan.fetch.is_some(), is_partly_free(&whole, &coverage), "{scopes:?}");
    }
}

#[test]
fn a_cursor_outlives_no_change_of_shape() {
    let cursor = Some(Cursor { channel: 1, after: None });
    let begun = || GapRecord { cursor: cursor.clone(), ..record(&["IBM", "SPY"], &["trades", "quotes"]) };
    let plan = planned(begun(), BackfillConfig::Full, &held(&["symbol:AIG"]), &[]);
    assert_eq!(plan.fetch.unwrap().cursor, cursor, "nothing of it is held");
    let plan = planned(begun(), BackfillConfig::Full, &held(&["symbol:SPY/trades"]), &[]);
    assert!(plan.fetch.iter().chain(&plan.later).all(|part| part.cursor.is_none()));
}

#[test]
fn all_symbols_are_those_that_were_seen_and_a_held_one_keeps_its_part() {
    let all = || record(&["*"], &["trades"]);
    let coverage = held(&["symbol:IBM"]);
    let plan = planned(all(), BackfillConfig::Full, &coverage, &["SPY", "IBM"]);
    let known = ["SPY".to_owned(), "IBM".to_owned()];
    let fetch = plan.fetch.unwrap();
    assert_eq!(fetch.symbols, ["*"]);
    assert_eq!(names(&fetch, &coverage, &known), ["SPY"]);
    let [later] = &plan.later[..] else { panic!("{:?}", plan.later) };
    assert_eq!((later.symbols.as_slice(), later.id.as_str()), (&["IBM".to_owned()][..], "g.1"));
    let plan = planned(all(), BackfillConfig::Full, &held(&[]), &[]);
    assert!(plan.fetch.is_none() && plan.never[0].1.contains("none is known"));
    let news = record(&["*"], &["news"]);
    assert_eq!(names(&news, &held(&[]), &known), [""; 0], "all news are asked for without names");
}
