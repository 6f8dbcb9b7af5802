//! Every record in files: what is in them is what the venue sent, and what has a final name is whole, whatever happens.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use e2e::clients::read_files;
use e2e::disk::SmallDisk;
use e2e::producer::{Producer, Setup};
use e2e::venue::{Venue, is_stock};
use e2e::{data, wait_for};
use flate2::read::GzDecoder;
use serde_json::Value;

const TORN: &str = "a file was left incomplete; it is kept as torn";
const KINDS: [&str; 2] = ["ndjson", "parquet"];

/// Both sinks, below `dir`.
fn setup(venue: &Venue, dir: &Path) -> Setup {
    let sinks = KINDS.map(|kind| format!("{kind}:{}", dir.join(kind).display()));
    Setup::new(venue, dir)
        .var("ALPACA_DATA_FEED", "sip")
        .var("MONITORED_SYMBOLS", "*")
        .var("INGEST_SINKS", sinks.join(","))
}

/// What a record says, without what the service adds: comparable between a tape and any file.
fn said(record: &Value) -> String {
    const ADDED: [&str; 6] = ["received_ts", "job", "origin", "epoch", "seq", "key"];
    let mut fields = BTreeMap::new();
    for (name, value) in record.as_object().unwrap() {
        let (name, value) = match name.as_str() {
            "T" => ("type", value.clone()),
            "S" => ("symbol", value.clone()),
            "t" => {
                let at: jiff::Timestamp = value.as_str().unwrap().parse().unwrap();
                ("ts", (at.as_nanosecond() as i64).into())
            }
            added if ADDED.contains(&added) => continue,
            // One number, however it is written; ids and times are whole.
            other => match value.as_u64() {
                None if value.is_number() && value.as_f64().unwrap().fract() == 0.0 => {
                    (other, (value.as_f64().unwrap() as u64).into())
                }
                _ => (other, value.clone()),
            },
        };
        if value != "" && value.as_array().is_none_or(|list| !list.is_empty()) {
            fields.insert(name.to_owned(), value);
        }
    }
    serde_json::to_string(&fields).unwrap()
}

fn names(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.to_str().unwrap().ends_with(ending)).collect()
}

pub(super) fn messages(producer: &Producer) -> u64 {
    producer.status()["counters"]["messages"].as_u64().unwrap()
}

pub(super) fn written(producer: &Producer, kind: &str) -> u64 {
    producer.metric(&format!("market_ingest_sink_writes_total{{sink=\"{kind}\"}}")).unwrap() as u64
}

/// None twice, none missing in the order of receipt, all live and under one epoch.
pub(super) fn assert_complete(records: &[Value], received: u64) {
    let seqs: HashSet<u64> = records.iter().map(|record| record["seq"].as_u64().unwrap()).collect();
    let keys: HashSet<&str> = records.iter().map(|record| record["key"].as_str().unwrap()).collect();
    assert_eq!((records.len() as u64, seqs.len(), keys.len()), (received, records.len(), records.len()));
    assert_eq!(seqs.into_iter().max(), received.checked_sub(1));
    assert!(records.iter().all(|record| record["origin"] == "live" && record["epoch"] == 1));
}

#[test]
fn both_kinds_of_files_hold_exactly_what_the_venue_sent() {
    let dir = tempfile::tempdir().unwrap();
    let (venue, expected) = match data::shared("equities_smoke.ndjson.gz") {
        Some(tape) => {
            let lines = BufReader::new(GzDecoder::new(std::fs::File::open(&tape).unwrap())).lines();
            let sent: Vec<String> =
                lines.map(|line| said(&serde_json::from_str(&line.unwrap()).unwrap())).collect();
            assert_eq!(sent.len(), 16_025, "the tape is the one that was described");
            (Venue::start(&["--tape", tape.to_str().unwrap(), "--speed", "max"]), Some(sent))
        }
        None => (Venue::start(&["--synthetic", "--messages", "50000", "--symbols", "4"]), None),
    };
    let mut producer = setup(&venue, dir.path()).start();
    let wanted = expected.as_ref().map_or_else(|| made(&venue), |sent| sent.len() as u64);
    wait_for("all messages", Duration::from_secs(60), || (messages(&producer) >= wanted).then_some(()));
    assert!(producer.stop().success());
    for kind in KINDS {
        assert!(names(&dir.path().join(kind), ".part").is_empty());
        let records = read_files(kind, &dir.path().join(kind));
        assert_complete(&records, wanted);
        assert!(records.iter().all(|record| record["job"] == "sip"));
        if let Some(sent) = &expected {
            let (mut sent, mut found): (Vec<String>, Vec<String>) =
                (sent.clone(), records.iter().map(said).collect());
            sent.sort();
            found.sort();
            let wrong = sent.iter().zip(&found).find(|(sent, found)| sent != found);
            assert_eq!((wrong, sent.len()), (None, found.len()), "{kind}");
        }
    }
}

#[test]
fn a_pause_leaves_whole_files_with_all_that_was_delivered_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let flag = dir.path().join("flag");
    std::fs::write(&flag, "on\n").unwrap();
    let venue = Venue::start(&["--synthetic", "--rate", "5000", "--symbols", "20"]);
    let mut producer = setup(&venue, dir.path()).var("INGEST_ENABLED_FILE", flag.display()).start();
    producer.wait_live();
    for round in 1..=2 {
        let before = messages(&producer);
        wait_for("messages", Duration::from_secs(10), || (messages(&producer) > before + 1000).then_some(()));
        std::fs::write(&flag, "off\n").unwrap();
        producer.wait_status("paused", Duration::from_secs(5), |status| status["status"] == "paused");
        let received = messages(&producer);
        for kind in KINDS {
            let dir = dir.path().join(kind);
            assert!(names(&dir, ".part").is_empty(), "{round}: {:?}", names(&dir, ".part"));
            assert_complete(&read_files(kind, &dir), received);
            assert_eq!(written(&producer, kind), received);
        }
        std::fs::write(&flag, "on\n").unwrap();
        producer.wait_live();
    }
    assert!(producer.stop().success());
}

#[test]
fn kill_9_leaves_no_torn_file_under_a_final_name() {
    let dir = tempfile::tempdir().unwrap();
    let venue = Venue::start(&["--synthetic", "--messages", "600000", "--symbols", "50"]);
    let mut torn = 0;
    for round in 0..3 {
        let left: usize = KINDS.iter().map(|kind| names(&dir.path().join(kind), ".part").len()).sum();
        let mut producer = setup(&venue, dir.path())
            .var("APCA_API_KEY_ID", format!("round-{round}"))
            .var("APCA_API_SECRET_KEY", "secret")
            .start();
        // Every start but the first finds what the last one left, and says so.
        if round > 0 {
            wait_for("the torn files to be told", Duration::from_secs(5), || {
                (producer.log(TORN).len() == left && left > 0).then_some(())
            });
            torn += left;
            let kept: usize = KINDS.iter().map(|kind| names(&dir.path().join(kind), ".torn").len()).sum();
            assert_eq!(kept, torn);
        }
        let before = names(&dir.path().join("ndjson"), ".ndjson.zst").len();
        wait_for("a whole file of this run", Duration::from_secs(60), || {
            (names(&dir.path().join("ndjson"), ".ndjson.zst").len() > before).then_some(())
        });
        wait_for("an open file", Duration::from_secs(30), || {
            (!names(&dir.path().join("ndjson"), ".part").is_empty()).then_some(())
        });
        producer.process.signal("KILL");
        producer.process.wait_exit(Duration::from_secs(5));
        for kind in KINDS {
            // Whoever opens them finds them whole, or this panics.
            let records = read_files(kind, &dir.path().join(kind));
            assert!(kind == "parquet" || !records.is_empty());
        }
    }
}

#[test]
fn a_full_disk_is_an_error_and_a_retry_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path(), 2) else { return };
    let venue = Venue::start(&["--synthetic", "--rate", "2000", "--symbols", "20"]);
    let sinks = KINDS.map(|kind| format!("{kind}:{}", disk.path().join(kind).display()));
    let flag = dir.path().join("flag");
    std::fs::write(&flag, "on\n").unwrap();
    let mut producer = setup(&venue, dir.path())
        .var("INGEST_SINKS", sinks.join(","))
        .var("INGEST_ENABLED_FILE", flag.display())
        .start();
    producer.wait_live();
    wait_for("messages", Duration::from_secs(10), || (messages(&producer) > 500).then_some(()));
    disk.fill();
    let errors = "market_ingest_sink_errors_total{sink=\"ndjson\"}";
    wait_for("an error", Duration::from_secs(30), || (producer.metric(errors)? > 0.0).then_some(()));
    let received = messages(&producer);
    wait_for("more messages", Duration::from_secs(10), || {
        (messages(&producer) > received + 500).then_some(())
    });
    // What failed was removed, so that a little may be written again in between.
    wait_for("a sink that is told", Duration::from_secs(15), || {
        (condition(&producer, "SinkHealthy") == "False").then_some(())
    });

    disk.free();
    wait_for("a healthy sink", Duration::from_secs(15), || {
        (condition(&producer, "SinkHealthy") == "True").then_some(())
    });
    std::fs::write(&flag, "off\n").unwrap();
    producer.wait_status("paused", Duration::from_secs(5), |status| status["status"] == "paused");
    for kind in KINDS {
        let dropped = format!("market_ingest_sink_dropped_total{{sink=\"{kind}\"}}");
        assert_eq!(producer.metric(&dropped), Some(0.0));
        assert_complete(&read_files(kind, &disk.path().join(kind)), messages(&producer));
    }
    assert!(producer.stop().success());
}

#[test]
fn a_dry_run_makes_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let venue = Venue::start(&["--synthetic", "--rate", "2000"]);
    let mut producer = setup(&venue, dir.path()).var("DRY_RUN", "true").start();
    wait_for("messages", Duration::from_secs(10), || (messages(&producer) > 100).then_some(()));
    assert!(producer.stop().success());
    assert!(KINDS.iter().all(|kind| !dir.path().join(kind).exists()));
}

#[test]
fn each_sink_accounts_for_every_record_of_a_flood() {
    for kind in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let venue = Venue::start(&["--synthetic", "--messages", "400000", "--symbols", "50"]);
        let mut producer = setup(&venue, dir.path())
            .var("INGEST_SINKS", format!("{kind}:{}", dir.path().join(kind).display()))
            .start();
        wait_for("messages", Duration::from_secs(20), || (messages(&producer) > 0).then_some(()));
        let began = Instant::now();
        let made = made(&venue);
        wait_for("the flood", Duration::from_secs(120), || (messages(&producer) >= made).then_some(()));
        assert!(producer.stop().success());
        let took = began.elapsed().as_secs_f64();
        let [rest] = producer.told("job_at_rest");
        let records = read_files(kind, &dir.path().join(kind));
        println!(
            "{kind}: {} records in {took:.1} s, {:.0} a second",
            records.len(),
            records.len() as f64 / took
        );
        // What a slow machine does not write in time is counted.
        assert_eq!(records.len() as u64 + rest.json["dropped"].as_u64().unwrap(), made);
    }
}

/// How many elements of the synthetic market reach a stock job: corrections and cancels come with trades.
pub(super) fn made(venue: &Venue) -> u64 {
    let state = venue.state();
    let stocks = state["feed"]["by_symbol"].as_object().unwrap().iter().filter(|(name, _)| is_stock(name));
    let counts =
        stocks.flat_map(|(_, by_type)| ["t", "q", "b", "c", "x"].map(|letter| by_type[letter].as_u64()));
    counts.flatten().sum()
}

pub(super) fn condition(producer: &Producer, name: &str) -> String {
    let status = producer.status();
    let conditions = status["conditions"].as_array().unwrap();
    conditions.iter().find(|c| c["type"] == name).unwrap()["status"].as_str().unwrap().to_owned()
}
