//! How far each job's records are kept, and what the full-rate sinks could not keep.
//!
//! A mark is where the gap of a crash begins. Invariant: a mark is shown only once every loss before it is a gap in the
//! store; it is read before the losses are taken, so that none can fall between. What the watchdog doubts holds it
//! back, and so does a symbol that is not kept yet: a successor asks by names ([`crate::seen`]).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alpaca_feed::gap_ledger::Cause;
use alpaca_feed::subscription::{Channel, Subscriptions};
use alpaca_feed::symbol::Symbols;
use tokio::sync::{Notify, watch};

use crate::config::JobConfig;
use crate::gaps::GapBook;
use crate::job::JobState;
use crate::lease::Fence;
use crate::seen::Seen;
use crate::sink::{FullRate, JobId, Lanes, Overflow};
use crate::store::Store;

/// Time between two looks…
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// …and after a loss, which is likely to go on for as long as its sink stalls: the store is told of it no more often.
const LOOK_AFTER_LOSS: Duration = Duration::from_secs(5);

/// Marks that wait for the symbols of what lies before them to be kept.
pub(crate) struct Pending {
    marks: Vec<Option<i64>>,
    symbols: usize,
}

/// Looks, and tells the book.
pub(crate) struct Marks {
    pub(crate) jobs: Vec<JobConfig>,
    pub(crate) states: Vec<watch::Receiver<JobState>>,
    pub(crate) sinks: Vec<FullRate>,
    pub(crate) symbols: Arc<Symbols>,
    pub(crate) seen: Arc<Seen>,
    pub(crate) pending: Mutex<Option<Pending>>,
    pub(crate) book: Arc<GapBook>,
    pub(crate) store: Store,
    pub(crate) fence: Fence,
    /// Told when a job has its first mark, which a heartbeat should say at once.
    pub(crate) edges: Arc<Notify>,
}

impl Marks {
    /// Looks until it is dropped.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            let lost = self.look();
            tokio::time::sleep(if lost { LOOK_AFTER_LOSS } else { LOOK_EVERY }).await;
        }
    }

    /// A last time, when everything is drained: the gaps of the stop are written, within a limit, and the marks shown.
    pub(crate) async fn last(&self, limit: Duration) {
        self.look();
        let written = async {
            // Without them the marks stay where they are.
            let _ = self.seen.write(&self.store, &self.fence).await;
            self.book.write(&self.store, &self.fence).await
        };
        if tokio::time::timeout(limit, written).await == Ok(true) {
            // Marks that waited, then those of now.
            self.look();
            self.look();
        }
    }

    /// Whether something was lost.
    fn look(&self) -> bool {
        // To the end: whoever looked between the taking of a loss and its gap would find nothing lost.
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let marks: Vec<_> = (0..).map(JobId).zip(&self.jobs).map(|(id, _)| self.mark(id)).collect();
        let overflows: Vec<_> = self.sinks.iter().flat_map(FullRate::take_overflows).collect();
        overflows.iter().for_each(|overflow| self.lose(overflow));
        // The table has at least the symbols of what was received by then. Newer marks do not replace those that wait:
        // while new symbols come in all the time, none would ever be shown.
        let waits = pending.get_or_insert_with(|| Pending { marks, symbols: self.symbols.len() });
        if self.book.is_written() && self.seen.covers(waits.symbols) {
            let marks = std::mem::take(&mut waits.marks);
            *pending = None;
            for (job, mark) in self.jobs.iter().zip(marks) {
                if let Some(mark) = mark
                    && self.book.mark(&job.name, mark)
                {
                    self.edges.notify_one();
                }
            }
        }
        !overflows.is_empty()
    }

    /// Without a sink that keeps everything, what was received counts.
    fn mark(&self, id: JobId) -> Option<i64> {
        let (clock, doubt_from) = {
            let state = self.states.get(usize::from(id.0))?.borrow();
            (state.clock, state.doubt_from)
        };
        let durable_to = || {
            let marks: Option<Vec<i64>> = self.sinks.iter().map(|sink| sink.durable_to(id)).collect();
            marks?.into_iter().min()
        };
        let kept_to = if self.sinks.is_empty() { clock } else { durable_to() }?;
        Some(doubt_from.map_or(kept_to, |from| kept_to.min(from)))
    }

    fn lose(&self, overflow: &Overflow) {
        let Some(job) = self.jobs.get(usize::from(overflow.job.0)) else { return };
        let lost = match &overflow.lanes {
            Lanes::All => job.subscriptions.clone(),
            Lanes::Some(lanes) => lanes
                .iter()
                .filter_map(|(kind, symbol)| {
                    let channel: Channel = crate::filter::channel_of(*kind)?.parse().ok()?;
                    let symbol =
                        symbol.map_or_else(|| "*".to_owned(), |id| self.symbols.name(id).to_string());
                    Some((channel, symbol))
                })
                .collect::<Subscriptions>(),
        };
        tracing::warn!(job = job.name, records = overflow.records, "records were lost; they become a gap");
        let (from, to) = (overflow.from_ts, overflow.to_ts);
        self.book.miss(&job.name, &lost, from, to, Cause::Overflow);
    }
}
