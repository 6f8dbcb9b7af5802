//! The document on the `INGEST_ENABLED` flow, statement by statement, as far as other suites do not show it already:
//! most of it is in `switch` and `documents`.

use std::time::{Duration, Instant};

use e2e::firestore::{Firestore, PROJECT, plain};
use e2e::producer::{Producer, Setup};
use e2e::venue::Venue;
use e2e::{sqlite, wait_for};
use ingest_status::{Heartbeat, Observed, Thresholds, judge};
use serde_json::{Value, json};

const BUSY: &[&str] = &["--synthetic", "--rate", "2000", "--symbols", "20"];
const PAUSE_LIMIT: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(10);

fn wait_word(producer: &Producer, word: &str) -> Value {
    producer.wait_status(word, LIMIT, |status| status["status"] == word)
}

#[test]
fn the_source_is_written_as_the_document_spells_it() {
    let venue = Venue::start(BUSY);
    let dir = tempfile::tempdir().unwrap();
    let flag = dir.path().join("flag");
    let file = format!("file:{}", flag.display());
    let stored = || {
        let query = "SELECT status, ingest_enabled, ingest_enabled_source FROM market_ingest_heartbeat";
        sqlite::rows(&dir.path().join("store.db"), query).remove(0)
    };
    for (env, word, expected) in [
        ("0", None, ["paused", "0", "env:INGEST_ENABLED"]),
        ("1", None, ["running", "1", "env:INGEST_ENABLED"]),
        ("", Some("0\nreason: all of it\n"), ["paused", "0", &file]),
        ("", Some("true\n0\n"), ["running", "1", &file]),
        ("", None, ["running", "1", "null"]),
    ] {
        match word {
            Some(word) => std::fs::write(&flag, word).unwrap(),
            None => {
                let _ = std::fs::remove_file(&flag);
            }
        }
        // An earlier run's store would remember the file's hold.
        for file in ["store.db", "store.db-wal", "store.db-shm"] {
            let _ = std::fs::remove_file(dir.path().join(file));
        }
        let mut setup = Setup::new(&venue, dir.path()).var("INGEST_ENABLED", env);
        if word.is_some() {
            setup = setup.var("INGEST_ENABLED_FILE", flag.display());
        }
        let producer = setup.start();
        wait_word(&producer, expected[0]);
        let row = wait_for("the heartbeat in the store", LIMIT, || {
            let path = dir.path().join("store.db");
            (sqlite::heartbeat(&path)?["status"] == expected[0]).then(stored)
        });
        let row: Vec<_> = row.into_iter().map(|cell| cell.unwrap_or_else(|| "null".to_owned())).collect();
        assert_eq!(row, expected, "{env:?} {word:?}");
    }
}

#[test]
fn the_flag_is_polled_where_its_mount_tells_of_no_change() {
    let venue = Venue::start(BUSY);
    let dir = tempfile::tempdir().unwrap();
    let mount = tempfile::tempdir().unwrap();
    // The watched directory holds a link; what it leads to changes elsewhere, unheard.
    let (flag, behind) = (dir.path().join("flag"), mount.path().join("flag"));
    std::fs::write(&behind, "1\n").unwrap();
    std::os::unix::fs::symlink(&behind, &flag).unwrap();
    let producer = Setup::new(&venue, dir.path())
        .var("INGEST_ENABLED_FILE", flag.display())
        .var("INGEST_ENABLED_POLL_S", "1")
        .start();
    producer.wait_live();
    for (word, status) in [("0\n", "paused"), ("1\n", "running")] {
        let edited = Instant::now();
        std::fs::write(&behind, word).unwrap();
        producer.wait_status(status, Duration::from_secs(4), |s| s["status"] == status);
        println!("{status} {:.0} ms after the edit, poll of 1 s", edited.elapsed().as_secs_f64() * 1e3);
    }
    let usual = Setup::new(&venue, dir.path()).start().status();
    assert_eq!(usual["ingest_enabled"], json!(true));
}

#[test]
fn the_poll_is_five_seconds_unless_configured() {
    use e2e::child::Process;
    let mut command = std::process::Command::new(e2e::binary::path("market-ingest"));
    command.arg("config").env_clear().env("APCA_API_KEY_ID", "key").env("APCA_API_SECRET_KEY", "secret");
    let mut process = Process::spawn(&mut command);
    assert!(process.wait_exit(LIMIT).success());
    let lines = process.stdout();
    let line = lines.iter().find(|line| line.text.contains("INGEST_ENABLED_POLL_S")).unwrap();
    assert!(line.text.contains("(unset: 5)"), "{}", line.text);
}

#[test]
fn a_paused_producer_leaves_the_one_connection_to_another() {
    let venue = Venue::start(BUSY);
    let (first_dir, second_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let flag = first_dir.path().join("flag");
    std::fs::write(&flag, "on\n").unwrap();
    let first = Setup::new(&venue, first_dir.path()).var("INGEST_ENABLED_FILE", flag.display()).start();
    first.wait_live();
    std::fs::write(&flag, "off\n").unwrap();
    wait_word(&first, "paused");
    let second = Setup::new(&venue, second_dir.path()).start();
    second.wait_live();
    assert!(venue.events("auth_refused").is_empty(), "never refused with 406");
    let connections = venue.events("tcp_open").len();
    assert_eq!((venue.open_paths().len(), connections), (1, 2));
    assert_eq!(first.status()["status"], "paused");
}

#[test]
fn a_paused_producer_does_not_reconnect_whatever_the_venue_does() {
    let venue = Venue::start(BUSY);
    let dir = tempfile::tempdir().unwrap();
    let flag = dir.path().join("flag");
    std::fs::write(&flag, "on\n").unwrap();
    let producer = Setup::new(&venue, dir.path())
        .var("INGEST_ENABLED_FILE", flag.display())
        .var("RECONNECT_BACKOFF_BASE_S", "0.05")
        .var("RECONNECT_BACKOFF_MAX_S", "0.1")
        .var("HEARTBEAT_INTERVAL_S", 1)
        .start();
    producer.wait_live();
    venue.fault(&json!({"fault": "refuse_upgrade", "status": 503}));
    venue.cut();
    wait_for("the reconnect loop at work", LIMIT, || {
        (venue.events("upgrade_refused").len() >= 2).then_some(())
    });
    std::fs::write(&flag, "off\n").unwrap();
    producer.wait_status("paused", PAUSE_LIMIT, |status| status["status"] == "paused");
    let dials = venue.events("tcp_open").len();
    venue.heal();
    // Three seconds at least: more than twenty back-offs.
    sqlite::wait_beats(&dir.path().join("store.db"), 3);
    assert_eq!(venue.events("tcp_open").len(), dials, "no dial while paused");
    std::fs::write(&flag, "on\n").unwrap();
    producer.wait_live();
}

/// The verdict of a reader on what the emulator holds, as of some seconds from now.
fn verdict(firestore: &Firestore, later_s: i64) -> (String, bool) {
    let document = firestore.document("tenants/acme/ops/market_ingest");
    let beat: Option<Heartbeat> =
        document.map(|document| serde_json::from_value(plain(&document["fields"])).unwrap());
    let now = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(later_s);
    let observed = beat.as_ref().map_or(Observed::Missing, Observed::Document);
    let verdict = judge(observed, now.into(), Thresholds::Interval);
    (verdict.standing.as_str().to_owned(), verdict.tradeable)
}

#[test]
fn a_reader_tells_no_producer_from_a_paused_one_and_a_dead_one() {
    let Some(firestore) = Firestore::start() else { return };
    let venue = Venue::start(BUSY);
    let dir = tempfile::tempdir().unwrap();
    let flag = dir.path().join("flag");
    std::fs::write(&flag, "on\n").unwrap();
    assert_eq!(verdict(&firestore, 0), ("missing".to_owned(), false), "zero producers");
    let mut producer = Setup::new(&venue, dir.path())
        .var("INGEST_STORE", "firestore")
        .var("FIRESTORE_EMULATOR_HOST", firestore.host())
        .var("FIRESTORE_PROJECT_ID", PROJECT)
        .var("TENANT_ID", "acme")
        .var("INGEST_ENABLED_FILE", flag.display())
        .var("HEARTBEAT_INTERVAL_S", 1)
        .start();
    let wait_verdict = |word: &str, tradeable: bool| {
        wait_for(word, LIMIT, || (verdict(&firestore, 0) == (word.to_owned(), tradeable)).then_some(()));
    };
    wait_verdict("live", true);
    std::fs::write(&flag, "off\n").unwrap();
    wait_verdict("paused", false);
    producer.process.signal("KILL");
    producer.process.wait_exit(LIMIT);
    assert_eq!(verdict(&firestore, 30), ("stale".to_owned(), false), "old, whatever it says");
}
