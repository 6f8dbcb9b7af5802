//! The control plane under load: a switch that flaps, several operators, an effect that is slow to come.

use std::path::Path;
use std::time::{Duration, Instant};

use e2e::producer::{Producer, Setup};
use e2e::venue::Venue;
use e2e::{sqlite, wait_for};
use serde_json::{Value, json};

const BUSY: &[&str] = &["--synthetic", "--rate", "2000", "--symbols", "50"];

fn store(dir: &Path) -> std::path::PathBuf {
    dir.join("store.db")
}

/// The status once it shows that this generation of the control document is effective.
fn wait_effective(producer: &Producer, generation: i64, limit: Duration) -> Value {
    producer.wait_status(&format!("generation {generation} in effect"), limit, |status| {
        status["effective_generation"].as_i64() >= Some(generation)
    })
}

/// The producer's sockets to the venue, as the kernel knows them.
fn sockets(producer: &Producer, venue: &Venue) -> usize {
    let port: u16 = venue.url().rsplit(':').next().unwrap().parse().unwrap();
    let remote = format!(":{port:04X}");
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let to_venue: Vec<String> = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields.len() > 9 && fields[2].ends_with(&remote))
        .map(|fields| format!("socket:[{}]", fields[9]))
        .collect();
    let fds = std::fs::read_dir(format!("/proc/{}/fd", producer.process.id())).unwrap();
    let links = fds.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
    links.filter(|link| to_venue.iter().any(|own| link.as_os_str() == own.as_str())).count()
}

/// A thousand edits of the flag within about a second, the last of which says `last`.
fn toggles(last: &str) {
    let dir = tempfile::tempdir().unwrap();
    let flag = dir.path().join("flag");
    std::fs::write(&flag, "on\n").unwrap();
    let venue = Venue::start(BUSY);
    let producer = Setup::new(&venue, dir.path()).var("INGEST_ENABLED_FILE", flag.display()).start();
    producer.wait_live();
    let first =
        wait_for("a first heartbeat", Duration::from_secs(10), || sqlite::heartbeat(&store(dir.path())));
    let beats_before = first["seq"].as_i64().unwrap();
    let dials_before = venue.events("tcp_open").len();

    let start = Instant::now();
    let other = if last == "on" { "off" } else { "on" };
    for round in 0..1_000_u32 {
        std::fs::write(&flag, if round % 2 == 0 { other } else { last }).unwrap();
        let due = start + Duration::from_millis(1) * (round + 1);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    let took = start.elapsed();
    let beats = sqlite::heartbeat(&store(dir.path())).unwrap()["seq"].as_i64().unwrap() - beats_before;
    let dials = venue.events("tcp_open").len() - dials_before;
    let seconds = took.as_secs_f64().ceil();
    println!("{dials} dials and {beats} heartbeats in {took:?}");
    assert!(dials as f64 <= 2.0 + seconds, "{dials} dials in {took:?}");
    assert!(beats as f64 <= 2.0 + 4.0 * seconds, "{beats} heartbeats in {took:?}");

    if last == "off" {
        producer.wait_status("a pause", Duration::from_secs(2), |status| status["status"] == "paused");
        assert_eq!(sockets(&producer, &venue), 0);
    } else {
        producer.wait_status("a live job", Duration::from_secs(4), |status| {
            status["jobs"]["iex"]["connected"] == true
        });
    }
}

#[test]
fn a_thousand_toggles_in_a_second_end_as_the_last_one_says_off() {
    toggles("off");
}

#[test]
fn a_thousand_toggles_in_a_second_end_as_the_last_one_says_on() {
    toggles("on");
}

#[test]
fn the_effective_generation_never_runs_ahead_of_the_effect() {
    let dir = tempfile::tempdir().unwrap();
    let venue = Venue::start(BUSY);
    let producer = Setup::new(&venue, dir.path()).start();
    producer.wait_live();
    let place = "INSERT INTO market_ingest_hold (id, scope, reason) VALUES ('x', 'all', 'test')";
    for round in 0..5 {
        // The venue's host is gone: only giving up on the close frame ends the socket.
        venue.fault(&json!({"fault": "half_open"}));
        wait_for("a socket", Duration::from_secs(5), || (sockets(&producer, &venue) == 1).then_some(()));
        sqlite::execute(&store(dir.path()), place);
        let generation = 2 * round + 1;
        let status = wait_effective(&producer, generation, Duration::from_secs(4));
        assert_eq!((sockets(&producer, &venue), status["status"].as_str()), (0, Some("paused")), "{status}");
        assert_eq!(status["observed_generation"], generation);
        venue.heal();

        sqlite::execute(&store(dir.path()), "DELETE FROM market_ingest_hold WHERE id = 'x'");
        let status = wait_effective(&producer, generation + 1, Duration::from_secs(5));
        assert_eq!(status["jobs"]["iex"]["connected"], true, "{status}");
    }
}

#[test]
fn a_resume_that_the_venue_refuses_is_taken_up_but_not_effective_and_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let venue = Venue::start(BUSY);
    let producer = Setup::new(&venue, dir.path()).start();
    producer.wait_live();
    sqlite::execute(&store(dir.path()), "INSERT INTO market_ingest_hold (id, scope) VALUES ('x', 'job:iex')");
    wait_effective(&producer, 1, Duration::from_secs(4));
    venue.fault(&json!({"fault": "refuse_upgrade", "status": 503}));
    sqlite::execute(&store(dir.path()), "DELETE FROM market_ingest_hold");
    wait_for("an error counted", Duration::from_secs(8), || {
        let errors = producer.metric("job_pause_resume_errors_total{job=\"iex\"}")?;
        (errors == 1.0).then_some(())
    });
    let status = producer.status();
    assert_eq!(
        (status["observed_generation"].as_i64(), status["effective_generation"].as_i64()),
        (Some(2), Some(1))
    );
    venue.heal();
    wait_effective(&producer, 2, Duration::from_secs(15));
    assert_eq!(producer.metric("jobs_paused_total{job=\"iex\"}"), Some(1.0));
    assert_eq!(producer.metric("jobs_resumed_total{job=\"iex\"}"), Some(1.0));
    assert_eq!(producer.metric("job_pause_duration_seconds_count{job=\"iex\"}"), Some(1.0));
}

#[test]
fn a_job_that_the_venue_refuses_does_not_keep_the_pause_of_another_from_being_effective() {
    let dir = tempfile::tempdir().unwrap();
    let venue = Venue::start(BUSY);
    venue.fault(&json!({"fault": "refuse_auth", "code": 409, "path": "/v1beta3/crypto/us"}));
    let producer = Setup::new(&venue, dir.path())
        .var("ALPACA_DATA_FEED", "iex,crypto-us")
        .var("MONITORED_SYMBOLS", "AAPL,BTC/USD")
        .start();
    producer.wait_status("one live and one refused job", Duration::from_secs(15), |status| {
        status["jobs"]["iex"]["connected"] == true && status["jobs"]["crypto-us"]["status"] == "failed"
    });
    sqlite::execute(
        &store(dir.path()),
        "INSERT INTO market_ingest_hold (id, scope) VALUES ('x', 'symbol:AAPL/quotes')",
    );
    wait_effective(&producer, 1, Duration::from_secs(4));
    sqlite::execute(&store(dir.path()), "UPDATE market_ingest_hold SET scope = 'job:iex'");
    let status = wait_effective(&producer, 2, Duration::from_secs(4));
    assert_eq!(status["jobs"]["iex"]["status"], "paused");
    assert_eq!(producer.metric("job_pause_resume_errors_total{job=\"crypto-us\"}"), Some(0.0));
}

#[test]
fn a_hold_that_cannot_be_understood_leaves_standing_what_it_said_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let venue = Venue::start(BUSY);
    let producer = Setup::new(&venue, dir.path()).start();
    producer.wait_live();
    sqlite::execute(&store(dir.path()), "INSERT INTO market_ingest_hold (id, scope) VALUES ('x', 'all')");
    wait_effective(&producer, 1, Duration::from_secs(4));
    sqlite::execute(&store(dir.path()), "UPDATE market_ingest_hold SET scope = 'evrything'");
    let status =
        producer.wait_status("the doubt", Duration::from_secs(3), |status| status["flag_fresh"] == false);
    assert_eq!(status["status"], "paused");
    let conditions = status["conditions"].as_array().unwrap();
    let fresh = conditions.iter().find(|condition| condition["type"] == "FlagFresh").unwrap();
    let message = fresh["message"].as_str().unwrap();
    assert!(message.contains("control:x") && message.contains("evrything"), "{message}");
    sqlite::execute(&store(dir.path()), "UPDATE market_ingest_hold SET scope = 'all'");
    producer.wait_status("freshness", Duration::from_secs(3), |status| status["flag_fresh"] == true);
}

#[test]
fn history_tells_each_pause_from_its_effect_and_goes_on_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let venue = Venue::start(BUSY);
    let setup = Setup::new(&venue, dir.path());
    let mut producer = setup.start();
    producer.wait_live();
    sqlite::execute(
        &store(dir.path()),
        "INSERT INTO market_ingest_hold (id, scope, reason, actor) VALUES ('x', 'all', 'venue test', 'ann')",
    );
    let history = || {
        let query = "SELECT scope, source, reason, actor, effective_at, resumed_at, duration_s FROM market_ingest_history";
        sqlite::rows(&store(dir.path()), query)
    };
    let text = |row: &[Option<String>], at: usize| row[at].clone().unwrap_or_default();
    let row = wait_for("a record", Duration::from_secs(5), || history().pop());
    assert_eq!([0, 1, 2, 3].map(|at| text(&row, at)), ["all", "control:x", "venue test", "ann"]);
    assert!(row[4].is_some() && row[5].is_none() && row[6].is_none(), "{row:?}");

    assert!(producer.stop().success());
    let producer = setup.start();
    producer
        .wait_status("the pause of before", Duration::from_secs(5), |status| status["status"] == "paused");
    sqlite::execute(&store(dir.path()), "DELETE FROM market_ingest_hold");
    let row = wait_for("its end", Duration::from_secs(5), || history().pop().filter(|row| row[5].is_some()));
    assert_eq!(history().len(), 1, "one pause is one record, also over a restart");
    assert!(row[6].as_ref().unwrap().parse::<f64>().unwrap() > 0.0);
}
