//! What the producer before this one left: read once the lease is ours and before anything dials, so that what was not
//! received in between is known.
//!
//! Invariant: nothing dials under an epoch whose memory was not read; a store that is away delays that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::gaps::{GapBook, nanoseconds};
use crate::lease::{Fence, Tenure};
use crate::logging;
use crate::seen::Seen;
use crate::store::{Store, StoreError};

/// A store that is away is asked again after this time.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Gaps that are looked at for those that are over and lie after the mark.
const OF_LATE_MAX: u32 = 1_000;

/// What is remembered under one epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Of the lease under which it was read; 0 before the first.
    pub(crate) epoch: u64,
    /// Market time up to which each job had received, and kept, everything, nanoseconds since 1970.
    pub(crate) received_to: BTreeMap<String, i64>,
}

/// Reads it anew for every epoch, until the process stops.
pub(crate) async fn recall(
    store: Store,
    book: Arc<GapBook>,
    seen: Arc<Seen>,
    fence: Fence,
    mut tenure: watch::Receiver<Tenure>,
    memory: watch::Sender<Memory>,
) {
    let mut failing = false;
    loop {
        let epoch = fence.epoch();
        let known = memory.borrow().epoch;
        if !fence.may_write() || epoch == known {
            // The keeper outlives this task.
            if tenure.changed().await.is_err() {
                return std::future::pending().await;
            }
            continue;
        }
        match read(&store, &book, &seen).await {
            Ok(received_to) => {
                for (job, to) in &received_to {
                    book.mark(job, *to);
                }
                memory.send_replace(Memory { epoch, received_to });
                failing = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    let error = logging::chain(&error);
                    tracing::warn!(
                        error,
                        "what was received last cannot be read; nothing is ingested until it is"
                    );
                }
                sleep(RETRY_AFTER).await;
            }
        }
    }
}

async fn read(store: &Store, book: &GapBook, seen: &Seen) -> Result<BTreeMap<String, i64>, StoreError> {
    let beat = match store.read_heartbeat().await {
        // One that cannot be understood tells nothing, today and tomorrow.
        Err(StoreError::Unparsable(_)) => None,
        read => read?,
    };
    book.begin_anew(store.unfinished_gaps().await?, store.read_gaps(OF_LATE_MAX).await?);
    seen.recall(store).await?;
    let jobs = beat.into_iter().flat_map(|beat| beat.jobs);
    Ok(jobs.filter_map(|(name, job)| Some((name, nanoseconds(job.received_to?)))).collect())
}
