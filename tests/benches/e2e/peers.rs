//! Our binary beside other clients, in one run: messages a second per core, ten messages a frame.
//!
//! Each client is a process of its own that takes a market whole and ends. Its CPU time is counted from its
//! subscription on, so that what it takes to start is left out. Clients take turns.

use std::process::Command;
use std::time::{Duration, Instant};

use e2e::child::Process;
use e2e::venue::Venue;

use super::{LIMIT, RUNS, cpu_s, expected, median, one_run};

/// One that is compared with.
struct Peer {
    name: &'static str,
    /// Of the market that it is given: the slow ones get less, so that a run takes seconds.
    messages: &'static str,
    command: fn(&str, u64) -> Option<Command>,
}

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

const PEERS: [Peer; 6] = [
    Peer {
        name: "raw loop, MessagePack",
        messages: "4000000",
        command: |u, n| ourselves("raw-msgpack", u, n),
    },
    Peer { name: "raw loop, JSON", messages: "4000000", command: |u, n| ourselves("raw-json", u, n) },
    Peer { name: "tokio-tungstenite, serde", messages: "1000000", command: |u, n| ourselves("serde", u, n) },
    Peer { name: "JavaScript SDK", messages: "400000", command: javascript },
    Peer { name: "alpaca-py, raw", messages: "200000", command: |u, n| python(&[], u, n) },
    Peer { name: "alpaca-py, models", messages: "200000", command: |u, n| python(&["--models"], u, n) },
];

pub(crate) fn compare() {
    println!("\nBeside other clients, 10 messages a frame, {RUNS} runs each\n");
    println!(
        "| client | M messages/s per core: median (min to max) | ours, MessagePack, is so many times faster |"
    );
    println!("|---|---|---|");
    let mut rates: Vec<(&str, Vec<f64>)> = Vec::new();
    let mut note = |name: &'static str, rate: f64| match rates.iter_mut().find(|(other, _)| *other == name) {
        Some((_, rates)) => rates.push(rate),
        None => rates.push((name, vec![rate])),
    };
    let markets: Vec<(&str, Venue)> = ["4000000", "1000000", "400000", "200000"]
        .into_iter()
        .map(|messages| {
            let arguments =
                ["--synthetic", "--symbols", "11000", "--messages", messages, "--per-frame", "10"];
            (messages, Venue::start(&arguments))
        })
        .collect();
    let market = |messages: &str| &markets.iter().find(|(own, _)| *own == messages).expect("a market").1;
    for run in 0..RUNS {
        for (name, codec) in [("market-ingest, MessagePack", "msgpack"), ("market-ingest, JSON", "json")] {
            note(name, one_run(market("4000000"), None, codec, &format!("{codec}-{run}")).0);
        }
        for peer in &PEERS {
            match (peer.command)(&stream(market(peer.messages)), expected(market(peer.messages))) {
                Some(command) => note(peer.name, rate(command, market(peer.messages))),
                None if run == 0 => println!("LEFT OUT: {} (run scripts/clients)", peer.name),
                None => {}
            }
        }
    }
    let ours = median(&mut rates[0].1.clone());
    for (name, rates) in &mut rates {
        let middle = median(rates);
        let (min, max) = (rates[0], rates[rates.len() - 1]);
        println!("| {name} | {middle:.3} ({min:.3} to {max:.3}) | {:.2} |", ours / middle);
    }
}

fn stream(venue: &Venue) -> String {
    format!("{}/v2/sip", venue.url())
}

/// Messages per microsecond of CPU time.
fn rate(mut command: Command, venue: &Venue) -> f64 {
    let mark = venue.mark();
    let mut process = Process::spawn(&mut command);
    let deadline = Instant::now() + LIMIT;
    while !venue.since(mark, "/v2/sip").iter().any(|event| event["kind"] == "subscribe") {
        assert!(Instant::now() < deadline && process.is_running(), "{}", process.stderr());
        std::thread::sleep(Duration::from_millis(2));
    }
    let before_s = cpu_s(process.id()).expect("a process");
    let mut used_s = 0.0;
    while process.is_running() {
        used_s = cpu_s(process.id()).map_or(used_s, |total_s| total_s - before_s);
        std::thread::sleep(Duration::from_millis(10));
        assert!(Instant::now() < deadline, "{}", process.stderr());
    }
    assert!(process.wait_exit(LIMIT).success(), "{}", process.stderr());
    expected(venue) as f64 / used_s / 1e6
}

fn ourselves(client: &str, url: &str, expected: u64) -> Option<Command> {
    let mut command = Command::new(std::env::current_exe().ok()?);
    command.args(["--client", client, url, &expected.to_string()]);
    Some(command)
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
