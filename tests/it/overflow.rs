//! A sink that cannot write while the market flows: memory is bounded, what does not fit is a gap, and in the end nothing
//! is missing.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use e2e::disk::SmallDisk;
use e2e::producer::{Producer, Setup};
use e2e::venue::Venue;
use e2e::{data, sqlite, wait_for};
use serde_json::Value;

use crate::backfill::{Run, quote, trade};
use crate::equation::tape::Tape;

const LIMIT: Duration = Duration::from_secs(60);
/// A sink's bound and what a producer needs besides, MiB; resident, in the development profile.
const RESIDENT_MAX_MIB: f64 = 160.0;
/// What memory may move by once the sink is full.
const GROWTH_MAX_MIB: f64 = 16.0;

fn dropped(producer: &Producer) -> u64 {
    producer.metric(r#"market_ingest_sink_dropped_total{sink="ndjson"}"#).unwrap_or_default() as u64
}

/// More records of a day than a sink's bound holds.
fn long_tape(dir: &Path) -> (Tape, f64) {
    const RECORDS: usize = 1_000_000;
    let lines: Box<dyn Iterator<Item = String>> = match data::shared("equities_ticks.ndjson.zst") {
        Some(path) => {
            let file = std::fs::File::open(path).unwrap();
            Box::new(BufReader::new(zstd::Decoder::new(file).unwrap()).lines().map(Result::unwrap))
        }
        None => {
            let start = jiff::Timestamp::from_second(1_381_325_400).unwrap();
            Box::new((0..RECORDS as i64).map(move |step| {
                let at = start + jiff::SignedDuration::from_millis(step * 20);
                let symbol = ["AIG", "BAC", "IBM", "SPY"][(step / 3 % 4) as usize];
                let element =
                    if step % 7 == 0 { trade(symbol, at, step) } else { quote(symbol, at, 1 + step % 900) };
                element.to_string()
            }))
        }
    };
    let path = dir.join("day.ndjson");
    let text = lines.take(RECORDS).fold(String::new(), |text, line| text + &line + "\n");
    std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
    let at = |line: &str| {
        let element: Value = serde_json::from_str(line).unwrap();
        element["t"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap()
    };
    let (first, last) = (at(text.lines().next().unwrap()), at(text.lines().next_back().unwrap()));
    (Tape::of_file(path), last.duration_since(first).as_secs_f64())
}

#[test]
fn what_overflows_a_stalled_sink_is_a_gap_and_in_the_end_the_files_hold_the_whole_tape() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path(), 2) else { return };
    let (tape, span_s) = long_tape(dir.path());
    disk.fill();
    let speed = (span_s / 60.0).to_string();
    let run = Run::start("sip", &tape, &["--speed", &speed], |setup| {
        setup
            .var("INGEST_SINKS", format!("ndjson:{}", disk.path().join("records").display()))
            .var("MONITORED_SYMBOLS", "*")
    });
    std::os::unix::fs::symlink(disk.path().join("records"), run.dir.path().join("records")).unwrap();
    wait_for("an overflow", LIMIT * 3, || (dropped(&run.producer) > 50_000).then_some(()));
    let lost = dropped(&run.producer);
    disk.free();
    disk.grow(512);
    run.producer.wait_status("a healthy sink", LIMIT, |status| {
        let conditions = status["conditions"].as_array().unwrap();
        conditions.iter().any(|c| c["type"] == "SinkHealthy" && c["status"] == "True")
    });
    let gaps = run.wait_filled(LIMIT * 5);
    let overflows: Vec<_> = gaps.iter().filter(|gap| gap.cause == "overflow").collect();
    println!("{lost} records lost by then; {overflows:#?}");
    assert!((1..=4).contains(&overflows.len()), "losses of one stall come together: {gaps:#?}");
    for gap in &gaps {
        assert!(gap.state == "filled" && Some(gap.from) < gap.to, "{gap:?}");
    }
    assert!(overflows.iter().map(|gap| gap.rows).sum::<u64>() >= lost, "{overflows:#?}");
    run.assert_kept("an overflow", &tape);
}

/// Resident memory of a process, MiB.
fn resident_mib(producer: &Producer) -> f64 {
    producer.process.memory_kib() as f64 / 1024.0
}

fn overflow_gaps(store: &Path) -> u64 {
    let rows = sqlite::rows(store, "SELECT count(*) FROM market_ingest_gap WHERE cause = 'overflow'");
    rows[0][0].as_deref().unwrap().parse().unwrap()
}

#[test]
fn memory_is_flat_through_hours_of_market_with_a_sink_that_cannot_write() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path(), 2) else { return };
    disk.fill();
    let venue =
        Venue::start(&["--synthetic", "--rate", "20000", "--symbols", "2000", "--data", "127.0.0.1:0"]);
    let producer = Setup::new(&venue, dir.path())
        .var("ALPACA_DATA_FEED", "sip")
        .var("ALPACA_DATA_URL", venue.data_url())
        .var("MONITORED_SYMBOLS", "*")
        .var("INGEST_SINKS", format!("ndjson:{}", disk.path().join("records").display()))
        .var("HEARTBEAT_INTERVAL_S", 1)
        .start();
    producer.wait_live();
    let received = || producer.status()["counters"]["messages"].as_u64().unwrap();
    wait_for("the sink to be full", LIMIT * 5, || (dropped(&producer) > 50_000).then_some(()));
    let (full, begun, before) = (resident_mib(&producer), Instant::now(), received());
    let asked = venue.events("data_request").len();
    let overload = Duration::from_secs(if std::env::var_os("SLOW_TESTS").is_some() { 600 } else { 60 });
    let (mut least, mut most) = (full, full);
    wait_for("the overload to pass", overload * 2, || {
        let now = resident_mib(&producer);
        (least, most) = (least.min(now), most.max(now));
        (begun.elapsed() >= overload).then_some(())
    });
    let came = received() - before;
    let gaps = overflow_gaps(&dir.path().join("store.db"));
    println!(
        "{came} records in {:.0} s; resident {full:.1} MiB when full, then {least:.1} to {most:.1}; {gaps} gaps",
        begun.elapsed().as_secs_f64()
    );
    // The recorded day has 1.74 million records in sixteen hours.
    assert!(came > 1_743_751 / 16, "an hour of it: {came}");
    assert!(most <= full + GROWTH_MAX_MIB && most <= RESIDENT_MAX_MIB, "{full} to {most} MiB");
    assert!((1..=2).contains(&gaps), "what is lost one after the other is one gap: {gaps}");
    // A stalled sink is offered nothing to fetch, so its gap waits.
    assert_eq!(venue.events("data_request").len(), asked);
}
