//! Our binary beside other clients, in one run: messages a second per core, ten messages a frame.
//!
//! Each client is a process of its own that takes a market whole and ends. Its CPU time is counted from its
//! subscription on, so that what it takes to start is left out. Clients take turns.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use e2e::child::Process;
use e2e::venue::Venue;

use super::feeder::{Feed, Feeder};
use super::throughput::{Run, TAPE, one_run};
use super::{LIMIT, RUNS, clients, cpu_s, median};

/// One that is compared with.
struct Peer {
    name: &'static str,
    market: Market,
    command: fn(&str, u64) -> Option<Command>,
}

/// Who feeds it: prepared frames for the fast ones, and the simulator, with so few messages that a run takes seconds,
/// for those whose libraries want more of a venue.
#[derive(Clone, Copy)]
enum Market {
    MessagePack,
    Json,
    Simulator { python: bool },
}

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const OF_SIMULATOR: &str = "200000";
const LETTERS: [&str; 10] = ["t", "q", "b", "u", "d", "s", "c", "x", "l", "i"];

static CLIENTS: AtomicU32 = AtomicU32::new(0);

const PEERS: [Peer; 6] = [
    Peer {
        name: "raw loop, MessagePack",
        market: Market::MessagePack,
        command: |url, n| Some(clients::ourselves("raw-msgpack", url, n)),
    },
    Peer {
        name: "raw loop, JSON",
        market: Market::Json,
        command: |url, n| Some(clients::ourselves("raw-json", url, n)),
    },
    Peer {
        name: "tokio-tungstenite, serde",
        market: Market::Json,
        command: |url, n| Some(clients::ourselves("serde", url, n)),
    },
    Peer { name: "JavaScript SDK", market: Market::Simulator { python: false }, command: javascript },
    Peer {
        name: "alpaca-py, raw",
        market: Market::Simulator { python: true },
        command: |url, n| python(&[], url, n),
    },
    Peer {
        name: "alpaca-py, models",
        market: Market::Simulator { python: true },
        command: |url, n| python(&["--models"], url, n),
    },
];

pub(crate) fn compare() {
    let dir = tempfile::tempdir().expect("a directory");
    let feeder = |codec| Feeder::start(&Feed { codec, ..TAPE }, dir.path());
    let (msgpack, json) = (feeder("msgpack"), feeder("json"));
    let size = ["--synthetic", "--symbols", "11000", "--messages", OF_SIMULATOR, "--per-frame", "10"];
    let venue = Venue::start(&size);
    let mut rates: Vec<(&str, Vec<f64>)> = Vec::new();
    let mut note = |name: &'static str, rate: f64| match rates.iter_mut().find(|(other, _)| *other == name) {
        Some((_, rates)) => rates.push(rate),
        None => rates.push((name, vec![rate])),
    };
    let mut left_out = Vec::new();
    for _ in 0..RUNS {
        for (name, codec, feeder) in
            [("market-ingest, MessagePack", "msgpack", &msgpack), ("market-ingest, JSON", "json", &json)]
        {
            note(name, one_run(feeder, Run { codec, tls: false, sink: "null" }, dir.path()).0);
        }
        for peer in &PEERS {
            let (url, messages) = match peer.market {
                Market::MessagePack => (&*msgpack.url, msgpack.messages),
                Market::Json => (&*json.url, json.messages),
                Market::Simulator { python } => (venue.url(), expected(&venue, python)),
            };
            let watched = matches!(peer.market, Market::Simulator { .. }).then_some(&venue);
            match (peer.command)(&format!("{url}/v2/sip"), messages) {
                Some(command) => note(peer.name, rate(command, watched, messages)),
                None => left_out.push(peer.name),
            }
        }
    }
    println!("\nBeside other clients, 10 messages a frame, {RUNS} runs each, taking turns\n");
    println!(
        "| client | M messages/s per core: median (min to max) | ours, MessagePack, is so many times faster |"
    );
    println!("|---|---|---|");
    let ours = median(&mut rates[0].1);
    for (name, rates) in &mut rates {
        let middle = median(rates);
        let (min, max) = (rates[0], rates[rates.len() - 1]);
        println!("| {name} | {middle:.3} ({min:.3} to {max:.3}) | {:.2} |", ours / middle);
    }
    left_out.dedup();
    for name in left_out {
        println!("LEFT OUT: {name} (run scripts/clients)");
    }
}

/// Messages per microsecond of CPU time, from the subscription on where the venue tells it: a library may take its time
/// to start.
fn rate(mut command: Command, venue: Option<&Venue>, messages: u64) -> f64 {
    let mark = venue.map(Venue::mark);
    let mut process = Process::spawn(&mut command);
    let deadline = Instant::now() + LIMIT;
    let mut before_s = 0.0;
    if let Some((venue, mark)) = venue.zip(mark) {
        while !venue.since(mark, "/v2/sip").iter().any(|event| event["kind"] == "subscribe") {
            assert!(Instant::now() < deadline && process.is_running(), "{}", process.stderr());
            std::thread::sleep(Duration::from_millis(2));
        }
        before_s = cpu_s(process.id()).expect("a process");
    }
    let mut used_s = 0.0;
    while process.is_running() {
        used_s = cpu_s(process.id()).map_or(used_s, |total_s| total_s - before_s);
        std::thread::sleep(Duration::from_millis(10));
        assert!(Instant::now() < deadline, "{}", process.stderr());
    }
    assert!(process.wait_exit(LIMIT).success(), "{}", process.stderr());
    messages as f64 / used_s / 1e6
}

/// Elements of the stock stream of the types that the SDKs take: all but what the Python one leaves out.
fn expected(venue: &Venue, python: bool) -> u64 {
    let feed = venue.state()["feed"].clone();
    let by_symbol = feed["by_symbol"].as_object().expect("counts");
    let letters = if python { &LETTERS[..8] } else { &LETTERS[..] };
    let stocks = by_symbol.iter().filter(|(symbol, _)| e2e::venue::is_stock(symbol));
    stocks.flat_map(|(_, n)| letters.iter().map(|letter| n[letter].as_u64().unwrap_or(0))).sum()
}

fn python(arguments: &[&str], url: &str, expected: u64) -> Option<Command> {
    let program = format!("{ROOT}/target/clients/python/bin/python");
    std::fs::exists(&program).ok()?.then(|| {
        let mut command = Command::new(program);
        command.arg(format!("{ROOT}/tests/clients/stream.py")).args(arguments);
        sdk(command, url, expected)
    })
}

fn javascript(url: &str, expected: u64) -> Option<Command> {
    let script = format!("{ROOT}/target/clients/stream.mjs");
    std::fs::exists(&script).ok()?.then(|| {
        let mut command = Command::new("node");
        command.arg(script);
        sdk(command, url, expected)
    })
}

fn sdk(mut command: Command, url: &str, expected: u64) -> Command {
    // A venue takes one connection of an account, and may learn late that the last one is gone.
    command.args(["--key", &format!("key-{}", CLIENTS.fetch_add(1, Ordering::Relaxed))]);
    command.args([
        "--url",
        url,
        "--expect",
        &expected.to_string(),
        "--limit-s",
        &LIMIT.as_secs().to_string(),
    ]);
    command
}
