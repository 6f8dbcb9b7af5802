//! What operators and platforms see: probes, metrics, errors, help, and names that must agree.

use std::process::Command;
use std::time::Duration;

use e2e::child::Process;
use e2e::producer::Setup;
use e2e::venue::Venue;
use e2e::{binary, http, sqlite, wait_for};
use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

#[test]
fn paused_is_alive_and_ready() {
    let venue = Venue::start(&["--synthetic"]);
    let dir = tempfile::tempdir().unwrap();
    for (enabled, word) in [("1", "running"), ("0", "paused")] {
        let producer = Setup::new(&venue, dir.path()).var("INGEST_ENABLED", enabled).start();
        producer.wait_status(word, Duration::from_secs(5), |s| s["status"] == word);
        for path in ["/livez", "/readyz", "/healthz", "/live", "/ready", "/health"] {
            let (status, body) = http::get(&producer.url(path)).unwrap();
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!((status, &body["status"]), (200, &Value::from(word)), "{path}");
        }
        let paused = producer.metric("market_ingest_paused");
        assert_eq!(paused, Some(if word == "paused" { 1.0 } else { 0.0 }));
    }
}

#[test]
fn an_unknown_path_and_a_wrong_method_are_told_what_there_is() {
    let venue = Venue::start(&["--synthetic"]);
    let dir = tempfile::tempdir().unwrap();
    let producer = Setup::new(&venue, dir.path()).start();
    let (status, body) = http::get(&producer.url("/nope")).unwrap();
    assert!(status == 404 && body.contains("/nope") && body.contains("/api/v1/status"), "{status} {body}");
    let (status, body) = http::post(&producer.url("/livez"), &Value::Null);
    assert!(status == 405 && body.contains("GET"), "{status} {body}");
}

#[test]
fn the_status_over_http_and_the_stored_heartbeat_are_one_document() {
    let venue = Venue::start(&["--synthetic"]);
    let dir = tempfile::tempdir().unwrap();
    let producer = Setup::new(&venue, dir.path()).var("HEARTBEAT_INTERVAL_S", 1).start();
    producer.wait_live();
    let store = dir.path().join("store.db");
    let stored = wait_for("a heartbeat", Duration::from_secs(5), || sqlite::heartbeat(&store));
    let keys = |document: &Value| document.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&stored), keys(&producer.status()));
    let columns = sqlite::rows(
        &store,
        "SELECT status, ts, ingest_enabled, ingest_enabled_source, updated_at FROM market_ingest_heartbeat",
    );
    assert_eq!(columns[0][0].as_deref(), Some("running"));
    assert!(columns[0][4].is_some(), "the store's own time");
}

#[test]
fn a_hold_of_an_earlier_run_stands_when_its_file_is_gone_at_boot() {
    let venue = Venue::start(&["--synthetic"]);
    let dir = tempfile::tempdir().unwrap();
    let flag = dir.path().join("flag");
    std::fs::write(&flag, "off\nreason: broken feed\nby: kim\n").unwrap();
    let setup = Setup::new(&venue, dir.path()).var("INGEST_ENABLED_FILE", flag.display());
    let mut first = setup.start();
    first.wait_status("paused", Duration::from_secs(5), |s| s["status"] == "paused");
    assert!(first.stop().success());

    std::fs::remove_file(&flag).unwrap();
    let second = setup.start();
    let status = second.wait_status("paused", Duration::from_secs(5), |s| s["status"] == "paused");
    assert_eq!(status["flag_fresh"], false);
    assert_eq!(status["holds"][0]["reason"], "broken feed");
    assert!(venue.events("tcp_open").is_empty());
    std::fs::write(&flag, "on\n").unwrap();
    second.wait_live();
}

#[test]
fn a_flag_that_can_no_longer_be_read_is_told_by_the_heartbeat_at_once() {
    let venue = Venue::start(&["--synthetic"]);
    let dir = tempfile::tempdir().unwrap();
    let flag = dir.path().join("flag");
    std::fs::write(&flag, "on\n").unwrap();
    let producer = Setup::new(&venue, dir.path())
        .var("INGEST_ENABLED_FILE", flag.display())
        .var("HEARTBEAT_INTERVAL_S", 60)
        .start();
    producer.wait_live();
    let store = dir.path().join("store.db");
    let fresh = |wanted: bool| {
        wait_for("the freshness of the flag in the stored heartbeat", Duration::from_secs(3), || {
            (sqlite::heartbeat(&store)?["flag_fresh"] == wanted).then_some(())
        });
    };
    // The heartbeats of the start must be over: what follows is owed to the flag alone.
    let seq = || sqlite::heartbeat(&store)?["seq"].as_u64();
    wait_for("a quiet second", Duration::from_secs(10), || {
        let before = seq()?;
        std::thread::sleep(Duration::from_secs(1));
        (seq()? == before).then_some(())
    });
    std::fs::remove_file(&flag).unwrap();
    fresh(false);
    assert_eq!(producer.status()["status"], "running", "the last decision stands");
    std::fs::write(&flag, "on\n").unwrap();
    fresh(true);
}

#[test]
fn a_port_that_is_taken_is_an_error_that_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let venue = Venue::start(&["--synthetic"]);
    let dir = tempfile::tempdir().unwrap();
    let mut producer = Setup::new(&venue, dir.path()).var("PORT", port).spawn();
    assert_eq!(producer.process.wait_exit(Duration::from_secs(10)).code(), Some(1));
    let told = producer.process.stderr();
    assert!(told.contains(&port.to_string()) && told.contains("PORT"), "{told}");
}

#[test]
fn a_store_that_cannot_be_opened_is_an_error_that_names_it() {
    let venue = Venue::start(&["--synthetic"]);
    let dir = tempfile::tempdir().unwrap();
    let mut producer =
        Setup::new(&venue, dir.path()).var("INGEST_STORE", "sqlite:/nowhere/at/all.db").spawn();
    assert_eq!(producer.process.wait_exit(Duration::from_secs(10)).code(), Some(1));
    let told = producer.process.stderr();
    assert!(told.contains("/nowhere/at/all.db"), "{told}");
}

#[test]
fn help_and_config_name_every_variable_and_no_secret() {
    for arguments in [&["--help"][..], &["config"]] {
        let mut command = Command::new(binary::path("market-ingest"));
        command.args(arguments).env_clear();
        command.env("APCA_API_KEY_ID", "PKCANARYKEY").env("APCA_API_SECRET_KEY", "canarysecret");
        let mut process = Process::spawn(&mut command);
        assert!(process.wait_exit(Duration::from_secs(5)).success(), "{}", process.stderr());
        let text: String = process.stdout().iter().map(|l| format!("{}\n", l.text)).collect();
        for variable in market_ingest::config::VARIABLES {
            assert!(text.contains(variable.name), "{} in {arguments:?}", variable.name);
        }
        assert!(!text.contains("PKCANARYKEY") && !text.contains("canarysecret"));
    }
}

/// Words in capitals that stand at the start of a line or in a `name:` entry.
fn variables_in(path: &str) -> Vec<String> {
    let text = std::fs::read_to_string(format!("{ROOT}/{path}")).unwrap();
    let name = |line: &str| {
        let line = line.trim_start_matches(['#', ' ', '-']);
        let line = line.strip_prefix("name:").unwrap_or(line).trim();
        let word: String =
            line.chars().take_while(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || *c == '_').collect();
        (word.len() > 3 && word.contains('_')).then_some(word)
    };
    text.lines().filter_map(name).collect()
}

#[test]
fn every_variable_that_infra_sets_is_one_that_the_producer_reads() {
    let known: Vec<&str> = market_ingest::config::VARIABLES.iter().map(|v| v.name).collect();
    for path in [
        "infra/cloudrun/env/market_ingest.env.yaml.example",
        "infra/cloudrun/services/market-ingest.service.yaml",
        "infra/cloudrun/workerpools/market-ingest.workerpool.yaml",
        "infra/kubernetes/deployment.yaml",
    ] {
        let named = variables_in(path);
        assert!(named.len() >= 5, "{path}: {named:?}");
        for variable in named {
            assert!(known.contains(&variable.as_str()), "{path} names {variable}");
        }
    }
    let documented = std::fs::read_to_string(format!("{ROOT}/docs/contract.md")).unwrap();
    for variable in known {
        assert!(documented.contains(variable), "docs/contract.md does not name {variable}");
    }
}

#[test]
fn the_pure_crates_name_no_runtime_and_the_simulator_none_of_ours() {
    let pure = ["ingest_status", "alpaca_feed"];
    for name in pure {
        let manifest = std::fs::read_to_string(format!("{ROOT}/crates/{name}/Cargo.toml")).unwrap();
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
        for banned in ["tokio", "rand", "tracing", "ingest_switch"] {
            assert!(!dependencies.contains(banned), "{name} depends on {banned}");
        }
    }
    let switch = std::fs::read_to_string(format!("{ROOT}/crates/ingest_switch/Cargo.toml")).unwrap();
    assert!(switch.contains("tokio = { workspace = true, optional = true }"), "tokio is optional");
    let sim = std::fs::read_to_string(format!("{ROOT}/crates/alpaca_sim/Cargo.toml")).unwrap();
    for ours in ["alpaca_feed", "ingest_status", "ingest_switch", "market_ingest"] {
        assert!(!sim.contains(ours), "the simulator shares nothing with the client, but names {ours}");
    }
}
