#![allow(clippy::unwrap_used)]

use std::time::Duration;

use alpaca_feed::decode::Decoder;
use alpaca_feed::message::{Codec, Event};
use alpaca_feed::symbol::Symbols;

use super::*;

const PACING: Pacing = Pacing {
    per_symbol_interval: Duration::from_millis(1000),
    writes_per_s: 20.0,
    burst: 40.0,
    flush_interval: Duration::from_millis(200),
};

/// Events as the venue would send them: `q A 10 11` is a quote, `t A 10.5` a trade.
fn batch(lines: &[&str]) -> Batch {
    let elements: Vec<String> = lines
        .iter()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let t = "2026-10-06T14:30:00Z";
            match words[0] {
                "q" => format!(
                    r#"{{"T":"q","S":"{}","bp":{},"bs":1,"ap":{},"as":2,"t":"{t}"}}"#,
                    words[1], words[2], words[3]
                ),
                _ => format!(r#"{{"T":"t","S":"{}","i":1,"p":{},"s":1,"t":"{t}"}}"#, words[1], words[2]),
            }
        })
        .collect();
    let mut batch = Batch::default();
    let frame = format!("[{}]", elements.join(","));
    SYMBOLS.with(|symbols| {
        Decoder::new(symbols.clone()).decode(Codec::Json, frame.as_bytes(), &mut batch);
    });
    assert_eq!(batch.events.len(), lines.len());
    assert!(batch.events.iter().all(|e| !matches!(e, Event::Unknown(_))));
    batch
}

thread_local! {
    static SYMBOLS: std::sync::Arc<Symbols> = Symbols::new();
}

fn name(symbol: SymbolId) -> String {
    SYMBOLS.with(|symbols| symbols.name(symbol).to_string())
}

fn bids(due: &[(SymbolId, Latest)]) -> Vec<(String, f64)> {
    due.iter().map(|(symbol, latest)| (name(*symbol), latest.bid_price)).collect()
}

fn check(due: &[(SymbolId, Latest)], expected: &[(&str, f64)]) {
    let expected: Vec<_> = expected.iter().map(|(s, b)| ((*s).to_owned(), *b)).collect();
    assert_eq!(bids(due), expected);
}

#[test]
fn only_the_newest_quote_of_a_symbol_is_written_and_only_once() {
    let mut conflator = Conflator::new(PACING);
    let start = Instant::now();
    conflator.accept(JobId(0), &batch(&["q A 1 2", "q B 5 6", "q A 3 4"]));
    check(&conflator.take_due(start, 500), &[("A", 3.0), ("B", 5.0)]);
    check(&conflator.take_due(start + Duration::from_secs(9), 500), &[]);
}

#[test]
fn a_symbol_waits_its_interval_and_then_shows_its_newest() {
    let mut conflator = Conflator::new(PACING);
    let start = Instant::now();
    conflator.accept(JobId(0), &batch(&["q A 1 2"]));
    check(&conflator.take_due(start, 500), &[("A", 1.0)]);
    conflator.accept(JobId(0), &batch(&["q A 2 3"]));
    check(&conflator.take_due(start + Duration::from_millis(999), 500), &[]);
    conflator.accept(JobId(0), &batch(&["q A 7 8"]));
    check(&conflator.take_due(start + Duration::from_millis(1000), 500), &[("A", 7.0)]);
}

#[test]
fn the_global_rate_holds_after_the_burst() {
    let mut conflator = Conflator::new(PACING);
    let start = Instant::now();
    let lines: Vec<String> = (0..100).map(|i| format!("q S{i} {i}.5 200")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    conflator.accept(JobId(0), &batch(&lines));
    assert_eq!(conflator.take_due(start, 500).len(), 40, "the burst");
    assert_eq!(conflator.take_due(start, 500).len(), 0);
    let mut taken = 0;
    for step in 1..=10 {
        taken += conflator.take_due(start + Duration::from_millis(200 * step), 500).len();
    }
    assert_eq!(taken, 40, "20 a second over two seconds");
}

#[test]
fn a_hot_symbol_does_not_starve_the_others() {
    let slow = Pacing { per_symbol_interval: Duration::ZERO, writes_per_s: 1.0, burst: 1.0, ..PACING };
    let mut conflator = Conflator::new(slow);
    let start = Instant::now();
    conflator.accept(JobId(0), &batch(&["q HOT 1 2", "q B 1 2", "q C 1 2"]));
    let mut order = Vec::new();
    for second in 0..6 {
        conflator.accept(JobId(0), &batch(&["q HOT 9 9.5"]));
        let due = conflator.take_due(start + Duration::from_secs(second), 500);
        order.extend(bids(&due).into_iter().map(|(symbol, _)| symbol));
    }
    assert_eq!(order[..3], ["HOT", "B", "C"]);
}

#[test]
fn what_could_not_be_written_waits_again_with_its_newest() {
    let mut conflator = Conflator::new(PACING);
    let start = Instant::now();
    conflator.accept(JobId(0), &batch(&["q A 1 2", "q B 1 2"]));
    let due = conflator.take_due(start, 500);
    conflator.accept(JobId(0), &batch(&["q A 4 5"]));
    conflator.give_back(&due);
    check(&conflator.take_due(start, 500), &[("A", 4.0), ("B", 1.0)]);
}

#[test]
fn a_trade_is_shown_beside_the_quote_and_never_alone() {
    let mut conflator = Conflator::new(PACING);
    let start = Instant::now();
    conflator.accept(JobId(0), &batch(&["t A 10.5"]));
    check(&conflator.take_due(start, 500), &[]);
    conflator.accept(JobId(0), &batch(&["q A 10 11"]));
    let due = conflator.take_due(start, 500);
    assert_eq!(due[0].1.last_trade_price, Some(10.5));
    conflator.accept(JobId(0), &batch(&["t A 10.75"]));
    let due = conflator.take_due(start + Duration::from_secs(2), 500);
    assert_eq!((due[0].1.bid_price, due[0].1.last_trade_price), (10.0, Some(10.75)));
}

#[test]
fn nothing_of_before_a_pause_is_written_after_a_discard() {
    let mut conflator = Conflator::new(PACING);
    let start = Instant::now();
    conflator.accept(JobId(0), &batch(&["q A 1 2", "q B 1 2"]));
    assert_eq!(conflator.discard(|_, _| true), 2);
    check(&conflator.take_due(start, 500), &[]);
    conflator.accept(JobId(0), &batch(&["q B 3 4"]));
    check(&conflator.take_due(start, 500), &[("B", 3.0)]);
}

#[test]
fn draining_ignores_the_pace_but_not_the_size_of_a_request() {
    let mut conflator = Conflator::new(PACING);
    let lines: Vec<String> = (0..100).map(|i| format!("q D{i} 1 2")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    conflator.accept(JobId(0), &batch(&lines));
    assert_eq!(conflator.take_waiting(60, |_, _| true).len(), 60);
    assert_eq!(conflator.take_waiting(60, |_, _| true).len(), 40);
    assert_eq!(conflator.take_waiting(60, |_, _| true).len(), 0);
}
