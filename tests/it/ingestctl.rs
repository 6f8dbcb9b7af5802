//! The operator's program against real producers: what it calls effective is, and what is not it does not.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use e2e::child::Process;
use e2e::firestore::{Firestore, PROJECT, plain};
use e2e::producer::{Producer, Setup};
use e2e::venue::Venue;
use e2e::{binary, free_port, sqlite, wait_for};
use serde_json::{Value, json};

const BUSY: &[&str] = &["--synthetic", "--rate", "2000", "--symbols", "50"];
/// Any command ends within this time on a loaded machine.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// An operator at a shell.
#[derive(Clone, Debug)]
struct Operator {
    name: &'static str,
    vars: Vec<(&'static str, String)>,
    arguments: Vec<String>,
}

/// What a command answered.
#[derive(Debug)]
struct Answer {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Operator {
    /// One who works on the store in `dir`.
    fn at(name: &'static str, dir: &Path) -> Self {
        let store = format!("sqlite:{}", dir.join("store.db").display());
        Self { name, vars: vec![("INGEST_STORE", store)], arguments: Vec::new() }
    }

    /// One who works on the producer's own HTTP API, and knows no store.
    fn over(name: &'static str, url: &str) -> Self {
        Self { name, vars: Vec::new(), arguments: vec!["--url".to_owned(), url.to_owned()] }
    }

    fn var(mut self, name: &'static str, value: &str) -> Self {
        self.vars.push((name, value.to_owned()));
        self
    }

    fn command(&self, line: &[&str]) -> Command {
        let mut command = Command::new(binary::path("ingestctl"));
        command.env_clear().env("USER", self.name).envs(self.vars.iter().map(|(name, value)| (name, value)));
        command.args(line).args(&self.arguments);
        command
    }

    fn run(&self, line: &[&str]) -> Answer {
        let mut process = Process::spawn(&mut self.command(line));
        let status = process.wait_exit(COMMAND_LIMIT);
        let stdout = process.stdout().into_iter().map(|line| line.text).collect::<Vec<_>>().join("\n");
        Answer { code: status.code().expect("it ends by itself"), stdout, stderr: process.stderr() }
    }

    /// Runs it with `--json` and expects this exit code, in the process and in the answer.
    #[track_caller]
    fn json(&self, line: &[&str], code: i32) -> Value {
        let answer = self.run(&[line, &["--json"]].concat());
        assert_eq!(answer.code, code, "{line:?}: {answer:?}");
        let json: Value = serde_json::from_str(&answer.stdout).unwrap_or_else(|e| panic!("{e}: {answer:?}"));
        assert_eq!((&json["schema"], &json["exit"]), (&json!(1), &json!(code)), "{json}");
        assert_eq!(json["command"], line[0], "{json}");
        json
    }

    /// Runs it and expects this exit code and these parts of what it says.
    #[track_caller]
    fn says(&self, line: &[&str], code: i32, parts: &[&str]) -> Answer {
        let answer = self.run(line);
        assert_eq!(answer.code, code, "{line:?}: {answer:?}");
        for part in parts {
            let told = answer.stdout.contains(part) || answer.stderr.contains(part);
            assert!(told, "{line:?} does not say {part:?}: {answer:?}");
        }
        assert!(!answer.stdout.contains('\u{1b}'), "no colours into a pipe: {answer:?}");
        answer
    }
}

fn start(venue: &Venue, dir: &Path) -> Producer {
    let producer = setup(venue, dir).start();
    wait_stored(dir, "live");
    producer
}

/// Waits until the stored heartbeat, which is what an operator sees, has every job in this phase.
fn wait_stored(dir: &Path, phase: &str) {
    wait_for(&format!("a stored heartbeat of {phase} jobs"), Duration::from_secs(20), || {
        let beat = sqlite::heartbeat(&dir.join("store.db"))?;
        let mut jobs = beat["jobs"].as_object()?.values();
        jobs.all(|job| job["phase"] == phase).then_some(())
    });
}

fn setup(venue: &Venue, dir: &Path) -> Setup {
    Setup::new(venue, dir).var("MONITORED_SYMBOLS", "*").var("RECONNECT_BACKOFF_MAX_S", 1)
}

fn open_sockets(venue: &Venue) -> usize {
    venue.state()["connections"].as_array().map_or(0, Vec::len)
}

fn messages(producer: &Producer) -> u64 {
    producer.status()["counters"]["messages"].as_u64().unwrap()
}

/// The control document's generation in the store.
fn generation(dir: &Path) -> Option<String> {
    let rows = sqlite::rows(&dir.join("store.db"), "SELECT generation FROM market_ingest_control");
    rows.into_iter().next()?.into_iter().next()?
}

/// Pauses and resumes; at each answer the venue's own record must agree with it.
fn pauses_and_resumes(operator: &Operator, venue: &Venue, producer: &Producer) {
    let paused = operator.json(&["pause", "--reason", "exchange maintenance", "--for", "2h"], 0);
    assert_eq!(paused["effective"], true, "{paused}");
    assert_eq!(paused["jobs"]["iex"]["status"], "paused", "{paused}");
    assert!(paused["jobs"]["iex"]["closed_after_s"].as_f64().unwrap() > 0.0, "{paused}");
    assert_eq!(venue.events("close_received").len(), 1, "the close frame came before the answer");
    wait_for("the venue's end of the socket", Duration::from_secs(2), || {
        (open_sockets(venue) == 0).then_some(())
    });
    let before = messages(producer);

    let status = operator.json(&["status"], 0);
    assert_eq!(status["verdict"]["word"], "paused", "{status}");
    assert_eq!(status["holds"][0]["actor"], operator.name, "{status}");
    assert_eq!(status["holds"][0]["reason"], "exchange maintenance", "{status}");
    operator.says(&["status"], 0, &["paused by control:", "exchange maintenance", "(in "]);

    let again = operator.json(&["pause", "--reason", "exchange maintenance", "--until", &until(&paused)], 0);
    assert_eq!(again["generation"], paused["generation"], "the same again changes nothing");

    assert_eq!(messages(producer), before, "nothing came while paused");
    let resumed = operator.json(&["resume"], 0);
    assert_eq!(resumed["still_held_by"], json!([]), "{resumed}");
    assert_eq!(resumed["jobs"]["iex"]["connected"], true, "{resumed}");
    assert_eq!(open_sockets(venue), 1);
    wait_for("the first record", Duration::from_secs(3), || (messages(producer) > before).then_some(()));

    // Whoever waits for a pause does not wait for its record.
    let history = wait_for("the pause's record", Duration::from_secs(5), || {
        let history = operator.json(&["history", "--limit", "5"], 0);
        history["pauses"][0]["resumed_at"].is_string().then_some(history)
    });
    let pause = &history["pauses"][0];
    assert_eq!((&pause["scope"], &pause["actor"]), (&json!("all"), &json!(operator.name)), "{history}");
    assert!(pause["effective_at"].is_string(), "{history}");
    operator.says(&["history"], 0, &["exchange maintenance", operator.name]);
}

fn until(paused: &Value) -> String {
    paused["until"].as_str().expect("an end").to_owned()
}

#[test]
fn a_pause_through_the_store_is_effective_when_it_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let venue = Venue::start(BUSY);
    let producer = start(&venue, dir.path());
    pauses_and_resumes(&Operator::at("ann", dir.path()), &venue, &producer);
}

#[test]
fn a_pause_over_http_is_effective_when_it_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let venue = Venue::start(BUSY);
    let producer = start(&venue, dir.path());
    pauses_and_resumes(&Operator::over("ann", &producer.url("")), &venue, &producer);
}

#[test]
fn a_pause_through_firestore_is_effective_when_it_says_so_and_the_fleet_is_seen() {
    let Some(firestore) = Firestore::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let venue = Venue::start(BUSY);
    let place = |tenant: &'static str| {
        [
            ("INGEST_STORE", "firestore".to_owned()),
            ("FIRESTORE_EMULATOR_HOST", firestore.host()),
            ("FIRESTORE_PROJECT_ID", PROJECT.to_owned()),
            ("TENANT_ID", tenant.to_owned()),
        ]
    };
    let start = |tenant, is_up: fn(&Value) -> bool| {
        let vars = place(tenant).into_iter();
        let producer =
            vars.fold(setup(&venue, dir.path()), |setup, (name, value)| setup.var(name, value)).start();
        let path = format!("tenants/{tenant}/ops/market_ingest");
        wait_for("its stored heartbeat", Duration::from_secs(20), || {
            is_up(&plain(&firestore.document(&path)?["fields"])).then_some(())
        });
        producer
    };
    let producer = start("t1", |beat| beat["jobs"]["iex"]["phase"] == "live");
    let operator = Operator { name: "ann", vars: place("t1").into(), arguments: Vec::new() };
    pauses_and_resumes(&operator, &venue, &producer);

    // The venue has one slot an account, so this one waits; it is there all the same.
    let mut other = start("t2", |beat| beat["status"] == "running");
    assert!(other.stop().success());
    let fleet = operator.json(&["fleet"], 4);
    let words: Vec<_> =
        fleet["tenants"].as_array().unwrap().iter().map(|t| (&t["tenant"], &t["verdict"]["word"])).collect();
    assert_eq!(words, [(&json!("t1"), &json!("live")), (&json!("t2"), &json!("stopped"))]);
}

#[test]
fn a_wedged_producer_never_makes_a_pause_look_effective() {
    let dir = tempfile::tempdir().unwrap();
    let venue = Venue::start(BUSY);
    let mut producer = start(&venue, dir.path());
    let operator = Operator::at("ann", dir.path());
    producer.process.signal("STOP");
    let answer = operator.json(&["pause", "--reason", "test", "--wait", "2s"], 3);
    assert_eq!(answer["effective"], false);
    assert!(answer["waited_s"].as_f64().unwrap() >= 2.0, "{answer}");
    assert!(answer["waiting_for"].to_string().contains("newer than the change"), "{answer}");
    let over_http = Operator::over("ann", &producer.url(""));
    over_http.says(&["pause", "--reason", "test"], 4, &["no producer answers"]);

    producer.process.signal("CONT");
    operator.json(&["pause", "--reason", "test"], 0);
    assert!(producer.stop().success());
}

#[test]
fn not_to_wait_is_not_to_know() {
    let dir = tempfile::tempdir().unwrap();
    let venue = Venue::start(BUSY);
    let _producer = start(&venue, dir.path());
    let operator = Operator::at("ann", dir.path());
    operator.says(&["pause", "--reason", "test", "--wait", "0"], 3, &["accepted, not verified"]);
    operator.says(&["resume", "--wait", "0"], 3, &["accepted, not verified"]);
}

#[test]
fn without_a_producer_the_hold_is_written_and_obeyed_by_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let venue = Venue::start(BUSY);
    let operator = Operator::at("ann", dir.path());
    operator.says(&["status"], 1, &["there is no SQLite store", "--url http://HOST:PORT"]);

    let mut producer = start(&venue, dir.path());
    assert!(producer.stop().success());
    let dials = venue.events("tcp_open").len();
    operator.says(&["status"], 4, &["stopped cleanly"]);
    operator.says(&["pause", "--reason", "upgrade"], 4, &["no live producer", "stands all the same"]);
    operator.says(&["status"], 4, &["all-ann on all is asked for and not taken up"]);
    operator.says(
        &["pause", "--reason", "x", "--url", &format!("http://127.0.0.1:{}", free_port())],
        4,
        &["no producer answers", "nothing was written"],
    );

    let producer = setup(&venue, dir.path()).start();
    producer.wait_status("paused", Duration::from_secs(5), |status| status["status"] == "paused");
    let store = dir.path().join("store.db");
    wait_for("its heartbeat", Duration::from_secs(5), || {
        (sqlite::heartbeat(&store)?["status"] == "paused").then_some(())
    });
    operator.says(&["status"], 0, &["paused by control:all-ann (ann): upgrade"]);
    assert_eq!(venue.events("tcp_open").len(), dials, "the next one did not even dial");
}

#[test]
fn what_others_hold_is_released_by_its_id_on_purpose_only() {
    let dir = tempfile::tempdir().unwrap();
    let venue = Venue::start(BUSY);
    let producer = start(&venue, dir.path());
    let (ann, bob) = (Operator::at("ann", dir.path()), Operator::at("bob", dir.path()));
    ann.json(&["pause", "--reason", "odd prices"], 0);
    bob.json(&["pause", "--reason", "works"], 0);

    let cat = Operator::at("cat", dir.path());
    cat.says(&["resume"], 2, &["odd prices", "ingestctl resume --hold all-ann --hold all-bob"]);
    assert_eq!(producer.status()["holds"].as_array().unwrap().len(), 2, "nothing was released");
    assert_eq!(generation(dir.path()).as_deref(), Some("2"));

    let answer = bob.json(&["resume"], 3);
    assert_eq!(answer["effective"], true, "{answer}");
    assert_eq!(answer["still_held_by"][0]["source"], "control:all-ann", "{answer}");
    assert_eq!(open_sockets(&venue), 0);
    bob.says(&["resume", "--hold", "control:all-ann"], 0, &["data flow"]);
    assert_eq!(open_sockets(&venue), 1);
    bob.says(&["resume", "--hold", "all-ann"], 2, &["there is no control hold \"all-ann\""]);
}

#[test]
fn a_flag_file_is_written_whole_and_told_as_the_one_that_still_holds() {
    let dir = tempfile::tempdir().unwrap();
    let flag = dir.path().join("flag");
    let path = flag.display().to_string();
    let venue = Venue::start(BUSY);
    let producer = setup(&venue, dir.path()).var("INGEST_ENABLED_FILE", &path).start();
    wait_stored(dir.path(), "live");
    let operator = Operator::at("ann", dir.path());
    operator.says(&["flag", "set", "off", &path, "--reason", "night", "--for", "8h"], 0, &["says off"]);
    wait_stored(dir.path(), "halted");
    let hold = producer.status()["holds"][0].clone();
    assert_eq!((&hold["actor"], &hold["reason"]), (&json!("ann"), &json!("night")), "{hold}");
    assert!(hold["until"].is_string(), "{hold}");

    let on = format!("ingestctl flag set on {path}");
    operator.says(&["resume"], 2, &["no control hold pauses all", &on]);
    operator.json(&["pause", "--reason", "too"], 0);
    operator.says(&["resume"], 3, &["still held", &format!("file:{path}"), &on]);
    operator.json(&["flag", "set", "on", &path], 0);
    wait_stored(dir.path(), "live");
    operator.says(&["flag", "set", "off", &dir.path().display().to_string()], 2, &["no plain file"]);
}

#[test]
fn a_resume_waits_for_data_not_for_words() {
    let dir = tempfile::tempdir().unwrap();
    let venue = Venue::start(BUSY);
    let _producer = start(&venue, dir.path());
    let operator = Operator::at("ann", dir.path());
    operator.json(&["pause", "--reason", "test"], 0);
    venue.fault(&json!({"fault": "refuse_upgrade", "status": 503}));
    let answer = operator.json(&["resume", "--wait", "2"], 3);
    assert_eq!(answer["effective"], false, "{answer}");
    assert!(answer["waiting_for"].to_string().contains("job iex to connect"), "{answer}");
    venue.heal();
}

#[test]
fn what_is_not_there_is_refused_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let venue = Venue::start(BUSY);
    let _producer = start(&venue, dir.path());
    let store = Operator::at("ann", dir.path());
    let before = generation(dir.path());
    store.says(&["pause", "job:sip", "--reason", "x"], 2, &["no job \"sip\"", "its jobs: iex"]);
    store.says(&["pause", "iex", "--reason", "x"], 2, &["write job:iex"]);
    store.says(&["pause", "AAPL/quote", "--reason", "x"], 2, &["did you mean \"AAPL/quotes\"?"]);
    store.says(&["pause", "--reason", "x", "--until", "2001-01-01T00:00:00Z"], 2, &["is over already"]);
    store.says(&["pause"], 2, &["--reason"]);
    store.says(&["resume"], 2, &["no control hold pauses all", "shows no hold at all"]);
    store.says(&["why", "AAPL", "--job", "sip"], 2, &["its jobs: iex"]);
    store.says(&["fleet", "--url", "http://127.0.0.1:1"], 2, &["--url is one producer"]);
    let failure = store.json(&["resume"], 2);
    assert!(failure["error"].as_str().unwrap().contains("no control hold"), "{failure}");
    assert_eq!(generation(dir.path()), before);
}

#[test]
fn why_tells_the_whole_chain() {
    let dir = tempfile::tempdir().unwrap();
    let venue = Venue::start(BUSY);
    let _producer = setup(&venue, dir.path()).var("ALPACA_DATA_FEED", "iex,crypto-us").start();
    wait_stored(dir.path(), "live");
    let operator = Operator::at("ann", dir.path());
    operator.says(&["why", "AAPL"], 0, &["iex", "runs"]);
    operator.says(
        &["pause", "A*/quotes", "job:crypto-us", "--reason", "odd prices", "--for", "1h"],
        0,
        &["closed"],
    );
    assert_eq!(open_sockets(&venue), 1, "one job goes on, on its one socket");

    let why = operator.json(&["why", "aapl", "--job", "iex"], 0);
    let answers = why["answers"].as_array().unwrap();
    let on = |channel: &str| answers.iter().find(|answer| answer["channel"] == channel).unwrap();
    assert_eq!((&on("quotes")["held"], &on("trades")["held"]), (&json!(true), &json!(false)), "{why}");
    let hold = &on("quotes")["holds"][0];
    assert_eq!(hold["scope"], "symbol:A*/quotes", "{why}");
    assert_eq!((&hold["actor"], &hold["reason"]), (&json!("ann"), &json!("odd prices")), "{why}");
    assert!(hold["age_s"].as_f64().unwrap() >= 0.0 && hold["until"].is_string(), "{why}");
    operator.says(&["why", "BTC/USD"], 0, &["crypto-us", "held", "job:crypto-us", "odd prices", "ann"]);
    operator.says(&["why", "MSFT", "--channel", "quotes"], 0, &["iex quotes: runs"]);
    operator.says(&["jobs"], 0, &["iex", "live", "crypto-us", "paused"]);
    operator.says(&["resume", "A*/quotes", "job:crypto-us"], 0, &["data flow"]);
}

#[test]
fn operators_at_once_lose_nobodys_hold() {
    let dir = tempfile::tempdir().unwrap();
    let venue = Venue::start(BUSY);
    let producer = start(&venue, dir.path());
    let names = ["ann", "bob", "cat", "dan", "eve", "fay"];
    std::thread::scope(|scope| {
        for name in names {
            let operator = Operator::at(name, dir.path());
            scope.spawn(move || {
                operator.json(&["pause", &format!("Z{name}*"), "--reason", name, "--wait", "30"], 0)
            });
        }
    });
    assert_eq!(generation(dir.path()), Some(names.len().to_string()));
    let holds = producer.status()["holds"].as_array().unwrap().len();
    assert_eq!(holds, names.len());
    std::thread::scope(|scope| {
        for name in names {
            let operator = Operator::at(name, dir.path());
            scope.spawn(move || operator.json(&["resume", &format!("Z{name}*"), "--wait", "30"], 0));
        }
    });
    assert_eq!(producer.status()["holds"], json!([]));
    assert_eq!(open_sockets(&venue), 1, "the socket was never given up");
}

#[test]
fn every_command_answers_in_versioned_json() {
    let dir = tempfile::tempdir().unwrap();
    let venue = Venue::start(BUSY);
    let producer = start(&venue, dir.path());
    let store = Operator::at("ann", dir.path());
    assert_eq!(store.json(&["status"], 0)["verdict"]["word"], "live");
    assert!(store.json(&["jobs"], 0)["jobs"]["iex"]["connected"].as_bool().unwrap());
    assert!(store.json(&["gaps"], 0)["gaps"].is_array());
    assert_eq!(store.json(&["fleet"], 0)["tenants"][0]["verdict"]["word"], "live");
    assert!(store.json(&["history"], 0)["pauses"].is_array());
    let http = Operator::over("ann", &producer.url(""));
    assert_eq!(http.json(&["status"], 0)["heartbeat"]["status"], "running");
    assert_eq!(http.json(&["why", "AAPL"], 0)["answers"][0]["held"], false);
    assert_eq!(http.json(&["jobs"], 0)["jobs"]["iex"]["phase"], "live");
    assert!(http.json(&["gaps"], 0)["gaps"].is_array());
}

#[test]
fn a_watch_prints_what_changes_and_ends_at_ctrl_c() {
    let dir = tempfile::tempdir().unwrap();
    let venue = Venue::start(BUSY);
    let _producer = start(&venue, dir.path());
    let operator = Operator::at("ann", dir.path());
    let mut watch = Process::spawn(&mut operator.command(&["status", "--watch"]));
    let line = |watch: &Process, part: &str| {
        wait_for(part, Duration::from_secs(10), || {
            watch.stdout().last().is_some_and(|line| line.text.contains(part)).then_some(())
        });
    };
    line(&watch, "live, heard of");
    operator.json(&["pause", "--reason", "test"], 0);
    line(&watch, "paused by control:all-ann (ann): test");
    operator.json(&["resume"], 0);
    line(&watch, "iex running, live");
    watch.signal("INT");
    assert_eq!(watch.wait_exit(Duration::from_secs(5)).code(), Some(0));
    let lines = watch.stdout().len();
    assert!((3..=12).contains(&lines), "{lines} lines, though only changes are news");
}

#[test]
fn a_write_over_http_needs_the_token_and_the_token_is_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let venue = Venue::start(BUSY);
    let producer = setup(&venue, dir.path()).var("INGEST_ADMIN_TOKEN", "hunter2hunter2").start();
    producer.wait_live();
    let url = producer.url("");
    let pause = ["pause", "--reason", "test"];
    let without = Operator::over("ann", &url);
    without.says(&pause, 2, &["no token was sent", "INGEST_ADMIN_TOKEN"]);
    let wrong = without.clone().var("INGEST_ADMIN_TOKEN", "not-it-at-all");
    let answer = wrong.says(&pause, 2, &["is not the one"]);
    assert!(!format!("{answer:?}").contains("not-it-at-all"));

    let file = dir.path().join("token");
    std::fs::write(&file, "hunter2hunter2\n").unwrap();
    let by_file = [&pause[..], &["--token-file", file.to_str().unwrap()]].concat();
    let answer = without.says(&by_file, 0, &["is effective"]);
    let right = without.clone().var("INGEST_ADMIN_TOKEN", "hunter2hunter2");
    let resumed = right.says(&["resume"], 0, &["data flow"]);
    for answer in [answer, resumed] {
        assert!(!format!("{answer:?}").contains("hunter2"), "{answer:?}");
    }
}

#[test]
fn completions_and_man_page_need_nothing() {
    let operator = Operator { name: "ann", vars: Vec::new(), arguments: Vec::new() };
    operator.says(&["completions", "bash"], 0, &["_ingestctl", "--reason"]);
    operator.says(&["man"], 0, &[".TH ingestctl 1", "no live producer"]);
    operator.says(&["man", "pause"], 0, &["ingestctl\\-pause"]);
    operator.says(&["man", "nonsense"], 2, &["there is no command"]);
}
