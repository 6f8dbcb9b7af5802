//! The equation: whatever interrupts a producer, what its sinks hold in the end is what the tape holds, none lost and
//! none twice after de-duplication by key, quotes as a multiset; and the gaps of each symbol tile its time.
//!
//! Stream and history are of one tape, played faster than it was recorded; pauses, holds, lost connections, mute spells,
//! full disks, stops and kills come by a seed that a failure prints; `EQUATION_SEED` runs that one alone. Seeds take turns
//! with stocks and pairs; only the latter fall mute, see [`tape`].

pub(crate) mod judge;
pub(crate) mod said;
pub(crate) mod tape;
mod trouble;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use self::tape::Tape;
use self::trouble::{Shape, Trouble};

/// So many seeds…
const SEEDS: u64 = 200;
/// …so many at a time: they mostly wait.
const SIDE_BY_SIDE: usize = 32;
/// Stocks and pairs, in CI; the latter slowly enough for their silence to be learned first…
const SHORT: [Shape; 2] = [shape(50, 5_000), shape(12, 15_000)];
/// …and with the slow suites.
const LONG: [Shape; 2] = [shape(20, 13_000), shape(8, 25_000)];

const fn shape(speed: u32, trouble_ms: u64) -> Shape {
    Shape { speed, trouble: Duration::from_millis(trouble_ms), disk_mb: 8, kills: 2 }
}

#[test]
fn no_trouble_loses_anything_or_doubles_anything() {
    let dir = tempfile::tempdir().unwrap();
    let stocks = Tape::of_stocks(dir.path());
    let pairs = Tape::of_pairs(&stocks, dir.path());
    let seeds: Vec<u64> = match std::env::var("EQUATION_SEED") {
        Ok(seed) => vec![seed.parse().expect("a seed")],
        Err(_) => (1..=SEEDS).collect(),
    };
    let shapes = if std::env::var_os("SLOW_TESTS").is_some() { LONG } else { SHORT };
    let (next, began) = (AtomicU64::new(0), Instant::now());
    let all: Mutex<BTreeMap<&str, u64>> = Mutex::default();
    std::thread::scope(|scope| {
        let work = || {
            // A failure ends all: its seed is told, and the others would take minutes.
            let _stop = StopOthers(&next);
            while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                let at = seed % 2;
                let counts = Trouble::new(*seed, [&stocks, &pairs][at as usize], &shapes[at as usize]).run();
                let mut all = all.lock().expect("no panic while adding");
                counts.into_iter().for_each(|(what, count)| *all.entry(what).or_default() += count);
            }
        };
        let workers: Vec<_> = (0..SIDE_BY_SIDE.min(seeds.len())).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            worker.join().expect("its seed is in the message above");
        }
    });
    let all = all.into_inner().unwrap();
    println!("{} seeds in {:.0} s: {all:?}", seeds.len(), began.elapsed().as_secs_f64());
    if seeds.len() as u64 == SEEDS {
        for what in ["pause", "hold", "cut", "407", "frozen", "kill", "stop", "mute"] {
            assert!(all.get(what).is_some_and(|count| *count > SEEDS / 8), "there was trouble: {what}");
        }
    }
}

/// A whole session with much trouble, in a few minutes.
#[test]
fn a_whole_day_of_trouble_loses_nothing_and_doubles_nothing() {
    if std::env::var_os("SLOW_TESTS").is_none() {
        eprintln!("LEFT OUT: the equation of a whole day (SLOW_TESTS)");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let Some(day) = Tape::of_a_day(dir.path()) else { return };
    assert_eq!(day.sent.len(), 1_743_751 + 2_204, "the tape is the one that was described");
    let seed = std::env::var("EQUATION_SEED").map_or(1, |seed| seed.parse().expect("a seed"));
    let pairs = Tape::of_pairs(&day, dir.path());
    for day in [day, pairs] {
        let shape = Shape { speed: 220, trouble: Duration::from_secs(160), disk_mb: 512, kills: 40 };
        let began = Instant::now();
        let counts = Trouble::new(seed, &day, &shape).run();
        println!("a day, {}, seed {seed}, in {:.0} s: {counts:?}", day.job, began.elapsed().as_secs_f64());
    }
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
