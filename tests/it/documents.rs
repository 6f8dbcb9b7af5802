//! The documents, as Google's own Python client reads them from the Firestore emulator, and what a
//! store that comes and goes does to them.

use std::time::{Duration, Instant};

use e2e::clients::read_firestore;
use e2e::disk::SmallDisk;
use e2e::firestore::{Firestore, PROJECT};
use e2e::producer::{Producer, Setup};
use e2e::venue::Venue;
use e2e::{sqlite, wait_for};
use serde_json::Value;

const TYPES: &[(&str, &str)] = &[
    ("status", "str"),
    ("ts", "DatetimeWithNanoseconds"),
    ("ingest_enabled", "bool"),
    ("ingest_enabled_source", "str"),
    ("last_symbol", "str"),
    ("schema", "int"),
    ("updated_at", "DatetimeWithNanoseconds"),
    ("interval_s", "float"),
    ("seq", "int"),
    ("instance_id", "str"),
    ("epoch", "int"),
    ("revision", "str"),
    ("version", "str"),
    ("started_at", "DatetimeWithNanoseconds"),
    ("stopped_at", "NoneType"),
    ("effective_since", "DatetimeWithNanoseconds"),
    ("observed_generation", "NoneType"),
    ("effective_generation", "NoneType"),
    ("holds", "list"),
    ("flag_fresh", "bool"),
    ("conditions", "list"),
    ("jobs", "dict"),
    ("counters", "dict"),
];

/// Type by field of one running job.
const JOB_TYPES: &[(&str, &str)] = &[
    ("status", "str"),
    ("since", "DatetimeWithNanoseconds"),
    ("paused_at", "NoneType"),
    ("reason", "NoneType"),
    ("phase", "str"),
    ("connected", "bool"),
    ("subscribed", "int"),
    ("last_event_ts", "DatetimeWithNanoseconds"),
    ("received_to", "DatetimeWithNanoseconds"),
    ("lag_s", "float"),
    ("messages", "int"),
    ("at_rest_generation", "NoneType"),
    ("paused_symbols", "list"),
];

fn setup(venue: &Venue, firestore: &Firestore, dir: &std::path::Path) -> Setup {
    Setup::new(venue, dir)
        .var("MONITORED_SYMBOLS", "*")
        .var("INGEST_STORE", "firestore")
        .var("FIRESTORE_EMULATOR_HOST", firestore.host())
        .var("FIRESTORE_PROJECT_ID", PROJECT)
        .var("HEARTBEAT_INTERVAL_S", 1)
}

/// Type names of a typed map `{field: [type, value]}`.
fn types(document: &Value) -> Vec<(String, String)> {
    let fields = document.as_object().unwrap();
    fields.iter().map(|(name, typed)| (name.clone(), typed[0].as_str().unwrap().to_owned())).collect()
}

fn sorted(types: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut types: Vec<_> = types.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect();
    types.sort();
    types
}

#[test]
fn heartbeat_and_quotes_have_exactly_the_fields_and_types_of_the_contract() {
    let Some(firestore) = Firestore::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let flag = dir.path().join("flag");
    std::fs::write(&flag, "on\n").unwrap();
    let venue = Venue::start(&["--synthetic", "--rate", "2000", "--symbols", "20"]);
    let mut producer = setup(&venue, &firestore, dir.path())
        .var("TENANT_ID", "t1")
        .var("INGEST_ENABLED_FILE", flag.display())
        .var("K_REVISION", "market-ingest-00007")
        .start();
    producer.wait_live();
    wait_for("a heartbeat with a symbol and a mark", Duration::from_secs(10), || {
        let fields = firestore.document("tenants/t1/ops/market_ingest")?["fields"].take();
        let job = &fields["jobs"]["mapValue"]["fields"]["iex"]["mapValue"]["fields"];
        let told = fields["last_symbol"]["stringValue"].is_string()
            && job["received_to"]["timestampValue"].is_string();
        told.then_some(())
    });

    let heartbeat = read_firestore(&firestore.host(), PROJECT, "tenants/t1/ops/market_ingest");
    assert_eq!(types(&heartbeat), sorted(TYPES));
    assert_eq!(heartbeat["status"][1], "running");
    assert_eq!(heartbeat["revision"][1], "market-ingest-00007");
    let job = &heartbeat["jobs"][1]["iex"][1];
    assert_eq!(types(job), sorted(JOB_TYPES));
    let conditions = heartbeat["conditions"][1].as_array().unwrap();
    let names: Vec<&str> = conditions.iter().map(|c| c[1]["type"][1].as_str().unwrap()).collect();
    for name in ["Ingesting", "Connected", "FlagFresh", "SinkHealthy"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    let condition_types = [
        ("type", "str"),
        ("status", "str"),
        ("reason", "str"),
        ("message", "str"),
        ("lastTransitionTime", "DatetimeWithNanoseconds"),
    ];
    for condition in conditions {
        assert_eq!(types(&condition[1]), sorted(&condition_types));
    }

    // A quote of some symbol.
    let symbol = wait_for("a quote in the store", Duration::from_secs(10), || {
        let names =
            venue.state()["feed"]["last_quotes"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        names
            .into_iter()
            .find(|symbol| firestore.document(&format!("tenants/t1/live_quotes/{symbol}")).is_some())
    });
    let quote = read_firestore(&firestore.host(), PROJECT, &format!("tenants/t1/live_quotes/{symbol}"));
    assert_eq!(quote["symbol"][1], symbol.as_str());
    assert_eq!(quote["source"][1], "alpaca");
    for (field, allowed) in [
        ("ts", &["DatetimeWithNanoseconds"][..]),
        ("updated_at", &["DatetimeWithNanoseconds"]),
        ("bid", &["float", "NoneType"]),
        ("ask", &["float", "NoneType"]),
        ("bid_size", &["float"]),
        ("ask_size", &["float"]),
        ("price", &["float", "NoneType"]),
        ("last_trade_price", &["float", "NoneType"]),
    ] {
        let found = quote[field][0].as_str().unwrap_or("absent");
        assert!(allowed.contains(&found), "{field}: {found}");
    }
    assert_eq!(quote.as_object().unwrap().len(), 10, "{quote}");

    // Paused: the hold with everything the file said.
    std::fs::write(&flag, "off\nreason: maintenance\nby: kim\nuntil: 2099-01-01T00:00:00Z\n").unwrap();
    wait_for("the paused heartbeat", Duration::from_secs(5), || {
        let document = firestore.document("tenants/t1/ops/market_ingest")?;
        (document["fields"]["status"]["stringValue"] == "paused").then_some(())
    });
    let heartbeat = read_firestore(&firestore.host(), PROJECT, "tenants/t1/ops/market_ingest");
    let hold = &heartbeat["holds"][1][0][1];
    let hold_types = [
        ("source", "str"),
        ("scope", "str"),
        ("reason", "str"),
        ("actor", "str"),
        ("since", "DatetimeWithNanoseconds"),
        ("until", "DatetimeWithNanoseconds"),
    ];
    assert_eq!(types(hold), sorted(&hold_types));
    assert_eq!(
        (&hold["scope"][1], &hold["reason"][1], &hold["actor"][1]),
        (&"all".into(), &"maintenance".into(), &"kim".into())
    );

    // Stopped: the last heartbeat says so, and a new start takes it back.
    assert!(producer.stop().success());
    let stopped = read_firestore(&firestore.host(), PROJECT, "tenants/t1/ops/market_ingest");
    assert_eq!(stopped["stopped_at"][0], "DatetimeWithNanoseconds");
    let _again = setup(&venue, &firestore, dir.path()).var("TENANT_ID", "t1").start();
    wait_for("stopped_at to be null again", Duration::from_secs(5), || {
        let document = firestore.document("tenants/t1/ops/market_ingest")?;
        document["fields"]["stopped_at"].as_object()?.contains_key("nullValue").then_some(())
    });
}

#[test]
fn without_a_tenant_the_documents_live_at_the_root() {
    let Some(firestore) = Firestore::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let venue = Venue::start(&["--synthetic"]);
    let _producer = setup(&venue, &firestore, dir.path()).start();
    wait_for("ops/market_ingest", Duration::from_secs(10), || firestore.document("ops/market_ingest"));
}

#[test]
fn a_merge_keeps_what_others_wrote_into_the_document() {
    let Some(firestore) = Firestore::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let venue = Venue::start(&["--synthetic"]);
    let producer = setup(&venue, &firestore, dir.path()).start();
    wait_for("ops/market_ingest", Duration::from_secs(10), || firestore.document("ops/market_ingest"));
    firestore.patch("ops/market_ingest", "note_of_an_operator", "keep me");
    let before = producer.status()["counters"]["messages"].as_u64();
    wait_for("two more heartbeats", Duration::from_secs(10), || {
        let fields = firestore.document("ops/market_ingest")?["fields"].clone();
        assert_eq!(fields["note_of_an_operator"]["stringValue"], "keep me");
        let messages = fields["counters"]["mapValue"]["fields"]["messages"]["integerValue"]
            .as_str()?
            .parse::<u64>()
            .ok();
        (messages > before).then_some(())
    });
}

#[test]
fn firestore_gone_and_back_loses_no_newest_quote_and_the_heartbeat_resumes() {
    let Some(mut firestore) = Firestore::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    // Twenty symbols that fall silent while the store is away: their newest quotes must not be lost.
    let venue = Venue::start(&["--synthetic", "--rate", "2000", "--symbols", "20"]);
    let producer = setup(&venue, &firestore, dir.path())
        .var("GLOBAL_WRITES_PER_SEC", 200)
        .var("ALPACA_CHANNELS", "quotes")
        .start();
    producer.wait_live();
    wait_for("heartbeats", Duration::from_secs(10), || firestore.document("ops/market_ingest"));

    let port = firestore.port();
    firestore.process.signal("KILL");
    firestore.process.wait_exit(Duration::from_secs(5));
    let gone = Instant::now();
    let away = if std::env::var_os("SLOW_TESTS").is_some() { 60 } else { 12 };
    let received = producer.status()["counters"]["messages"].as_u64();
    wait_for("messages while the store is away", Duration::from_secs(5), || {
        (producer.status()["counters"]["messages"].as_u64() > received).then_some(())
    });
    wait_for("a failing sink to be told", Duration::from_secs(20), || {
        told(&producer, "SinkHealthy", "False")
    });
    // The feed falls silent: from here on only what was kept can reach the store.
    venue.fault(&serde_json::json!({"fault": "mute"}));
    wait_for("the time the store is away", Duration::from_secs(away + 5), || {
        (gone.elapsed() > Duration::from_secs(away)).then_some(())
    });

    let firestore = Firestore::start_on(port);
    wait_for("heartbeats again", Duration::from_secs(15), || firestore.document("ops/market_ingest"));
    println!("the store was away for {:.0} s", gone.elapsed().as_secs_f64());
    // The emulator forgets everything when it dies, so every symbol that is there was written after.
    let waiting = producer.metric(r#"market_ingest_sink_dropped_total{sink="quotes"}"#);
    assert_eq!(waiting, Some(0.0));
    wait_for("every symbol that changed while the store was away", Duration::from_secs(15), || {
        (firestore.count("live_quotes") >= 20).then_some(())
    });
    wait_for("a healthy sink to be told", Duration::from_secs(5), || told(&producer, "SinkHealthy", "True"));
    let _ = producer.told::<1>("heartbeats are written again");
}

#[test]
fn a_symbol_that_can_be_no_document_costs_the_others_nothing() {
    let Some(firestore) = Firestore::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let venue = Venue::start(&["--synthetic", "--rate", "2000", "--symbols", "5"]);
    let producer = setup(&venue, &firestore, dir.path()).start();
    producer.wait_live();
    let stock = wait_for("a stock", Duration::from_secs(10), || {
        let feed = venue.state()["feed"].clone();
        let quoted = feed["last_quotes"].as_object()?;
        quoted.keys().find(|symbol| e2e::venue::is_stock(symbol)).cloned()
    });
    venue.fault(&serde_json::json!({"fault": "rename", "from": stock, "to": "__X__"}));
    wait_for("the refused name to be counted", Duration::from_secs(15), || {
        (producer.metric(r#"market_ingest_sink_dropped_total{sink="quotes"}"#)? > 0.0).then_some(())
    });
    wait_for("the other four", Duration::from_secs(15), || {
        (firestore.count("live_quotes") >= 4).then_some(())
    });
    assert_eq!(producer.metric(r#"market_ingest_sink_errors_total{sink="quotes"}"#), Some(0.0));
}

#[test]
fn a_store_away_at_boot_holds_everything_until_its_control_document_was_read() {
    let Some(firestore) = Firestore::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let port = firestore.port();
    let venue = Venue::start(&["--synthetic"]);
    let setup = setup(&venue, &firestore, dir.path());
    drop(firestore);
    let producer = setup.start();
    let status =
        producer.wait_status("a pause", Duration::from_secs(10), |status| status["status"] == "paused");
    assert_eq!(status["ingest_enabled_source"], "control:unread");
    assert!(venue.events("tcp_open").is_empty(), "nothing is dialled: a pause may stand in that document");

    let firestore = Firestore::start_on(port);
    producer.wait_live();
    wait_for("a heartbeat", Duration::from_secs(15), || firestore.document("ops/market_ingest"));
    let [resumed] = producer.told_edges("resumed");
    assert!(resumed.text("released").starts_with("control:unread all"), "{:?}", resumed.text("released"));
}

#[test]
fn without_credentials_the_producer_says_so_and_does_not_run_unseen() {
    let dir = tempfile::tempdir().unwrap();
    let venue = Venue::start(&["--synthetic"]);
    let mut producer = Setup::new(&venue, dir.path())
        .var("INGEST_STORE", "firestore")
        .var("FIRESTORE_PROJECT_ID", PROJECT)
        .var("HOME", dir.path().display())
        .var("GOOGLE_APPLICATION_CREDENTIALS", dir.path().join("none.json").display())
        .spawn();
    let status = producer.process.wait_exit(Duration::from_secs(15));
    assert_eq!(status.code(), Some(1));
    let told = producer.process.stderr();
    assert!(told.contains("credentials") && told.contains("none.json"), "{told}");
}

#[test]
fn a_full_disk_under_sqlite_is_told_and_survived() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path(), 2) else { return };
    let venue = Venue::start(&["--synthetic", "--rate", "2000", "--symbols", "20"]);
    let producer =
        Setup::new(&venue, disk.path()).var("MONITORED_SYMBOLS", "*").var("HEARTBEAT_INTERVAL_S", 1).start();
    producer.wait_live();
    let store = disk.path().join("store.db");
    wait_for("a heartbeat", Duration::from_secs(10), || sqlite::heartbeat(&store));

    disk.fill();
    wait_for("failed heartbeats to be counted", Duration::from_secs(30), || {
        (producer.metric("market_ingest_heartbeat_failures_total")? > 0.0).then_some(())
    });
    let received = producer.status()["counters"]["messages"].as_u64();
    wait_for("messages on a full disk", Duration::from_secs(5), || {
        (producer.status()["counters"]["messages"].as_u64() > received).then_some(())
    });
    let _ = producer.told::<1>("heartbeats cannot be written; consumers will see them go stale");

    disk.free();
    wait_for("heartbeats again", Duration::from_secs(15), || {
        (!producer.log("heartbeats are written again").is_empty()).then_some(())
    });
}

fn told(producer: &Producer, condition: &str, status: &str) -> Option<()> {
    let beat = producer.status();
    let conditions = beat["conditions"].as_array().unwrap();
    conditions.iter().any(|c| c["type"] == condition && c["status"] == status).then_some(())
}
