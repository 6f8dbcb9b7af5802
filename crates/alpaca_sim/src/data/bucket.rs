//! The limit of calls a minute: a bucket that holds one minute's calls and fills evenly.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The bucket of a venue, which has one account.
#[derive(Debug)]
pub(super) struct Bucket {
    calls_per_min: u32,
    level: Mutex<Level>,
}

#[derive(Clone, Copy, Debug)]
struct Level {
    calls: f64,
    at: Instant,
}

/// What became of one call, as the headers of its answer tell it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Allowance {
    pub(super) granted: bool,
    /// Calls a minute.
    pub(super) limit: u32,
    pub(super) remaining: u32,
    /// The Unix second by which there is one call more than now.
    pub(super) reset_s: u64,
}

impl Bucket {
    pub(super) fn new(calls_per_min: u32) -> Bucket {
        let calls_per_min = calls_per_min.max(1);
        let level = Level { calls: f64::from(calls_per_min), at: Instant::now() };
        Bucket { calls_per_min, level: Mutex::new(level) }
    }

    /// Takes one call out, if there is one.
    pub(super) fn take(&self) -> Allowance {
        self.take_at(Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    fn take_at(&self, now: Instant, since_epoch: Duration) -> Allowance {
        let per_s = f64::from(self.calls_per_min) / 60.0;
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let gone_s = now.saturating_duration_since(level.at).as_secs_f64();
        level.calls = (level.calls + gone_s * per_s).min(f64::from(self.calls_per_min));
        level.at = now;
        let granted = level.calls >= 1.0;
        if granted {
            level.calls -= 1.0;
        }
        let next_s = (1.0 - level.calls.fract()) / per_s;
        Allowance {
            granted,
            limit: self.calls_per_min,
            remaining: level.calls as u32,
            reset_s: (since_epoch.as_secs_f64() + next_s).ceil() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_s_calls_are_there_at_once_and_come_back_evenly() {
        let bucket = Bucket::new(120);
        let start = Instant::now();
        let take = |ms: u64| {
            let gone = Duration::from_millis(ms);
            bucket.take_at(start + gone, Duration::from_secs(1_000) + gone)
        };
        for left in (0..120).rev() {
            let allowance = take(100);
            assert_eq!((allowance.granted, allowance.remaining), (true, left));
        }
        let refused = take(100);
        assert_eq!(refused, Allowance { granted: false, limit: 120, remaining: 0, reset_s: 1_001 });
        assert!(!take(500).granted);
        assert!(take(700).granted, "a call comes back every half second");
        assert!(!take(700).granted);
        assert_eq!(take(3_600_000).remaining, 119, "no more than a minute's calls");
    }
}
