//! Messages a second per core, by codec, size of frame, TLS and sink.

use std::path::Path;

use super::feeder::{Feed, Feeder};
use super::{LIMIT, RUNS, cpu_s, median, mib, wait_whole};

/// As the tape: trades, quotes and bars over all symbols.
pub(crate) const TAPE: Feed = Feed {
    codec: "msgpack",
    per_frame: "10",
    symbols: "11000",
    recorded: 1_000_000,
    messages: 4_000_000,
    rate: 0,
};

const RATE: u64 = 500_000;

/// One line of a table.
struct Case {
    words: String,
    run: Run,
    feeder: usize,
    rates: Vec<f64>,
    peak_mib: f64,
}

/// How the producer is set up.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    pub(crate) codec: &'static str,
    pub(crate) tls: bool,
    pub(crate) sink: &'static str,
}

pub(crate) fn measure() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut feeders = Vec::new();
    let mut cases = Vec::new();
    for codec in ["msgpack", "json"] {
        for per_frame in ["1", "10", "100"] {
            feeders.push(Feeder::start(&Feed { codec, per_frame, ..TAPE }, dir.path()));
            let feeder = feeders.len() - 1;
            let mut case = |tls, sink, words: &str| {
                let words = format!("{codec} | {per_frame} | {words}");
                cases.push(Case {
                    words,
                    run: Run { codec, tls, sink },
                    feeder,
                    rates: Vec::new(),
                    peak_mib: 0.0,
                });
            };
            case(false, "null", "`null`");
            case(true, "null", "`null`, by TLS");
        }
    }
    // A sink that cannot follow gives up records, so these are fed at a rate that all of them can.
    feeders.push(Feeder::start(&Feed { rate: RATE, messages: 5 * RATE, ..TAPE }, dir.path()));
    for sink in ["null", "quotes", "ndjson", "parquet"] {
        let words = format!("msgpack | 10 | `{sink}` at {RATE}/s");
        let run = Run { codec: "msgpack", tls: false, sink };
        cases.push(Case { words, run, feeder: feeders.len() - 1, rates: Vec::new(), peak_mib: 0.0 });
    }
    for _ in 0..RUNS {
        for case in &mut cases {
            let (rate, peak_mib) = one_run(&feeders[case.feeder], case.run, dir.path());
            case.rates.push(rate);
            case.peak_mib = case.peak_mib.max(peak_mib);
        }
    }
    println!("\nThe whole producer, {} messages, {RUNS} runs each, taking turns\n", TAPE.messages);
    println!("| codec | a frame | sink | M messages/s per core: median (min to max) | peak memory, MiB |");
    println!("|---|---|---|---|---|");
    for Case { words, rates, peak_mib, .. } in &mut cases {
        let middle = median(rates);
        let (min, max) = (rates[0], rates[rates.len() - 1]);
        println!("| {words} | {middle:.2} ({min:.2} to {max:.2}) | {peak_mib:.0} |");
    }
}

/// Messages per microsecond of CPU time, and the peak of resident memory.
pub(crate) fn one_run(feeder: &Feeder, run: Run, certificates: &Path) -> (f64, f64) {
    let dir = tempfile::tempdir_in(certificates).expect("a directory");
    let flag = dir.path().join("flag");
    std::fs::write(&flag, "off\n").expect("a flag");
    let sink = match run.sink {
        "ndjson" | "parquet" => format!("{}:{}", run.sink, dir.path().join("records").display()),
        word => word.to_owned(),
    };
    let producer = feeder
        .setup(run.tls, dir.path())
        .var("ALPACA_CODEC", run.codec)
        .var("INGEST_SINKS", sink)
        .var("INGEST_ENABLED_FILE", flag.display())
        .start();
    let cpu_s = || cpu_s(producer.process.id()).expect("a process");
    let before_s = cpu_s();
    std::fs::write(&flag, "on\n").expect("a flag");
    wait_whole(&producer, feeder.messages);
    // What a sink still has is part of the work.
    std::fs::write(&flag, "off\n").expect("a flag");
    producer.wait_status("paused", LIMIT, |status| status["status"] == "paused");
    let used_s = cpu_s() - before_s;
    let lost = format!("market_ingest_sink_dropped_total{{sink=\"{}\"}}", run.sink);
    assert_eq!(producer.metric(&lost), Some(0.0), "records were given up");
    (feeder.messages as f64 / used_s / 1e6, mib(producer.process.peak_kib()))
}

/// Counts the instructions of a whole run, if the arguments say so, for `scripts/instructions`.
pub(crate) fn count_if_asked() -> bool {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [flag, codec, messages] = arguments.as_slice() else { return false };
    if flag != "--instructions" {
        return false;
    }
    let codec = if codec == "json" { "json" } else { "msgpack" };
    let dir = tempfile::tempdir().expect("a directory");
    let messages = messages.parse().expect("a number");
    let feeder = Feeder::start(&Feed { codec, recorded: 100_000, messages, ..TAPE }, dir.path());
    let mut producer = feeder
        .setup(false, dir.path())
        .var("ALPACA_CODEC", codec)
        .under(&[
            "valgrind",
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            // What the pump does with what has arrived, down to the sinks; neither the clock nor the store is in it.
            "--toggle-collect=market_ingest::pump::Pump::apply",
        ])
        .start();
    wait_whole(&producer, feeder.messages);
    producer.process.signal("TERM");
    producer.process.wait_exit(LIMIT);
    let said = producer.process.stderr();
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    println!("{}", collected.unwrap_or_else(|| panic!("{said}")).1.trim());
    true
}
