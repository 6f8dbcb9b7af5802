//! The document on pausing and resuming jobs, statement by statement: two feeds in one process, each with its own
//! connection, held by name through the control tables.

use std::time::{Duration, Instant};

use e2e::producer::{Producer, Setup};
use e2e::venue::{Venue, pairs};
use e2e::{http, now_us, sqlite, wait_for};
use serde_json::{Value, json};

const BUSY: &[&str] = &["--synthetic", "--rate", "2000", "--symbols", "20"];
const STOCKS: &str = "/v2/iex";
const CRYPTO: &str = "/v1beta3/crypto/us";
const PAUSE_LIMIT: Duration = Duration::from_secs(2);
const RESUME_LIMIT: Duration = Duration::from_secs(3);
const LIMIT: Duration = Duration::from_secs(10);

/// A producer of two jobs with its store and its venue.
struct Bench {
    producer: Producer,
    venue: Venue,
    dir: tempfile::TempDir,
}

impl Bench {
    /// Both jobs live.
    fn start() -> Self {
        let bench = Self::with(&[]);
        bench.producer.wait_live();
        bench
    }

    fn with(faults: &[&str]) -> Self {
        let arguments: Vec<&str> = faults.iter().flat_map(|fault| ["--fault", fault]).collect();
        let venue = Venue::start(&[BUSY, &arguments].concat());
        let dir = tempfile::tempdir().unwrap();
        let producer = setup(&venue, &dir).start();
        Self { producer, venue, dir }
    }

    fn restart(&mut self) {
        self.producer = setup(&self.venue, &self.dir).start();
    }

    fn sql(&self, statement: &str) -> u64 {
        sqlite::execute(&self.dir.path().join("store.db"), statement)
    }

    /// Null as an empty text.
    fn rows(&self, query: &str) -> Vec<Vec<String>> {
        let rows = sqlite::rows(&self.dir.path().join("store.db"), query);
        rows.into_iter().map(|row| row.into_iter().map(Option::unwrap_or_default).collect()).collect()
    }

    /// Asks for a pause.
    fn hold(&self, id: &str, scope: &str, until: Option<jiff::Timestamp>) {
        let until = until.map_or("NULL".to_owned(), |until| format!("'{until}'"));
        self.sql(&format!(
            "INSERT INTO market_ingest_hold (id, scope, reason, actor, until)
             VALUES ('{id}', '{scope}', 'bad prints', 'kim', {until})"
        ));
    }

    /// Asks for its end.
    fn release(&self, id: &str) {
        assert_eq!(self.sql(&format!("DELETE FROM market_ingest_hold WHERE id = '{id}'")), 1);
    }

    fn wait_word(&self, job: &str, word: &str, limit: Duration) -> Value {
        self.producer.wait_job(job, &format!("{job} is {word}"), limit, |job| job["status"] == word)
    }

    fn pause_crypto(&self) {
        self.hold("c", "job:crypto-us", None);
        self.wait_word("crypto-us", "paused", PAUSE_LIMIT);
    }

    fn resume_crypto(&self) {
        self.release("c");
        self.producer.wait_job("crypto-us", "crypto-us is live", RESUME_LIMIT, |job| {
            job["status"] == "running" && job["connected"] == json!(true)
        });
    }

    fn messages(&self, job: &str) -> u64 {
        self.producer.status()["jobs"][job]["messages"].as_u64().unwrap()
    }

    /// Waits until a job received something more.
    fn wait_flow(&self, job: &str, limit: Duration) {
        let before = self.messages(job);
        wait_for(&format!("data of {job}"), limit, || (self.messages(job) > before).then_some(()));
    }
}

fn setup(venue: &Venue, dir: &tempfile::TempDir) -> Setup {
    Setup::new(venue, dir.path())
        .var("ALPACA_DATA_FEED", "iex,crypto-us")
        .var("MONITORED_SYMBOLS", "AAPL,SPY,TSLA,BTC/USD,ETH/USD")
        .var("HEARTBEAT_INTERVAL_S", 1)
        .var("RECONNECT_BACKOFF_BASE_S", "0.2")
        .var("RECONNECT_BACKOFF_MAX_S", 1)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("{field} in {value}"))
}

fn time(value: &Value, field: &str) -> jiff::Timestamp {
    text(value, field).parse().unwrap()
}

#[test]
fn a_paused_job_closes_its_one_socket_and_the_other_job_flows_on() {
    let bench = Bench::start();
    let mark = bench.venue.mark();
    let asked_us = now_us();
    bench.hold("c", "job:crypto-us", None);
    let job = bench.wait_word("crypto-us", "paused", PAUSE_LIMIT);
    assert_eq!(bench.venue.open_paths(), [STOCKS], "one socket is left");
    let kinds: Vec<_> = bench.venue.since(mark, CRYPTO).iter().map(|e| text(e, "kind").to_owned()).collect();
    assert_eq!(kinds, ["close_received", "tcp_closed"]);
    assert_eq!(bench.venue.since(mark, STOCKS), Vec::<Value>::new());

    assert_eq!((&job["reason"], &job["phase"]), (&json!("bad prints"), &json!("halted")));
    let paused_at = time(&job, "paused_at").as_microsecond();
    println!("paused {:.0} ms after the statement", (paused_at - asked_us) as f64 / 1e3);
    assert!((asked_us..=asked_us + 2_000_000).contains(&paused_at), "{paused_at} {asked_us}");
    let received = bench.messages("crypto-us");
    bench.wait_flow("iex", LIMIT);
    bench.wait_flow("iex", LIMIT);
    assert_eq!(bench.messages("crypto-us"), received, "no new messages");
    let status = bench.producer.status();
    assert_eq!(
        (&status["status"], &status["ingest_enabled"]),
        (&json!("running"), &json!(true)),
        "a part is not the whole"
    );

    let asked = Instant::now();
    bench.resume_crypto();
    bench.wait_flow("crypto-us", RESUME_LIMIT);
    println!("first record {:.0} ms after the release", asked.elapsed().as_secs_f64() * 1e3);
    assert!(asked.elapsed() <= RESUME_LIMIT);
    assert_eq!(bench.venue.since(mark, STOCKS), Vec::<Value>::new(), "the other job noticed nothing");
    let job = bench.producer.status()["jobs"]["crypto-us"].clone();
    assert_eq!((&job["paused_at"], &job["reason"]), (&Value::Null, &Value::Null));
}

#[test]
fn every_job_paused_one_by_one_is_everything_paused() {
    let bench = Bench::start();
    bench.hold("i", "job:iex", None);
    bench.wait_word("iex", "paused", PAUSE_LIMIT);
    bench.hold("c", "job:CRYPTO-US", None);
    let status = bench.producer.wait_status("paused", PAUSE_LIMIT, |status| status["status"] == "paused");
    assert_eq!(status["ingest_enabled_source"], "control:i", "the oldest of them");
    assert!(bench.venue.open_paths().is_empty());
    bench.release("i");
    bench.wait_word("iex", "running", RESUME_LIMIT);
    assert_eq!(bench.producer.status()["status"], "running");
    assert_eq!(bench.venue.open_paths(), [STOCKS]);
}

#[test]
fn each_hold_on_a_job_is_released_for_itself() {
    let bench = Bench::start();
    bench.pause_crypto();
    bench.hold("another", "job:crypto-us", None);
    bench.hold("all", "all", None);
    bench.producer.wait_status("paused", PAUSE_LIMIT, |status| status["status"] == "paused");
    bench.release("c");
    bench.release("all");
    bench.wait_word("iex", "running", RESUME_LIMIT);
    bench.wait_flow("iex", LIMIT);
    assert_eq!(bench.producer.status()["jobs"]["crypto-us"]["status"], "paused", "one hold is left");
    assert_eq!(bench.venue.open_paths(), [STOCKS]);
    bench.release("another");
    bench.wait_flow("crypto-us", RESUME_LIMIT);
}

#[test]
fn a_hold_on_a_job_that_does_not_exist_holds_nothing_and_is_listed() {
    let bench = Bench::start();
    let mark = bench.venue.mark();
    bench.hold("n", "job:nope", None);
    let status =
        bench.producer.wait_status("the hold", LIMIT, |status| status["holds"][0]["scope"] == "job:nope");
    assert_eq!((&status["status"], &status["ingest_enabled"]), (&json!("running"), &json!(true)));
    bench.wait_flow("iex", LIMIT);
    bench.wait_flow("crypto-us", LIMIT);
    assert!(bench.venue.since(mark, STOCKS).is_empty() && bench.venue.since(mark, CRYPTO).is_empty());
}

#[test]
fn a_resumed_job_has_the_state_that_it_had() {
    let bench = Bench::start();
    bench.wait_flow("crypto-us", LIMIT);
    let before = bench.producer.status();
    let asked = |mark| {
        let log = bench.venue.since(mark, CRYPTO);
        log.iter().filter(|event| event["kind"] == "subscribe").flat_map(pairs).collect::<Vec<_>>()
    };
    let first = asked(0);
    let mark = bench.venue.mark();
    bench.pause_crypto();
    let paused = bench.producer.status()["jobs"]["crypto-us"].clone();
    assert!(paused["messages"].as_u64() >= before["jobs"]["crypto-us"]["messages"].as_u64());
    assert!(time(&paused, "last_event_ts") >= time(&before["jobs"]["crypto-us"], "last_event_ts"));
    bench.resume_crypto();
    assert_eq!(asked(mark), first, "the same subscriptions");
    bench.wait_flow("crypto-us", LIMIT);
    let after = bench.producer.status();
    assert!(after["jobs"]["crypto-us"]["messages"].as_u64() > paused["messages"].as_u64(), "it counts on");
    assert_eq!(
        (&after["instance_id"], &after["started_at"]),
        (&before["instance_id"], &before["started_at"])
    );
    assert_eq!(after["jobs"]["crypto-us"]["subscribed"], before["jobs"]["crypto-us"]["subscribed"]);
}

#[test]
fn many_cycles_end_as_they_began_and_each_is_told_once() {
    const CYCLES: usize = 6;
    let bench = Bench::start();
    for _ in 0..CYCLES {
        bench.pause_crypto();
        bench.resume_crypto();
    }
    bench.wait_flow("crypto-us", LIMIT);
    let count = |name: &str, job: &str| bench.producer.metric(&format!(r#"{name}{{job="{job}"}}"#));
    for (name, crypto, stocks) in [
        ("jobs_paused_total", CYCLES, 0.0),
        ("jobs_resumed_total", CYCLES, 0.0),
        ("job_pause_duration_seconds_count", CYCLES, 0.0),
        ("job_pause_resume_errors_total", 0, 0.0),
    ] {
        assert_eq!(count(name, "crypto-us"), Some(crypto as f64), "{name}");
        assert_eq!(count(name, "iex").unwrap_or(0.0), stocks, "{name} of the other job");
    }
    let history = || {
        bench.rows(
            "SELECT scope, reason, actor, paused_at, effective_at, resumed_at, duration_s
             FROM market_ingest_history WHERE source = 'control:c' ORDER BY id",
        )
    };
    wait_for("every pause in the history, and over", LIMIT, || {
        (history().len() == CYCLES && history().iter().all(|row| !row[5].is_empty())).then_some(())
    });
    for row in history() {
        assert_eq!(row[..3], ["job:crypto-us", "bad prints", "kim"]);
        let [paused, effective, resumed] =
            [&row[3], &row[4], &row[5]].map(|time| time.parse::<jiff::Timestamp>().unwrap());
        assert!(paused <= effective && effective <= resumed, "{row:?}");
        let lasted: f64 = row[6].parse().unwrap();
        assert!((resumed.duration_since(paused).as_secs_f64() - lasted).abs() < 0.01, "{row:?}");
    }
    let _ = bench.producer.told::<CYCLES>("job_at_rest");
    let mut open = 0;
    for event in bench.venue.since(0, CRYPTO) {
        match text(&event, "kind") {
            "auth_ok" => open += 1,
            "tcp_closed" => open -= 1,
            _ => {}
        }
        assert!((0..=1).contains(&open), "one connection at a time: {event}");
    }
}

#[test]
fn a_pause_of_a_paused_job_and_a_resume_of_a_running_one_change_nothing() {
    let bench = Bench::start();
    bench.pause_crypto();
    let paused = bench.producer.status()["jobs"]["crypto-us"].clone();
    for n in 0..5 {
        bench.sql(
            "INSERT OR REPLACE INTO market_ingest_hold (id, scope, reason, actor, since)
             VALUES ('c', 'job:crypto-us', 'bad prints', 'kim', '2026-01-01T00:00:00Z')",
        );
        bench.producer.wait_status("taken up", LIMIT, |s| s["effective_generation"] == json!(n + 2));
    }
    let again = bench.producer.status()["jobs"]["crypto-us"].clone();
    assert_eq!(again["paused_at"], paused["paused_at"]);
    assert_eq!(bench.producer.metric(r#"jobs_paused_total{job="crypto-us"}"#), Some(1.0));
    bench.resume_crypto();
    assert_eq!(bench.sql("DELETE FROM market_ingest_hold WHERE id = 'c'"), 0, "nothing left to resume");
    bench.wait_flow("crypto-us", LIMIT);
    assert_eq!(bench.producer.metric(r#"jobs_resumed_total{job="crypto-us"}"#), Some(1.0));
}

#[test]
fn pauses_and_resumes_at_the_same_time_end_as_the_tables_say() {
    let bench = Bench::start();
    let path = bench.dir.path().join("store.db");
    std::thread::scope(|scope| {
        for operator in 0..3 {
            let path = &path;
            scope.spawn(move || {
                for _ in 0..15 {
                    sqlite::execute(
                        path,
                        &format!(
                            "INSERT INTO market_ingest_hold (id, scope) VALUES ('{operator}', 'job:crypto-us')"
                        ),
                    );
                    sqlite::execute(path, &format!("DELETE FROM market_ingest_hold WHERE id = '{operator}'"));
                }
                if operator == 1 {
                    sqlite::execute(
                        path,
                        "INSERT INTO market_ingest_hold (id, scope) VALUES ('last', 'job:crypto-us')",
                    );
                }
            });
        }
    });
    // Every edit is counted, and the effect is that of the last.
    let generation = 3 * 15 * 2 + 1;
    let status = bench.producer.wait_status("the last edit in effect", LIMIT, |status| {
        status["effective_generation"] == json!(generation)
    });
    assert_eq!(status["jobs"]["crypto-us"]["status"], "paused");
    assert_eq!(status["holds"][0]["source"], "control:last");
    assert_eq!(bench.venue.open_paths(), [STOCKS]);
    bench.release("last");
    bench.wait_flow("crypto-us", RESUME_LIMIT);
    assert!(bench.venue.events("auth_refused").is_empty(), "never two connections of one job");
}

#[test]
fn paused_is_said_only_of_a_job_without_a_socket() {
    let bench = Bench::start();
    for _ in 0..10 {
        bench.hold("c", "job:crypto-us", None);
        // Asked again and again all the while.
        let asked = Instant::now();
        loop {
            let word = bench.producer.status()["jobs"]["crypto-us"]["status"].clone();
            let open = bench.venue.open_paths();
            if word == "paused" {
                assert!(!open.contains(&CRYPTO.to_owned()), "said paused with {open:?}");
                break;
            }
            assert!(asked.elapsed() < PAUSE_LIMIT, "{word}");
        }
        bench.resume_crypto();
    }
}

#[test]
fn what_was_received_is_delivered_before_paused_is_said() {
    let bench = Bench::start();
    for round in 1..=3 {
        bench.wait_flow("crypto-us", LIMIT);
        bench.pause_crypto();
        let written =
            bench.rows("SELECT id, ts, updated_at FROM live_quotes WHERE symbol LIKE '%/%' ORDER BY 1");
        let told = wait_for("the pause in the log", LIMIT, || {
            Some(bench.producer.log("job_at_rest")).filter(|told| told.len() == round)
        });
        let rest = &told[round - 1];
        assert_eq!((&rest.json["job"], &rest.json["dropped"]), (&json!("crypto-us"), &json!(0)));
        bench.wait_flow("iex", LIMIT);
        bench.wait_flow("iex", LIMIT);
        let later =
            bench.rows("SELECT id, ts, updated_at FROM live_quotes WHERE symbol LIKE '%/%' ORDER BY 1");
        assert_eq!(later, written, "and nothing after");
        bench.resume_crypto();
    }
}

#[test]
fn a_pause_survives_a_restart() {
    for end in ["TERM", "KILL"] {
        let mut bench = Bench::start();
        bench.pause_crypto();
        bench.producer.process.signal(end);
        bench.producer.process.wait_exit(LIMIT);
        let mark = bench.venue.mark();
        bench.restart();
        let job = bench.wait_word("crypto-us", "paused", LIMIT);
        assert_eq!(job["reason"], "bad prints");
        // The lease of a process that was killed ends first.
        bench.wait_flow("iex", LIMIT + Duration::from_secs(15));
        assert_eq!(bench.venue.since(mark, CRYPTO), Vec::<Value>::new(), "not one dial");
        let open = bench.rows("SELECT id FROM market_ingest_history WHERE resumed_at IS NULL");
        bench.release("c");
        bench.wait_flow("crypto-us", RESUME_LIMIT);
        let closed = || bench.rows("SELECT id FROM market_ingest_history WHERE resumed_at IS NOT NULL");
        wait_for("the same pause closed", LIMIT, || (closed() == open).then_some(()));
    }
}

#[test]
fn a_pause_with_an_end_ends_within_a_second_of_it() {
    let bench = Bench::start();
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3);
    bench.hold("c", "job:crypto-us", Some(until));
    bench.wait_word("crypto-us", "paused", PAUSE_LIMIT);
    let mark = bench.venue.mark();
    assert_resumed_at(&bench, mark, until);
}

#[test]
fn a_pause_with_an_end_ends_on_time_over_a_restart() {
    let mut bench = Bench::start();
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(6);
    bench.hold("c", "job:crypto-us", Some(until));
    bench.wait_word("crypto-us", "paused", PAUSE_LIMIT);
    let mark = bench.venue.mark();
    assert!(bench.producer.stop().success());
    bench.restart();
    bench.wait_word("crypto-us", "paused", LIMIT);
    assert_resumed_at(&bench, mark, until);
}

#[track_caller]
fn assert_resumed_at(bench: &Bench, mark: u64, until: jiff::Timestamp) {
    let live = wait_for("live again", LIMIT, || {
        bench.venue.since(mark, CRYPTO).into_iter().find(|event| event["kind"] == "upgrade")
    });
    let late_ms = (live["ts_us"].as_i64().unwrap() - until.as_microsecond()) as f64 / 1e3;
    println!("dialled {late_ms:.0} ms after the end");
    assert!((0.0..=1000.0).contains(&late_ms), "{late_ms} ms");
    bench.wait_flow("crypto-us", RESUME_LIMIT);
    assert_eq!(bench.producer.status()["holds"], json!([]));
}

#[test]
fn memory_stays_flat_and_the_lag_grows_with_the_clock_over_a_long_pause() {
    let bench = Bench::start();
    bench.wait_flow("crypto-us", LIMIT);
    bench.pause_crypto();
    bench.hold("i", "job:iex", None);
    bench.producer.wait_status("paused", PAUSE_LIMIT, |status| status["status"] == "paused");
    let lag = || bench.producer.metric(r#"job_lag_while_paused{job="crypto-us"}"#).unwrap();
    // Heartbeats come once a second: two for everything to settle, then twenty.
    let wait_beats = |count| sqlite::wait_beats(&bench.dir.path().join("store.db"), count);
    wait_beats(2);
    let (before_kib, lag_before, began) = (bench.producer.process.memory_kib(), lag(), Instant::now());
    wait_beats(20);
    let (after_kib, grown, passed) =
        (bench.producer.process.memory_kib(), lag() - lag_before, began.elapsed().as_secs_f64());
    println!("memory {before_kib} KiB, after {passed:.0} s of pause {after_kib} KiB; lag grew {grown:.1} s");
    assert!(after_kib <= before_kib + 2048, "{before_kib} KiB, then {after_kib} KiB");
    assert!((grown - passed).abs() < 0.5, "lag grew {grown} s in {passed} s");
    let rest: Vec<_> = bench.producer.records().into_iter().rev().take(3).collect();
    assert!(rest.iter().all(|record| record.json["severity"] != "ERROR"), "{rest:?}");
    bench.release("i");
    bench.resume_crypto();
    assert_eq!(bench.producer.metric(r#"job_lag_while_paused{job="crypto-us"}"#), None, "while paused only");
}

#[test]
fn a_pause_meets_its_limit_whatever_the_network_does() {
    for fault in
        [json!({"fault": "half_open"}), json!({"fault": "mute"}), json!({"fault": "cut", "rst": true})]
    {
        let bench = Bench::start();
        bench.venue.fault(&fault);
        // Silence alone is no event of the venue's log.
        if fault["fault"] != "mute" {
            wait_for("the fault", LIMIT, || (!bench.venue.events("fault").is_empty()).then_some(()));
        }
        bench.hold("c", "job:crypto-us", None);
        bench.hold("i", "job:iex", None);
        bench.producer.wait_status(&format!("paused, {fault}"), LIMIT, |s| s["status"] == "paused");
        for rest in bench.producer.told::<2>("job_at_rest") {
            assert!(rest.json["effect_ms"].as_f64().unwrap() <= 2000.0, "{fault}: {:?}", rest.json);
        }
        bench.venue.heal();
        bench.release("c");
        bench.release("i");
        bench.wait_flow("crypto-us", LIMIT);
        bench.wait_flow("iex", LIMIT);
    }
}

#[test]
fn a_resume_that_takes_too_long_is_counted_and_goes_on() {
    let bench = Bench::start();
    bench.pause_crypto();
    bench.venue.fault(&json!({"fault": "refuse_upgrade", "status": 503, "path": CRYPTO}));
    bench.release("c");
    let errors = r#"job_pause_resume_errors_total{job="crypto-us"}"#;
    wait_for("counted", LIMIT, || (bench.producer.metric(errors) == Some(1.0)).then_some(()));
    let [late] = bench.producer.told("job_pause_resume_late");
    assert_eq!((late.text("job").as_str(), late.text("asked").as_str()), ("crypto-us", "resume"));
    let job = bench.producer.status()["jobs"]["crypto-us"].clone();
    assert_ne!(job["status"], "running", "what is: {job}");
    bench.wait_flow("iex", LIMIT);
    bench.venue.heal();
    bench.wait_flow("crypto-us", LIMIT);
    assert_eq!(bench.producer.metric(errors), Some(1.0), "once for one resume");
}

#[test]
fn a_job_that_fails_says_why_and_the_other_runs() {
    let refusal = format!("refuse_auth:code=402,path={CRYPTO}");
    let bench = Bench::with(&[&refusal]);
    let job = bench.wait_word("crypto-us", "failed", LIMIT);
    assert!(text(&job, "reason").contains("402"), "{job}");
    bench.wait_flow("iex", LIMIT);
    // A failed job can be paused, and tried again by its resume.
    bench.pause_crypto();
    bench.venue.heal();
    bench.release("c");
    bench.wait_flow("crypto-us", LIMIT);
    assert_eq!(bench.producer.status()["jobs"]["crypto-us"]["status"], "running");
}

#[test]
fn a_job_is_starting_before_it_was_live_and_stopped_after_the_end() {
    let stall = format!("stall:at=greeting,path={CRYPTO}");
    let mut bench = Bench::with(&[&stall]);
    bench.wait_word("iex", "running", LIMIT);
    bench.wait_word("crypto-us", "starting", LIMIT);
    bench.hold("i", "job:iex", None);
    bench.wait_word("iex", "paused", PAUSE_LIMIT);
    assert!(bench.producer.stop().success());
    let beat = sqlite::heartbeat(&bench.dir.path().join("store.db")).unwrap();
    for job in ["iex", "crypto-us"] {
        assert_eq!(beat["jobs"][job]["status"], "stopped", "{job}");
    }
}

#[test]
fn what_is_done_for_a_pause_is_logged_with_its_reason_and_its_duration() {
    let bench = Bench::start();
    bench.pause_crypto();
    bench.resume_crypto();
    let [placed] = bench.producer.told("hold_placed");
    assert_eq!(
        [placed.text("scope"), placed.text("reason"), placed.text("actor"), placed.text("source")],
        ["job:crypto-us", "bad prints", "kim", "control:c"]
    );
    let [rest] = bench.producer.told("job_at_rest");
    assert!(rest.json["effect_ms"].as_f64().unwrap() <= 2000.0, "{:?}", rest.json);
    let [released] = bench.producer.told("hold_released");
    assert_eq!(released.text("source"), "control:c");
    let live = bench.producer.told::<3>("job_live");
    assert_eq!(live.iter().filter(|r| r.text("job") == "crypto-us").count(), 2, "at the start and again");
    assert_eq!(bench.producer.log("ingest_switch").len(), 1, "only the whole crosses the switch's edges");
}

#[test]
fn the_calls_pause_a_job_resume_it_and_tell_of_it() {
    let bench = Bench::start();
    bench.wait_flow("crypto-us", LIMIT);
    let call = |path: &str| {
        let body = json!({"reason": "bad prints", "actor": "kim"});
        let (code, body) = http::post(&bench.producer.url(&format!("/api/v1/jobs/{path}")), &body);
        (code, serde_json::from_str::<Value>(&body).unwrap())
    };
    let details = || http::get_json(&bench.producer.url("/api/v1/jobs/crypto-us")).unwrap();
    let (code, refused) = call("nope/pause");
    assert_eq!(code, 404, "{refused}");
    let (code, refused) = call("crypto-us/resume");
    assert_eq!(code, 409, "resuming what is not paused: {refused}");

    // Its own limits, without a value: two seconds and three.
    let (code, paused) = call("crypto-us/pause?wait");
    assert_eq!((code, &paused["effective"]), (200, &json!(true)), "{paused}");
    assert_eq!(bench.venue.open_paths(), [STOCKS]);
    let job = wait_for("the history", LIMIT, || {
        Some(details()).filter(|job| job["pause_history"].as_array().is_some_and(|all| !all.is_empty()))
    });
    assert_eq!((text(&job, "name"), text(&job, "status")), ("crypto-us", "paused"));
    assert_eq!(text(&job, "reason"), "bad prints");
    assert!(job["metrics"]["messages"]["quote"].as_u64() > Some(0), "{job}");
    assert!(job["lag_while_paused_s"].as_f64() > Some(0.0), "{job}");
    assert!(time(&job["last_processed"], "ts") <= time(&job, "paused_at"), "{job}");
    let event = job["pause_history"][0].clone();
    assert_eq!((text(&event, "reason"), &event["resumed_at"]), ("bad prints", &Value::Null));

    let (code, again) = call("crypto-us/pause?wait");
    assert_eq!((code, &again["generation"]), (200, &paused["generation"]), "asking twice changes nothing");
    let (code, resumed) = call("crypto-us/resume?wait");
    assert_eq!((code, &resumed["effective"]), (200, &json!(true)), "{resumed}");
    bench.wait_flow("crypto-us", LIMIT);
    let event = wait_for("its end in the history", LIMIT, || {
        Some(details()["pause_history"][0].take()).filter(|event| !event["resumed_at"].is_null())
    });
    let lasted = time(&event, "resumed_at").duration_since(time(&event, "paused_at")).as_secs_f64();
    assert!((event["duration_s"].as_f64().unwrap() - lasted).abs() < 0.01, "{event}");
    let job = details();
    assert_eq!((text(&job, "status"), &job["lag_while_paused_s"]), ("running", &Value::Null));
}
