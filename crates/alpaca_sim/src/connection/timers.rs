//! The deadlines of one connection.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Timings;

/// Which deadlines are set.
pub(super) struct Timers {
    timings: Timings,
    auth: Option<Instant>,
    eviction: Option<Instant>,
    next_ping: Instant,
    pong: Option<Instant>,
    next_write: Instant,
}

impl Timers {
    /// The deadlines of a connection that opens now.
    pub(super) fn new(timings: Timings) -> Timers {
        let now = Instant::now();
        Timers {
            timings,
            auth: Some(now + timings.auth_limit),
            eviction: None,
            next_ping: now + timings.ping_interval,
            pong: None,
            next_write: now,
        }
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Instant {
        [self.auth, self.eviction, self.pong, self.next_write()]
            .into_iter()
            .flatten()
            .fold(self.next_ping, Instant::min)
    }

    /// When writing is allowed again, if it is not now.
    pub(super) fn next_write(&self) -> Option<Instant> {
        (self.next_write > Instant::now()).then_some(self.next_write)
    }

    pub(super) fn stop_auth(&mut self) {
        self.auth = None;
    }

    pub(super) fn evict_after(&mut self, hold: Duration) {
        self.eviction.get_or_insert(Instant::now() + hold);
    }

    pub(super) fn stop_eviction(&mut self) {
        self.eviction = None;
    }

    pub(super) fn pong(&mut self) {
        self.pong = None;
    }

    pub(super) fn auth_is_over(&self, now: Instant) -> bool {
        self.auth.is_some_and(|at| now >= at)
    }

    pub(super) fn eviction_is_due(&self, now: Instant) -> bool {
        self.eviction.is_some_and(|at| now >= at)
    }

    pub(super) fn pong_is_missed(&self, now: Instant) -> bool {
        self.pong.is_some_and(|at| now >= at)
    }

    /// Whether a ping is due; if so, its pong is awaited from now on and the next ping is set.
    pub(super) fn ping_is_due(&mut self, now: Instant) -> bool {
        if now < self.next_ping {
            return false;
        }
        self.next_ping = now + self.timings.ping_interval;
        self.pong.get_or_insert(now + self.timings.pong_limit);
        true
    }

    /// Allows no write for so long.
    pub(super) fn write_after(&mut self, pause: Duration) {
        self.next_write = Instant::now() + pause;
    }

    pub(super) fn may_write(&self) -> bool {
        self.next_write().is_none()
    }
}
