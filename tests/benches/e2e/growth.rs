//! What must not grow: the cost of a message with the number of symbols and of holds, the memory over time, the binary;
//! and the time from the start of the process to its first record.

use std::fmt::Display;
use std::time::{Duration, Instant};

use e2e::producer::Setup;
use e2e::venue::Venue;
use e2e::{sqlite, wait_for};

use super::feeder::{Feed, Feeder};
use super::throughput::{Run, TAPE, one_run};
use super::{LIMIT, RUNS, cpu_s, median, mib, total};

pub(crate) fn measure() {
    by_symbols();
    by_holds();
    by_rows();
    over_time();
    start();
}

fn by_symbols() {
    let dir = tempfile::tempdir().expect("a directory");
    let counts = ["10", "100", "1000", "10000"];
    let feeders = counts.map(|symbols| Feeder::start(&Feed { symbols, ..TAPE }, dir.path()));
    let mut costs = counts.map(|_| Vec::new());
    for _ in 0..RUNS {
        for (feeder, costs) in feeders.iter().zip(&mut costs) {
            let run = Run { codec: "msgpack", tls: false, sink: "null" };
            costs.push(1e3 / one_run(feeder, run, dir.path()).0);
        }
    }
    println!(
        "\nNanoseconds of CPU time a message by number of symbols, MessagePack, 10 a frame, {RUNS} runs each\n"
    );
    println!("| symbols | ns a message: median (min to max) |");
    println!("|---|---|");
    rows(&counts, costs);
}

fn by_holds() {
    let dir = tempfile::tempdir().expect("a directory");
    // Long, so that a message's cost shows, not that of opening a gap for each held symbol once.
    let feed = Feed { symbols: "10000", messages: 16_000_000, ..TAPE };
    let feeder = Feeder::start(&feed, dir.path());
    let traded = Venue::start(&["--synthetic", "--symbols", "10000", "--messages", "1000000"]).state();
    let traded: Vec<String> =
        traded["feed"]["by_symbol"].as_object().expect("counts").keys().cloned().collect();
    let counts = ["0", "10", "100", "1000"];
    let mut costs = counts.map(|_| Vec::new());
    for _ in 0..RUNS {
        for (holds, costs) in counts.iter().zip(&mut costs) {
            costs.push(with_holds(&feeder, holds.parse().expect("a number"), &traded));
        }
    }
    println!("\nThe same with holds on symbols, of which one in ten trades, 10,000 symbols\n");
    println!("| holds | ns a message: median (min to max) |");
    println!("|---|---|");
    rows(&counts, costs);
}

fn rows(of: &[impl Display], costs: impl IntoIterator<Item = Vec<f64>>) {
    for (of, mut costs) in of.iter().zip(costs) {
        let middle = median(&mut costs);
        println!("| {of} | {middle:.0} ({:.0} to {:.0}) |", costs[0], costs[costs.len() - 1]);
    }
}

/// CPU time a message of one whole stream; what is held is received all the same and counts.
fn with_holds(feeder: &Feeder, holds: usize, traded: &[String]) -> f64 {
    let dir = tempfile::tempdir().expect("a directory");
    let flag = dir.path().join("flag");
    std::fs::write(&flag, "off\n").expect("a flag");
    let producer = feeder.setup(false, dir.path()).var("INGEST_ENABLED_FILE", flag.display()).start();
    let names = (0..holds).map(|n| match n % 10 {
        0 => traded[traded.len() - 1 - n / 10].clone(),
        _ => format!("NONE{n}"),
    });
    let rows: Vec<String> = names.map(|name| format!("('{name}', 'symbol:{name}')")).collect();
    if !rows.is_empty() {
        let sql = format!("INSERT INTO market_ingest_hold (id, scope) VALUES {}", rows.join(","));
        sqlite::execute(&dir.path().join("store.db"), &sql);
        // One is the flag's; the others are read together.
        let held = || producer.status()["holds"].as_array().map_or(0, Vec::len) > 1;
        wait_for("the holds", LIMIT, || held().then_some(()));
    }
    let cpu_s = || cpu_s(producer.process.id()).expect("a process");
    let before_s = cpu_s();
    std::fs::write(&flag, "on\n").expect("a flag");
    // What is held by name comes all the same with `*`, and is held back.
    let received = || {
        // Asked seldom: a thousand holds make a long answer.
        std::thread::sleep(Duration::from_millis(200));
        let held_back = producer.metric(r#"market_ingest_held_back_total{job="sip"}"#).unwrap_or(0.0);
        total(&producer) + held_back as u64
    };
    wait_for("the whole stream", LIMIT, || (received() >= feeder.messages).then_some(()));
    (cpu_s() - before_s) * 1e9 / feeder.messages as f64
}

/// What a gap costs to fill, from the answers of the history to files on the disk.
fn by_rows() {
    let mut costs = [Vec::new(), Vec::new(), Vec::new()];
    let mut rows_of = [0.0; 3];
    for _ in 0..3 {
        for ((gap_s, costs), rows_of) in [2, 8, 32].into_iter().zip(&mut costs).zip(&mut rows_of) {
            let (rows, cost_ns) = fill(Duration::from_secs(gap_s));
            costs.push(cost_ns);
            *rows_of = rows;
        }
    }
    println!("\nNanoseconds of CPU time a row of a gap that is filled, `ndjson`, 3 runs each\n");
    println!("| rows | ns a row: median (min to max) |");
    println!("|---|---|");
    rows(&rows_of.map(|rows| format!("{rows:.0}")), costs);
}

/// Rows of a gap of this length, and CPU time a row; what flows meanwhile is a hundredth of it.
fn fill(gap: Duration) -> (f64, f64) {
    let market = ["--synthetic", "--rate", "20000", "--symbols", "2000", "--data", "127.0.0.1:0"];
    let venue = Venue::start(&market);
    let dir = tempfile::tempdir().expect("a directory");
    let flag = dir.path().join("flag");
    std::fs::write(&flag, "on\n").expect("a flag");
    let producer = Setup::new(&venue, dir.path())
        .with_records(&venue, dir.path())
        .var("ALPACA_DATA_FEED", "sip")
        .var("MONITORED_SYMBOLS", "*")
        .var("INGEST_ENABLED_FILE", flag.display())
        .start();
    producer.wait_live();
    wait_for("a flow", LIMIT, || (total(&producer) > 20_000).then_some(()));
    std::fs::write(&flag, "off\n").expect("a flag");
    producer.wait_status("paused", LIMIT, |status| status["status"] == "paused");
    std::thread::sleep(gap);
    let cpu_s = || cpu_s(producer.process.id()).expect("a process");
    let before_s = cpu_s();
    std::fs::write(&flag, "on\n").expect("a flag");
    let filled = || producer.metric("market_ingest_gaps_filled_total").filter(|gaps| *gaps > 0.0);
    wait_for("the gap's end", LIMIT, filled);
    let rows = producer.metric("market_ingest_backfill_rows_total").expect("a count");
    (rows, (cpu_s() - before_s) * 1e9 / rows)
}

fn over_time() {
    const RATE: u64 = 1_000_000;
    const SECONDS: [u64; 4] = [5, 15, 30, 60];
    let dir = tempfile::tempdir().expect("a directory");
    let feed = Feed { rate: RATE, messages: RATE * 65, per_frame: "100", ..TAPE };
    let feeder = Feeder::start(&feed, dir.path());
    let producer = feeder.setup(false, dir.path()).start();
    producer.wait_live();
    println!("\nResident memory at {RATE} messages/s, 11,000 symbols, `null` sink\n");
    println!("| after, s | M messages | MiB |");
    println!("|---|---|---|");
    let began = Instant::now();
    for after_s in SECONDS {
        let at = Duration::from_secs(after_s);
        wait_for("the time", LIMIT, || (began.elapsed() >= at).then_some(()));
        let millions = total(&producer) as f64 / 1e6;
        println!("| {after_s} | {millions:.1} | {:.1} |", mib(producer.process.memory_kib()));
    }
    println!("\npeak {:.1} MiB", mib(producer.process.peak_kib()));
}

fn start() {
    let venue = Venue::start(&["--synthetic", "--symbols", "100", "--rate", "20000"]);
    let mut times_ms: Vec<f64> = (0..21)
        .map(|_| {
            let dir = tempfile::tempdir().expect("a directory");
            let setup = Setup::new(&venue, dir.path())
                .var("ALPACA_DATA_FEED", "sip")
                .var("MONITORED_SYMBOLS", "*")
                .var("INGEST_SINKS", "null");
            let began = Instant::now();
            let producer = setup.start();
            wait_for("a record", LIMIT, || (total(&producer) > 0).then_some(()));
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    let middle = median(&mut times_ms);
    let worst = times_ms[times_ms.len() - 1];
    println!(
        "\nStart of the process to its first record, as its status tells: median {middle:.0} ms, most {worst:.0} ms"
    );
    let binary = std::fs::metadata(e2e::binary::path("market-ingest")).expect("a binary").len();
    println!("Release binary with the demo: {:.1} MiB", binary as f64 / (1 << 20) as f64);
}
