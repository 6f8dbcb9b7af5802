//! One run: a venue, a producer, and what befalls them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use e2e::disk::SmallDisk;
use e2e::producer::{Producer, Setup};
use e2e::venue::Venue;
use e2e::{sqlite, wait_for};
use serde_json::json;

use super::Random;
use super::judge::{assert_equal, assert_tiles};
use super::tape::Tape;

/// Between two looks: a run mostly waits, and many run at a time.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A spell is begun only where it would be found within this time.
const MUTE_LIMIT_MAX: f64 = 2.0;
/// And is given up by then.
const FOUND_WITHIN: Duration = Duration::from_secs(3);
/// With trouble in it, and some margin.
const SPELL_MAX: Duration = Duration::from_secs(8);

/// How a run goes.
pub(super) struct Shape {
    /// Times as fast as recorded.
    pub(super) speed: u32,
    /// So long.
    pub(super) trouble: Duration,
    pub(super) disk_mb: u32,
    /// Kills and stops.
    pub(super) kills: u32,
}

/// A run.
pub(super) struct Trouble<'a> {
    seed: u64,
    random: Random,
    tape: &'a Tape,
    shape: &'a Shape,
    dir: tempfile::TempDir,
    disk: Option<SmallDisk>,
    disk_is_full: bool,
    venue: Venue,
    producer: Producer,
    setup: Setup,
    kills: u32,
    began: Instant,
    counts: BTreeMap<&'static str, u64>,
}

impl<'a> Trouble<'a> {
    pub(super) fn new(seed: u64, tape: &'a Tape, shape: &'a Shape) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let speed = shape.speed.to_string();
        let mut arguments = vec!["--speed", &*speed, "--data", "127.0.0.1:0"];
        arguments.extend(tape.files.iter().flat_map(|file| ["--tape", file.to_str().unwrap()]));
        let venue = Venue::start(&arguments);
        std::fs::write(dir.path().join("flag"), "on\n").unwrap();
        let disk = SmallDisk::mount(dir.path(), shape.disk_mb);
        let setup = Setup::new(&venue, dir.path())
            .var("ALPACA_DATA_FEED", tape.job)
            .with_records(&venue, dir.path())
            .var("ALPACA_CHANNELS", "trades,quotes,bars")
            .var("MONITORED_SYMBOLS", tape.symbols.join(","))
            .var("INGEST_SINKS", format!("ndjson:{}", records(&disk, dir.path()).display()))
            .var("INGEST_MUTE_AFTER_S", "1")
            .var("INGEST_ENABLED_FILE", dir.path().join("flag").display())
            .var("HEARTBEAT_INTERVAL_S", 1)
            .var("RECONNECT_BACKOFF_BASE_S", "0.1")
            .var("RECONNECT_BACKOFF_MAX_S", "0.3");
        let producer = setup.start();
        let (disk_is_full, kills, counts) = (false, 0, BTreeMap::new());
        let (random, began) = (Random(seed), Instant::now());
        Self {
            seed,
            random,
            tape,
            shape,
            dir,
            disk,
            disk_is_full,
            venue,
            producer,
            setup,
            kills,
            began,
            counts,
        }
    }

    /// What befell it.
    pub(super) fn run(mut self) -> BTreeMap<&'static str, u64> {
        // A process that dies before it ever told how far it had come leaves nothing to begin a gap at.
        self.wait("a first mark", 20, |run| {
            let mark = sqlite::heartbeat(&run.store())?["jobs"][run.tape.job]["received_to"].is_string();
            mark.then_some(())
        });
        let began = Instant::now();
        if self.may_fall_mute() {
            self.wait("enough to judge a silence by", 30, |run| {
                (run.limit("trades").is_some() || run.is_late()).then_some(())
            });
            self.mute();
        }
        while began.elapsed() < self.shape.trouble {
            std::thread::sleep(self.random.millis(30, 300));
            self.trouble();
        }
        self.calm();
        self.producer.stop();
        let records = records(&self.disk, self.dir.path());
        let (live, fetched) =
            assert_equal(&format!("seed {}", self.seed), self.tape, &records, &self.store());
        let gaps = assert_tiles(self.seed, self.tape, &self.store());
        self.counts.extend([("live", live), ("fetched", fetched), ("gaps", gaps)]);
        self.counts
    }

    fn trouble(&mut self) {
        let what = match self.random.below(16) {
            0..=2 => {
                self.pause();
                "pause"
            }
            3..=5 => {
                self.hold();
                "hold"
            }
            6..=7 => {
                self.venue.cut();
                "cut"
            }
            8 => {
                self.venue.fault(&json!({"fault": "slow_client", "after": self.random.below(200)}));
                "407"
            }
            9 => {
                self.producer.process.signal("STOP");
                std::thread::sleep(self.random.millis(50, 800));
                self.producer.process.signal("CONT");
                "frozen"
            }
            10 if self.kills < self.shape.kills => {
                self.kill();
                "kill"
            }
            11 if self.kills < self.shape.kills => {
                self.stop();
                "stop"
            }
            12..=13 if self.disk.is_some() => {
                self.stall(!self.disk_is_full);
                "stall"
            }
            14..=15 if self.may_fall_mute() && self.mute() => return,
            _ => return,
        };
        self.count(what);
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn pause(&mut self) {
        self.flag("off\n");
        std::thread::sleep(self.random.millis(20, 900));
        self.flag("on\n");
    }

    fn flag(&self, text: &str) {
        std::fs::write(self.dir.path().join("flag"), text).unwrap();
    }

    fn hold(&mut self) {
        let symbols = self.tape.symbols.len() as u64;
        let symbol = &self.tape.symbols[self.random.below(symbols) as usize];
        let channel = ["", "/trades", "/quotes", "/bars"][self.random.below(4) as usize];
        let hold =
            format!("INSERT INTO market_ingest_hold (id, scope) VALUES ('h', 'symbol:{symbol}{channel}')");
        sqlite::execute(&self.store(), &hold);
        std::thread::sleep(self.random.millis(100, 1200));
        sqlite::execute(&self.store(), "DELETE FROM market_ingest_hold");
    }

    fn kill(&mut self) {
        self.kills += 1;
        self.producer.process.signal("KILL");
        self.producer.process.wait_exit(Duration::from_secs(5));
        // Somebody knows that it is dead; the wait for the lease is shown elsewhere.
        sqlite::execute(
            &self.store(),
            "UPDATE market_ingest_lease SET expires_at = '2000-01-01T00:00:00.000Z'",
        );
        self.venue.heal();
        self.producer = self.setup.start();
    }

    fn stop(&mut self) {
        self.kills += 1;
        assert!(self.producer.stop().success(), "seed {}", self.seed);
        self.venue.heal();
        self.producer = self.setup.start();
    }

    fn stall(&mut self, full: bool) {
        if let Some(disk) = self.disk.as_ref().filter(|_| self.disk_is_full != full) {
            if full {
                disk.fill()
            } else {
                disk.free()
            }
            self.disk_is_full = full;
        }
    }

    fn may_fall_mute(&self) -> bool {
        self.tape.job.starts_with("crypto")
    }

    /// The silence of a channel that would be an alarm.
    fn limit(&self, channel: &str) -> Option<f64> {
        let job = self.tape.job;
        let sample =
            format!(r#"market_ingest_data_silence_limit_seconds{{job="{job}",channel="{channel}"}}"#);
        self.producer.metric(&sample)
    }

    /// The feed brings nothing until that is found, and all of it or one channel of it for a while more, with further
    /// trouble meanwhile. A spell that cannot be found, because the machine's own hiccups passed for usual silence, ends
    /// with the connection: what is left out for less than an alarm takes is lost, unless nothing else came meanwhile.
    fn mute(&mut self) -> bool {
        let channel = [None, None, Some("trades"), Some("quotes")][self.random.below(4) as usize];
        let judged = channel.unwrap_or("trades");
        let standing = format!(r#"market_ingest_data_fresh{{job="{}"}}"#, self.tape.job);
        let judged_within = self.limit(judged).filter(|limit| *limit <= MUTE_LIMIT_MAX);
        // Where nothing comes for five seconds the wall tells when a gap ends, and it is not the wall's time that is played.
        let lasting = "SELECT count(*) FROM market_ingest_gap WHERE to_ts IS NULL";
        let returning = sqlite::rows(&self.store(), lasting)[0][0].as_deref() != Some("0");
        if judged_within.is_none()
            || returning
            || self.producer.metric(&standing) == Some(0.0)
            || self.is_late()
        {
            return false;
        }
        let told = |producer: &Producer| {
            let mute = producer.log("feed_mute");
            mute.iter().filter(|record| record.text("channel") == judged).count()
        };
        let (before, began) = (told(&self.producer), Instant::now());
        match channel {
            None => self.venue.fault(&json!({"fault": "mute"})),
            Some(_) => {
                self.venue.fault(&json!({"fault": "mute", "for_s": FOUND_WITHIN.as_secs_f64() + 0.5}));
                self.venue.fault(&json!({"fault": "mute", "channel": channel}));
            }
        }
        while told(&self.producer) == before {
            if began.elapsed() > FOUND_WITHIN {
                let cuts = |run: &Self| run.producer.log("job_disconnected").len();
                let before = cuts(self);
                self.venue.cut();
                self.wait("the end of it", 10, |run| (cuts(run) > before).then_some(()));
                self.venue.heal();
                self.count("not judged");
                return true;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        if channel.is_some() {
            std::thread::sleep((FOUND_WITHIN + Duration::from_secs(1)).saturating_sub(began.elapsed()));
            self.count("one channel mute");
        }
        std::thread::sleep(self.random.millis(0, 500));
        self.trouble_while_mute(channel.is_some());
        self.venue.heal();
        self.count("mute");
        true
    }

    fn trouble_while_mute(&mut self, others_flow: bool) {
        match self.random.below(6) {
            0 => {
                self.venue.cut();
                std::thread::sleep(self.random.millis(0, 300));
            }
            1 if others_flow => self.hold(),
            2 => {
                self.flag("off\n");
                std::thread::sleep(self.random.millis(20, 400));
                self.venue.heal();
                self.flag("on\n");
            }
            3 if self.kills < self.shape.kills => {
                // What was doubted in time for a heartbeat to say so.
                sqlite::wait_beats(&self.store(), 2);
                self.kill();
            }
            4 if self.kills < self.shape.kills => self.stop(),
            _ => {}
        }
    }

    /// A spell that outlasts the tape has no end.
    fn is_late(&self) -> bool {
        self.began.elapsed() + SPELL_MAX > self.tape.lasts / self.shape.speed
    }

    fn is_over(&self) -> bool {
        self.venue.state()["feed"]["finished"] == json!(true)
    }

    /// Until the tape has ended and nothing is missing any more.
    fn calm(&mut self) {
        self.venue.heal();
        self.stall(false);
        self.flag("on\n");
        self.wait("the end of the tape", 600, |run| run.is_over().then_some(()));
        self.wait("every gap at its end", 120, |run| {
            let left = sqlite::rows(
                &run.store(),
                "SELECT count(*) FROM market_ingest_gap WHERE state IN ('open', 'filling')",
            );
            let settled = left[0][0].as_deref() == Some("0");
            (settled && run.producer.status()["jobs"][run.tape.job]["phase"] == "live").then_some(())
        });
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("store.db")
    }

    fn wait(&self, what: &str, limit_s: u64, ask: impl Fn(&Self) -> Option<()>) {
        wait_for(&format!("seed {}: {what}", self.seed), Duration::from_secs(limit_s), || {
            ask(self).or_else(|| {
                std::thread::sleep(LOOK_EVERY);
                None
            })
        });
    }
}

fn records(disk: &Option<SmallDisk>, dir: &Path) -> PathBuf {
    disk.as_ref().map_or(dir, SmallDisk::path).join("records")
}
