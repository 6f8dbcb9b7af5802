//! What must not grow: the cost of a message with the number of symbols and of holds, the memory over time, the binary;
//! and the time from the start of the process to its first record.

use std::time::{Duration, Instant};

use e2e::producer::Setup;
use e2e::venue::Venue;
use e2e::{sqlite, wait_for};

use super::{LIMIT, MESSAGES, RUNS, cpu_s, expected, median, status_mib, total};

pub(crate) fn measure() {
    by_symbols();
    by_holds();
    over_time();
    start();
}

fn by_symbols() {
    println!(
        "\nNanoseconds of CPU time a message by number of symbols, MessagePack, 10 a frame, {RUNS} runs each\n"
    );
    println!("| symbols | ns a message: median (min to max) |");
    println!("|---|---|");
    let counts = ["10", "100", "1000", "10000"];
    let venues = counts.map(venue);
    let mut costs = counts.map(|_| Vec::new());
    for _ in 0..RUNS {
        for (venue, costs) in venues.iter().zip(&mut costs) {
            costs.push(cost_ns(venue, 0));
        }
    }
    for (symbols, mut costs) in counts.into_iter().zip(costs) {
        let middle = median(&mut costs);
        println!("| {symbols} | {middle:.0} ({:.0} to {:.0}) |", costs[0], costs[costs.len() - 1]);
    }
}

fn by_holds() {
    println!("\nThe same with holds on symbols, of which one in ten trades, 10,000 symbols\n");
    println!("| holds | ns a message: median (min to max) |");
    println!("|---|---|");
    let venue = venue("10000");
    let counts = [0, 10, 100, 1_000];
    let mut costs = counts.map(|_| Vec::new());
    for _ in 0..RUNS {
        for (holds, costs) in counts.into_iter().zip(&mut costs) {
            costs.push(cost_ns(&venue, holds));
        }
    }
    for (holds, mut costs) in counts.into_iter().zip(costs) {
        let middle = median(&mut costs);
        println!("| {holds} | {middle:.0} ({:.0} to {:.0}) |", costs[0], costs[costs.len() - 1]);
    }
}

fn venue(symbols: &str) -> Venue {
    let messages = MESSAGES.to_string();
    let size = ["--synthetic", "--symbols", symbols, "--messages", &messages, "--per-frame", "10"];
    Venue::start(&size)
}

/// CPU time of one whole stream; what is held is received all the same and counts.
fn cost_ns(venue: &Venue, holds: usize) -> f64 {
    let dir = tempfile::tempdir().expect("a directory");
    let flag = dir.path().join("flag");
    std::fs::write(&flag, "off\n").expect("a flag");
    let producer = Setup::new(venue, dir.path())
        .var("ALPACA_DATA_FEED", "sip")
        .var("MONITORED_SYMBOLS", "*")
        .var("INGEST_SINKS", "null")
        .var("INGEST_ENABLED_FILE", flag.display())
        .var("APCA_API_KEY_ID", format!("{:?}", dir.path()))
        .start();
    let traded = venue.state()["feed"]["by_symbol"].clone();
    let traded: Vec<&String> = traded.as_object().expect("counts").keys().collect();
    let names = (0..holds).map(|n| match n % 10 {
        // The tail of the universe trades least, so that nearly all of the stream is still delivered.
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
    let expected = expected(venue);
    // What is held by name comes all the same with `*`, and is held back.
    let received = || {
        let held_back = producer.metric(r#"market_ingest_held_back_total{job="sip"}"#).unwrap_or(0.0);
        total(&producer) + held_back as u64
    };
    wait_for("the whole stream", LIMIT, || (received() >= expected).then_some(()));
    (cpu_s() - before_s) * 1e9 / expected as f64
}

fn over_time() {
    let venue =
        Venue::start(&["--synthetic", "--symbols", "11000", "--rate", "1000000", "--per-frame", "100"]);
    let dir = tempfile::tempdir().expect("a directory");
    let producer = Setup::new(&venue, dir.path())
        .var("ALPACA_DATA_FEED", "sip")
        .var("MONITORED_SYMBOLS", "*")
        .var("INGEST_SINKS", "null")
        .start();
    producer.wait_live();
    println!("\nResident memory under all that the simulator can feed, 11,000 symbols, `null` sink\n");
    println!("| after, s | M messages | MiB |");
    println!("|---|---|---|");
    let began = Instant::now();
    for after_s in [5, 15, 30, 60] {
        let at = Duration::from_secs(after_s);
        wait_for("the time", LIMIT, || (began.elapsed() >= at).then_some(()));
        let millions = total(&producer) as f64 / 1e6;
        println!("| {after_s} | {millions:.1} | {:.1} |", status_mib(&producer, "VmRSS"));
    }
    println!("\npeak {:.1} MiB", status_mib(&producer, "VmHWM"));
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
