//! The figures of `docs/benchmarks.md` that need whole processes: messages a second per core, memory,
//! and the time from a flag's edit to the last record. `cargo bench -p e2e`.
//!
//! The simulator feeds a fixed synthetic market as fast as it is taken; CPU time is the producer's own,
//! user and system, as the kernel counts it (in ticks of 10 ms), from before the first message to after
//! the last. Configurations take turns, so that a drift of the machine touches all alike.

mod clients;
mod growth;
mod peers;

use std::collections::BTreeMap;
use std::time::Duration;

use e2e::producer::{Producer, Setup};
use e2e::tls::TlsFront;
use e2e::venue::Venue;
use e2e::{now_us, wait_for};

const RUNS: usize = 5;
const MESSAGES: u64 = 2_000_000;
const FLIPS: usize = 100;
const LIMIT: Duration = Duration::from_secs(120);

fn main() {
    if clients::run_if_asked() {
        return;
    }
    // `cargo bench` and `cargo test --benches` pass arguments that are not for us; only the former
    // is a request for figures.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("run by: cargo bench -p e2e");
        return;
    }
    // Parts by name, or all.
    let asked = |name: &str| {
        let mut names = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).peekable();
        names.peek().is_none() || names.any(|asked| asked == name)
    };
    for (name, part) in [
        ("throughput", throughput as fn()),
        ("peers", peers::compare),
        ("flips", flips),
        ("growth", growth::measure),
    ] {
        if asked(name) {
            part();
        }
    }
}

fn throughput() {
    println!(
        "\nEnd to end, sink null, stream of {MESSAGES} messages (trades, quotes, bars), {RUNS} runs each\n"
    );
    println!("| codec | a frame | M messages/s per core: median (min to max) | peak memory, MiB |");
    println!("|---|---|---|---|");
    let messages = MESSAGES.to_string();
    let venues: Vec<(&str, Venue)> = ["1", "10", "100"]
        .into_iter()
        .map(|per_frame| {
            let arguments =
                ["--synthetic", "--symbols", "11000", "--messages", &messages, "--per-frame", per_frame];
            (per_frame, Venue::start(&arguments))
        })
        .collect();
    let keep = tempfile::tempdir().expect("a directory");
    let fronts: Vec<TlsFront> = venues.iter().map(|(_, venue)| TlsFront::start(venue, keep.path())).collect();
    let mut rates: BTreeMap<(String, usize), Vec<f64>> = BTreeMap::new();
    let mut peaks: BTreeMap<(String, usize), f64> = BTreeMap::new();
    for run in 0..RUNS {
        for codec in ["msgpack", "json"] {
            for (at, (per_frame, venue)) in venues.iter().enumerate() {
                for (words, front) in [("", None), (" by TLS", Some(&fronts[at]))] {
                    let account = format!("{codec}-{per_frame}-{run}{words}");
                    let (rate, peak_mib) = one_run(venue, front, codec, &account);
                    let key = (format!("{codec}{words}"), at);
                    rates.entry(key.clone()).or_default().push(rate);
                    let peak = peaks.entry(key).or_default();
                    *peak = peak.max(peak_mib);
                }
            }
        }
    }
    for ((codec, at), rates) in &mut rates {
        let median = median(rates);
        let (min, max) = (rates[0], rates[rates.len() - 1]);
        let (per_frame, peak) = (venues[*at].0, peaks[&(codec.clone(), *at)]);
        println!("| {codec} | {per_frame} | {median:.2} ({min:.2} to {max:.2}) | {peak:.0} |");
    }
}

/// Sorts them.
fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Messages per microsecond of CPU time, and the peak of resident memory.
fn one_run(venue: &Venue, front: Option<&TlsFront>, codec: &str, account: &str) -> (f64, f64) {
    let dir = tempfile::tempdir().expect("a directory");
    let flag = dir.path().join("flag");
    std::fs::write(&flag, "off\n").expect("a flag");
    let setup = Setup::new(venue, dir.path());
    let setup = match front {
        None => setup,
        Some(front) => {
            setup.var("ALPACA_STREAM_URL", front.url()).var("SSL_CERT_FILE", front.certificate().display())
        }
    };
    let producer = setup
        .var("ALPACA_DATA_FEED", "sip")
        .var("MONITORED_SYMBOLS", "*")
        .var("ALPACA_CODEC", codec)
        .var("INGEST_SINKS", "null")
        .var("INGEST_ENABLED_FILE", flag.display())
        .var("APCA_API_KEY_ID", account)
        .var("APCA_API_SECRET_KEY", "secret")
        .start();
    let cpu_s = || cpu_s(producer.process.id()).expect("a process");
    let before_s = cpu_s();
    std::fs::write(&flag, "on\n").expect("a flag");
    let expected = expected(venue);
    wait_for("the whole stream", LIMIT, || (total(&producer) >= expected).then_some(()));
    let used_s = cpu_s() - before_s;
    assert_eq!(total(&producer), expected);
    (expected as f64 / used_s / 1e6, status_mib(&producer, "VmHWM"))
}

/// Elements of the stock stream that trades, quotes and bars bring; corrections and cancels come with trades.
fn expected(venue: &Venue) -> u64 {
    let feed = venue.state()["feed"].clone();
    let by_symbol = feed["by_symbol"].as_object().expect("counts");
    let stocks = by_symbol.iter().filter(|(symbol, _)| e2e::venue::is_stock(symbol));
    stocks.flat_map(|(_, n)| ["t", "q", "b", "c", "x"].map(|letter| n[letter].as_u64().unwrap_or(0))).sum()
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
    println!("paused: {:.1} MiB resident", status_mib(&producer, "VmRSS"));
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
    println!("under load: {:.1} MiB resident at the peak", status_mib(&producer, "VmHWM"));
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

fn status_mib(producer: &Producer, field: &str) -> f64 {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", producer.process.id())).expect("a process");
    let line = status.lines().find(|line| line.starts_with(field)).expect("the field");
    line.split_whitespace().nth(1).expect("a number").parse::<f64>().expect("kB") / 1024.0
}
