//! Replay: exactly once as taken, by the clock, and what becomes of slow clients.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use alpaca_sim::{Config, Event, EventKind, Feed, Pace, Venue};
use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::client::{Client, Codec, Got, LIMIT, live, quick, recorded, recorded_or_synthetic, same, taken};

fn all() -> Value {
    json!({"action": "subscribe", "trades": ["*"], "quotes": ["*"], "bars": ["*"], "updatedBars": ["*"],
           "dailyBars": ["*"], "statuses": ["*"], "lulds": ["*"], "imbalances": ["*"]})
}

/// A tape of `count` trades of one symbol, `gap` apart, with ids from 1 on.
fn tape(count: usize, gap: Duration) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(".ndjson").tempfile().unwrap();
    let start: jiff::Timestamp = "2026-01-05T14:30:00Z".parse().unwrap();
    for i in 0..count {
        let at = start + jiff::SignedDuration::try_from(gap * i as u32).unwrap();
        let id = i + 1;
        writeln!(
            file,
            r#"{{"T":"t","S":"SPY","i":{id},"x":"V","p":650.25,"s":100,"c":[" "],"z":"B","t":"{at}"}}"#
        )
        .unwrap();
    }
    file
}

fn playing(tape: &tempfile::NamedTempFile, pace: Pace, looped: bool) -> Config {
    let paths = vec![tape.path().to_owned()];
    Config { feed: Feed::Tape { paths, pace, looped }, ..Config::default() }
}

fn ids(elements: &[Value]) -> Vec<u64> {
    elements.iter().map(|e| e["i"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_tape_as_taken_comes_whole_in_order_and_once_in_both_codecs() {
    let venue = Venue::start(Config { feed: recorded_or_synthetic(), ..Config::default() }).await.unwrap();
    let feed = venue.state().feed;
    let held: u64 = feed
        .totals
        .by_symbol
        .iter()
        .filter(|(symbol, _)| feed.last_quotes.contains_key(*symbol) || *symbol == "SPY")
        .filter(|(symbol, _)| !symbol.contains(['/', '-']) && symbol.len() < 10)
        .flat_map(|(_, kinds)| kinds.values())
        .sum();
    let mut both = Vec::new();
    for (codec, path) in [(Codec::Json, "/v2/sip"), (Codec::Msgpack, "/v2/iex")] {
        let mut client = Client::subscribe(&venue, path, codec, all()).await;
        let elements = client.elements(held as usize).await;
        assert_eq!(elements.len() as u64, held);
        let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
        let mut last_quotes: BTreeMap<String, Value> = BTreeMap::new();
        for element in &elements {
            let kind = element["T"].as_str().unwrap().to_owned();
            let symbol = element["S"].as_str().unwrap().to_owned();
            if kind == "q" {
                last_quotes.insert(symbol.clone(), element.clone());
            }
            *counts.entry((symbol, kind)).or_default() += 1;
        }
        for ((symbol, kind), count) in &counts {
            assert_eq!(feed.totals.by_symbol[symbol][kind.as_str()], *count, "{kind} {symbol}");
        }
        for (symbol, mut quote) in last_quotes {
            quote.as_object_mut().unwrap().remove("r");
            let held: Value = serde_json::from_str(feed.last_quotes[&symbol].get()).unwrap();
            assert!(same(&quote, &held), "{quote} is not {held}");
        }
        assert!(client.is_silent_for(Duration::from_millis(200)).await, "the end is quiet");
        both.push(elements);
    }
    let without_r = |e: &Value| {
        let mut e = e.clone();
        e.as_object_mut().unwrap().remove("r");
        e
    };
    let received_at = |e: &&Value| matches!(e["T"].as_str(), Some("t" | "q"));
    assert!(both[1].iter().filter(received_at).all(|e| e["r"].is_string()));
    assert!(both[0].iter().zip(&both[1]).all(|(a, b)| same(a, &without_r(b))), "codecs differ");
    assert!(venue.state().feed.finished);
    venue.stop().await;
}

#[tokio::test]
async fn captured_frames_and_bars_play() {
    let names = [
        "alpaca_captures/iex_extended_20251009_frames.ndjson.gz",
        "alpaca_captures/sip_20210823_stream.ndjson",
    ];
    for (name, expected) in names.into_iter().zip([5_225, 352]) {
        let Some(path) = recorded(name) else { continue };
        let feed = Feed::Tape { paths: vec![path], pace: Pace::AsTaken, looped: false };
        let venue = Venue::start(Config { feed, ..Config::default() }).await.unwrap();
        let mut client = Client::subscribe(&venue, "/v2/iex", Codec::Msgpack, all()).await;
        assert_eq!(client.elements(expected).await.len(), expected, "{name}");
        venue.stop().await;
    }
}

#[tokio::test]
async fn the_tape_waits_while_nobody_is_there_and_repeats_nothing_after_a_reconnect() {
    let file = tape(200_000, Duration::from_millis(1));
    let venue = Venue::start(playing(&file, Pace::AsTaken, false)).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let mut client = Client::subscribe(&venue, "/v2/sip", Codec::Json, all()).await;
        seen.extend(ids(&client.elements(5_000).await));
        client.socket.send(Message::Close(None)).await.unwrap();
        client.until_end().await;
    }
    assert_eq!(seen[0], 1);
    assert!(seen.windows(2).all(|w| w[0] < w[1]), "something came twice");
    assert!(!venue.state().feed.finished, "the tape ran on without a client");
    venue.stop().await;
}

#[tokio::test]
async fn the_tape_waits_for_a_subscription_to_something_that_it_holds() {
    let file = tape(100, Duration::from_millis(1));
    let venue = Venue::start(playing(&file, Pace::AsTaken, false)).await.unwrap();
    let others = json!({"action": "subscribe", "bars": ["*"], "trades": ["NOSUCH"]});
    let mut client = Client::subscribe(&venue, "/v2/sip", Codec::Json, others).await;
    assert!(client.is_silent_for(Duration::from_millis(100)).await);
    client.say(json!({"action": "subscribe", "trades": ["SPY"]})).await;
    assert_eq!(client.control().await["T"], "subscription");
    assert!(ids(&client.elements(100).await).into_iter().eq(1..=100));
    venue.stop().await;
}

#[tokio::test]
async fn each_subscriber_gets_all_of_it() {
    let file = tape(3_000, Duration::from_millis(1));
    let venue = Venue::start(playing(&file, Pace::AsTaken, false)).await.unwrap();
    for (path, key) in [("/v2/sip", "a"), ("/v2/iex", "a"), ("/v2/sip", "b")] {
        let mut client = Client::sign_in(&venue, path, Codec::Json, key).await;
        client.say(all()).await;
        assert_eq!(client.control().await["T"], "subscription");
        let ids = ids(&client.elements(3_000).await);
        assert!(ids.into_iter().eq(1..=3_000));
    }
    venue.stop().await;
}

#[tokio::test]
async fn a_slow_client_of_a_tape_as_taken_is_waited_for() {
    let file = tape(300_000, Duration::from_millis(1));
    let config = Config { send_buffer_bytes: 1 << 16, ..playing(&file, Pace::AsTaken, false) };
    let venue = Venue::start(config).await.unwrap();
    let mut client = Client::subscribe(&venue, "/v2/sip", Codec::Json, all()).await;
    // Nothing is read until the socket is full: what waits for it stops growing.
    let full = async {
        loop {
            let before = venue.state().connections[0].bytes_sent;
            tokio::time::sleep(Duration::from_millis(100)).await;
            if before > 0 && venue.state().connections[0].bytes_sent == before {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, full).await.unwrap();
    assert!(venue.state().connections[0].waiting_bytes < 1 << 20);
    assert!(ids(&client.elements(300_000).await).into_iter().eq(1..=300_000));
    venue.stop().await;
}

#[tokio::test]
async fn a_slow_client_of_a_running_market_gets_407_and_is_cut() {
    let config = Config { send_buffer_bytes: 1 << 20, ..live(200_000.0) };
    let venue = Venue::start(config).await.unwrap();
    let mut client = Client::subscribe(&venue, "/v2/sip", Codec::Json, all()).await;
    let told = |log: &[Event]| log.iter().any(|e| e.kind == EventKind::ErrorSent { code: 407 });
    assert!(venue.wait_for(Duration::from_secs(30), told).await);
    // It reads again, but too late.
    let (elements, closed) = client.until_end().await;
    let last = elements.last().unwrap();
    assert_eq!((&last["T"], &last["code"]), (&json!("error"), &json!(407)));
    assert!(!closed);
    venue.stop().await;
}

#[tokio::test]
async fn frames_grow_when_the_client_lags() {
    let config = Config { max_per_frame: 1_000, ..live(20_000.0) };
    let venue = Venue::start(config).await.unwrap();
    let mut client = Client::subscribe(&venue, "/v2/sip", Codec::Json, all()).await;
    let mut sizes = Vec::new();
    while sizes.len() < 20 {
        sizes.push(client.frame().await.len());
    }
    let keeping_up = sizes.iter().sum::<usize>() / sizes.len();
    let lagging = |venue: &Venue| venue.state().connections[0].waiting_bytes > 1 << 20;
    let fell_behind = async {
        while !lagging(&venue) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), fell_behind).await.unwrap();
    let mut largest = 0;
    for _ in 0..30_000 {
        largest = largest.max(client.frame().await.len());
        if largest == 1_000 {
            break;
        }
    }
    assert!(largest > keeping_up * 5, "{keeping_up} while keeping up, then {largest}");
    venue.stop().await;
}

#[tokio::test]
async fn by_the_clock_a_tape_takes_its_time_and_the_absent_miss_it() {
    let file = tape(200, Duration::from_millis(10));
    let venue = Venue::start(playing(&file, Pace::Speed(2.0), false)).await.unwrap();
    let start = Instant::now();
    let mut client = Client::subscribe(&venue, "/v2/sip", Codec::Json, all()).await;
    let first = ids(&client.elements(20).await);
    assert_eq!(first[0], 1, "the tape begins with the first subscription");
    drop(client);
    let halfway = async {
        while venue.state().feed.position < 100 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, halfway).await.unwrap();
    let mut client = Client::subscribe(&venue, "/v2/sip", Codec::Json, all()).await;
    let later = client.elements(1).await;
    assert!(ids(&later)[0] > 100, "what was missed is not replayed");
    let end = async { while *ids(&client.frame().await).last().unwrap() < 200 {} };
    tokio::time::timeout(LIMIT, end).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(990), "200 × 10 ms at double speed");
    venue.stop().await;
}

#[tokio::test]
async fn a_looped_tape_begins_again() {
    for pace in [Pace::AsTaken, Pace::Speed(100.0)] {
        let file = tape(50, Duration::from_millis(1));
        let venue = Venue::start(playing(&file, pace, true)).await.unwrap();
        let mut client = Client::subscribe(&venue, "/v2/sip", Codec::Json, all()).await;
        let ids = ids(&client.elements(150).await);
        assert_eq!((ids[0], ids[49], ids[50], ids[149]), (1, 50, 1, 50), "{pace:?}");
        venue.stop().await;
    }
}

#[tokio::test]
async fn a_fixed_frame_size_is_kept() {
    let config = Config { per_frame: Some(7), ..taken(2_000) };
    let venue = Venue::start(config).await.unwrap();
    let quotes = json!({"action": "subscribe", "quotes": ["*"]});
    let mut client = Client::subscribe(&venue, "/v2/sip", Codec::Msgpack, quotes).await;
    let mut sizes = Vec::new();
    while let Some(Got::Frame(elements)) = client.next_within(Duration::from_millis(300)).await {
        sizes.push(elements.len());
    }
    let (last, full) = sizes.split_last().unwrap();
    assert!(full.len() > 200 && full.iter().all(|n| *n == 7) && *last <= 7);
    venue.stop().await;
}

#[tokio::test]
async fn the_end_of_a_tape_leaves_the_connection_open_and_pinged() {
    let file = tape(10, Duration::from_millis(1));
    let config = Config { timings: quick(), ..playing(&file, Pace::AsTaken, false) };
    let venue = Venue::start(config).await.unwrap();
    let mut client = Client::subscribe(&venue, "/v2/sip", Codec::Json, all()).await;
    client.elements(10).await;
    for _ in 0..3 {
        assert_eq!(client.next().await, Got::Ping);
    }
    venue.stop().await;
}

#[tokio::test]
async fn a_tape_that_cannot_be_read_is_named() {
    let config = Config {
        feed: Feed::Tape { paths: vec!["/nowhere/x.ndjson".into()], pace: Pace::AsTaken, looped: false },
        ..Config::default()
    };
    let error = Venue::start(config).await.err().unwrap();
    assert!(format!("{error:#}").contains("/nowhere/x.ndjson"));
}
