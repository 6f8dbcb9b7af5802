//! The gaps of all jobs: what the pumps' ledgers tell, what the backfill makes of it, and both in the store.
//!
//! Invariants: a gap stays here until it is at its end and written; what is told to the store is always the newest
//! state of a gap; the losses of one stalled sink come together, so that their number is bounded by what stalls.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alpaca_feed::gap_ledger::{Cause, Gap, products};
use alpaca_feed::subscription::{Channel, EVERY_SYMBOL, Subscriptions};
use ingest_status::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::lease::Fence;
use crate::logging;
use crate::store::Store;

/// Losses of one job that are no further apart than this are one gap, nanoseconds.
const LOSSES_APART: i64 = 60_000_000_000;
/// Gaps of one job that wait; beyond them losses come together however far apart they are.
const WAITING_MAX: usize = 1_000;
/// A store that is away is tried again after this time.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// One gap, as `ops/market_ingest/gaps/{id}` holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GapRecord {
    /// The document's id; sorts by the process that opened it, then by order.
    #[serde(skip)]
    pub id: String,
    /// The job.
    pub job: String,
    /// What was not received: every pair of these symbols, of which one may be `*`, …
    pub symbols: Vec<String>,
    /// … and these channels.
    pub channels: Vec<String>,
    /// Newest time of the market that was received before.
    pub from: Timestamp,
    /// First time of the market that was received after; none while it lasts.
    pub to: Option<Timestamp>,
    /// `pause`, `disconnect`, `mute`, `overflow` or `restart`.
    pub cause: String,
    /// What became of it.
    pub state: GapState,
    /// Rows that were fetched for it and are kept.
    pub rows: u64,
    /// Why it is not filled.
    pub reason: Option<String>,
    /// When it was opened, by the clock on the wall.
    pub opened_at: Timestamp,
    /// Where its filling goes on.
    pub cursor: Option<Cursor>,
}

/// What became of a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum GapState {
    /// It lasts, or waits to be filled.
    Open,
    /// It is being filled.
    Filling,
    /// Everything that the venue keeps of it was fetched and is kept.
    Filled,
    /// Part of it was fetched; the reason says what not.
    Partial,
    /// Nothing of it can be had; the reason says why.
    Unfillable,
}

impl GapState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Open, Self::Filling, Self::Filled, Self::Partial, Self::Unfillable];

    /// The state in one word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Filling => "filling",
            Self::Filled => "filled",
            Self::Partial => "partial",
            Self::Unfillable => "unfillable",
        }
    }

    /// Whether nothing more will be done about it.
    #[must_use]
    pub fn is_final(self) -> bool {
        match self {
            Self::Open | Self::Filling => false,
            Self::Filled | Self::Partial | Self::Unfillable => true,
        }
    }
}

/// How far a gap is filled: everything before is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cursor {
    /// Which of the gap's channels.
    pub channel: usize,
    /// The last of its symbols, sorted, that is done on that channel; none before the first.
    pub after: Option<String>,
}

impl GapRecord {
    fn new(job: &str, gap: &Gap, now: Timestamp) -> Self {
        Self {
            id: gap.id.clone(),
            job: job.to_owned(),
            symbols: gap.symbols.iter().cloned().collect(),
            channels: gap.channels.iter().map(ToString::to_string).collect(),
            from: Timestamp::from_nanoseconds(gap.from),
            to: gap.to.map(Timestamp::from_nanoseconds),
            cause: gap.cause.to_string(),
            state: GapState::Open,
            rows: 0,
            reason: None,
            opened_at: now,
            cursor: None,
        }
    }

    /// What the ledger of its job knows of it; none where somebody else wrote what is no gap.
    #[must_use]
    pub fn gap(&self) -> Option<Gap> {
        let channels: Result<BTreeSet<Channel>, _> = self.channels.iter().map(|word| word.parse()).collect();
        let gap = Gap {
            id: self.id.clone(),
            channels: channels.ok()?,
            symbols: self.symbols.iter().cloned().collect(),
            from: nanoseconds(self.from),
            to: self.to.map(nanoseconds),
            cause: self.cause.parse().ok()?,
        };
        (!gap.channels.is_empty() && !gap.symbols.is_empty()).then_some(gap)
    }

    /// How much of it is filled, from 0 to 1, by the channels and symbols that are done; of `*`, whose symbols are not
    /// counted here, by the channels alone. None unless it is being filled.
    #[must_use]
    pub fn filled_share(&self) -> Option<f64> {
        let cursor = self.cursor.as_ref().filter(|_| self.state == GapState::Filling)?;
        let is_done = |symbol: &&String| cursor.after.as_ref().is_some_and(|after| *symbol <= after);
        let symbols = if self.symbols.iter().any(|symbol| symbol == EVERY_SYMBOL) {
            0.0
        } else {
            self.symbols.iter().filter(is_done).count() as f64 / self.symbols.len().max(1) as f64
        };
        Some((cursor.channel as f64 + symbols) / self.channels.len().max(1) as f64)
    }

    /// Over, and something is still to be done about it.
    fn waits(&self) -> bool {
        self.to.is_some() && !self.state.is_final()
    }
}

/// A document's time as the market's.
pub(crate) fn nanoseconds(time: Timestamp) -> i64 {
    time.as_microseconds().saturating_mul(1000)
}

/// The gaps that are not at their end, shared by pumps, backfill and whoever shows them.
#[derive(Debug)]
pub(crate) struct GapBook {
    // Locked a few times a gap, never across an await.
    pages: Mutex<Pages>,
    /// Held while the store is written to: whoever comes second waits until the first is done.
    writing: tokio::sync::Mutex<()>,
    changes: watch::Sender<()>,
    /// What the fetching of all gaps did so far.
    pub(crate) fetched: Fetched,
}

/// Totals since the start of the process. Relaxed atomics: read for display only.
#[derive(Debug, Default)]
pub(crate) struct Fetched {
    /// Rows handed to the sinks.
    pub(crate) rows: AtomicU64,
    /// Pages.
    pub(crate) pages: AtomicU64,
    /// Requests that failed, or were refused.
    pub(crate) errors: AtomicU64,
}

#[derive(Debug, Default)]
struct Pages {
    records: BTreeMap<String, GapRecord>,
    /// Not yet in the store as they are here.
    unwritten: BTreeSet<String>,
    /// Gaps at their end by state, since the start of the process.
    ended: BTreeMap<GapState, u64>,
    /// Gaps that earlier processes told last.
    of_late: Vec<GapRecord>,
    /// Market time up to which everything that a job received is kept.
    marks: BTreeMap<String, i64>,
    missed: u64,
    failing: bool,
}

/// What is to be told of the gaps of one job.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Outlook {
    /// Gaps that last.
    pub(crate) lasting: usize,
    /// Gaps that are over and wait, or are being filled.
    pub(crate) waiting: usize,
    /// Market seconds that these cover.
    pub(crate) waiting_s: f64,
    /// Why one of them is not filled yet.
    pub(crate) reason: Option<String>,
}

impl GapBook {
    /// An empty book.
    pub(crate) fn new() -> Arc<Self> {
        let (pages, writing, fetched) = Default::default();
        Arc::new(Self { pages, writing, changes: watch::Sender::new(()), fetched })
    }

    /// Under a new lease: what the store holds is what counts, and what was not written is somebody else's now.
    pub(crate) fn begin_anew(&self, left: Vec<GapRecord>, of_late: Vec<GapRecord>) {
        let mut pages = self.pages();
        pages.of_late = of_late;
        pages.records = left.into_iter().map(|record| (record.id.clone(), record)).collect();
        pages.unwritten.clear();
        drop(pages);
        self.changes.send_replace(());
    }

    /// What `job` missed between two times of the market without its connection being lost: records that came and could
    /// not be kept, or a part of the feed that was mute.
    pub(crate) fn miss(&self, job: &str, missed: &Subscriptions, from: i64, to: i64, cause: Cause) {
        let now = jiff::Timestamp::now();
        let mut pages = self.pages();
        for (channels, symbols) in products(missed) {
            pages.missed += 1;
            let id = format!("{job}-{cause}-{:x}-{}", now.as_microsecond(), pages.missed);
            let gap = Gap { id, channels, symbols, from, to: Some(to.max(from)), cause };
            pages.take(job, &gap, now.into());
        }
        drop(pages);
        self.changes.send_replace(());
    }

    /// Everything that `job` received up to this market time is kept, or is a gap; true for its first mark.
    pub(crate) fn mark(&self, job: &str, to: i64) -> bool {
        self.pages().marks.insert(job.to_owned(), to).is_none()
    }

    /// The mark of a job, none before the first.
    pub(crate) fn received_to(&self, job: &str) -> Option<i64> {
        self.pages().marks.get(job).copied()
    }

    /// Whether the store has everything that is here.
    pub(crate) fn is_written(&self) -> bool {
        self.pages().unwritten.is_empty()
    }

    /// What the ledger of `job` tells.
    pub(crate) fn take(&self, job: &str, gap: &Gap) {
        let now = jiff::Timestamp::now().into();
        self.pages().take(job, gap, now);
        self.changes.send_replace(());
    }

    /// The gaps of `job` that last, and those of late that are over, for the ledger of a new process.
    pub(crate) fn earlier(&self, job: &str) -> Vec<Gap> {
        let pages = self.pages();
        let all = pages.records.values().filter(|record| !record.state.is_final()).chain(&pages.of_late);
        all.filter(|record| record.job == job).filter_map(GapRecord::gap).collect()
    }

    /// All that wait to be filled, oldest market time first.
    pub(crate) fn waiting(&self) -> Vec<GapRecord> {
        let pages = self.pages();
        let mut waiting: Vec<_> = pages.records.values().filter(|record| record.waits()).cloned().collect();
        waiting.sort_by(|a, b| (a.from, &a.id).cmp(&(b.from, &b.id)));
        waiting
    }

    #[cfg(test)]
    fn get(&self, id: &str) -> Option<GapRecord> {
        self.pages().records.get(id).cloned()
    }

    /// Changes a gap, or adds one that was split off another.
    pub(crate) fn put(&self, record: GapRecord) {
        let mut pages = self.pages();
        pages.unwritten.insert(record.id.clone());
        pages.records.insert(record.id.clone(), record);
        drop(pages);
        self.changes.send_replace(());
    }

    /// Begins, or goes on, to fill a gap that waits: from here on it is not extended any more.
    pub(crate) fn begin(&self, id: &str) -> Option<GapRecord> {
        let mut pages = self.pages();
        let record = pages.records.get_mut(id).filter(|record| record.waits())?;
        let news = std::mem::replace(&mut record.state, GapState::Filling) != GapState::Filling;
        let record = record.clone();
        if news {
            pages.unwritten.insert(record.id.clone());
            drop(pages);
            // What is not written holds back the marks.
            self.changes.send_replace(());
        }
        Some(record)
    }

    /// What is to be told of one job.
    pub(crate) fn outlook(&self, job: &str) -> Outlook {
        let mut outlook = Outlook::default();
        for record in self.pages().records.values().filter(|record| record.job == job) {
            match record.to {
                None => outlook.lasting += 1,
                Some(to) if !record.state.is_final() => {
                    outlook.waiting += 1;
                    outlook.waiting_s += to.seconds_since(record.from).max(0.0);
                    outlook.reason = outlook.reason.or_else(|| record.reason.clone());
                }
                Some(_) => {}
            }
        }
        outlook
    }

    /// Gaps at their end by state, since the start of the process.
    pub(crate) fn ended(&self, state: GapState) -> u64 {
        self.pages().ended.get(&state).copied().unwrap_or_default()
    }

    /// The gaps that pauses opened from one time to another.
    pub(crate) fn ids_of_pauses(&self, since: Timestamp, until: Timestamp) -> Vec<String> {
        let pause = Cause::Pause.as_str();
        let of_pause = |record: &&GapRecord| {
            record.cause == pause && record.opened_at >= since && record.opened_at <= until
        };
        self.pages().records.values().filter(of_pause).map(|record| record.id.clone()).collect()
    }

    /// Tells of every change.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Keeps the store up until it is dropped, while the lease is ours.
    pub(crate) async fn keep(self: Arc<Self>, store: Store, fence: Fence) {
        let mut changes = self.changes();
        loop {
            changes.mark_unchanged();
            let done = self.write(&store, &fence).await;
            tokio::select! {
                biased;
                // The book outlives its keeper, so this is never an error.
                _ = changes.changed(), if done => {}
                () = tokio::time::sleep(RETRY_AFTER), if !done => {}
            }
        }
    }

    /// Writes what is not written; false while the store is away, and without the lease. Cancel safe.
    pub(crate) async fn write(&self, store: &Store, fence: &Fence) -> bool {
        let _turn = self.writing.lock().await;
        loop {
            if !fence.may_write() {
                return false;
            }
            let Some(record) = self.pages().next_unwritten() else { return true };
            let written = store.write_gap(&record).await;
            let mut pages = self.pages();
            match written {
                Ok(()) => {
                    pages.written(&record);
                    pages.failing = false;
                }
                Err(error) => {
                    if !std::mem::replace(&mut pages.failing, true) {
                        let error = logging::chain(&error);
                        tracing::warn!(error, "gaps cannot be kept; it is tried again");
                    }
                    return false;
                }
            }
        }
    }

    /// A panic elsewhere leaves whole records.
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn take(&mut self, job: &str, gap: &Gap, now: Timestamp) {
        let told = GapRecord::new(job, gap, now);
        if gap.cause == Cause::Overflow && gap.to.is_some() && self.extend_loss(&told) {
            return;
        }
        self.unwritten.insert(told.id.clone());
        let record = self.records.entry(told.id.clone()).or_insert_with(|| told.clone());
        (record.symbols, record.channels) = (told.symbols, told.channels);
        (record.from, record.to) = (told.from, told.to);
    }

    /// Adds a loss to one of the same job that waits untouched.
    fn extend_loss(&mut self, loss: &GapRecord) -> bool {
        let own = |record: &&mut GapRecord| record.job == loss.job && record.waits();
        let crowded = self.records.values_mut().filter(own).count() >= WAITING_MAX;
        let near = |record: &GapRecord| {
            let last = record.to.map_or(i64::MIN, nanoseconds);
            nanoseconds(loss.from).saturating_sub(last) <= LOSSES_APART
        };
        let found = self.records.values_mut().filter(own).rev().find(|record| {
            let untouched = record.cause == loss.cause && record.state == GapState::Open;
            untouched && (crowded || near(record))
        });
        let Some(record) = found else { return false };
        merge(&mut record.symbols, &loss.symbols);
        merge(&mut record.channels, &loss.channels);
        record.from = record.from.min(loss.from);
        record.to = record.to.max(loss.to);
        self.unwritten.insert(record.id.clone());
        true
    }

    /// It stays unwritten until the store has it.
    fn next_unwritten(&self) -> Option<GapRecord> {
        self.unwritten.iter().find_map(|id| self.records.get(id)).cloned()
    }

    /// What is at its end and written is the store's.
    fn written(&mut self, record: &GapRecord) {
        if self.records.get(&record.id) != Some(record) {
            return;
        }
        self.unwritten.remove(&record.id);
        if record.state.is_final() {
            self.records.remove(&record.id);
            *self.ended.entry(record.state).or_default() += 1;
        }
    }
}

fn merge(all: &mut Vec<String>, more: &[String]) {
    let merged: BTreeSet<&String> = all.iter().chain(more).collect();
    *all = merged.into_iter().cloned().collect();
}

#[cfg(test)]
mod tests;
