//! A feed that is connected and mute is noticed, told, and mended if it can be; a quiet one is left alone.
//!
//! Crypto never closes, so these hold at any hour. What a channel usually does is learned from two limits' worth of data
//! first; the limit is three seconds here, and the real thirty in one test of the slow run.

mod spot;

use std::time::{Duration, Instant};

use e2e::producer::{Producer, Setup};
use e2e::venue::{Venue, pairs};
use e2e::{http, sqlite, wait_for};
use serde_json::{Value, json};

const PATH: &str = "/v1beta3/crypto/us";
const JOB: &str = "crypto-us";
const LIMIT: Duration = Duration::from_secs(15);
const MUTE_AFTER: Duration = Duration::from_secs(3);
/// From the silence's limit to its record: the machine, the log, the test's own look.
const SLACK: Duration = Duration::from_millis(1_500);

fn venue() -> Venue {
    Venue::start(&["--synthetic", "--rate", "2000", "--symbols", "4"])
}

/// A producer that has heard trades and quotes for so long that their silence can be judged.
fn learned(venue: &Venue, dir: &tempfile::TempDir, mute_after: Duration) -> Producer {
    let producer = Setup::new(venue, dir.path())
        .var("ALPACA_DATA_FEED", JOB)
        .var("ALPACA_CHANNELS", "trades,quotes")
        .var("MONITORED_SYMBOLS", "BTC/USD,ETH/USD")
        .var("RECONNECT_BACKOFF_BASE_S", "0.2")
        .var("INGEST_MUTE_AFTER_S", mute_after.as_secs())
        .start();
    producer.wait_live();
    let live = Instant::now();
    let evidence = mute_after * 2 + Duration::from_secs(1);
    wait_for("enough to judge by", evidence * 2, || (live.elapsed() > evidence).then_some(()));
    assert_eq!(data_fresh(&producer), ("True".into(), "Flowing".into()));
    producer
}

/// A producer with a history to ask and files to keep what it is told.
fn kept(venue: &Venue, dir: &tempfile::TempDir) -> Setup {
    Setup::new(venue, dir.path())
        .var("ALPACA_DATA_FEED", JOB)
        .with_records(venue, dir.path())
        .var("ALPACA_CHANNELS", "trades,quotes")
        .var("MONITORED_SYMBOLS", "BTC/USD,ETH/USD")
}

fn data_fresh(producer: &Producer) -> (String, String) {
    let status = producer.status();
    let conditions = status["conditions"].as_array().unwrap();
    let fresh = conditions.iter().find(|condition| condition["type"] == "DataFresh").unwrap();
    let text = |key: &str| fresh[key].as_str().unwrap().to_owned();
    (text("status"), text("reason"))
}

fn mute_total(producer: &Producer) -> f64 {
    producer.metric(&format!(r#"market_ingest_mute_total{{job="{JOB}"}}"#)).unwrap()
}

/// Waits for the alarm of `channel`; says how long after `began` it came.
fn alarm(producer: &Producer, channel: &str, began: Instant, within: Duration) -> Value {
    let told = wait_for(&format!("feed_mute of {channel}"), within, || {
        producer.log("feed_mute").into_iter().find(|record| record.json["channel"] == channel)
    });
    println!("{channel}: found {:.2} s after it fell mute", began.elapsed().as_secs_f64());
    assert_eq!(told.json["severity"], "WARNING");
    told.json
}

/// Waits for an entry of the venue's log after `mark`.
fn venue_saw(venue: &Venue, mark: u64, kind: &str, within: Duration) -> Value {
    wait_for(&format!("{kind} at the venue"), within, || {
        venue.since(mark, PATH).into_iter().find(|event| event["kind"] == kind)
    })
}

#[test]
fn a_mute_feed_is_found_resubscribed_redialed_and_flows_again() {
    let slow = std::env::var_os("SLOW_TESTS").is_some();
    let mute_after = if slow { Duration::from_secs(30) } else { MUTE_AFTER };
    let (venue, dir) = (venue(), tempfile::tempdir().unwrap());
    let producer = learned(&venue, &dir, mute_after);
    let (mark, began) = (venue.mark(), Instant::now());
    venue.fault(&json!({"fault": "mute"}));
    for channel in ["trades", "quotes"] {
        let told = alarm(&producer, channel, began, mute_after + SLACK);
        assert_eq!(told["limit_s"].as_f64().unwrap(), mute_after.as_secs_f64());
        assert!(told["silent_s"].as_f64().unwrap() >= mute_after.as_secs_f64());
    }
    wait_for("DataFresh to be refuted", LIMIT, || {
        (data_fresh(&producer) == ("False".into(), "Mute".into())).then_some(())
    });
    assert_eq!(mute_total(&producer), 1.0, "one spell, though two channels fell silent");
    assert_eq!(producer.metric(&format!(r#"market_ingest_data_fresh{{job="{JOB}"}}"#)), Some(0.0));
    let silence = format!(r#"market_ingest_data_silence_seconds{{job="{JOB}",channel="quotes"}}"#);
    assert!(producer.metric(&silence).unwrap() >= mute_after.as_secs_f64());

    // First on the connection that there is, then on another.
    venue_saw(&venue, mark, "unsubscribe", LIMIT);
    venue_saw(&venue, mark, "subscribe", LIMIT);
    venue_saw(&venue, mark, "tcp_closed", Duration::from_secs(30));
    let order: Vec<String> = wait_for("a second connection", LIMIT, || {
        let kinds: Vec<String> =
            venue.since(mark, PATH).iter().map(|event| event["kind"].as_str().unwrap().to_owned()).collect();
        kinds.iter().rposition(|kind| kind == "subscribe").filter(|at| *at > 2).map(|_| kinds)
    });
    let first = |kind: &str| order.iter().position(|own| own == kind).unwrap();
    let last = |kind: &str| order.iter().rposition(|own| own == kind).unwrap();
    assert!(first("unsubscribe") < first("subscribe"), "{order:?}");
    assert!(first("subscribe") < first("tcp_closed"), "{order:?}");
    assert!(first("tcp_closed") < last("subscribe"), "{order:?}");
    assert!(producer.log("job_disconnected")[0].text("cause").starts_with("mute"));
    assert_eq!(producer.log("feed_mute").len(), 2, "told once, though a connection came and went");

    venue.heal();
    wait_for("both to flow again", LIMIT, || (producer.log("feed_flowing").len() == 2).then_some(()));
    wait_for("DataFresh again", LIMIT, || {
        (data_fresh(&producer) == ("True".into(), "Flowing".into())).then_some(())
    });
    assert_eq!(producer.log("feed_gap").len(), 2, "what was missed is told, once a channel");
}

#[test]
fn one_channel_that_is_mute_is_found_and_only_it_is_resubscribed() {
    let (venue, dir) = (venue(), tempfile::tempdir().unwrap());
    let producer = learned(&venue, &dir, MUTE_AFTER);
    let (mark, began) = (venue.mark(), Instant::now());
    venue.fault(&json!({"fault": "mute", "channel": "trades"}));
    alarm(&producer, "trades", began, MUTE_AFTER + SLACK);
    for kind in ["unsubscribe", "subscribe"] {
        let request = venue_saw(&venue, mark, kind, LIMIT);
        assert_eq!(pairs(&request), ["trades BTC/USD", "trades ETH/USD"], "{request}");
    }
    venue.heal();
    wait_for("trades to flow again", LIMIT, || (producer.log("feed_flowing").len() == 1).then_some(()));
    let mute: Vec<_> = producer.log("feed_mute");
    assert!(mute.iter().all(|record| record.json["channel"] == "trades"), "{mute:?}");
    assert_eq!(venue.events("tcp_open").len(), 1, "mended without another connection");
    let causes: Vec<String> = producer.log("gap_opened").iter().map(|gap| gap.text("cause")).collect();
    assert!(causes.iter().all(|cause| cause == "mute"), "nobody paused: {causes:?}");
}

#[test]
fn a_dead_link_is_found_by_its_silence_and_replaced() {
    let (venue, dir) = (venue(), tempfile::tempdir().unwrap());
    let producer = learned(&venue, &dir, MUTE_AFTER);
    let began = Instant::now();
    venue.fault(&json!({"fault": "half_open"}));
    alarm(&producer, "quotes", began, MUTE_AFTER + SLACK);
    // What says it first, the mute feed or the unanswered ping, depends on the limits; either way another is dialed.
    wait_for("data again", Duration::from_secs(40), || {
        (producer.log("feed_flowing").len() == 2).then_some(())
    });
    assert_eq!(venue.events("tcp_open").len(), 2);
}

#[test]
fn one_silent_symbol_is_a_suspicion_and_a_hold_is_no_silence() {
    // Active in nearly every second, or nobody would watch it by itself.
    let venue = Venue::start(&["--synthetic", "--rate", "10000", "--symbols", "4"]);
    let dir = tempfile::tempdir().unwrap();
    let producer = learned(&venue, &dir, MUTE_AFTER);
    // Which symbols are active enough to be watched one by one is decided every fifteen seconds.
    let learned = Instant::now();
    wait_for("symbols to be chosen and watched", LIMIT * 4, || {
        (learned.elapsed() > Duration::from_secs(33)).then_some(())
    });
    venue.fault(&json!({"fault": "mute", "symbol": "BTC/USD"}));
    let told = wait_for("the suspicion", MUTE_AFTER + SLACK * 20, || producer.log("symbol_suspect").pop());
    assert_eq!(told.json["symbol"], "BTC/USD");
    assert_eq!(data_fresh(&producer).0, "True");
    venue.heal();

    // A hold is silence on purpose.
    let (status, _) = http::post(&producer.url("/api/v1/pause"), &json!({"reason": "test"}));
    assert_eq!(status, 202);
    producer.wait_status("paused", LIMIT, |s| s["status"] == "paused");
    let paused = Instant::now();
    wait_for("twice the limit", LIMIT, || (paused.elapsed() > MUTE_AFTER * 2).then_some(()));
    assert_eq!(data_fresh(&producer), ("Unknown".into(), "Held".into()));
    let (status, _) = http::post(&producer.url("/api/v1/resume"), &json!({}));
    assert_eq!(status, 202);
    producer.wait_live();
    wait_for("data again", LIMIT, || (data_fresh(&producer).0 == "True").then_some(()));
    assert_eq!((producer.log("feed_mute").len(), mute_total(&producer)), (0, 0.0));
}

#[test]
fn a_feed_that_falls_behind_is_told_and_after_a_while_dialed_anew_once() {
    let venue = Venue::start(&[
        "--synthetic",
        "--rate",
        "2000",
        "--symbols",
        "4",
        "--max-per-frame",
        "5",
        "--data",
        "127.0.0.1:0",
    ]);
    let dir = tempfile::tempdir().unwrap();
    let producer = kept(&venue, &dir).start();
    producer.wait_live();
    wait_for("data", LIMIT, || (data_fresh(&producer).1 == "Flowing").then_some(()));
    venue.fault(&json!({"fault": "trickle", "bytes_per_s": 2_000}));
    wait_for("the lag to be told", LIMIT * 6, || producer.log("feed_lagging").pop());
    assert_eq!(data_fresh(&producer), ("False".into(), "Lagging".into()));
    assert_eq!(venue.events("tcp_open").len(), 1, "it may yet catch up");
    wait_for("another connection", LIMIT * 6, || (venue.events("tcp_open").len() == 2).then_some(()));
    venue.heal();
    wait_for("fresh data", LIMIT * 2, || (producer.log("feed_caught_up").len() == 1).then_some(()));
    assert!(producer.log("job_disconnected")[0].text("cause").starts_with("lagging"));
    let gap = wait_for("the hole to be filled", LIMIT * 2, || {
        let query = "SELECT cause, state, rows FROM market_ingest_gap WHERE state = 'filled'";
        sqlite::rows(&dir.path().join("store.db"), query).pop()
    });
    assert_eq!(gap[0].as_deref(), Some("disconnect"));
    assert!(gap[2].as_deref().unwrap().parse::<u64>().unwrap() > 0, "{gap:?}");
    assert_eq!(venue.events("tcp_open").len(), 2);
}

#[test]
fn a_feed_that_is_quiet_from_the_start_raises_nothing() {
    let venue = Venue::start(&["--synthetic", "--rate", "2000", "--symbols", "4", "--fault", "mute"]);
    let dir = tempfile::tempdir().unwrap();
    let producer = Setup::new(&venue, dir.path())
        .var("ALPACA_DATA_FEED", JOB)
        .var("MONITORED_SYMBOLS", "BTC/USD")
        .var("INGEST_MUTE_AFTER_S", 1)
        .start();
    producer.wait_live();
    let live = Instant::now();
    wait_for("many limits", LIMIT, || (live.elapsed() > Duration::from_secs(8)).then_some(()));
    assert_eq!(data_fresh(&producer), ("Unknown".into(), "LearningOrQuiet".into()));
    assert_eq!((producer.log("feed_mute").len(), venue.events("tcp_open").len()), (0, 1));
}
