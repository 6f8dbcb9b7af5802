//! The equation: whatever interrupts a producer, what its sinks hold in the end is what the tape holds, none lost and
//! none twice after de-duplication by key, quotes as a multiset; and the gaps of each symbol tile its time.
//!
//! Stream and history are of one tape, played faster than it was recorded; pauses, holds, lost connections, stops and
//! kills come by a seed that a failure prints.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use e2e::producer::{Producer, Setup};
use e2e::venue::Venue;
use e2e::{data, sqlite, wait_for};
use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::sinks_files::said;

/// With the slow suites; and otherwise.
const SEEDS: (u64, u64) = (200, 20);
/// Runs at a time: they mostly wait.
const SIDE_BY_SIDE: usize = 20;
const SYMBOLS: [&str; 4] = ["AIG", "BAC", "IBM", "SPY"];

#[test]
fn no_trouble_loses_anything_or_doubles_anything() {
    let (_keep, tape) = tape();
    let seeds: Vec<u64> = match std::env::var("EQUATION_SEED") {
        Ok(seed) => vec![seed.parse().expect("a seed")],
        Err(_) => (1..=if std::env::var_os("SLOW_TESTS").is_some() { SEEDS.0 } else { SEEDS.1 }).collect(),
    };
    let (next, gaps) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let work = || {
            // A failure ends all: its seed is told, and the others would take minutes.
            let _stop = StopOthers(&next);
            while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                let trouble = Trouble::new(*seed, &tape);
                gaps.fetch_add(trouble.run(), Ordering::Relaxed);
            }
        };
        let workers: Vec<_> = (0..SIDE_BY_SIDE.min(seeds.len())).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            worker.join().expect("its seed is in the message above");
        }
    });
    let gaps = gaps.into_inner();
    println!("{} seeds, {gaps} gaps filled", seeds.len());
    assert!(gaps > seeds.len() as u64, "there was trouble: {gaps} gaps");
}

/// The recorded five minutes, or a made-up tape of the same kind where they are absent.
pub(super) fn tape() -> (tempfile::TempDir, Tape) {
    let dir = tempfile::tempdir().unwrap();
    let (path, text) = match data::shared("equities_smoke.ndjson.gz") {
        Some(path) => {
            let mut text = String::new();
            GzDecoder::new(std::fs::File::open(&path).unwrap()).read_to_string(&mut text).unwrap();
            (path, text)
        }
        None => {
            let (path, text) = (dir.path().join("made-up.ndjson"), made_up());
            std::fs::write(&path, &text).unwrap();
            (path, text)
        }
    };
    (dir, Tape::of(path, &text))
}

/// Five minutes of four symbols, with equal times, equal quotes, and ids that repeat on another exchange.
fn made_up() -> String {
    let mut random = Random(7);
    let mut text = String::new();
    let start = jiff::Timestamp::from_second(1_381_325_340).unwrap();
    for step in 0..16_000_i64 {
        let at = start + jiff::SignedDuration::from_millis(step * 300_000 / 16_000 / 20 * 20);
        let (symbol, price) = (SYMBOLS[random.below(4) as usize], 40.0 + random.below(3) as f64 / 100.0);
        let element = if random.below(3) == 0 {
            let exchange = ["N", "P"][random.below(2) as usize];
            json!({"T":"t","S":symbol,"i":step / 2,"x":exchange,"p":price,"s":100,"c":["@"],"z":"A","t":at.to_string()})
        } else {
            json!({"T":"q","S":symbol,"bx":"N","bp":price,"bs":100,"ax":"P","ap":price,"as":200,"c":["R"],"z":"A","t":at.to_string()})
        };
        text.push_str(&element.to_string());
        text.push('\n');
    }
    text
}

/// When a run fails, no other begins.
struct StopOthers<'a>(&'a AtomicU64);

impl Drop for StopOthers<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(u64::from(u32::MAX), Ordering::Relaxed);
        }
    }
}

/// A tape, and what the sinks must hold in the end.
pub(super) struct Tape {
    pub(super) path: PathBuf,
    /// What each element says, sorted.
    pub(super) sent: Vec<String>,
}

impl Tape {
    pub(super) fn of(path: PathBuf, text: &str) -> Self {
        let mut sent: Vec<String> =
            text.lines().map(|line| said(&serde_json::from_str(line).unwrap())).collect();
        sent.sort_unstable();
        Self { path, sent }
    }

    /// The records below `dir` are those of the tape, none lost and none doubled after de-duplication by key; a failure
    /// names the holes and, from the store there, the gaps.
    pub(super) fn assert_kept(&self, who: &str, dir: &Path) {
        let mut by_key: BTreeMap<String, String> = BTreeMap::new();
        for record in records(&dir.join("records")) {
            let key = record["key"].as_str().unwrap().to_owned();
            let says = said(&record);
            if let Some(other) = by_key.insert(key, says.clone()) {
                assert_eq!(other, says, "{who}: one key, two records");
            }
        }
        let mut found: Vec<String> = by_key.into_values().collect();
        found.sort_unstable();
        if self.sent == found {
            return;
        }
        // Where the hole is says what made it.
        let mut lost: BTreeMap<String, (u64, i64, i64)> = BTreeMap::new();
        let mut left = found.iter().peekable();
        for sent in &self.sent {
            while left.next_if(|found| *found < sent).is_some() {}
            if left.next_if_eq(&sent).is_none() {
                let element: Value = serde_json::from_str(sent).unwrap();
                let (lane, ts) =
                    (format!("{} {}", element["symbol"], element["type"]), element["ts"].as_i64().unwrap());
                let hole = lost.entry(lane).or_insert((0, ts, ts));
                *hole = (hole.0 + 1, hole.1.min(ts), hole.2.max(ts));
            }
        }
        let gaps = sqlite::rows(
            &dir.join("store.db"),
            "SELECT id, symbols, channels, from_ts, to_ts, cause, rows FROM market_ingest_gap ORDER BY from_ts",
        );
        let time = |ns: i64| jiff::Timestamp::from_nanosecond(i128::from(ns)).unwrap();
        for (lane, (count, from, to)) in &lost {
            eprintln!("{who}: {count} lost of {lane}, {} to {}", time(*from), time(*to));
        }
        for gap in gaps {
            eprintln!("{}", gap.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>().join(" "));
        }
        panic!("{who}: {} were sent, {} are kept", self.sent.len(), found.len());
    }
}

/// The same numbers from the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }
}

/// One run.
struct Trouble<'a> {
    seed: u64,
    random: Random,
    tape: &'a Tape,
    dir: tempfile::TempDir,
    venue: Venue,
    producer: Producer,
    setup: Setup,
    kills: u32,
}

impl<'a> Trouble<'a> {
    fn new(seed: u64, tape: &'a Tape) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = tape.path.to_str().unwrap();
        let venue = Venue::start(&["--tape", path, "--speed", "30", "--data", "127.0.0.1:0"]);
        std::fs::write(dir.path().join("flag"), "on\n").unwrap();
        let setup = Setup::new(&venue, dir.path())
            .var("ALPACA_DATA_FEED", "sip")
            .var("ALPACA_DATA_URL", venue.data_url())
            .var("ALPACA_CHANNELS", "trades,quotes")
            .var("MONITORED_SYMBOLS", SYMBOLS.join(","))
            .var("INGEST_SINKS", format!("ndjson:{}", dir.path().join("records").display()))
            .var("INGEST_FILE_MAX_AGE_S", "0.5")
            .var("INGEST_ENABLED_FILE", dir.path().join("flag").display())
            .var("HEARTBEAT_INTERVAL_S", 1)
            .var("RECONNECT_BACKOFF_BASE_S", "0.1")
            .var("RECONNECT_BACKOFF_MAX_S", "0.3");
        let producer = setup.start();
        Self { seed, random: Random(seed), tape, dir, venue, producer, setup, kills: 0 }
    }

    /// How many gaps were filled.
    fn run(mut self) -> u64 {
        let seed = self.seed;
        // A process that dies before it ever told how far it had come leaves nothing to begin a gap at.
        wait_for(&format!("seed {seed}: a first mark"), Duration::from_secs(20), || {
            sqlite::heartbeat(&self.store())?["jobs"]["sip"]["received_to"].as_str().map(str::to_owned)
        });
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(8_000) {
            std::thread::sleep(self.random.millis(50, 500));
            self.trouble();
        }
        self.calm();
        self.producer.stop();
        self.tape.assert_kept(&format!("seed {seed}"), self.dir.path());
        self.assert_tiles()
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("store.db")
    }

    fn trouble(&mut self) {
        match self.random.below(12) {
            0..=2 => {
                self.flag("off\n");
                std::thread::sleep(self.random.millis(20, 900));
                self.flag("on\n");
            }
            3..=5 => {
                let symbol = SYMBOLS[self.random.below(4) as usize];
                let channel = ["", "/trades", "/quotes"][self.random.below(3) as usize];
                sqlite::execute(
                    &self.store(),
                    &format!(
                        "INSERT INTO market_ingest_hold (id, scope) VALUES ('h', 'symbol:{symbol}{channel}')"
                    ),
                );
                std::thread::sleep(self.random.millis(100, 1200));
                sqlite::execute(&self.store(), "DELETE FROM market_ingest_hold");
            }
            6..=7 => self.venue.cut(),
            8 => self.venue.fault(&json!({"fault": "slow_client", "after": self.random.below(200)})),
            9 => {
                self.producer.process.signal("STOP");
                std::thread::sleep(self.random.millis(50, 800));
                self.producer.process.signal("CONT");
            }
            10 if self.kills < 2 => {
                self.kills += 1;
                self.producer.process.signal("KILL");
                self.producer.process.wait_exit(Duration::from_secs(5));
                // Somebody knows that it is dead; the wait for the lease is shown elsewhere.
                sqlite::execute(
                    &self.store(),
                    "UPDATE market_ingest_lease SET expires_at = '2000-01-01T00:00:00.000Z'",
                );
                self.producer = self.setup.start();
            }
            11 if self.kills < 2 => {
                self.kills += 1;
                assert!(self.producer.stop().success(), "seed {}", self.seed);
                self.producer = self.setup.start();
            }
            _ => {}
        }
    }

    fn flag(&self, text: &str) {
        std::fs::write(self.dir.path().join("flag"), text).unwrap();
    }

    /// Until the tape has ended and nothing is missing any more.
    fn calm(&mut self) {
        self.venue.heal();
        self.flag("on\n");
        let seed = self.seed;
        wait_for(&format!("seed {seed}: the end of the tape"), Duration::from_secs(30), || {
            let feed = self.venue.state()["feed"].clone();
            (feed["finished"] == json!(true)).then_some(())
        });
        wait_for(&format!("seed {seed}: every gap at its end"), Duration::from_secs(60), || {
            let left = sqlite::rows(
                &self.store(),
                "SELECT count(*) FROM market_ingest_gap WHERE state IN ('open', 'filling')",
            );
            let live = self.producer.status()["jobs"]["sip"]["phase"] == "live";
            (live && left[0][0].as_deref() == Some("0")).then_some(())
        });
    }

    /// No two gaps of a lane overlap, but for what a sink lost.
    fn assert_tiles(&self) -> u64 {
        let rows = sqlite::rows(
            &self.store(),
            "SELECT symbols, channels, from_ts, to_ts, state FROM market_ingest_gap WHERE cause <> 'overflow'",
        );
        let mut lanes: BTreeMap<(String, String), BTreeSet<(jiff::Timestamp, jiff::Timestamp)>> =
            BTreeMap::new();
        for row in &rows {
            let [symbols, channels, from, to, state] = row.as_slice() else { panic!("five columns") };
            assert_eq!(state.as_deref(), Some("filled"), "seed {}", self.seed);
            let list = |text: &Option<String>| -> Vec<String> {
                serde_json::from_str(text.as_deref().unwrap()).unwrap()
            };
            let time =
                |text: &Option<String>| -> jiff::Timestamp { text.as_deref().unwrap().parse().unwrap() };
            for symbol in list(symbols) {
                for channel in list(channels) {
                    lanes.entry((symbol.clone(), channel)).or_default().insert((time(from), time(to)));
                }
            }
        }
        for (lane, gaps) in lanes {
            let gaps: Vec<_> = gaps.into_iter().collect();
            for pair in gaps.windows(2) {
                assert!(pair[0].1 <= pair[1].0, "seed {}: {lane:?} {pair:?}", self.seed);
            }
        }
        rows.len() as u64
    }
}

/// All records that are in files under their final names.
pub(super) fn records(dir: &Path) -> impl Iterator<Item = Value> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let whole = paths.filter(|path| path.to_str().unwrap().ends_with(".ndjson.zst"));
    let lines = whole.flat_map(|path| {
        BufReader::new(zstd::Decoder::new(std::fs::File::open(&path).unwrap()).unwrap()).lines()
    });
    lines.map(|line| {
        let mut record: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let at: jiff::Timestamp = record["ts"].as_str().unwrap().parse().unwrap();
        record["ts"] = json!(at.as_nanosecond() as i64);
        record
    })
}
