//! How long to stay away after a failure.
//!
//! Full jitter: a wait is drawn evenly between nothing and a bound that doubles with every failure, so that a fleet
//! does not come back in step. Only proof of health forgets failures, never a connection that merely opened; a venue
//! that accepts and hangs up would otherwise be hammered. Refusals that a redial cannot cure, a taken slot and HTTP 429
//! have waits of their own and do not move the bound.

use std::time::Duration;

use crate::lifecycle::Limits;

/// The class of a wait.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum Pace {
    /// Full jitter below a doubling bound.
    Jittered,
    /// Soon, because the slot may be free: between `slot_redial_min` and `slot_redial_max`.
    SlotTaken,
    /// Long, because the venue counts our dials: `rate_limited_min` to twice that.
    RateLimited,
    /// Slow, because only a person can cure it: `refused_recheck` to a quarter more.
    Refused,
}

/// Counts failures and draws waits.
#[derive(Clone, Eq, PartialEq, Hash, Debug)]
pub(crate) struct Backoff {
    attempts: u32,
    doublings: u32,
    random: u64,
}

impl Backoff {
    /// `seed` decides all waits to come.
    pub(crate) fn new(seed: u64) -> Self {
        Self { attempts: 0, doublings: 0, random: seed }
    }

    /// Counts a failure and draws the wait that follows it.
    pub(crate) fn count(&mut self, pace: Pace, limits: &Limits) -> Duration {
        self.attempts = self.attempts.saturating_add(1);
        match pace {
            Pace::Jittered => {
                let factor = 1_u32.checked_shl(self.doublings).unwrap_or(u32::MAX);
                self.doublings = self.doublings.saturating_add(1);
                self.draw(Duration::ZERO, limits.backoff_base.saturating_mul(factor).min(limits.backoff_max))
            }
            Pace::SlotTaken => self.draw(limits.slot_redial_min, limits.slot_redial_max),
            Pace::RateLimited => {
                self.draw(limits.rate_limited_min, limits.rate_limited_min.saturating_mul(2))
            }
            Pace::Refused => self.draw(limits.refused_recheck, limits.refused_recheck.saturating_mul(5) / 4),
        }
    }

    /// Forgets all failures: health is proven, or an operator asked anew.
    pub(crate) fn forgive(&mut self) {
        self.attempts = 0;
        self.doublings = 0;
    }

    /// Failures since the last [`Self::forgive`].
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Evenly between both bounds, inclusive.
    fn draw(&mut self, min: Duration, max: Duration) -> Duration {
        let span = u64::try_from(max.saturating_sub(min).as_nanos()).unwrap_or(u64::MAX);
        let product = u128::from(self.next_random()) * (u128::from(span) + 1);
        // The upper half of a 64 by 64 bit product is below the span's length, so it fits.
        min + Duration::from_nanos(u64::try_from(product >> 64).unwrap_or(span))
    }

    /// SplitMix64: every seed, 0 too, gives an even sequence.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
impl Backoff {
    /// For the search: forgets the random sequence and stops counting where it makes no difference.
    pub(crate) fn normalise(&mut self) {
        self.attempts = self.attempts.min(1);
        self.doublings = self.doublings.min(1);
        self.random = 0;
    }
}
