//! The health files of a real producer: what a probe, a script or `market-ingest health` finds, and what trouble with
//! their directory does to the producer.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::child::Process;
use e2e::producer::{Producer, Setup};
use e2e::venue::Venue;
use e2e::{binary, wait_for};
use jiff::Timestamp;

const CHANGE_LIMIT: Duration = Duration::from_secs(3);

/// A producer that can be paused by a flag file, with its health files.
struct Rig {
    _dir: tempfile::TempDir,
    venue: Venue,
    flag: PathBuf,
    health: PathBuf,
    setup: Setup,
}

impl Rig {
    fn new() -> Self {
        let venue = Venue::start(&["--synthetic", "--rate", "200"]);
        let dir = tempfile::tempdir().unwrap();
        let (flag, health) = (dir.path().join("flag"), dir.path().join("made/on/demand"));
        std::fs::write(&flag, "on\n").unwrap();
        let setup = Setup::new(&venue, dir.path())
            .var("INGEST_ENABLED_FILE", flag.display())
            .var("INGEST_HEALTH_DIR", health.display());
        Self { _dir: dir, venue, flag, health, setup }
    }

    /// The lines of `liveness`; none while there is no such file.
    fn liveness(&self) -> Option<Vec<String>> {
        let text = std::fs::read_to_string(self.health.join("liveness")).ok()?;
        Some(text.lines().map(str::to_owned).collect())
    }

    fn is_ready(&self) -> bool {
        self.health.join("readiness").exists()
    }

    fn wait_files(&self, state: &str, ready: bool) -> Vec<String> {
        wait_for(&format!("{state} in the health files"), CHANGE_LIMIT, || {
            self.liveness().filter(|lines| lines[0] == state && self.is_ready() == ready)
        })
    }

    /// What `market-ingest health` prints, and its exit code.
    fn inspect(&self) -> (String, i32) {
        let mut command = Command::new(binary::path("market-ingest"));
        let mut process = Process::spawn(command.arg("health").env("INGEST_HEALTH_DIR", &self.health));
        let code = process.wait_exit(Duration::from_secs(5)).code().unwrap();
        (process.stdout().iter().map(|line| format!("{}\n", line.text)).collect(), code)
    }
}

fn number(line: &str, name: &str) -> u64 {
    line.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')).unwrap().parse().unwrap()
}

fn paused(producer: &Producer) {
    producer.wait_status("paused", Duration::from_secs(5), |s| s["status"] == "paused");
}

#[test]
fn the_files_follow_pause_resume_and_stop() {
    let rig = Rig::new();
    let mut producer = rig.setup.start();
    producer.wait_live();
    rig.wait_files("running", true);
    let lines = wait_for("frames and documents in liveness", Duration::from_secs(10), || {
        rig.liveness().filter(|lines| number(&lines[2], "batches") > 0 && number(&lines[3], "documents") > 0)
    });
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert_eq!(number(&lines[4], "errors"), 0);
    let age = Timestamp::now().duration_since(lines[1].parse::<Timestamp>().unwrap()).as_secs_f64();
    assert!((-1.0..5.0).contains(&age), "{lines:?}");

    let asked = Instant::now();
    std::fs::write(&rig.flag, "pause\nreason: upgrade\nby: kim\n").unwrap();
    rig.wait_files("paused", false);
    println!("pause in the files {:.0} ms after the edit", asked.elapsed().as_secs_f64() * 1e3);
    paused(&producer);
    let (told, code) = rig.inspect();
    assert_eq!(code, 0, "{told}");
    assert!(told.starts_with("paused\n") && told.contains("\nreadiness=absent\n"), "{told}");
    let hold = told.lines().find_map(|line| line.strip_prefix("hold=")).unwrap();
    let fields: Vec<_> = hold.split('\t').collect();
    assert_eq!(fields[0], format!("file:{}", rig.flag.display()));
    assert_eq!((fields[1], fields[3], fields[4], fields[5]), ("all", "-", "kim", "upgrade"));

    std::fs::write(&rig.flag, "resume\n").unwrap();
    rig.wait_files("running", true);
    let (told, code) = rig.inspect();
    assert!(code == 0 && told.contains("\nreadiness=present\n") && !told.contains("hold="), "{told}");

    assert!(producer.stop().success());
    assert!(!rig.is_ready(), "nobody is ready after the stop");
}

#[test]
fn readiness_goes_at_a_stop_however_soon_it_comes() {
    let rig = Rig::new();
    for _ in 0..5 {
        let mut producer = rig.setup.start();
        assert!(producer.stop().success());
        assert!(!rig.is_ready());
    }
}

#[test]
fn liveness_is_rewritten_at_least_every_five_seconds_and_never_seen_in_part() {
    let rig = Rig::new();
    let producer = rig.setup.start();
    for (word, state) in [("on", "running"), ("off", "paused")] {
        std::fs::write(&rig.flag, word).unwrap();
        rig.wait_files(state, state == "running");
        let mut stamps: Vec<Timestamp> = Vec::new();
        wait_for("four writes", Duration::from_secs(20), || {
            let lines = rig.liveness()?;
            assert_eq!(lines.len(), 5, "{lines:?}");
            let stamp = lines[1].parse().unwrap();
            if stamps.last() != Some(&stamp) {
                stamps.push(stamp);
            }
            (stamps.len() == 4).then_some(())
        });
        for pair in stamps.windows(2) {
            let gap = pair[1].duration_since(pair[0]).as_secs_f64();
            assert!(gap > 0.0 && gap <= 5.0, "{gap} s between two writes while {state}");
        }
    }
    drop(producer);
}

#[test]
fn what_an_earlier_run_left_is_gone_before_anything_dials() {
    let rig = Rig::new();
    std::fs::create_dir_all(&rig.health).unwrap();
    std::fs::write(rig.health.join("readiness"), "").unwrap();
    std::fs::write(rig.health.join("liveness"), "running\n2026-01-01T00:00:00Z\nbatches=9\n").unwrap();
    std::fs::write(rig.health.join("holds"), "env:INGEST_ENABLED\tall\n").unwrap();
    std::fs::write(&rig.flag, "off\n").unwrap();
    let producer = rig.setup.start();
    assert!(!rig.is_ready(), "the port opens after the old files are gone");
    paused(&producer);
    let lines = rig.wait_files("paused", false);
    assert_eq!(number(&lines[2], "batches"), 0);
    assert!(rig.venue.events("tcp_open").is_empty());
}

#[test]
fn a_directory_that_cannot_be_written_is_told_of_once_and_ends_nothing() {
    let rig = Rig::new();
    std::fs::create_dir_all(rig.health.parent().unwrap()).unwrap();
    std::fs::write(&rig.health, "a file in its place").unwrap();
    let mut producer = rig.setup.start();
    producer.wait_live();
    let told = |message: &str| producer.log(message).len();
    wait_for("a warning", Duration::from_secs(5), || {
        (told("health files cannot be written; it is tried again") == 1).then_some(())
    });
    std::fs::write(&rig.flag, "off\n").unwrap();
    paused(&producer);
    std::fs::remove_file(&rig.health).unwrap();
    rig.wait_files("paused", false);
    wait_for("the end of the trouble", Duration::from_secs(5), || {
        (told("health files are written again") == 1).then_some(())
    });
    assert_eq!(told("health files cannot be written; it is tried again"), 1);
    assert!(producer.stop().success());
}

#[test]
fn a_directory_that_hangs_hinders_neither_pause_nor_stop() {
    let rig = Rig::new();
    std::fs::create_dir_all(&rig.health).unwrap();
    // Opening a pipe that nobody reads does not end.
    let pipe = rig.health.join(".liveness.new");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut producer = rig.setup.start();
    producer.wait_live();
    std::fs::write(&rig.flag, "off\n").unwrap();
    paused(&producer);
    wait_for("a warning", Duration::from_secs(10), || {
        (producer.log("health files cannot be written; it is tried again").len() == 1).then_some(())
    });
    assert!(threads(producer.process.id()) < 40, "writes do not pile up");
    assert_eq!(producer.stop().code(), Some(0), "{}", producer.process.stderr());
}

#[test]
fn a_process_that_does_not_run_is_vouched_for_by_nobody() {
    let rig = Rig::new();
    let producer = rig.setup.start();
    rig.wait_files("running", true);
    assert_eq!(rig.inspect().1, 0);
    producer.process.signal("STOP");
    let (told, _) = wait_for("a stale liveness", Duration::from_secs(20), || {
        Some(rig.inspect()).filter(|(_, code)| *code == 1)
    });
    assert!(told.starts_with("running\n"), "the last word stands, with its time: {told}");
    producer.process.signal("CONT");
    wait_for("a fresh liveness", Duration::from_secs(5), || {
        Some(rig.inspect()).filter(|(_, code)| *code == 0)
    });
}

#[test]
fn the_words_for_images_without_a_shell_say_what_is_wrong() {
    let run = |arguments: &[&str], dir: Option<&Path>| {
        let mut command = Command::new(binary::path("market-ingest"));
        command.args(arguments).env_clear();
        if let Some(dir) = dir {
            command.env("INGEST_HEALTH_DIR", dir);
        }
        let mut process = Process::spawn(&mut command);
        (process.wait_exit(Duration::from_secs(5)).code().unwrap(), process.stderr())
    };
    let (code, told) = run(&["health"], None);
    assert!(code == 64 && told.contains("INGEST_HEALTH_DIR"), "{told}");
    let (code, told) = run(&["health"], Some(Path::new("/nowhere")));
    assert!(code == 1 && told.contains("/nowhere/liveness"), "{told}");
    let (code, told) = run(&["signal", "TERM"], None);
    assert!(code == 64 && told.contains("USR1"), "{told}");
    for nobody in ["4194304", "4294967295"] {
        let (code, told) = run(&["signal", "USR1", nobody], None);
        assert!(code == 1 && told.contains(nobody), "{told}");
    }
    assert_eq!(run(&["signal", "USR1", "0"], None).0, 64, "no signal to a whole group");
}

fn threads(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().count()
}
