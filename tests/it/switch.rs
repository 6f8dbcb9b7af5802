//! The promise at the core: a pause takes effect whatever the connection is doing, and "paused" is
//! reported only when it is true.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use e2e::firestore::{Firestore, PROJECT};
use e2e::producer::{Producer, Setup};
use e2e::venue::Venue;
use e2e::{free_port, now_us, wait_for};
use serde_json::{Value, json};

const BUSY: &[&str] = &["--synthetic", "--rate", "2000", "--symbols", "50"];
const PAUSE_LIMIT: Duration = Duration::from_secs(2);

/// A way in which operators and platforms change a flag file.
#[derive(Clone, Copy, Debug)]
enum Edit {
    InPlace,
    RenameOver,
    DataSwap,
    DeleteAndRecreate,
}

impl Edit {
    /// Lays the flag out as this way of editing needs it; returns the path to configure.
    fn prepare(self, dir: &Path) -> PathBuf {
        let flag = dir.join("flag");
        match self {
            Self::InPlace | Self::RenameOver | Self::DeleteAndRecreate => {
                std::fs::write(&flag, "on\n").unwrap();
            }
            // As the kubelet lays out a ConfigMap: flag -> ..data/flag, ..data -> ..1
            Self::DataSwap => {
                symlink("..data/flag", &flag).unwrap();
                self.write(dir, "on\n");
            }
        }
        flag
    }

    fn write(self, dir: &Path, text: &str) {
        let flag = dir.join("flag");
        match self {
            Self::InPlace => std::fs::write(&flag, text).unwrap(),
            Self::RenameOver => {
                std::fs::write(dir.join("new"), text).unwrap();
                std::fs::rename(dir.join("new"), &flag).unwrap();
            }
            Self::DeleteAndRecreate => {
                std::fs::remove_file(&flag).unwrap();
                std::fs::write(&flag, text).unwrap();
            }
            Self::DataSwap => {
                let version = format!("..{}", now_us());
                std::fs::create_dir(dir.join(&version)).unwrap();
                std::fs::write(dir.join(&version).join("flag"), text).unwrap();
                symlink(&version, dir.join("..data_tmp")).unwrap();
                std::fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
            }
        }
    }
}

#[test]
fn an_edit_in_place_halts_and_resumes_a_healthy_socket() {
    halts_and_resumes(Edit::InPlace);
}

#[test]
fn a_rename_over_halts_and_resumes_a_healthy_socket() {
    halts_and_resumes(Edit::RenameOver);
}

#[test]
fn a_configmap_swap_halts_and_resumes_a_healthy_socket() {
    halts_and_resumes(Edit::DataSwap);
}

#[test]
fn delete_and_recreate_halts_and_resumes_a_healthy_socket() {
    halts_and_resumes(Edit::DeleteAndRecreate);
}

fn halts_and_resumes(edit: Edit) {
    let Some(firestore) = Firestore::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let flag = edit.prepare(dir.path());
    let source = format!("file:{}", flag.display());
    let venue = Venue::start(BUSY);
    let producer = Setup::new(&venue, dir.path())
        .var("MONITORED_SYMBOLS", "*")
        .var("INGEST_STORE", "firestore")
        .var("FIRESTORE_EMULATOR_HOST", firestore.host())
        .var("FIRESTORE_PROJECT_ID", PROJECT)
        .var("TENANT_ID", "t1")
        .var("INGEST_ENABLED_FILE", flag.display())
        .var("HEARTBEAT_INTERVAL_S", 1)
        .start();
    producer.wait_live();
    wait_for("a thousand messages", Duration::from_secs(20), || (messages(&producer) > 1000).then_some(()));

    let edited_us = now_us();
    edit.write(dir.path(), "off\nreason: exchange maintenance\nby: kim\n");
    producer.wait_status("paused", PAUSE_LIMIT, |s| s["status"] == "paused");

    // The last record, and the socket's end as the venue saw it.
    let [rest] = producer.told("job_at_rest");
    let [halted] = producer.told_edges("halted");
    let decided_us = halted.time_us();
    let last_record_us = decided_us + (rest.json["last_record_ms"].as_f64().unwrap() * 1e3) as i64;
    let last_record_ms = (last_record_us - edited_us) as f64 / 1e3;
    let [closed] = &venue.events("close_received")[..] else { panic!("one close frame") };
    let close_ms = (closed["ts_us"].as_i64().unwrap() - edited_us) as f64 / 1e3;
    println!("{edit:?}: last record {last_record_ms:.2} ms, close frame {close_ms:.2} ms after the edit");
    assert!(last_record_ms <= 200.0, "last record {last_record_ms} ms after the edit");
    assert!(close_ms <= 2000.0, "close frame {close_ms} ms after the edit");
    wait_for("the venue's end of the socket", PAUSE_LIMIT, || {
        venue.state()["connections"].as_array().unwrap().is_empty().then_some(())
    });

    // Paused, and alive: heartbeats go on, nothing is dialled, nothing is received.
    let document = |field: &str| firestore_field(&firestore, field);
    wait_for("the paused heartbeat", Duration::from_secs(2), || {
        (document("status") == json!({"stringValue": "paused"})).then_some(())
    });
    assert_eq!(document("ingest_enabled"), json!({"booleanValue": false}));
    assert_eq!(document("ingest_enabled_source"), json!({"stringValue": source}));
    let (dials, received, beats) = (venue.events("tcp_open").len(), messages(&producer), seq(&firestore));
    wait_for("three more heartbeats", Duration::from_secs(10), || {
        (seq(&firestore) >= beats + 3).then_some(())
    });
    assert_eq!(venue.events("tcp_open").len(), dials, "no dial while paused");
    assert_eq!(messages(&producer), received, "no record while paused");
    assert_eq!(document("status"), json!({"stringValue": "paused"}));

    let resumed = Instant::now();
    edit.write(dir.path(), "on\n");
    wait_for("the first record", Duration::from_secs(3), || (messages(&producer) > received).then_some(()));
    println!("{edit:?}: first record seen {:.0} ms after the resume", resumed.elapsed().as_secs_f64() * 1e3);
    wait_for("the running heartbeat", Duration::from_secs(2), || {
        (document("status") == json!({"stringValue": "running"})).then_some(())
    });
    assert_eq!(document("ingest_enabled"), json!({"booleanValue": true}));
    for (status, times) in [("initial", 1), ("halted", 1), ("resumed", 1)] {
        assert_eq!(producer.edges(status).len(), times, "{status}");
    }
}

#[test]
fn a_killed_process_goes_stale() {
    let Some(firestore) = Firestore::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let venue = Venue::start(BUSY);
    let producer = Setup::new(&venue, dir.path())
        .var("MONITORED_SYMBOLS", "*")
        .var("INGEST_STORE", "firestore")
        .var("FIRESTORE_EMULATOR_HOST", firestore.host())
        .var("FIRESTORE_PROJECT_ID", PROJECT)
        .var("TENANT_ID", "t1")
        .var("HEARTBEAT_INTERVAL_S", 1)
        .start();
    producer.wait_live();
    wait_for("a heartbeat of a live job", Duration::from_secs(5), || {
        (verdict(&firestore) == "live").then_some(())
    });
    producer.process.signal("KILL");
    wait_for("the verdict stale", Duration::from_secs(6), || (verdict(&firestore) == "stale").then_some(()));
}

#[test]
fn a_pause_takes_effect_at_every_stage_of_a_handshake_that_does_not_go_on() {
    for stage in ["accept", "upgrade", "greeting", "auth", "ack"] {
        let venue = Venue::start(&["--synthetic", "--fault", &format!("stall:at={stage}")]);
        let word = match stage {
            "accept" | "upgrade" => "dialing",
            "greeting" => "welcome",
            "auth" => "auth",
            _ => "subscribe",
        };
        paused_within_two_seconds(stage, venue.url(), &[], word);
    }
}

#[test]
fn a_pause_takes_effect_while_tls_is_not_answered() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("wss://{}", silent.local_addr().unwrap());
    paused_within_two_seconds("tls", &url, &[], "dialing");
}

#[test]
fn a_pause_takes_effect_during_a_back_off_of_sixty_seconds() {
    let url = format!("ws://127.0.0.1:{}", free_port());
    let slow = [("RECONNECT_BACKOFF_BASE_S", "60"), ("RECONNECT_BACKOFF_MAX_S", "60")];
    paused_within_two_seconds("back-off", &url, &slow, "waiting");
}

fn paused_within_two_seconds(what: &str, url: &str, vars: &[(&str, &str)], phase: &str) {
    let dir = tempfile::tempdir().unwrap();
    let flag = dir.path().join("flag");
    std::fs::write(&flag, "on\n").unwrap();
    let mut setup = Setup::bare()
        .var("ALPACA_STREAM_URL", url)
        .var("INGEST_STORE", format!("sqlite:{}", dir.path().join("store.db").display()))
        .var("INGEST_ENABLED_FILE", flag.display());
    for (name, value) in vars {
        setup = setup.var(name, value);
    }
    let producer = setup.start();
    producer.wait_status(&format!("{what}: phase {phase}"), Duration::from_secs(5), |s| {
        s["jobs"]["iex"]["phase"] == phase
    });
    let edited = Instant::now();
    std::fs::write(&flag, "off\n").unwrap();
    let status = producer.wait_status(&format!("{what}: paused"), PAUSE_LIMIT, |s| s["status"] == "paused");
    println!("paused during {what}: {:.0} ms after the edit", edited.elapsed().as_secs_f64() * 1e3);
    assert_eq!(status["jobs"]["iex"]["phase"], "halted");
}

#[test]
fn a_pause_takes_effect_while_the_sink_hangs() {
    let Some(firestore) = Firestore::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let flag = dir.path().join("flag");
    std::fs::write(&flag, "on\n").unwrap();
    let venue = Venue::start(BUSY);
    let producer = Setup::new(&venue, dir.path())
        .var("MONITORED_SYMBOLS", "*")
        .var("INGEST_STORE", "firestore")
        .var("FIRESTORE_EMULATOR_HOST", firestore.host())
        .var("FIRESTORE_PROJECT_ID", PROJECT)
        .var("INGEST_ENABLED_FILE", flag.display())
        .start();
    producer.wait_live();
    wait_for("a quote written", Duration::from_secs(10), || {
        (producer.metric(r#"market_ingest_sink_writes_total{sink="quotes"}"#)? > 0.0).then_some(())
    });
    firestore.process.signal("STOP");
    wait_for("quotes waiting behind a hanging write", Duration::from_secs(5), || {
        (messages(&producer) > 4000).then_some(())
    });
    let edited = Instant::now();
    std::fs::write(&flag, "off\n").unwrap();
    producer.wait_status("paused", PAUSE_LIMIT, |s| s["status"] == "paused");
    println!("paused while the sink hangs: {:.0} ms", edited.elapsed().as_secs_f64() * 1e3);
    let [rest] = producer.told("job_at_rest");
    let dropped = rest.json["dropped"].as_u64().unwrap();
    let counted = producer.metric(r#"market_ingest_sink_dropped_total{sink="quotes"}"#);
    assert!(
        dropped > 0 && counted == Some(dropped as f64),
        "what is not delivered is counted: {dropped} {counted:?}"
    );

    // What was given up is not written later: every quote's time of writing precedes the pause.
    firestore.process.signal("CONT");
    let written = producer.metric(r#"market_ingest_sink_writes_total{sink="quotes"}"#);
    wait_for("heartbeats again", Duration::from_secs(15), || {
        (firestore.document("ops/market_ingest")?["fields"]["status"]["stringValue"] == "paused")
            .then_some(())
    });
    assert_eq!(producer.metric(r#"market_ingest_sink_writes_total{sink="quotes"}"#), written);
}

#[test]
fn what_a_venue_sends_after_the_pause_is_not_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let flag = dir.path().join("flag");
    std::fs::write(&flag, "on\n").unwrap();
    let producer = Setup::bare()
        .var("ALPACA_STREAM_URL", format!("ws://{}", e2e::rude::start()))
        .var("ALPACA_CODEC", "json")
        .var("INGEST_SINKS", "null")
        .var("INGEST_STORE", format!("sqlite:{}", dir.path().join("store.db").display()))
        .var("INGEST_ENABLED_FILE", flag.display())
        .start();
    wait_for("a flood", Duration::from_secs(10), || (messages(&producer) > 1000).then_some(()));
    std::fs::write(&flag, "off\n").unwrap();
    // It ignores the close frame, so the socket is open until the close limit.
    producer.wait_status("paused", PAUSE_LIMIT, |s| s["status"] == "paused");
    let [rest] = producer.told("job_at_rest");
    let took = |field: &str| rest.json[field].as_f64().unwrap();
    assert!(took("effect_ms") > 1000.0, "the venue held on: {} ms", took("effect_ms"));
    assert!(took("last_record_ms") <= 200.0, "last record {} ms after the pause", took("last_record_ms"));
}

#[test]
fn nothing_is_dialled_before_the_first_reading_of_the_switch() {
    let dir = tempfile::tempdir().unwrap();
    let venue = Venue::start(BUSY);
    for (what, var, value) in [
        ("env", "INGEST_ENABLED", "0".to_owned()),
        ("file", "INGEST_ENABLED_FILE", {
            let flag = dir.path().join("held");
            std::fs::write(&flag, "pause\n").unwrap();
            flag.display().to_string()
        }),
    ] {
        let producer = Setup::new(&venue, dir.path()).var(var, value).start();
        let status = producer.wait_status("paused", PAUSE_LIMIT, |s| s["status"] == "paused");
        let source = status["ingest_enabled_source"].as_str().unwrap();
        assert!(source.starts_with(what), "{source}");
        assert_eq!(status["counters"]["dials"], 0);
        assert!(venue.events("tcp_open").is_empty(), "{what}: no connection");
    }
}

#[test]
fn the_environment_and_the_file_hold_each_for_itself() {
    let dir = tempfile::tempdir().unwrap();
    let flag = dir.path().join("flag");
    let venue = Venue::start(BUSY);
    for (env, file, enabled, source) in [
        ("", "", true, None),
        ("1", "", true, Some("env")),
        ("", "on", true, Some("file")),
        ("1", "on", true, Some("env")),
        ("0", "", false, Some("env")),
        ("", "off", false, Some("file")),
        // An explicit "on" disarms nobody's hold.
        ("1", "off", false, Some("file")),
        ("0", "on", false, Some("env")),
        ("0", "off", false, Some("env")),
    ] {
        std::fs::write(&flag, file).unwrap();
        let producer = Setup::new(&venue, dir.path())
            .var("INGEST_ENABLED", env)
            .var("INGEST_ENABLED_FILE", flag.display())
            .start();
        let status = producer.status();
        let told = status["ingest_enabled_source"].as_str().map(|s| s.split(':').next().unwrap().to_owned());
        assert_eq!(
            (status["ingest_enabled"].as_bool(), told.as_deref()),
            (Some(enabled), source),
            "env {env:?}, file {file:?}"
        );
    }
}

#[test]
fn off_on_off_never_opens_two_connections() {
    let dir = tempfile::tempdir().unwrap();
    let flag = dir.path().join("flag");
    std::fs::write(&flag, "on\n").unwrap();
    let venue = Venue::start(BUSY);
    let producer = Setup::new(&venue, dir.path()).var("INGEST_ENABLED_FILE", flag.display()).start();
    producer.wait_live();
    for round in 0..200 {
        std::fs::write(&flag, if round % 2 == 0 { "off\n" } else { "on\n" }).unwrap();
        std::thread::sleep(Duration::from_millis(round % 7));
    }
    producer.wait_live();
    let mut open: Vec<u64> = Vec::new();
    for event in venue.log() {
        let conn = event["conn"].as_u64().unwrap();
        match event["kind"].as_str().unwrap() {
            "auth_ok" => {
                open.push(conn);
                assert!(open.len() <= 1, "two authenticated connections: {open:?}");
            }
            "tcp_closed" => open.retain(|c| *c != conn),
            "auth_refused" => panic!("a second connection was tried: {event}"),
            _ => {}
        }
    }
}

#[test]
fn a_flag_read_that_hangs_does_not_hang_the_pump() {
    let dir = tempfile::tempdir().unwrap();
    let flag = dir.path().join("flag");
    let made = std::process::Command::new("mkfifo").arg(&flag).status().unwrap();
    assert!(made.success());
    let venue = Venue::start(BUSY);
    let mut producer = Setup::new(&venue, dir.path())
        .var("MONITORED_SYMBOLS", "*")
        .var("INGEST_ENABLED_FILE", flag.display())
        .var("INGEST_ENABLED_POLL_S", "0.1")
        .start();
    producer.wait_live();
    wait_for("messages", Duration::from_secs(10), || (messages(&producer) > 1000).then_some(()));
    assert_eq!(producer.status()["flag_fresh"], false);
    assert!(producer.stop().success());
}

#[test]
fn a_log_that_nobody_reads_does_not_disarm_the_switch() {
    let dir = tempfile::tempdir().unwrap();
    let flag = dir.path().join("flag");
    std::fs::write(&flag, "on\n").unwrap();
    let venue = Venue::start(BUSY);
    let port = free_port();
    let setup = Setup::new(&venue, dir.path())
        .var("MONITORED_SYMBOLS", "*")
        .var("INGEST_ENABLED_FILE", flag.display())
        .var("PORT", port)
        // A record for every statement of the store, of which there are hundreds a second.
        .var("RUST_LOG", "trace")
        .var("FLUSH_INTERVAL_MS", 5)
        .var("GLOBAL_WRITES_PER_SEC", 2000);
    let mut deaf = setup.spawn_unread();
    let status = || e2e::http::get_json(&format!("http://127.0.0.1:{port}/api/v1/status"));
    wait_for("ten thousand messages: the pipe is full long since", Duration::from_secs(30), || {
        (status()?["counters"]["messages"].as_u64()? > 10_000).then_some(())
    });
    std::fs::write(&flag, "off\n").unwrap();
    wait_for("paused", PAUSE_LIMIT, || (status()?["status"] == "paused").then_some(()));
    deaf.signal("TERM");
    assert!(deaf.wait_exit(Duration::from_secs(8)).success());
}

#[test]
fn idle_http_clients_do_not_use_up_what_the_switch_needs() {
    let dir = tempfile::tempdir().unwrap();
    let flag = dir.path().join("flag");
    std::fs::write(&flag, "on\n").unwrap();
    let venue = Venue::start(BUSY);
    let producer = Setup::new(&venue, dir.path()).var("INGEST_ENABLED_FILE", flag.display()).start();
    producer.wait_live();
    let address = producer.url("").replace("http://", "");
    let idle: Vec<_> = (0..200)
        .map(|_| {
            let mut client = std::net::TcpStream::connect(&address).unwrap();
            std::io::Write::write_all(&mut client, b"GET /livez HT").unwrap();
            client
        })
        .collect();
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", producer.process.id())).unwrap().count();
    assert!(descriptors() < 120, "{} descriptors", descriptors());
    std::fs::write(&flag, "off\n").unwrap();
    wait_for("the socket closed", PAUSE_LIMIT, || {
        venue.state()["connections"].as_array().unwrap().is_empty().then_some(())
    });
    wait_for("an answer beside the idle ones", Duration::from_secs(60), || {
        Some(e2e::http::get_json(&producer.url("/api/v1/status"))?["status"] == "paused").filter(|p| *p)
    });
    drop(idle);
}

fn messages(producer: &Producer) -> u64 {
    producer.status()["counters"]["messages"].as_u64().unwrap()
}

fn firestore_field(firestore: &Firestore, field: &str) -> Value {
    let document = firestore.document("tenants/t1/ops/market_ingest");
    document.map_or(Value::Null, |d| d["fields"][field].clone())
}

fn seq(firestore: &Firestore) -> u64 {
    let seq = firestore_field(firestore, "seq");
    seq["integerValue"].as_str().and_then(|s| s.parse().ok()).unwrap_or(0)
}

/// The verdict of a consumer that reads the document by REST.
fn verdict(firestore: &Firestore) -> String {
    use ingest_status::{Observed, Thresholds, judge};
    let Some(document) = firestore.document("tenants/t1/ops/market_ingest") else {
        return "missing".into();
    };
    let plain = e2e::firestore::plain(&document["fields"]);
    let beat = serde_json::from_value(plain).unwrap();
    let now = jiff::Timestamp::now().into();
    judge(Observed::Document(&beat), now, Thresholds::Interval).standing.as_str().to_owned()
}
