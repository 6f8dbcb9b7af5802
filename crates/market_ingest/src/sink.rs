//! Where market data goes. A sink has a front, called by the pumps once a turn and never waiting,
//! and perhaps a back, a task that talks to the outside.
//!
//! Invariant: after [`Sink::drain`] has answered, nothing of that part received before it is written any more:
//! everything is either delivered or counted as dropped. "Paused" rests on this.

mod chunk;
mod digits;
mod files;
mod full_rate;
mod json;
pub mod key;
mod names;
mod nats;
mod ndjson;
mod overflow;
mod parquet;
mod pubsub;
mod quotes;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alpaca_feed::message::Batch;
use alpaca_feed::symbol::SymbolId;

pub use self::parquet::Parquet;
pub use chunk::{Backfill, Chunk, Origin, Record};
pub(crate) use chunk::{clock, wall_ts};
pub use files::{Files, Format, Naming, PartFile, Rotation};
pub use full_rate::{BYTES_MAX, Courier, Destination, FullRate, Outcome, Outlet, Ticket, Written};
pub use json::Encoder;
pub use nats::Nats;
pub use ndjson::Ndjson;
pub use overflow::{Lanes, Overflow};
pub use pubsub::Pubsub;
pub use quotes::{Quotes, QuotesWriter};

/// Everything received before a pause is delivered within this time, or counted as dropped; with
/// what comes around it a pause is complete within two seconds.
pub const DRAIN_LIMIT: Duration = Duration::from_millis(1700);

/// The number of a job among those of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobId(pub u16);

/// What a drain is about: what one job has delivered, or those of its symbols that are held.
#[derive(Clone, Debug)]
pub struct Part {
    /// The job.
    pub job: JobId,
    /// The symbols; none means all.
    pub symbols: Option<Arc<HashSet<SymbolId>>>,
}

impl Part {
    fn covers(&self, job: JobId, symbol: SymbolId) -> bool {
        self.job == job && self.symbols.as_ref().is_none_or(|symbols| symbols.contains(&symbol))
    }
}

/// The front of a sink. Cheap to clone: all pumps share one sink.
#[derive(Clone, Debug)]
pub enum Sink {
    /// Counts and forgets.
    Null(Arc<Counts>),
    /// Newest quote per symbol, into the store.
    Quotes(Quotes),
    /// Every record, to files or a broker.
    FullRate(FullRate),
}

/// What a sink did so far. Relaxed atomics: read for display only.
#[derive(Debug, Default)]
pub struct Counts {
    /// Records taken by `null`, documents written by `quotes`, records made durable by the full-rate sinks.
    pub written: AtomicU64,
    /// Attempts to write that failed and will be repeated.
    pub errors: AtomicU64,
    /// Records that will never be written: refused outside, without room, or not delivered before a pause.
    pub dropped: AtomicU64,
}

/// What became of the records that were waiting when a drain began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Written during the drain.
    pub delivered: u64,
    /// Given up.
    pub dropped: u64,
}

impl Sink {
    /// Takes the events of one turn of `job`, in order of receipt.
    pub fn accept(&self, job: JobId, batch: &Batch) {
        match self {
            Self::Null(counts) => {
                counts.written.fetch_add(batch.events.len() as u64, Ordering::Relaxed);
            }
            Self::Quotes(quotes) => quotes.accept(job, batch),
            Self::FullRate(full_rate) => full_rate.accept(job, batch),
        }
    }

    /// Delivers what is waiting of `part`, within [`DRAIN_LIMIT`]; the rest is dropped and counted.
    ///
    /// Dropping the future withdraws the request: what is waiting stays and is written in its turn.
    pub async fn drain(self, part: Part) -> Drained {
        match self {
            Self::Null(_) => Drained::default(),
            Self::Quotes(quotes) => quotes.drain(part).await,
            Self::FullRate(full_rate) => full_rate.drain(part).await,
        }
    }

    /// The sink, if it takes every record.
    #[must_use]
    pub fn full_rate(&self) -> Option<&FullRate> {
        match self {
            Self::FullRate(full_rate) => Some(full_rate),
            Self::Null(_) | Self::Quotes(_) => None,
        }
    }

    /// The sink's word in `INGEST_SINKS`, without a target.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Null(_) => "null",
            Self::Quotes(_) => "quotes",
            Self::FullRate(full_rate) => full_rate.kind(),
        }
    }

    /// What it did so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        match self {
            Self::Null(counts) => counts,
            Self::Quotes(quotes) => quotes.counts(),
            Self::FullRate(full_rate) => full_rate.counts(),
        }
    }

    /// Whether the last write succeeded; none before the first.
    #[must_use]
    pub fn healthy(&self) -> Option<bool> {
        match self {
            Self::Null(_) => Some(true),
            Self::Quotes(quotes) => quotes.healthy(),
            Self::FullRate(full_rate) => full_rate.healthy(),
        }
    }
}
