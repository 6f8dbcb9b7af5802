//! The figures of `docs/benchmarks.md` that need whole processes. `cargo bench --workspace --bench e2e`, or with the names
//! of parts behind `--`.
//!
//! A feeder of prepared frames stands for the venue, in a process of its own; CPU time is the client's own, user and system, as the
//! kernel counts it (in ticks of 10 ms), from before the first message to after the last. What is compared takes turns,
//! so that a drift of the machine touches all alike.

mod clients;
mod feeder;
mod growth;
mod latency;
mod peers;
mod throughput;

use std::time::Duration;

use e2e::producer::{Producer, Setup};
use e2e::venue::Venue;
use e2e::{now_us, wait_for};

const RUNS: usize = 5;
const FLIPS: usize = 100;
const LIMIT: Duration = Duration::from_secs(120);

fn main() {
    if clients::run_if_asked() || feeder::run_if_asked() || throughput::count_if_asked() {
        return;
    }
    // `cargo bench` and `cargo test --benches` pass arguments that are not for us; only the former
    // is a request for figures.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("run by: cargo bench --workspace --bench e2e");
        return;
    }
    // Parts by name, or all.
    let asked = |name: &str| {
        let mut names = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).peekable();
        names.peek().is_none() || names.any(|asked| asked == name)
    };
    for (name, part) in [
        ("throughput", throughput::measure as fn()),
        ("latency", latency::measure),
        ("burst", latency::burst),
        ("peers", peers::compare),
        ("flips", flips),
        ("growth", growth::measure),
    ] {
        if asked(name) {
            part();
        }
    }
}

/// Sorts them.
fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Waits until the producer has received so many. It is asked seldom: an answer costs it CPU time.
fn wait_whole(producer: &Producer, messages: u64) {
    let deadline = std::time::Instant::now() + LIMIT;
    while total(producer) < messages {
        assert!(std::time::Instant::now() < deadline, "{} of {messages}", total(producer));
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(total(producer), messages);
}

fn total(producer: &Producer) -> u64 {
    producer.status()["counters"]["messages"].as_u64().expect("a count")
}

fn flips() {
    let dir = tempfile::tempdir().expect("a directory");
    let flag = dir.path().join("flag");
    std::fs::write(&flag, "on\n").expect("a flag");
    let venue = Venue::start(&["--synthetic", "--symbols", "11000", "--rate", "50000"]);
    let producer = Setup::new(&venue, dir.path())
        .var("ALPACA_DATA_FEED", "sip")
        .var("MONITORED_SYMBOLS", "*")
        .var("INGEST_SINKS", "null")
        .var("INGEST_ENABLED_FILE", flag.display())
        .start();
    producer.wait_live();
    println!("\nMemory at rest and at 50,000 messages/s, 11,000 symbols\n");
    std::fs::write(&flag, "off\n").expect("a flag");
    producer.wait_status("paused", LIMIT, |s| s["status"] == "paused");
    println!("paused: {:.1} MiB resident", mib(producer.process.memory_kib()));
    let mut last_record_ms = Vec::new();
    let mut effect_ms = Vec::new();
    for _ in 0..FLIPS {
        std::fs::write(&flag, "on\n").expect("a flag");
        producer.wait_live();
        let before = total(&producer);
        wait_for("a flow", LIMIT, || (total(&producer) > before + 20_000).then_some(()));
        let edited_us = now_us();
        std::fs::write(&flag, "off\n").expect("a flag");
        producer.wait_status("paused", LIMIT, |s| s["status"] == "paused");
        let halted = producer.edges("halted").pop().expect("an edge");
        let rest = producer.log("job_at_rest").pop().expect("a record of the effect");
        let since = |us: i64| (us - edited_us) as f64 / 1e3;
        let after_decision = |field: &str| rest.json[field].as_f64().expect("a number");
        last_record_ms.push(since(halted.time_us()) + after_decision("last_record_ms"));
        effect_ms.push(since(halted.time_us()) + after_decision("effect_ms"));
    }
    println!("under load: {:.1} MiB resident at the peak", mib(producer.process.peak_kib()));
    println!("\nFrom the edit of the flag at 50,000 messages/s, {FLIPS} flips, milliseconds\n");
    println!("| to | p50 | p90 | p99 | max |");
    println!("|---|---|---|---|---|");
    for (what, mut times) in
        [("the last record", last_record_ms), ("paused: socket closed, drained", effect_ms)]
    {
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
        println!("| {what} | {:.2} | {:.2} | {:.2} | {:.2} |", at(0.5), at(0.9), at(0.99), at(1.0));
    }
}

/// User and system time of the process so far, while it lives; the kernel counts in hundredths of a second.
fn cpu_s(process: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let after_name = stat.rsplit(')').next()?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = [11, 12].iter().map(|at| fields.get(*at)?.parse::<u64>().ok()).sum::<Option<u64>>()?;
    Some(ticks as f64 / 100.0)
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
