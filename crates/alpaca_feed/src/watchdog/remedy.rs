//! What to try against a mute feed, in which order and how fast.
//!
//! Resubscribe at once; if that has not helped within [`RESUBSCRIBE_HELPS_WITHIN`], connect anew; if that has not
//! either, give up on the gap so far, so that it is fetched elsewhere, and connect anew ever more slowly. Data on what
//! was mute begins it all again from the start, but the least times between two remedies of a kind hold across
//! that: a feed that falls mute every minute must not become a storm.

use std::time::{Duration, Instant};

/// A feed that was subscribed again flows within this time, or will not.
pub(super) const RESUBSCRIBE_HELPS_WITHIN: Duration = Duration::from_secs(15);
/// Between two resubscriptions at least.
const RESUBSCRIBE_MIN: Duration = Duration::from_secs(60);
/// Between two connections at least; doubles while none helps.
const RECONNECT_MIN: Duration = Duration::from_secs(60);
/// It doubles up to this.
const RECONNECT_MAX: Duration = Duration::from_secs(960);

/// Where the escalation stands.
#[derive(Clone, Eq, PartialEq, Default, Debug)]
pub(super) struct Remedies {
    /// When the present trouble was met with a resubscription; none without trouble.
    tried_at: Option<Instant>,
    resubscribed_at: Option<Instant>,
    reconnected_at: Option<Instant>,
    /// Connections that did not help in a row.
    vain: u32,
}

/// What to try now.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Remedy {
    Resubscribe,
    /// Say first that the gap so far stays a gap, if the last connection did not help.
    Reconnect {
        after_vain: bool,
    },
}

impl Remedies {
    /// The remedy that is due, taken. Call it only while something is mute on a live connection.
    pub(super) fn take(&mut self, now: Instant) -> Option<Remedy> {
        if self.due().is_some_and(|due| now < due) {
            return None;
        }
        if self.tried_at.is_none() {
            self.tried_at = Some(now);
            self.resubscribed_at = Some(now);
            return Some(Remedy::Resubscribe);
        }
        let after_vain = self.vain > 0;
        self.reconnected_at = Some(now);
        self.vain = self.vain.saturating_add(1);
        Some(Remedy::Reconnect { after_vain })
    }

    /// A connection anew for another reason, taken if the last is long enough ago.
    pub(super) fn take_reconnection(&mut self, now: Instant) -> bool {
        let may = self.reconnected_at.is_none_or(|at| now >= at + RECONNECT_MIN);
        if may {
            self.reconnected_at = Some(now);
        }
        may
    }

    /// When [`Self::take`] will have an answer; none: at once.
    pub(super) fn due(&self) -> Option<Instant> {
        let Some(tried_at) = self.tried_at else {
            return self.resubscribed_at.map(|at| at + RESUBSCRIBE_MIN);
        };
        let helped = tried_at + RESUBSCRIBE_HELPS_WITHIN;
        let pace = RECONNECT_MIN.saturating_mul(1 << self.vain.saturating_sub(1).min(10)).min(RECONNECT_MAX);
        Some(self.reconnected_at.map_or(helped, |at| helped.max(at + pace)))
    }

    /// Nothing is mute any more.
    pub(super) fn reset(&mut self) {
        self.tried_at = None;
        self.vain = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feed_that_falls_mute_again_and_again_is_not_resubscribed_or_redialed_faster() {
        // The test needs some instant to count from; which one is of no account.
        #[allow(clippy::disallowed_methods)]
        let start = Instant::now();
        let (mut remedies, mut random, mut counts) = (Remedies::default(), 1_u64, [0_u32; 2]);
        let mut last: [Option<Instant>; 2] = [None; 2];
        for second in 0..200_000 {
            let now = start + Duration::from_secs(second);
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Data comes once in fifty seconds, and what was mute is mute again at once.
            if (random >> 33) % 50 == 0 {
                remedies.reset();
            }
            let Some(remedy) = remedies.take(now) else { continue };
            let at = usize::from(remedy != Remedy::Resubscribe);
            counts[at] += 1;
            if let Some(before) = last[at].replace(now) {
                assert!(now - before >= Duration::from_secs(60), "{remedy:?} at {second} s");
            }
        }
        assert!(counts.iter().all(|count| *count > 1_000), "{counts:?}");
    }
}
