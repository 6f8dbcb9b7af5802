//! Alpaca's own SDKs as judges: they connect, authenticate, subscribe and get what the market holds.
//!
//! The Python SDK speaks MessagePack, asks for compression and sends its subscription in fragments; the JavaScript SDK
//! sends auth without waiting for the greeting.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use alpaca_sim::{Config, Event, EventKind, Feed, FeedState, Synthetic, Venue};
use serde_json::Value;
use tokio::process::Command;

use crate::client::{recorded_or_synthetic, same};
use crate::data::{assert_same, joined, rows_of, streamed, with_data};

/// The types that alpaca-py has no channel for are left out of what it must get.
const PYTHON_TYPES: [&str; 10] = ["t", "q", "b", "u", "d", "s", "c", "x", "o", "n"];
const JS_TYPES: [&str; 12] = ["t", "q", "b", "u", "d", "s", "c", "x", "o", "n", "l", "i"];

#[derive(Clone, Copy)]
enum Sdk {
    Python,
    PythonModels,
    /// The REST client in place of the stream.
    PythonHistory,
    JavaScript,
}

impl Sdk {
    fn command(self) -> Command {
        let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let installed = here.join("../../target/clients");
        assert!(
            installed.join("installed").exists(),
            "the SDKs are not installed: run scripts/clients first"
        );
        let python = |script: &str| {
            let mut command = Command::new(installed.join("python/bin/python"));
            command.arg(here.join("../../tests/clients").join(script));
            command
        };
        match self {
            Sdk::Python => python("stream.py"),
            Sdk::PythonHistory => python("history.py"),
            Sdk::PythonModels => {
                let mut command = python("stream.py");
                command.arg("--models");
                command
            }
            Sdk::JavaScript => {
                let mut command = Command::new("node");
                command.arg(installed.join("stream.mjs"));
                command
            }
        }
    }

    fn types(self) -> &'static [&'static str] {
        match self {
            Sdk::Python | Sdk::PythonModels | Sdk::PythonHistory => &PYTHON_TYPES,
            Sdk::JavaScript => &JS_TYPES,
        }
    }
}

type Counts = BTreeMap<String, BTreeMap<String, u64>>;

/// What a client of this SDK must get on `path`.
fn expected(feed: &FeedState, path: &str, sdk: Sdk) -> Counts {
    let is_option = |s: &str| s.len() > 15;
    let flows = |symbol: &str, kind: &str| match path {
        "/v1beta1/news" => kind == "n",
        _ if kind == "n" => false,
        "/v1beta3/crypto/us" => symbol.contains('/'),
        "/v1beta1/opra" => is_option(symbol),
        _ => !symbol.contains('/') && !symbol.ends_with("-PERP") && !is_option(symbol),
    };
    let mut counts = Counts::new();
    for (symbol, kinds) in &feed.totals.by_symbol {
        for (kind, count) in kinds {
            if flows(symbol, kind) && sdk.types().contains(kind) {
                counts.entry(symbol.clone()).or_default().insert((*kind).to_owned(), *count);
            }
        }
    }
    counts
}

async fn judge(venue: &Venue, path: &str, sdk: Sdk, symbols: &str) {
    let feed = venue.state().feed;
    let expected = expected(&feed, path, sdk);
    let total: u64 = expected.values().flat_map(BTreeMap::values).sum();
    assert!(total > 0, "{path} holds nothing");
    let output = sdk
        .command()
        .args(["--url", &venue.url(path), "--expect", &total.to_string(), "--symbols", symbols])
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let got: Value = serde_json::from_str(&stdout)
        .unwrap_or_else(|e| panic!("{path}: {e}\nstdout: {stdout}\nstderr: {stderr}"));
    let counts: Counts = serde_json::from_value(got["counts"].clone()).unwrap();
    assert_eq!(counts, expected, "{path}\nstderr: {stderr}");
    assert!(output.status.success(), "{path}: {stderr}");
    for (symbol, quote) in got["last_quotes"].as_object().unwrap() {
        let held: Value = serde_json::from_str(feed.last_quotes[symbol].get()).unwrap();
        for field in ["bp", "bs", "ap", "as"] {
            assert!(same(&quote[field], &held[field]), "{field} of {quote} is not that of {held}");
        }
        let at: jiff::Timestamp = held["t"].as_str().unwrap().parse().unwrap();
        let got_at = match quote["t"].as_str() {
            Some(text) => text.parse().unwrap(),
            None => jiff::Timestamp::from_nanosecond(quote["t_ns"].as_i64().unwrap().into()).unwrap(),
        };
        // The models of the Python SDK cut to microseconds.
        let precise_ns = if matches!(sdk, Sdk::PythonModels) { 1_000 } else { 1 };
        assert_eq!(got_at.as_nanosecond(), at.as_nanosecond() / precise_ns * precise_ns);
    }
}

fn synthetic(messages: usize) -> Config {
    let settings = Synthetic { symbols: 60, messages: Some(messages), ..Synthetic::default() };
    Config { feed: Feed::Synthetic(settings), ..Config::default() }
}

#[tokio::test]
async fn the_python_sdk_gets_the_tape_compressed_and_fragmented() {
    let venue = Venue::start(Config { feed: recorded_or_synthetic(), ..Config::default() }).await.unwrap();
    judge(&venue, "/v2/sip", Sdk::Python, "*").await;
    let deflated = |e: &Event| matches!(e.kind, EventKind::Upgrade { codec: "msgpack", deflate: true });
    assert!(venue.log().iter().any(deflated), "the SDK asks for compression");
    venue.stop().await;
}

#[tokio::test]
async fn the_python_sdk_accepts_every_field_of_every_type() {
    let venue = Venue::start(synthetic(20_000)).await.unwrap();
    for path in ["/v2/iex", "/v1beta3/crypto/us", "/v1beta1/news"] {
        judge(&venue, path, Sdk::PythonModels, "*").await;
    }
    venue.stop().await;
}

#[tokio::test]
async fn the_python_sdk_streams_options() {
    let venue = Venue::start(synthetic(20_000)).await.unwrap();
    let contracts = "SPY260116C00650000,SPY260116P00640000,AAPL260116C00250000";
    judge(&venue, "/v1beta1/opra", Sdk::PythonModels, contracts).await;
    venue.stop().await;
}

#[tokio::test]
async fn the_python_sdk_may_send_a_subscription_of_many_fragments() {
    // The SDK splits at 32 KiB: ten thousand symbols make several fragments.
    let venue = Venue::start(synthetic(3_000)).await.unwrap();
    let many: Vec<String> = (0..10_000).map(|i| format!("NONE{i}")).collect();
    let known: Vec<String> = venue.state().feed.totals.by_symbol.into_keys().collect();
    let symbols = [known, many].concat().into_iter().filter(|s| !s.contains(',')).collect::<Vec<_>>();
    judge(&venue, "/v2/iex", Sdk::Python, &symbols.join(",")).await;
    venue.stop().await;
}

#[tokio::test]
async fn the_javascript_sdk_gets_the_tape() {
    let venue = Venue::start(Config { feed: recorded_or_synthetic(), ..Config::default() }).await.unwrap();
    judge(&venue, "/v2/sip", Sdk::JavaScript, "*").await;
    venue.stop().await;
}

#[tokio::test]
async fn the_javascript_sdk_gets_every_type() {
    let venue = Venue::start(synthetic(20_000)).await.unwrap();
    for path in ["/v2/iex", "/v1beta3/crypto/us", "/v1beta1/news"] {
        judge(&venue, path, Sdk::JavaScript, "*").await;
    }
    let contracts = "SPY260116C00650000,SPY260116P00640000,AAPL260116C00250000";
    judge(&venue, "/v1beta1/opra", Sdk::JavaScript, contracts).await;
    venue.stop().await;
}

#[tokio::test]
async fn both_sdks_accept_the_documented_profile_too() {
    let config = Config { profile: alpaca_sim::Profile::Documented, ..synthetic(2_000) };
    let venue = Venue::start(config).await.unwrap();
    judge(&venue, "/v2/iex", Sdk::Python, "*").await;
    judge(&venue, "/v2/sip", Sdk::JavaScript, "*").await;
    venue.stop().await;
}

/// The Python SDK's historical client gets of `what` exactly what the stream sent as type `letter`.
async fn look_up(venue: &Venue, sent: &[Value], what: &str, letter: &str) {
    let wanted = rows_of(sent, letter);
    assert!(!wanted.is_empty(), "the stream held no {what}");
    let output = Sdk::PythonHistory
        .command()
        .args(["--url", &venue.data_url().unwrap(), "--what", what, "--symbols", &joined(&wanted)])
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {stderr}");
    assert_same(&serde_json::from_slice(&output.stdout).unwrap(), &wanted);
}

#[tokio::test]
async fn the_python_sdk_reads_the_history_of_the_tape_by_its_own_paging() {
    let venue = Venue::start(with_data(recorded_or_synthetic())).await.unwrap();
    let sent = streamed(&venue, "/v2/sip").await;
    for (what, letter) in [("trades", "t"), ("quotes", "q")] {
        look_up(&venue, &sent, what, letter).await;
    }
    let calls = |e: &Event| matches!(e.kind, EventKind::DataRequest { .. });
    assert!(venue.log().iter().filter(|e| calls(e)).count() > 2, "more than a page of one of them");
    venue.stop().await;
}

#[tokio::test]
async fn the_python_sdk_reads_bars_and_crypto() {
    let settings =
        Synthetic { symbols: 20, rate_per_s: 100.0, messages: Some(20_000), ..Synthetic::default() };
    let venue = Venue::start(with_data(Feed::Synthetic(settings))).await.unwrap();
    look_up(&venue, &streamed(&venue, "/v2/sip").await, "bars", "b").await;
    look_up(&venue, &streamed(&venue, "/v1beta3/crypto/us").await, "crypto-trades", "t").await;
    venue.stop().await;
}
