//! Every span the machine waits, in one place.

use std::time::Duration;

/// How long to wait for what; [`Limits::default`] suits Alpaca's live streams.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub struct Limits {
    /// For TCP, TLS and the upgrade together.
    pub dial_limit: Duration,
    /// For each of greeting, authentication and every answer to a request; Alpaca ends an unauthenticated connection
    /// after 10 s itself.
    pub stage_limit: Duration,
    /// From the close frame to the end of the socket; then it is aborted. Alpaca ends it within about 240 ms and never
    /// echoes the frame.
    pub close_limit: Duration,
    /// Silence of a live link after which it is pinged; the venue's own pings come every 54 s.
    pub probe_after: Duration,
    /// From our ping to the verdict that the link is dead, if nothing at all is heard.
    pub pong_limit: Duration,
    /// How long a connection must have been live before a mere sign of life proves it healthy; data proves it at once.
    pub proven_after: Duration,
    /// Growth of the pauses between attempts to authenticate on a connection whose slot is taken: once, twice, three
    /// times this.
    pub slot_retry_step: Duration,
    /// From the first 406 to our own end of it; Alpaca ends it after about 10 s.
    pub slot_limit: Duration,
    /// Least wait before redialing after a taken slot.
    pub slot_redial_min: Duration,
    /// Most wait before redialing after a taken slot.
    pub slot_redial_max: Duration,
    /// From the first 406 to the word that a person must look; longer than Alpaca keeps the slot of a dead peer.
    pub slot_alert_after: Duration,
    /// Upper bound of the first back-off; it doubles with every failure.
    pub backoff_base: Duration,
    /// Upper bound of any back-off.
    pub backoff_max: Duration,
    /// Least wait after a refusal that only a person can cure; up to a quarter more.
    pub refused_recheck: Duration,
    /// From one dial to the next that an operator's resume asks for: a switch that flaps must not become a flood of
    /// connections. A failure's own back-off may be shorter; a pause never waits.
    pub redial_min: Duration,
    /// Least wait after HTTP 429; up to twice as long.
    pub rate_limited_min: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            dial_limit: Duration::from_secs(10),
            stage_limit: Duration::from_secs(10),
            close_limit: Duration::from_millis(1_500),
            probe_after: Duration::from_secs(10),
            pong_limit: Duration::from_secs(25),
            proven_after: Duration::from_secs(30),
            slot_retry_step: Duration::from_millis(500),
            slot_limit: Duration::from_secs(15),
            slot_redial_min: Duration::from_secs(1),
            slot_redial_max: Duration::from_secs(3),
            slot_alert_after: Duration::from_secs(120),
            backoff_base: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
            refused_recheck: Duration::from_secs(60),
            redial_min: Duration::from_secs(1),
            rate_limited_min: Duration::from_secs(30),
        }
    }
}
