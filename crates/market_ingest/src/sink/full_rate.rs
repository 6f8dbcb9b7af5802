//! The front of every full-rate sink: takes all that the pumps deliver and all that a fetch brings, and keeps it until
//! it is durable outside. Its back is a [`Courier`] that hands it to a [`Destination`].
//!
//! Invariants: what is kept, over everything that is not durable yet, is bounded in bytes; what does not fit is
//! refused whole, counted and told as an [`Overflow`]; [`FullRate::accept`] never waits. Everything accepted becomes
//! durable, or is told as an overflow; [`FullRate::durable_to`] never runs ahead of that.

mod courier;
mod queue;

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alpaca_feed::message::{Batch, Event};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use super::chunk::{Backfill, Chunk, wall_ts};
use super::overflow::Overflow;
use super::{Counts, DRAIN_LIMIT, Drained, JobId, Part};
pub use courier::{Courier, Destination, Written};
use queue::Queue;

/// What a sink keeps at most of what is not durable yet, in bytes.
pub const BYTES_MAX: usize = 64 << 20;

/// The front. Cheap to clone: pumps, fetchers and the ledger share one.
#[derive(Clone, Debug)]
pub struct FullRate {
    kind: &'static str,
    shared: Arc<Shared>,
    drains: mpsc::Sender<DrainRequest>,
}

/// The other end of a front, for its [`Courier`].
#[derive(Debug)]
pub struct Outlet {
    kind: &'static str,
    shared: Arc<Shared>,
    drains: mpsc::Receiver<DrainRequest>,
}

/// What became of fetched rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not durable yet.
    Waiting,
    /// Durable.
    Durable,
    /// Some or all were given up: they are to be fetched again.
    Lost,
}

/// Names what [`FullRate::accept_backfill`] took, to ask later what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

#[derive(Debug)]
struct Shared {
    // Locked once a turn by a pump and a few times a batch by the courier, never across an await.
    queue: Mutex<Queue>,
    counts: Counts,
    health: AtomicU8,
    /// Something waits for the courier.
    arrived: Notify,
    /// Something became durable or was given up.
    room: Notify,
}

const HEALTH_UNKNOWN: u8 = 0;
const HEALTH_GOOD: u8 = 1;
const HEALTH_BAD: u8 = 2;

#[derive(Debug)]
struct DrainRequest {
    part: Part,
    /// What has a lower id was accepted before.
    upto: u64,
    deadline: Instant,
    drained: Drained,
    answer: oneshot::Sender<Drained>,
}

impl FullRate {
    /// A front of this kind (its word in `INGEST_SINKS`) and the outlet for its courier.
    #[must_use]
    pub fn new(kind: &'static str, bytes_max: usize) -> (Self, Outlet) {
        let (drains, requests) = mpsc::channel(16);
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue::new(bytes_max)),
            counts: Counts::default(),
            health: AtomicU8::new(HEALTH_UNKNOWN),
            arrived: Notify::new(),
            room: Notify::new(),
        });
        (Self { kind, shared: Arc::clone(&shared), drains }, Outlet { kind, shared, drains: requests })
    }

    /// Takes the events of one turn of `job`, in order of receipt; never waits.
    pub fn accept(&self, job: JobId, batch: &Batch) {
        if batch.events.is_empty() {
            return;
        }
        let accepted = self.shared.queue().accept(job, &batch.events, wall_ts());
        match accepted {
            queue::Accepted::Begun => self.shared.arrived.notify_one(),
            queue::Accepted::Added => {}
            queue::Accepted::Refused => self.shared.lost(batch.events.len() as u64),
        }
    }

    /// Takes rows of a fetch, and waits while half of the bound or more is in use: live data goes first. None if they
    /// must not be taken any more: that is asked in one with the taking, so that nothing slips in behind a drain that
    /// followed a decision.
    ///
    /// Cancel safe: all rows are taken or none.
    pub async fn accept_backfill(&self, rows: Backfill, may: impl Fn() -> bool) -> Option<Ticket> {
        let mut rows = Some(rows);
        loop {
            let room = self.shared.room.notified();
            tokio::pin!(room);
            // From here on no news is missed.
            room.as_mut().enable();
            let taken = {
                let mut queue = self.shared.queue();
                if !may() {
                    return None;
                }
                queue.accept_backfill(&mut rows)
            };
            if let Some(id) = taken {
                self.shared.arrived.notify_one();
                return Some(Ticket(id));
            }
            // The courier makes room sooner when it knows that somebody waits for it.
            self.shared.arrived.notify_one();
            room.await;
        }
    }

    /// What became of these rows.
    #[must_use]
    pub fn outcome(&self, ticket: Ticket) -> Outcome {
        self.shared.queue().outcome(ticket.0)
    }

    /// Completes when something became durable after the call. Cancel safe.
    pub async fn progress(&self) {
        self.shared.room.notified().await;
    }

    /// The market time up to which everything that `job` received live is durable, or told as an [`Overflow`]; none
    /// before the first. Nanoseconds since 1970.
    ///
    /// To resume after a crash, read this first, then [`Self::take_overflows`], and keep both.
    #[must_use]
    pub fn durable_to(&self, job: JobId) -> Option<i64> {
        self.shared.queue().durable_to(job)
    }

    /// What was lost since the last call, merged.
    #[must_use]
    pub fn take_overflows(&self) -> Vec<Overflow> {
        self.shared.queue().take_overflows()
    }

    /// Whether rows of a fetch would be taken soon: a sink that stalls takes none.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let queue = self.shared.queue();
        queue.bytes() <= queue.bytes_max() / 2
    }

    /// Memory in use by what is not durable yet, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shared.queue().bytes()
    }

    /// As [`super::Sink::drain`]: everything of the part accepted before is handed over, or given up at the limit.
    /// When the part is a whole job, what was handed over is made durable besides.
    pub async fn drain(self, part: Part) -> Drained {
        let (answer, done) = oneshot::channel();
        let deadline = Instant::now() + DRAIN_LIMIT;
        let upto = self.shared.queue().seal(part.job);
        let request = DrainRequest { part, upto, deadline, drained: Drained::default(), answer };
        if self.drains.send(request).await.is_err() {
            return Drained::default();
        }
        done.await.unwrap_or_default()
    }

    /// The sink's word in `INGEST_SINKS`, without its target.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// What it did so far; a record is written once it is durable.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    /// Whether the last write succeeded; none before the first.
    #[must_use]
    pub fn healthy(&self) -> Option<bool> {
        match self.shared.health.load(Ordering::Relaxed) {
            HEALTH_UNKNOWN => None,
            health => Some(health == HEALTH_GOOD),
        }
    }
}

impl Shared {
    /// A panic elsewhere leaves the queue usable: at worst some bytes stay counted as used.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self, records: u64) {
        self.counts.dropped.fetch_add(records, Ordering::Relaxed);
    }

    /// Gives up whole chunks.
    fn give_up(&self, chunks: impl IntoIterator<Item = Arc<Chunk>>) -> u64 {
        let mut lost = 0;
        for chunk in chunks {
            lost += chunk.len() as u64;
            let mut queue = self.queue();
            queue.lose(&chunk, &chunk.events, wall_ts());
            queue.settle(&chunk);
        }
        self.gave_up(lost);
        lost
    }

    /// Gives up some records of a chunk that goes on without them.
    fn give_up_part(&self, chunk: &mut Chunk, events: &[Event]) -> u64 {
        let lost = events.len() as u64;
        {
            let mut queue = self.queue();
            queue.lose(chunk, events, wall_ts());
            queue.shrink(chunk, events);
        }
        self.gave_up(lost);
        lost
    }

    fn gave_up(&self, lost: u64) {
        if lost > 0 {
            self.lost(lost);
            self.room.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests;
