//! An orderly stop, whatever the process is doing: exit 0 within eight seconds, socket first, then
//! the drain, then the last heartbeat with `stopped_at`.

use std::path::Path;
use std::time::{Duration, Instant};

use e2e::producer::{Producer, Setup};
use e2e::venue::Venue;
use e2e::{free_port, sqlite, wait_for};

#[test]
fn sigterm_while_running_closes_the_socket_first() {
    let dir = tempfile::tempdir().unwrap();
    let venue = Venue::start(&["--synthetic", "--rate", "2000"]);
    let mut producer = Setup::new(&venue, dir.path()).var("MONITORED_SYMBOLS", "*").start();
    producer.wait_live();
    wait_for("messages", Duration::from_secs(10), || {
        (producer.status()["counters"]["messages"].as_u64()? > 500).then_some(())
    });
    let beat = stops_cleanly(&mut producer, dir.path());
    assert_eq!(beat["status"], "running", "stopped is not paused");

    // Order: close frame, then rest with everything delivered, then the last heartbeat.
    let closed_us = venue.events("close_received")[0]["ts_us"].as_i64().unwrap();
    let stopped: jiff::Timestamp = beat["ts"].as_str().unwrap().parse().unwrap();
    assert!(closed_us <= stopped.as_microsecond(), "close frame before the last heartbeat");
    let rest = producer.log("job_at_rest");
    assert_eq!(rest[0].json["dropped"], 0, "everything received is delivered");
    // Every quote that was received is in the store with its newest value.
    let quotes = sqlite::rows(&dir.path().join("store.db"), "SELECT count(*) FROM live_quotes");
    assert!(quotes[0][0].as_deref().unwrap().parse::<u32>().unwrap() > 0);
}

#[test]
fn sigterm_under_a_flood_is_heard() {
    let venue =
        Venue::start(&["--synthetic", "--messages", "1500000", "--symbols", "50", "--per-frame", "10"]);
    for round in 0..5 {
        let dir = tempfile::tempdir().unwrap();
        let mut producer = Setup::new(&venue, dir.path())
            .var("MONITORED_SYMBOLS", "*")
            .var("INGEST_SINKS", "null")
            // An account of its own finds the stream at its beginning.
            .var("APCA_API_KEY_ID", format!("round-{round}"))
            .var("APCA_API_SECRET_KEY", "secret")
            .start();
        wait_for("the flood", Duration::from_secs(20), || {
            (producer.status()["counters"]["messages"].as_u64()? > 0).then_some(())
        });
        stops_cleanly(&mut producer, dir.path());
        assert_eq!(producer.log("job_at_rest").len(), 1, "the pump heard it");
        assert_eq!(venue.events("close_received").len(), round + 1, "close frame first");
    }
}

#[test]
fn sigterm_while_booting() {
    let dir = tempfile::tempdir().unwrap();
    let flag = dir.path().join("flag");
    assert!(std::process::Command::new("mkfifo").arg(&flag).status().unwrap().success());
    let venue = Venue::start(&["--synthetic"]);
    // The first look at the flag takes a second.
    let mut producer = Setup::new(&venue, dir.path()).var("INGEST_ENABLED_FILE", flag.display()).spawn();
    let status = format!("/proc/{}/status", producer.process.id());
    wait_for("the signal's handler", Duration::from_secs(5), || {
        let text = std::fs::read_to_string(&status).ok()?;
        let caught = text.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
        let caught = u64::from_str_radix(caught.trim(), 16).ok()?;
        (caught & (1 << 14) != 0).then_some(())
    });
    assert_eq!(producer.stop().code(), Some(0));
    assert!(producer.log("http_listening").is_empty(), "it was not up yet");
    assert!(venue.events("tcp_open").is_empty());
}

#[test]
fn the_last_heartbeat_waits_for_a_store_that_is_busy() {
    let dir = tempfile::tempdir().unwrap();
    let venue = Venue::start(&["--synthetic"]);
    let mut producer = Setup::new(&venue, dir.path()).start();
    producer.wait_live();
    let store = dir.path().join("store.db");
    wait_for("a heartbeat", Duration::from_secs(5), || sqlite::heartbeat(&store));
    let lock = sqlite::Lock::hold(&store);
    producer.process.signal("TERM");
    wait_for("the end of the socket", Duration::from_secs(5), || {
        venue.state()["connections"].as_array().unwrap().is_empty().then_some(())
    });
    // Longer than one attempt at it may take.
    std::thread::sleep(Duration::from_secs(3));
    drop(lock);
    assert_eq!(producer.process.wait_exit(Duration::from_secs(5)).code(), Some(0));
    assert!(sqlite::heartbeat(&store).unwrap()["stopped_at"].is_string());
}

#[test]
fn sigterm_while_paused() {
    let dir = tempfile::tempdir().unwrap();
    let venue = Venue::start(&["--synthetic"]);
    let mut producer = Setup::new(&venue, dir.path()).var("INGEST_ENABLED", "0").start();
    producer.wait_status("paused", Duration::from_secs(5), |s| s["status"] == "paused");
    let beat = stops_cleanly(&mut producer, dir.path());
    assert_eq!(beat["status"], "paused");
}

#[test]
fn sigterm_at_every_stage_of_a_handshake_that_does_not_go_on() {
    for stage in ["accept", "upgrade", "greeting", "auth", "ack"] {
        let dir = tempfile::tempdir().unwrap();
        let venue = Venue::start(&["--synthetic", "--fault", &format!("stall:at={stage}")]);
        let mut producer = Setup::new(&venue, dir.path()).start();
        wait_for("a connection", Duration::from_secs(5), || {
            (producer.status()["counters"]["dials"] == 1).then_some(())
        });
        stops_cleanly(&mut producer, dir.path());
    }
}

#[test]
fn sigterm_during_a_back_off() {
    let dir = tempfile::tempdir().unwrap();
    let mut producer = Setup::bare()
        .var("ALPACA_STREAM_URL", format!("ws://127.0.0.1:{}", free_port()))
        .var("INGEST_STORE", format!("sqlite:{}", dir.path().join("store.db").display()))
        .var("RECONNECT_BACKOFF_BASE_S", 60)
        .start();
    producer.wait_status("waiting", Duration::from_secs(5), |s| s["jobs"]["iex"]["phase"] == "waiting");
    stops_cleanly(&mut producer, dir.path());
}

#[test]
fn sigterm_with_a_flag_file_whose_read_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let flag = dir.path().join("flag");
    assert!(std::process::Command::new("mkfifo").arg(&flag).status().unwrap().success());
    let venue = Venue::start(&["--synthetic"]);
    let mut producer = Setup::new(&venue, dir.path())
        .var("INGEST_ENABLED_FILE", flag.display())
        .var("INGEST_ENABLED_POLL_S", "0.1")
        .start();
    producer.wait_live();
    stops_cleanly(&mut producer, dir.path());
}

#[test]
fn sigterm_with_a_file_of_certificates_whose_read_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let authorities = dir.path().join("authorities.pem");
    assert!(std::process::Command::new("mkfifo").arg(&authorities).status().unwrap().success());
    // Somebody may yet write into it, so whoever reads it waits.
    let _writer = std::fs::OpenOptions::new().read(true).write(true).open(&authorities).unwrap();
    let venue = Venue::start(&["--synthetic"]);
    let mut producer = Setup::new(&venue, dir.path()).var("SSL_CERT_FILE", authorities.display()).spawn();
    let open = format!("/proc/{}/fd", producer.process.id());
    wait_for("the read", Duration::from_secs(5), || {
        let mut open =
            std::fs::read_dir(&open).ok()?.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
        open.any(|file| file == authorities).then_some(())
    });
    assert_eq!(producer.stop().code(), Some(0));
    assert!(producer.log("lease_taken").is_empty(), "who is not up keeps nobody waiting");
}

#[test]
fn sigterm_against_a_venue_that_never_ends_the_socket() {
    let dir = tempfile::tempdir().unwrap();
    let venue = Venue::start(&["--synthetic"]);
    let mut producer = Setup::new(&venue, dir.path()).start();
    producer.wait_live();
    venue.fault(&serde_json::json!({"fault": "half_open"}));
    wait_for("a link that is half open", Duration::from_secs(5), || {
        venue.log().iter().any(|e| e["kind"] == "fault").then_some(())
    });
    stops_cleanly(&mut producer, dir.path());
}

#[test]
fn sigint_is_as_good_as_sigterm_and_the_time_limit_of_a_smoke_run_too() {
    let dir = tempfile::tempdir().unwrap();
    let venue = Venue::start(&["--synthetic"]);
    let mut producer = Setup::new(&venue, dir.path()).start();
    producer.process.signal("INT");
    assert!(producer.process.wait_exit(Duration::from_secs(8)).success());
    let mut producer = Setup::new(&venue, dir.path()).var("STOP_AFTER_SECONDS", "0.5").start();
    assert!(producer.process.wait_exit(Duration::from_secs(8)).success());
}

/// Returns the last heartbeat.
fn stops_cleanly(producer: &mut Producer, dir: &Path) -> serde_json::Value {
    let asked = Instant::now();
    let status = producer.stop();
    println!("ended {:.0} ms after SIGTERM", asked.elapsed().as_secs_f64() * 1e3);
    assert_eq!(status.code(), Some(0), "{}", producer.process.stderr());
    let beat = sqlite::heartbeat(&dir.join("store.db")).expect("a heartbeat");
    assert!(beat["stopped_at"].is_string(), "the last heartbeat says so: {beat}");
    beat
}
