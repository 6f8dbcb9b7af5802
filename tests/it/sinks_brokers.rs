//! Every record in a broker: what is in it is what the venue sent, in order by symbol, whatever happens to the broker.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use e2e::nats::Nats;
use e2e::producer::{Producer, Setup};
use e2e::pubsub::{self, Pubsub};
use e2e::venue::Venue;
use e2e::{free_port, sqlite, wait_for};
use serde_json::{Value, json};

use crate::equation::said::{Said, said};
use crate::equation::tape::Tape;
use crate::sinks_files::{assert_complete, condition, made, messages, written};

const STREAM: &str = "MARKET";
const FAILURE: &str = "records cannot be written; they are kept while there is room";

/// Every stock of the venue into these sinks; a file holds it.
fn setup(venue: &Venue, dir: &Path, sinks: &str) -> Setup {
    flag(dir, "on");
    Setup::new(venue, dir)
        .var("ALPACA_DATA_FEED", "sip")
        .var("MONITORED_SYMBOLS", "*")
        .var("INGEST_SINKS", sinks)
        .var("INGEST_ENABLED_FILE", dir.join("flag").display())
        .var("HEARTBEAT_INTERVAL_S", 1)
}

fn flag(dir: &Path, word: &str) {
    std::fs::write(dir.join("flag"), format!("{word}\n")).unwrap();
}

fn nats_sink(nats: &Nats, login: &str) -> String {
    format!("nats:{}/{STREAM}", nats.url(login))
}

fn wait_messages(producer: &Producer, count: u64) {
    wait_for("messages", Duration::from_secs(60), || (messages(producer) >= count).then_some(()));
}

fn wait_healthy(producer: &Producer, healthy: &str) {
    wait_for(&format!("SinkHealthy {healthy}"), Duration::from_secs(60), || {
        (condition(producer, "SinkHealthy") == healthy).then_some(())
    });
}

/// What the broker is said to have done, told by the first failure.
fn first_failure(producer: &Producer, sink: &str) -> String {
    wait_for("a failure to be told", Duration::from_secs(30), || {
        let told = producer.log(FAILURE);
        told.into_iter().find(|record| record.text("sink") == sink).map(|record| record.text("error"))
    })
}

/// Waits until what piled up while the broker was away is written, so that a pause can hand over the rest in time.
fn wait_caught_up(producer: &Producer, kind: &str) {
    wait_for(&format!("{kind} has caught up"), Duration::from_secs(60), || {
        (written(producer, kind) + 500 >= messages(producer)).then_some(())
    });
}

/// Holds everything and gives how much was received, once what was is delivered.
fn pause(producer: &Producer, dir: &Path) -> u64 {
    flag(dir, "off");
    producer.wait_status("paused", Duration::from_secs(10), |status| status["status"] == "paused");
    messages(producer)
}

/// The records of messages, the first of each key.
fn first_of_each(messages: Vec<Value>) -> Vec<Value> {
    let mut seen = HashSet::new();
    let records = messages.into_iter().map(|mut message| message["record"].take());
    records.filter(|record| seen.insert(record["key"].as_str().unwrap().to_owned())).collect()
}

fn assert_in_order_by_symbol(records: &[Value]) {
    let mut newest: HashMap<&str, u64> = HashMap::new();
    for record in records {
        let (symbol, seq) = (record["symbol"].as_str().unwrap(), record["seq"].as_u64().unwrap());
        let before = newest.insert(symbol, seq);
        assert!(before.is_none_or(|before| before < seq), "{symbol}: {before:?}, then {seq}");
    }
}

#[test]
fn both_brokers_hold_exactly_what_the_venue_sent_in_order_by_symbol() {
    let dir = tempfile::tempdir().unwrap();
    let nats = Nats::start();
    let emulator = Pubsub::start();
    let mut sinks = nats_sink(&nats, "");
    if emulator.is_some() {
        sinks += ",pubsub:ticks";
    }
    let venue = Venue::start(&["--synthetic", "--messages", "12000", "--symbols", "12"]);
    let setup = setup(&venue, dir.path(), &sinks);
    let mut producer = match &emulator {
        Some(emulator) => setup
            .var("PUBSUB_EMULATOR_HOST", emulator.host())
            .var("GOOGLE_CLOUD_PROJECT", emulator.make_topic("ticks").split('/').nth(1).unwrap())
            .start(),
        None => setup.start(),
    };
    let sent = made(&venue);
    wait_messages(&producer, sent);
    assert!(producer.stop().success());

    let stored = nats.read("", STREAM);
    for message in &stored {
        let record = &message["record"];
        let text = |field: &str| record[field].as_str().unwrap().to_owned();
        assert_eq!(message["id"], format!("sip/{}", text("key")));
        let symbol = text("symbol").replace('.', "%2E");
        assert_eq!(message["subject"], format!("{STREAM}.sip.{}.{symbol}", text("type")));
    }
    let records: Vec<Value> = stored.into_iter().map(|mut message| message["record"].take()).collect();
    assert_complete(&records, sent);
    assert_in_order_by_symbol(&records);

    let Some(emulator) = emulator else { return };
    let pulled = emulator.read("ticks", sent as usize);
    for message in &pulled {
        let (record, attributes) = (&message["record"], &message["attributes"]);
        assert_eq!(message["order"], record["symbol"]);
        for field in ["key", "type", "job", "symbol", "origin"] {
            assert_eq!(attributes[field], record[field], "{field}");
        }
        assert_eq!(attributes["epoch"], record["epoch"].to_string());
    }
    let records = first_of_each(pulled);
    assert_complete(&records, sent);
    assert_in_order_by_symbol(&records);
}

#[test]
fn a_nats_server_that_is_killed_and_restarted_holds_every_message_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut nats = Nats::start();
    let venue = Venue::start(&["--synthetic", "--rate", "4000", "--symbols", "20"]);
    let mut producer = setup(&venue, dir.path(), &nats_sink(&nats, "")).start();
    for _ in 0..3 {
        let before = written(&producer, "nats");
        wait_for("records", Duration::from_secs(30), || {
            (written(&producer, "nats") > before + 2000).then_some(())
        });
        nats.kill();
        wait_healthy(&producer, "False");
        nats.restart();
        wait_healthy(&producer, "True");
    }
    wait_caught_up(&producer, "nats");
    let received = pause(&producer, dir.path());
    let records: Vec<Value> =
        nats.read("", STREAM).into_iter().map(|mut message| message["record"].take()).collect();
    assert_complete(&records, received);
    assert_in_order_by_symbol(&records);
    assert_eq!(written(&producer, "nats"), received);
    assert!(producer.stop().success());
}

#[test]
fn a_broker_that_is_absent_at_the_start_is_told_and_gets_everything_once_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut nats = Nats::absent(&[]);
    let port = free_port();
    let with_emulator = std::env::var_os("WITHOUT_EMULATORS").is_none();
    let mut sinks = nats_sink(&nats, "");
    if with_emulator {
        sinks += &format!(",pubsub:{}", pubsub::topic("later"));
    }
    let venue = Venue::start(&["--synthetic", "--rate", "1000", "--symbols", "5"]);
    let mut producer =
        setup(&venue, dir.path(), &sinks).var("PUBSUB_EMULATOR_HOST", format!("127.0.0.1:{port}")).start();
    producer.wait_live();
    let told = first_failure(&producer, "nats");
    assert!(told.contains("127.0.0.1") && told.contains("the server cannot be reached"), "{told}");
    wait_healthy(&producer, "False");
    nats.restart();
    let emulator = if with_emulator {
        let told = first_failure(&producer, "pubsub");
        assert!(told.contains(&pubsub::topic("later")) && told.contains(&port.to_string()), "{told}");
        // The emulator is there, the topic is not.
        let emulator = Pubsub::start_on(port).unwrap();
        let errors = "market_ingest_sink_errors_total{sink=\"pubsub\"}";
        let before = producer.metric(errors).unwrap();
        wait_for("more errors", Duration::from_secs(60), || {
            (producer.metric(errors)? > before + 1.0).then_some(())
        });
        let _ = emulator.make_topic("later");
        Some(emulator)
    } else {
        None
    };
    wait_healthy(&producer, "True");
    wait_caught_up(&producer, "nats");
    if emulator.is_some() {
        wait_caught_up(&producer, "pubsub");
    }
    let received = pause(&producer, dir.path());
    let records: Vec<Value> =
        nats.read("", STREAM).into_iter().map(|mut message| message["record"].take()).collect();
    assert_complete(&records, received);
    assert_in_order_by_symbol(&records);
    if emulator.is_some() {
        // What came between topic and subscription is in no subscription.
        assert_eq!(written(&producer, "pubsub"), received);
    }
    assert!(producer.stop().success());
}

#[test]
fn a_pause_is_effective_in_time_while_nats_stalls_and_what_was_given_up_is_fetched() {
    let nats = Nats::start();
    let sink = nats_sink(&nats, "");
    pause_while_it_stalls("nats", &sink, "", |signal| nats.signal(signal), |_| nats.read("", STREAM));
}

#[test]
fn a_pause_is_effective_in_time_while_pubsub_stalls_and_what_was_given_up_is_fetched() {
    let Some(emulator) = Pubsub::start() else { return };
    let sink = format!("pubsub:{}", emulator.make_topic("stalled"));
    let signal = |signal: &str| emulator.process.signal(signal);
    pause_while_it_stalls("pubsub", &sink, &emulator.host(), signal, |records| {
        emulator.read("stalled", records)
    });
}

/// A tape is played, its history at hand; the broker stands still while a pause is asked for, and goes on after it.
fn pause_while_it_stalls(
    kind: &str,
    sink: &str,
    emulator_host: &str,
    signal: impl Fn(&str),
    read: impl Fn(usize) -> Vec<Value>,
) {
    let dir = tempfile::tempdir().unwrap();
    let tape = Tape::of_ticks(dir.path());
    let venue =
        Venue::start(&["--tape", tape.files[0].to_str().unwrap(), "--speed", "60", "--data", "127.0.0.1:0"]);
    let mut producer = setup(&venue, dir.path(), sink)
        .var("ALPACA_CHANNELS", "trades,quotes")
        .var("ALPACA_DATA_URL", venue.data_url())
        .var("PUBSUB_EMULATOR_HOST", emulator_host)
        .start();
    wait_for("records", Duration::from_secs(30), || (written(&producer, kind) > 100).then_some(()));
    signal("STOP");
    let before = messages(&producer);
    wait_messages(&producer, before + 500);
    let received = pause(&producer, dir.path());
    let [rest] = producer.told("job_at_rest");
    let dropped = rest.json["dropped"].as_u64().unwrap();
    assert!(rest.json["effect_ms"].as_f64().unwrap() < 2000.0, "{}", rest.json);
    assert!(dropped > 0 && dropped <= received, "{}", rest.json);
    assert!(producer.process.memory_kib() < 300 << 10, "{} KiB", producer.process.memory_kib());
    signal("CONT");
    flag(dir.path(), "on");
    wait_for("the end of the tape", Duration::from_secs(60), || {
        (venue.state()["feed"]["finished"] == json!(true)).then_some(())
    });
    let store = dir.path().join("store.db");
    wait_for("every gap at its end", Duration::from_secs(60), || {
        let left = "SELECT count(*) FROM market_ingest_gap WHERE state IN ('open', 'filling')";
        (sqlite::rows(&store, left)[0][0].as_deref() == Some("0")).then_some(())
    });
    let gaps = sqlite::rows(&store, "SELECT cause, state FROM market_ingest_gap");
    let filled = |cause: &str| {
        let filled = |row: &&Vec<Option<String>>| row.iter().flatten().eq([cause, "filled"]);
        gaps.iter().find(filled).is_some()
    };
    assert!(filled("overflow") && filled("pause"), "{gaps:?}");
    assert!(producer.stop().success());

    let records = first_of_each(read(tape.sent.len()));
    let mut found: Vec<Said> = records.iter().map(|record| said(&record.to_string()).said).collect();
    found.sort_unstable();
    let wrong = tape.sent.iter().zip(&found).find(|(sent, found)| sent != found);
    assert_eq!((wrong, found.len()), (None, tape.sent.len()));
}

#[test]
fn a_wrong_login_is_told_and_never_shown() {
    const PASSWORD: &str = "hunter2-in-nats";
    let dir = tempfile::tempdir().unwrap();
    let mut nats = Nats::absent(&["--user", "ingest", "--pass", PASSWORD]);
    nats.restart();
    let venue = Venue::start(&["--synthetic", "--rate", "500", "--symbols", "3"]);
    let wrong = nats_sink(&nats, "ingest:wr%6Fng-in-nats@");
    let mut producer = setup(&venue, dir.path(), &wrong).var("RUST_LOG", "trace").start();
    let told = first_failure(&producer, "nats");
    assert!(told.contains("the server refuses the login") && told.contains(STREAM), "{told}");
    let shown = format!("{:?} {}", producer.process.stdout(), producer.status());
    assert!(!shown.contains("wrong-in-nats") && !shown.contains("wr%6Fng"));
    assert!(producer.stop().success());

    let right = nats_sink(&nats, &format!("ingest:{PASSWORD}@"));
    let mut producer = setup(&venue, dir.path(), &right).start();
    wait_for("records", Duration::from_secs(30), || (written(&producer, "nats") > 0).then_some(()));
    assert!(producer.stop().success());
}

#[test]
fn a_stream_of_other_subjects_is_told_and_one_that_takes_ours_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let nats = Nats::start();
    nats.make_stream(STREAM, "orders.>");
    nats.make_stream("GOOD", "GOOD.sip.>");
    let venue = Venue::start(&["--synthetic", "--rate", "500", "--symbols", "3"]);
    let good = format!("nats:{}/GOOD", nats.url(""));
    let mut producer = setup(&venue, dir.path(), &format!("{},{good}", nats_sink(&nats, ""))).start();
    let told = first_failure(&producer, "nats");
    assert!(told.contains("orders.>") && told.contains("MARKET.sip"), "{told}");
    wait_for("a record", Duration::from_secs(30), || (!nats.read("", "GOOD").is_empty()).then_some(()));
    assert!(producer.stop().success());
}
