//! Delivers the heartbeat: every interval, at once on a change, and a last time on a clean stop.
//!
//! Without the lease nothing is written: the document is the holder's. It vouches for the pumps, not for itself: while
//! one of them does not turn, nothing is written, so that the document goes stale. A store that fails is tried again
//! every second; nothing queues up, since each heartbeat is composed when it is written.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use ingest_status::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::lease::Fence;
use crate::logging;
use crate::memory::Memory;
use crate::report::Report;
use crate::store::Store;

/// Changes within this time share a write, so that a flapping switch cannot flood the document.
const EDGE_SPACING: Duration = Duration::from_millis(250);
/// A failed write is repeated after this time.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How the writing goes, for the metrics.
#[derive(Debug, Default)]
pub(crate) struct BeatCounts {
    /// Heartbeats that were not taken by the store.
    pub failures: AtomicU64,
    /// When the last one was taken, microseconds UTC; 0 before the first.
    pub written_at_us: AtomicI64,
}

/// The task's state.
#[derive(Debug)]
pub(crate) struct Beat {
    report: Arc<Report>,
    store: Store,
    fence: Fence,
    /// What the last heartbeat of before told must be read before it is overwritten.
    memory: watch::Receiver<Memory>,
    counts: Arc<BeatCounts>,
    seq: u64,
    failing: bool,
    vouching: bool,
}

impl Beat {
    pub(crate) fn new(
        report: Arc<Report>,
        store: Store,
        fence: Fence,
        memory: watch::Receiver<Memory>,
        counts: Arc<BeatCounts>,
    ) -> Self {
        Self { report, store, fence, memory, counts, seq: 0, failing: false, vouching: true }
    }

    fn may_write(&self) -> bool {
        self.fence.may_write() && self.memory.borrow().epoch == self.fence.epoch()
    }

    /// Writes until the process stops, then returns itself for [`Self::last`].
    pub(crate) async fn run(mut self, edges: Arc<Notify>, mut stopping: watch::Receiver<bool>) -> Self {
        loop {
            if !self.may_write() {
                tokio::select! {
                    biased;
                    _ = stopping.wait_for(|stop| *stop) => return self,
                    // The lease itself is an edge.
                    () = edges.notified() => {}
                    () = tokio::time::sleep(RETRY_AFTER) => {}
                }
                continue;
            }
            let written = tokio::select! {
                biased;
                _ = stopping.wait_for(|stop| *stop) => return self,
                written = self.write(None) => written,
            };
            let interval = if written { self.report.identity().interval } else { RETRY_AFTER };
            let next = Instant::now() + interval;
            let not_before = Instant::now() + EDGE_SPACING;
            tokio::select! {
                biased;
                _ = stopping.wait_for(|stop| *stop) => return self,
                () = edges.notified() => {}
                () = sleep_until(next) => {}
            }
            tokio::select! {
                biased;
                _ = stopping.wait_for(|stop| *stop) => return self,
                () = sleep_until(not_before) => {}
            }
        }
    }

    /// The heartbeat that says the process has left, tried until the deadline; none without the lease.
    pub(crate) async fn last(mut self, deadline: Instant) {
        let stopped_at = jiff::Timestamp::now().into();
        let written = timeout_at(deadline, async {
            while self.may_write() && !self.write(Some(stopped_at)).await {
                tokio::time::sleep(EDGE_SPACING).await;
            }
        });
        if written.await.is_err() {
            tracing::warn!("the last heartbeat was not taken in time");
        }
    }

    async fn write(&mut self, stopped_at: Option<Timestamp>) -> bool {
        if stopped_at.is_none() && !self.vouch() {
            return false;
        }
        let epoch = self.fence.pass();
        if epoch.is_none() {
            return false;
        }
        let mut beat = self.report.heartbeat(jiff::Timestamp::now().into());
        beat.epoch = epoch;
        // Counted when it is sent: one that timed out may have landed.
        self.seq += 1;
        beat.seq = self.seq;
        beat.stopped_at = stopped_at;
        match self.store.write_heartbeat(&beat).await {
            Ok(()) => {
                self.counts.written_at_us.store(beat.ts.as_microseconds(), Ordering::Relaxed);
                if std::mem::take(&mut self.failing) {
                    tracing::info!(seq = self.seq, "heartbeats are written again");
                }
                true
            }
            Err(error) => {
                self.counts.failures.fetch_add(1, Ordering::Relaxed);
                if !std::mem::replace(&mut self.failing, true) {
                    let error = logging::chain(&error);
                    tracing::error!(error, "heartbeats cannot be written; consumers will see them go stale");
                }
                false
            }
        }
    }

    /// Whether every pump turns; told once when it changes.
    fn vouch(&mut self) -> bool {
        let wedged = self.report.wedged(std::time::Instant::now());
        match (&wedged, self.vouching) {
            (Some(job), true) => tracing::error!(job, "job_wedged: no heartbeat until it turns again"),
            (None, false) => tracing::info!("every job turns again"),
            _ => {}
        }
        self.vouching = wedged.is_none();
        self.vouching
    }
}
