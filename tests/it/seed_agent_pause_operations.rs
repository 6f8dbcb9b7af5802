//! The operations guide of the agent, statement by statement: the control file and the two signals on a real process.
//! The control script, its jobs and its manifests are in `kubernetes`, the health files in `health_files`.

use std::time::{Duration, Instant};

use e2e::producer::{Producer, Record, Setup};
use e2e::venue::Venue;
use e2e::{now_us, sqlite, wait_for};
use serde_json::{Value, json};

const BUSY: &[&str] = &["--synthetic", "--rate", "2000", "--symbols", "20"];
const SECOND: Duration = Duration::from_secs(1);
const PAUSE_LIMIT: Duration = Duration::from_secs(2);
const RESUME_LIMIT: Duration = Duration::from_secs(3);
const LIMIT: Duration = Duration::from_secs(10);

/// An agent with its control file, which says `running` as it is shipped.
struct Bench {
    producer: Producer,
    venue: Venue,
    dir: tempfile::TempDir,
}

impl Bench {
    fn start() -> Self {
        let venue = Venue::start(BUSY);
        let dir = tempfile::tempdir().unwrap();
        for folder in ["control", "health"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        std::fs::write(dir.path().join("control/state"), "running").unwrap();
        let producer = setup(&venue, &dir).start();
        let bench = Self { producer, venue, dir };
        bench.producer.wait_live();
        bench
    }

    fn write(&self, word: &str) {
        std::fs::write(self.dir.path().join("control/state"), word).unwrap();
    }

    fn signal(&self, name: &str) {
        self.producer.process.signal(name);
    }

    fn restart(&mut self) {
        assert!(self.producer.stop().success());
        self.producer = setup(&self.venue, &self.dir).start();
    }

    fn wait_paused(&self) {
        self.producer.wait_status("paused", PAUSE_LIMIT, |status| status["status"] == "paused");
    }

    fn wait_live(&self) {
        self.producer.wait_status("live", RESUME_LIMIT, |status| {
            status["status"] == "running" && status["jobs"]["iex"]["connected"] == json!(true)
        });
    }

    /// Some twenty polls of the file go by.
    fn wait_polls(&self) {
        // One heartbeat a second.
        sqlite::wait_beats(&self.dir.path().join("store.db"), 2);
    }

    fn sources(&self) -> Vec<String> {
        let status = self.producer.status();
        let holds = status["holds"].as_array().unwrap();
        holds.iter().map(|hold| hold["source"].as_str().unwrap().to_owned()).collect()
    }

    fn file_source(&self) -> String {
        format!("file:{}", self.dir.path().join("control/state").display())
    }

    fn health(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.dir.path().join("health").join(name)).ok()
    }

    fn warnings(&self) -> Vec<Record> {
        self.producer.records().into_iter().filter(|r| r.json["severity"] == "WARNING").collect()
    }
}

fn setup(venue: &Venue, dir: &tempfile::TempDir) -> Setup {
    Setup::new(venue, dir.path())
        .var("INGEST_ENABLED_FILE", dir.path().join("control/state").display())
        .var("INGEST_ENABLED_POLL_S", "0.1")
        .var("INGEST_HEALTH_DIR", dir.path().join("health").display())
        .var("HEARTBEAT_INTERVAL_S", 1)
}

#[test]
fn a_signal_pauses_and_resumes_within_a_second_and_is_not_undone_by_a_file_that_says_running() {
    let bench = Bench::start();
    let asked_us = now_us();
    bench.signal("USR1");
    bench.wait_paused();
    let closed = bench.venue.events("close_received").pop().unwrap();
    let took_us = closed["ts_us"].as_i64().unwrap() - asked_us;
    println!("close frame {:.0} ms after the signal", took_us as f64 / 1e3);
    assert!(took_us <= 1_000_000, "{took_us} us");
    assert_eq!(bench.sources(), ["signal:SIGUSR1"]);

    // The file says running, is polled, and says it again.
    bench.wait_polls();
    bench.write("running\n");
    bench.wait_polls();
    assert_eq!(bench.producer.status()["status"], "paused");
    assert_eq!(bench.sources(), ["signal:SIGUSR1"]);

    let asked = Instant::now();
    bench.signal("USR2");
    wait_for("dialled", SECOND, || (bench.venue.events("tcp_open").len() == 2).then_some(()));
    bench.wait_live();
    println!("live {:.0} ms after the signal", asked.elapsed().as_secs_f64() * 1e3);
}

#[test]
fn a_file_pause_is_not_undone_by_a_signal_and_can_be_repeated_for_ever() {
    let bench = Bench::start();
    for round in 0..3 {
        bench.write("pause");
        bench.wait_paused();
        bench.signal("USR2");
        bench.wait_polls();
        assert_eq!(bench.producer.status()["status"], "paused", "round {round}: the file still says so");
        assert_eq!(bench.sources(), [bench.file_source()]);
        bench.write(if round == 1 { "running" } else { "resume" });
        bench.wait_live();
    }
    let _ = (bench.producer.told_edges::<3>("halted"), bench.producer.told_edges::<3>("resumed"));
}

#[test]
fn both_methods_together_are_two_holds_and_both_must_be_released() {
    let bench = Bench::start();
    bench.signal("USR1");
    bench.write("pause");
    wait_for("both holds", LIMIT, || (bench.sources().len() == 2).then_some(()));
    bench.wait_paused();
    bench.write("resume");
    wait_for("one hold", LIMIT, || (bench.sources() == ["signal:SIGUSR1"]).then_some(()));
    assert_eq!(bench.producer.status()["status"], "paused");
    bench.signal("USR2");
    bench.wait_live();
    let [halted] = bench.producer.told_edges("halted");
    assert_eq!(halted.text("ingest_enabled"), "false");
    let _ = bench.producer.told_edges::<1>("resumed");
}

#[test]
fn a_signal_twice_is_one_pause_and_a_release_without_one_is_nothing() {
    let bench = Bench::start();
    bench.signal("USR2");
    bench.signal("USR1");
    bench.wait_paused();
    bench.signal("USR1");
    bench.wait_polls();
    assert_eq!(bench.sources(), ["signal:SIGUSR1"]);
    bench.signal("USR2");
    bench.wait_live();
    let _ = (bench.producer.told_edges::<1>("halted"), bench.producer.told_edges::<1>("resumed"));
    assert_eq!(bench.producer.metric(r#"jobs_paused_total{job="iex"}"#), Some(1.0));
}

#[test]
fn the_files_pause_survives_a_restart_and_the_signals_does_not() {
    let mut bench = Bench::start();
    bench.signal("USR1");
    bench.wait_paused();
    bench.restart();
    bench.producer.wait_live();
    assert!(bench.sources().is_empty());

    bench.write("pause");
    bench.wait_paused();
    let mark = bench.venue.mark();
    bench.restart();
    bench.producer.wait_status("paused", LIMIT, |status| status["status"] == "paused");
    assert_eq!(bench.venue.mark(), mark, "no connection at all");
    let [initial] = bench.producer.told_edges("initial");
    assert_eq!(initial.text("ingest_enabled"), "false");
}

#[test]
fn a_signal_works_while_the_file_cannot_be_read() {
    let bench = Bench::start();
    std::fs::remove_file(bench.dir.path().join("control/state")).unwrap();
    bench.producer.wait_status("flag_fresh false", LIMIT, |status| status["flag_fresh"] == json!(false));
    bench.signal("USR1");
    bench.wait_paused();
    bench.signal("USR2");
    bench.wait_live();
}

#[test]
fn a_terminated_agent_ends_in_order_while_either_method_pauses_it() {
    for (method, end) in [("USR1", "TERM"), ("USR1", "INT"), ("pause", "TERM"), ("pause", "INT")] {
        let mut bench = Bench::start();
        match method {
            "pause" => bench.write("pause"),
            signal => bench.signal(signal),
        }
        bench.wait_paused();
        let asked = Instant::now();
        bench.signal(end);
        let status = bench.producer.process.wait_exit(Duration::from_secs(8));
        println!("paused by {method}, ended {:.0} ms after SIG{end}", asked.elapsed().as_secs_f64() * 1e3);
        assert!(status.success(), "paused by {method}, SIG{end}: {status}");
        let beat = sqlite::heartbeat(&bench.dir.path().join("store.db")).unwrap();
        assert!(beat["stopped_at"].is_string() && beat["status"] == "paused", "{beat}");
    }
}

#[test]
fn an_unknown_word_is_told_once_and_not_at_every_poll() {
    let bench = Bench::start();
    bench.write("paws\n");
    let of = |word: &str| {
        let quoted =
            |record: &Record| record.json["message"].as_str().is_some_and(|text| text.contains(word));
        bench.warnings().into_iter().filter(quoted).collect::<Vec<_>>()
    };
    wait_for("the warning", LIMIT, || (!of("paws").is_empty()).then_some(()));
    bench.wait_polls();
    bench.write("paws\n");
    bench.wait_polls();
    let [warning] = &of("paws")[..] else { panic!("one warning: {:?}", of("paws")) };
    for accepted in ["pause", "resume", "running"] {
        assert!(warning.text("message").contains(accepted), "{warning:?}");
    }
    assert_eq!(bench.producer.status()["status"], "running", "the last decision stands");
    bench.write("stopp\n");
    wait_for("another word, another warning", LIMIT, || (of("stopp").len() == 1).then_some(()));
    bench.write("pause\n");
    bench.wait_paused();
    bench.wait_polls();
    assert_eq!((of("paws").len(), of("stopp").len()), (1, 1));
}

#[test]
fn an_edge_is_logged_once_and_looks_that_change_nothing_are_not() {
    let bench = Bench::start();
    bench.write("pause\nreason: Database maintenance\nby: ops-team\n");
    bench.wait_paused();
    bench.wait_polls();
    let [halted] = bench.producer.told_edges("halted");
    assert_eq!(
        [halted.text("severity"), halted.text("reason"), halted.text("actor")],
        ["WARNING", "Database maintenance", "ops-team"]
    );
    assert_eq!(halted.text("ingest_enabled_source"), bench.file_source());
    bench.write("resume\n");
    bench.wait_live();
    bench.wait_polls();
    let [resumed] = bench.producer.told_edges("resumed");
    assert_eq!(resumed.text("severity"), "INFO");
    // What the pause left out is told of in its own time.
    let told = || {
        let of_gaps = |record: &Record| record.text("message").starts_with("gap_");
        bench.producer.records().iter().filter(|record| !of_gaps(record)).count()
    };
    let quiet = told();
    bench.wait_polls();
    assert_eq!(told(), quiet, "a quiet switch writes no log");
}

#[test]
fn the_state_says_paused_only_when_nothing_is_processed_any_more() {
    let bench = Bench::start();
    let word = || bench.health("liveness").unwrap_or_default().lines().next().unwrap_or_default().to_owned();
    wait_for("a first health file", LIMIT, || (word() == "running").then_some(()));
    for _ in 0..5 {
        bench.signal("USR1");
        let asked = Instant::now();
        while word() != "paused" {
            assert!(asked.elapsed() < LIMIT);
        }
        // At the moment it is said, it is so.
        assert!(bench.venue.open_paths().is_empty(), "no socket");
        let documents =
            |text: &str| text.lines().find_map(|line| line.strip_prefix("documents=")).map(str::to_owned);
        let delivered = documents(&bench.health("liveness").unwrap());
        assert!(delivered.is_some());
        bench.wait_polls();
        assert_eq!(
            documents(&bench.health("liveness").unwrap()),
            delivered,
            "nothing is processed while paused"
        );
        bench.signal("USR2");
        wait_for("running again", LIMIT, || {
            (word() == "running" && bench.health("readiness").is_some()).then_some(())
        });
        bench.wait_live();
    }
}

#[test]
fn the_agent_goes_on_where_it_was_after_a_resume() {
    let bench = Bench::start();
    let messages = || bench.producer.status()["counters"]["messages"].as_u64().unwrap();
    wait_for("messages", LIMIT, || (messages() > 100).then_some(()));
    let before = bench.producer.status();
    bench.write("pause");
    bench.wait_paused();
    let paused = messages();
    bench.write("resume");
    bench.wait_live();
    wait_for("more messages", RESUME_LIMIT, || (messages() > paused).then_some(()));
    let after: Value = bench.producer.status();
    assert_eq!(after["instance_id"], before["instance_id"], "the same process");
    assert_eq!(after["jobs"]["iex"]["subscribed"], before["jobs"]["iex"]["subscribed"]);
}

/// The objects of a manifest as text.
fn objects(file: &str) -> Vec<String> {
    let path = format!("{}/../infra/kubernetes/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    text.split("\n---\n").map(str::to_owned).collect()
}

#[test]
fn every_control_job_carries_the_label_of_the_guide() {
    for cronjob in objects("cronjobs.yaml") {
        let labels = cronjob.matches("app: pulling-agent-control\n").count();
        assert_eq!(labels, 3, "the CronJob, its jobs and their pods: {cronjob}");
    }
}

#[test]
fn the_control_jobs_may_write_the_one_configmap() {
    let role = objects("rbac.yaml").into_iter().find(|object| object.contains("\nkind: Role\n")).unwrap();
    let rules: Vec<_> = role.split("- apiGroups:").skip(1).collect();
    let of: Vec<_> = rules.iter().filter(|rule| rule.contains("resources: [configmaps]")).collect();
    let [rule] = of[..] else { panic!("one rule for ConfigMaps: {role}") };
    assert!(rule.contains("resourceNames: [agent-control]"), "{rule}");
    assert!(rule.contains("verbs: [get, update, patch]"), "{rule}");
}
