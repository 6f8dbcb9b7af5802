//! Whether this process may still write: a lease says so, for a time, under an epoch.
//!
//! A holder that was stopped and wakes up has a grant that is over, whatever its tasks still believe, because the time
//! is looked at with each question.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Asked immediately before every write to the outside. Cheap to clone; all clones are one fence.
#[derive(Clone, Debug)]
pub struct Fence {
    grant: Arc<Grant>,
}

#[derive(Debug)]
struct Grant {
    began: Instant,
    epoch: AtomicU64,
    /// Microseconds after `began` until which writing is allowed.
    until_us: AtomicU64,
}

impl Default for Fence {
    /// Open for ever, with epoch 0: there is no lease.
    fn default() -> Self {
        let grant =
            Grant { began: Instant::now(), epoch: AtomicU64::new(0), until_us: AtomicU64::new(u64::MAX) };
        Self { grant: Arc::new(grant) }
    }
}

impl Fence {
    /// Shut until something is granted.
    #[must_use]
    pub fn shut() -> Self {
        let fence = Self::default();
        fence.revoke();
        fence
    }

    /// Allows writing under `epoch` until a time; for ever without one.
    pub fn grant(&self, epoch: u64, until: Option<Instant>) {
        let until_us = until.map_or(u64::MAX, |until| micros(self.grant.began, until));
        self.grant.epoch.store(epoch, Ordering::SeqCst);
        self.grant.until_us.store(until_us, Ordering::SeqCst);
    }

    /// Allows nothing any more.
    pub fn revoke(&self) {
        self.grant.until_us.store(0, Ordering::SeqCst);
    }

    /// Whether a write may go out now.
    #[must_use]
    pub fn may_write(&self) -> bool {
        let until_us = self.grant.until_us.load(Ordering::SeqCst);
        until_us == u64::MAX || micros(self.grant.began, Instant::now()) < until_us
    }

    /// The epoch of the last grant; ask for it before [`Self::may_write`].
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.grant.epoch.load(Ordering::SeqCst)
    }
}

fn micros(from: Instant, to: Instant) -> u64 {
    to.saturating_duration_since(from).as_micros() as u64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_grant_is_over_when_its_time_is_whatever_is_done_about_it() {
        let fence = Fence::default();
        assert!(fence.may_write() && fence.epoch() == 0);
        fence.grant(7, Some(Instant::now() + Duration::from_secs(60)));
        assert!(fence.clone().may_write() && fence.epoch() == 7);
        fence.grant(8, Some(Instant::now()));
        assert!(!fence.may_write());
        fence.grant(9, None);
        assert!(fence.may_write());
        fence.revoke();
        assert!(!fence.may_write() && fence.epoch() == 9);
        assert!(!Fence::shut().may_write());
    }
}
