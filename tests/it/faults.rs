//! What a venue can do wrong: refusals, damage, silence. No answer of the venue's ends the process,
//! one bad element costs nobody else, and everything is told.

use std::io::Write as _;
use std::net::TcpListener;
use std::time::Duration;

use e2e::producer::{Producer, Setup};
use e2e::venue::{Venue, is_stock};
use e2e::{http, wait_for};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(15);

fn busy(faults: &[&str]) -> (Venue, tempfile::TempDir) {
    let mut arguments = vec!["--synthetic", "--rate", "2000", "--symbols", "20"];
    for fault in faults {
        arguments.extend(["--fault", fault]);
    }
    (Venue::start(&arguments), tempfile::tempdir().unwrap())
}

fn start(venue: &Venue, dir: &tempfile::TempDir) -> Producer {
    Setup::new(venue, dir.path()).var("MONITORED_SYMBOLS", "*").var("RECONNECT_BACKOFF_BASE_S", "0.2").start()
}

fn messages(producer: &Producer) -> u64 {
    producer.status()["counters"]["messages"].as_u64().unwrap()
}

fn rejections(producer: &Producer, code: u16) -> u64 {
    let sample = format!(r#"market_ingest_rejections_total{{job="iex",code="{code}"}}"#);
    producer.metric(&sample).unwrap_or(0.0) as u64
}

#[test]
fn a_refusal_that_only_a_person_can_cure_is_loud_and_slow_and_does_not_end_the_process() {
    for code in [402, 409] {
        let (venue, dir) = busy(&[&format!("refuse_auth:code={code}")]);
        let mut producer = start(&venue, &dir);
        wait_for("the refusal", LIMIT, || (rejections(&producer, code) == 1).then_some(()));
        let status = producer.wait_status("failed", LIMIT, |s| s["jobs"]["iex"]["status"] == "failed");
        assert!(status["jobs"]["iex"]["reason"].as_str().unwrap().contains(&code.to_string()));
        assert_eq!(status["status"], "running", "refused is not paused");
        let (ready, why) = http::get(&producer.url("/ready")).unwrap();
        assert_eq!(ready, 503);
        assert!(why.contains(&code.to_string()), "{why}");
        assert_eq!(http::get(&producer.url("/live")).unwrap().0, 200, "alive all the same");
        let [told] = producer.told("job_refused");
        assert_eq!(told.json["severity"], "ERROR");
        assert!(told.json["delay_s"].as_f64().unwrap() >= 60.0, "checked again slowly");
        assert!(producer.process.is_running());
    }
}

#[test]
fn a_credential_cured_by_a_person_is_taken_up_by_off_and_on() {
    let (venue, dir) = busy(&["refuse_auth:code=402"]);
    let flag = dir.path().join("flag");
    std::fs::write(&flag, "on\n").unwrap();
    let producer = Setup::new(&venue, dir.path()).var("INGEST_ENABLED_FILE", flag.display()).start();
    producer.wait_status("failed", LIMIT, |s| s["jobs"]["iex"]["status"] == "failed");
    venue.heal();
    std::fs::write(&flag, "off\n").unwrap();
    producer.wait_status("paused", LIMIT, |s| s["status"] == "paused");
    std::fs::write(&flag, "on\n").unwrap();
    producer.wait_live();
}

#[test]
fn a_plan_that_allows_fewer_symbols_keeps_the_job_live_and_says_what_is_missing() {
    let venue = Venue::start(&["--synthetic", "--symbol-limit", "3"]);
    let dir = tempfile::tempdir().unwrap();
    let producer = Setup::new(&venue, dir.path()).var("MONITORED_SYMBOLS", "AAPL,MSFT,TSLA,NVDA").start();
    wait_for("405", LIMIT, || (rejections(&producer, 405) >= 1).then_some(()));
    producer.wait_live();
    let told =
        wait_for("what is missing", LIMIT, || producer.log("subscriptions differ from what was asked").pop());
    assert!(told.text("missing").contains("NVDA"), "{}", told.json);
}

#[test]
fn a_taken_slot_is_asked_for_until_it_is_free() {
    let (venue, dir) = busy(&[]);
    let first = start(&venue, &dir);
    first.wait_live();
    let other = tempfile::tempdir().unwrap();
    let second = start(&venue, &other);
    wait_for("406", LIMIT, || (rejections(&second, 406) >= 2).then_some(()));
    assert!(messages(&first) > 0);
    drop(first);
    second.wait_live();
    let wrong = venue.log().iter().filter(|e| e["kind"] == "tcp_open").count();
    assert!(wrong <= 4, "no storm of connections: {wrong}");
}

#[test]
fn http_429_at_the_upgrade_is_met_with_a_long_wait() {
    let (venue, dir) = busy(&["refuse_upgrade:status=429"]);
    let producer = start(&venue, &dir);
    let told = wait_for("the back-off", LIMIT, || producer.log("job_backing_off").pop());
    assert!(told.json["delay_s"].as_f64().unwrap() >= 30.0, "{}", told.json);
    wait_for("429 to be counted", LIMIT, || (rejections(&producer, 429) == 1).then_some(()));
}

#[test]
fn damage_costs_only_what_is_damaged() {
    for (fault, told) in [
        ("corrupt_element:every=50", "market_ingest_malformed_total"),
        ("corrupt_frame:every=50", "market_ingest_malformed_total"),
        ("unknown_type:every=50", "market_ingest_unknown_total"),
        ("unknown_fields:every=5", "market_ingest_frames_total"),
        ("big_ids:every=5", "market_ingest_frames_total"),
        ("out_of_order:every=5", "market_ingest_frames_total"),
    ] {
        for codec in ["json", "msgpack"] {
            let venue =
                Venue::start(&["--synthetic", "--messages", "20000", "--symbols", "20", "--fault", fault]);
            let dir = tempfile::tempdir().unwrap();
            let producer = Setup::new(&venue, dir.path())
                .var("MONITORED_SYMBOLS", "*")
                .var("ALPACA_CODEC", codec)
                .start();
            let expected = expected_of_stocks(&venue);
            let good = || {
                ["trade", "quote", "bar"]
                    .iter()
                    .map(|word| {
                        let sample = format!(r#"market_ingest_messages_total{{job="iex",type="{word}"}}"#);
                        producer.metric(&sample).unwrap() as u64
                    })
                    .sum::<u64>()
            };
            wait_for(&format!("{fault}, {codec}: {expected} good messages"), LIMIT, || {
                (good() >= expected).then_some(())
            });
            assert_eq!(good(), expected, "{fault}, {codec}");
            let count = producer.metric(&format!(r#"{told}{{job="iex"}}"#)).unwrap();
            assert!(count > 0.0, "{fault}, {codec}: {told} is {count}");
            if told != "market_ingest_malformed_total" {
                let malformed = producer.metric(r#"market_ingest_malformed_total{job="iex"}"#);
                assert_eq!(malformed, Some(0.0), "{fault}, {codec}");
            }
            assert_eq!(producer.status()["jobs"]["iex"]["connected"], true, "{fault}, {codec}");
        }
    }
}

/// Trades, quotes and minute bars of stocks that the synthetic market holds.
fn expected_of_stocks(venue: &Venue) -> u64 {
    let feed = venue.state()["feed"].clone();
    let by_symbol = feed["by_symbol"].as_object().unwrap();
    by_symbol
        .iter()
        .filter(|(symbol, _)| is_stock(symbol))
        .flat_map(|(_, by_type)| ["t", "q", "b"].map(|letter| by_type[letter].as_u64().unwrap_or(0)))
        .sum()
}

#[test]
fn a_frame_of_five_megabytes_is_taken() {
    let (venue, dir) = busy(&[]);
    let producer =
        Setup::new(&venue, dir.path()).var("ALPACA_DATA_FEED", "news").var("MONITORED_SYMBOLS", "*").start();
    producer.wait_live();
    venue.fault(&json!({"fault": "huge_news", "bytes": 5_000_000}));
    wait_for("five megabytes", LIMIT, || {
        (producer.metric(r#"market_ingest_received_bytes_total{job="news"}"#)? > 5e6).then_some(())
    });
    assert_eq!(producer.metric(r#"market_ingest_malformed_total{job="news"}"#), Some(0.0));
    assert_eq!(producer.status()["jobs"]["news"]["connected"], true);
}

#[test]
fn a_connection_that_is_cut_is_made_again_and_subscribed_again() {
    for fault in [
        json!({"fault": "cut"}),
        json!({"fault": "cut", "rst": true}),
        json!({"fault": "cut_mid_frame"}),
        json!({"fault": "slow_client"}),
    ] {
        let (venue, dir) = busy(&[]);
        let producer = start(&venue, &dir);
        producer.wait_live();
        venue.fault(&fault);
        wait_for("the cut", LIMIT, || (!producer.log("job_disconnected").is_empty()).then_some(()));
        wait_for("live again", LIMIT, || (producer.log("job_live").len() == 2).then_some(()));
        let before = messages(&producer);
        wait_for("messages again", LIMIT, || (messages(&producer) > before).then_some(()));
    }
}

#[test]
fn orderly_disconnects_in_a_quiet_market_never_end_the_process() {
    let (venue, dir) = busy(&["mute"]);
    let mut producer = start(&venue, &dir);
    for round in 1..=8 {
        wait_for("live again", Duration::from_secs(30), || {
            (producer.log("job_live").len() == round).then_some(())
        });
        venue.cut();
    }
    assert!(producer.process.is_running());
    // The waits between them grow at first, so that they cannot become a storm.
    wait_for("an eighth attempt: a connection alone proves nothing", LIMIT, || {
        (producer.log("job_backing_off").last()?.json["attempt"] == 8).then_some(())
    });
}

#[test]
fn a_link_that_is_half_open_is_noticed_and_replaced() {
    let (venue, dir) = busy(&[]);
    let producer = start(&venue, &dir);
    producer.wait_live();
    venue.fault(&json!({"fault": "half_open"}));
    // A ping after ten seconds of silence, the verdict 25 s later.
    let told = wait_for("the verdict", Duration::from_secs(45), || producer.log("job_disconnected").pop());
    assert!(told.text("cause").contains("silent"), "{}", told.json);
    wait_for("live again", LIMIT, || (producer.log("job_live").len() == 2).then_some(()));
}

#[test]
fn a_venue_that_says_goodbye_and_holds_on_to_the_socket_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let producer = Setup::bare()
        .var("ALPACA_STREAM_URL", format!("ws://{}", e2e::rude::start_lingering()))
        .var("ALPACA_CODEC", "json")
        .var("INGEST_SINKS", "null")
        .var("INGEST_STORE", format!("sqlite:{}", dir.path().join("store.db").display()))
        .start();
    let lost = || producer.log("job_disconnected").into_iter().next();
    let lost = wait_for("the end", Duration::from_secs(5), lost);
    assert!(lost.json["cause"].as_str().unwrap().contains("1012"), "{}", lost.json);
}

#[test]
fn pings_of_a_venue_that_reads_no_answer_do_not_pile_up() {
    let dir = tempfile::tempdir().unwrap();
    let venue = e2e::rude::start_pinging::<{ 256 << 20 }>();
    let producer = Setup::bare()
        .var("ALPACA_STREAM_URL", format!("ws://{venue}"))
        .var("ALPACA_CODEC", "json")
        .var("INGEST_SINKS", "null")
        .var("INGEST_STORE", format!("sqlite:{}", dir.path().join("store.db").display()))
        .start();
    wait_for("what follows the pings", Duration::from_secs(60), || (messages(&producer) > 0).then_some(()));
    let peak_mib = producer.process.peak_kib() / 1024;
    assert!(peak_mib < 128, "{peak_mib} MiB");
}

#[test]
fn what_cannot_be_reached_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let plain = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // Whoever has left by then has its answer.
            let _ = stream.and_then(|mut stream| stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
        }
    });
    for (url, named) in [
        ("ws://127.0.0.1:1".to_owned(), "127.0.0.1:1: Connection refused".to_owned()),
        ("ws://no-host.invalid".to_owned(), "no-host.invalid:80: ".to_owned()),
        (format!("wss://{plain}"), format!("TLS with {plain}: ")),
    ] {
        let producer = Setup::bare()
            .var("ALPACA_STREAM_URL", &url)
            .var("APCA_API_KEY_ID", "k")
            .var("APCA_API_SECRET_KEY", "s")
            .var("INGEST_STORE", format!("sqlite:{}", dir.path().join("store.db").display()))
            .start();
        let told = || producer.log("job_backing_off").into_iter().next();
        let told = wait_for("a failure", LIMIT, told);
        let reason = told.json["reason"].as_str().unwrap();
        assert!(reason.contains(&named), "{url}: {reason}");
    }
}

#[test]
fn no_secret_appears_in_logs_status_metrics_or_errors() {
    let (venue, dir) = busy(&["refuse_auth:code=402"]);
    let mut producer = Setup::new(&venue, dir.path())
        .var("APCA_API_KEY_ID", "PKCANARYKEY")
        .var("APCA_API_SECRET_KEY", "canarysecret")
        .var("RUST_LOG", "trace,tungstenite::protocol=trace")
        .start();
    wait_for("the refusal", LIMIT, || (rejections(&producer, 402) == 1).then_some(()));
    let mut shown = producer.status().to_string();
    shown.push_str(&http::get(&producer.url("/metrics")).unwrap().1);
    assert!(producer.stop().success());
    for line in producer.process.stdout() {
        shown.push_str(&line.text);
    }
    shown.push_str(&producer.process.stderr());
    assert!(shown.contains("402"));
    for secret in ["PKCANARYKEY", "canarysecret"] {
        assert!(!shown.contains(secret), "{secret} is shown");
    }
}
