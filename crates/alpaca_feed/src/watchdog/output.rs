//! What the watchdog says: what to try, and what happened.

use std::time::{Duration, Instant};

use crate::subscription::Channel;
use crate::symbol::SymbolId;

/// What fell silent.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub enum Subject {
    /// A whole channel.
    Channel(Channel),
    /// One symbol, while others flow.
    Symbol(SymbolId),
}

/// What to try against it.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Command {
    /// Unsubscribe and subscribe again, on the connection that there is.
    Resubscribe(Vec<Subject>),
    /// Close the connection and dial anew.
    Reconnect(Trouble),
    /// Fetch elsewhere what came in this time.
    Backfill {
        /// Of what.
        subject: Subject,
        /// The last message before.
        since: Instant,
        /// Until then.
        until: Instant,
    },
}

/// Why a connection is to be made anew.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum Trouble {
    /// Nothing comes where something should.
    Mute,
    /// What comes is old: the venue has more waiting for us than it can send, and only a new connection is without it.
    Lagging,
}

/// What happened, for logs, metrics and conditions.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Notice {
    /// An alarm.
    Silent {
        /// What is silent.
        subject: Subject,
        /// For how long by now.
        silent: Duration,
        /// The silence that was allowed.
        limit: Duration,
    },
    /// The end of an alarm by data.
    Flowing {
        /// What flows again.
        subject: Subject,
        /// For how long it was silent.
        silent: Duration,
    },
    /// This symbol alone is silent for longer than it usually is; answer with [`super::Watchdog::handle_spot_check`].
    Suspect {
        /// Which.
        symbol: SymbolId,
        /// For how long by now.
        silent: Duration,
        /// The silence that was allowed.
        limit: Duration,
    },
    /// Event time fell behind the clock by this much more than it was before.
    Lagging(Duration),
    /// And no longer does.
    CaughtUp,
}

/// Whether the data can be taken for fresh.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum Freshness {
    /// Something came within the time it usually takes.
    Flowing,
    /// An alarm stands.
    Mute,
    /// What comes is old.
    Lagging,
    /// Silent, and nothing says that this is unusual.
    Quiet,
    /// Silent because all of its symbols are halted.
    Halted,
    /// Silent outside the market's hours.
    MarketClosed,
    /// No live connection.
    NotLive,
}
