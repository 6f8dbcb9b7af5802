//! How long a record is on its way: from the feeder's write of its bytes to the call of the sink, beside a raw loop.

use std::process::Command;
use std::time::Duration;

use e2e::child::Process;
use e2e::producer::Producer;
use serde_json::Value;

use super::feeder::{Feed, Feeder};
use super::throughput::TAPE;
use super::{LIMIT, RUNS, clients, median, total, wait_whole};

const SECONDS: u64 = 10;
const QUANTILES: [&str; 4] = ["p50_s", "p99_s", "p999_s", "max_s"];

pub(crate) fn measure() {
    println!(
        "\nMicroseconds from the write of the bytes to the call of the sink, MessagePack, {SECONDS} s, medians of {RUNS} runs (p50 from least to most)\n"
    );
    println!("| messages/s | a frame | client | p50 | p99 | p99.9 | max |");
    println!("|---|---|---|---|---|---|---|");
    let dir = tempfile::tempdir().expect("a directory");
    for (rate, per_frame) in [(50_000, "1"), (500_000, "10")] {
        let feed = Feed { per_frame, rate, messages: rate * SECONDS, ..TAPE };
        let feeder = Feeder::start(&feed, dir.path());
        let mut taken = [Vec::new(), Vec::new()];
        for _ in 0..RUNS {
            taken[0].push(of_raw_loop(&feeder));
            taken[1].push(of_producer(&feeder.setup(false, dir.path()).start(), &feeder));
        }
        let medians: Vec<_> = taken.iter().map(|runs| row(runs)).collect();
        for (client, (median_us, least, most)) in ["raw loop", "market-ingest"].iter().zip(&medians) {
            let [p50, p99, p999, max] = median_us;
            println!(
                "| {rate} | {per_frame} | {client} | {p50:.1} ({least:.1} to {most:.1}) | {p99:.1} | {p999:.0} | {max:.0} |"
            );
        }
        let ratio = |at: usize| medians[1].0[at] / medians[0].0[at];
        println!("| | | times the raw loop | {:.2} | {:.2} | {:.2} | |", ratio(0), ratio(1), ratio(2));
    }
}

/// The medians of each quantile, and the least and the greatest of the first.
fn row(runs: &[Value]) -> ([f64; 4], f64, f64) {
    let sorted = |name: &str| {
        let mut us: Vec<f64> = runs.iter().map(|run| run[name].as_f64().expect("a number") * 1e6).collect();
        median(&mut us);
        us
    };
    let first = sorted(QUANTILES[0]);
    let middles = QUANTILES.map(|name| sorted(name)[runs.len() / 2]);
    (middles, first[0], first[first.len() - 1])
}

fn of_raw_loop(feeder: &Feeder) -> Value {
    let url = format!("{}/v2/sip", feeder.url);
    let mut command: Command = clients::ourselves("raw-msgpack", &url, feeder.messages);
    let mut process = Process::spawn(&mut command);
    assert!(process.wait_exit(LIMIT).success(), "{}", process.stderr());
    serde_json::from_str(&process.stdout().last().expect("a line").text).expect("JSON")
}

/// Everything came, and so many seconds it took.
fn of_producer(producer: &Producer, feeder: &Feeder) -> Value {
    std::thread::sleep(Duration::from_secs(SECONDS));
    wait_whole(producer, feeder.messages);
    e2e::http::get_json(&producer.url("/api/v1/jobs/sip")).expect("an answer")["metrics"]["lag"].clone()
}

/// The greatest load that is designed for, over TLS, on one core.
pub(crate) fn burst() {
    const RATE: u64 = 2_000_000;
    let dir = tempfile::tempdir().expect("a directory");
    let feed = Feed { rate: RATE, messages: RATE * SECONDS, ..TAPE };
    let feeder = Feeder::start(&feed, dir.path());
    pin(feeder.process.id(), "0");
    println!(
        "\n{RATE} messages/s for {SECONDS} s over TLS, 10 a frame, the producer on one core: milliseconds to the sink\n"
    );
    println!("| run | received | p50 | p99 | p99.9 | max |");
    println!("|---|---|---|---|---|---|");
    for run in 1..=RUNS {
        let flag = dir.path().join("flag");
        std::fs::write(&flag, "off\n").expect("a flag");
        let producer = feeder.setup(true, dir.path()).var("INGEST_ENABLED_FILE", flag.display()).start();
        pin(producer.process.id(), "1");
        std::fs::write(&flag, "on\n").expect("a flag");
        let lag = of_producer(&producer, &feeder);
        let [p50, p99, p999, max] = QUANTILES.map(|name| lag[name].as_f64().expect("a number") * 1e3);
        println!("| {run} | {} | {p50:.2} | {p99:.2} | {p999:.2} | {max:.2} |", total(&producer));
    }
}

/// All threads of the process on one core.
fn pin(process: u32, core: &str) {
    let done = Command::new("taskset").args(["-a", "-c", "-p", core, &process.to_string()]).output();
    let done = done.expect("taskset, of util-linux");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
