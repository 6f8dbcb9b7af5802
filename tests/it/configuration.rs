//! What the environment may say, and what a wrong one is told.

use std::time::Duration;

use e2e::producer::Setup;
use e2e::venue::Venue;

#[test]
fn every_wrong_value_is_told_at_once_and_the_exit_code_is_64() {
    let mut producer = Setup::bare()
        .var("INGEST_ENABLED_POLL_S", "often")
        .var("HEARTBEAT_INTERVAL_S", "0.2")
        .var("ALPACA_DATA_FEED", "nyse")
        .var("PORT", "eighty")
        .spawn();
    let status = producer.process.wait_exit(Duration::from_secs(10));
    assert_eq!(status.code(), Some(64));
    let told = producer.process.stderr();
    for (variable, found) in [
        ("INGEST_ENABLED_POLL_S", "often"),
        ("HEARTBEAT_INTERVAL_S", "0.2"),
        ("ALPACA_DATA_FEED", "nyse"),
        ("PORT", "eighty"),
        ("APCA_API_KEY_ID", "nothing"),
        ("APCA_API_SECRET_KEY", "nothing"),
    ] {
        let line = told.lines().find(|line| line.contains(variable));
        let line = line.unwrap_or_else(|| panic!("{variable} is not named in:\n{told}"));
        assert!(line.contains(found) && line.contains("accepted: "), "{line}");
    }
    assert!(producer.log("http_listening").is_empty(), "no port is opened before all is known");
}

#[test]
fn a_name_that_is_nearly_a_switch_is_told_and_switches_nothing() {
    let venue = Venue::start(&["--synthetic", "--rate", "100"]);
    let dir = tempfile::tempdir().unwrap();
    let producer = Setup::new(&venue, dir.path()).var("INGEST_ENABLE", "off").start();
    producer.wait_live();
    let [told] = producer.told("ignored: no variable of this version; `market-ingest --help` lists them");
    assert_eq!(told.json["variable"], "INGEST_ENABLE");
}
