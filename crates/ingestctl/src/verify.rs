//! Waits until a change is seen to be effective, or says why not.

use std::collections::BTreeMap;
use std::time::Duration;

use ingest_status::Standing;
use tokio::time::{Instant, sleep, timeout};

use crate::effect::{Change, is_closed};
use crate::remote::{Remote, Seen};

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A look is given at least this long, so that a slow store is seen at all.
const LOOK_LIMIT: Duration = Duration::from_secs(2);

/// What waiting came to.
#[derive(Clone, Debug)]
pub(crate) struct Verified {
    /// The newest look that there was an answer to.
    pub(crate) seen: Seen,
    /// How long it took, since the change was written.
    pub(crate) elapsed: Duration,
    /// What is missing; empty when the effect is complete.
    pub(crate) missing: Vec<String>,
    /// After how long each job was first seen closed; zero if it was before.
    pub(crate) closed: BTreeMap<String, Duration>,
}

impl Verified {
    /// Whether the producer has left, so that nothing is to be waited for.
    pub(crate) fn left(&self) -> bool {
        matches!(self.seen.verdict().standing, Standing::Stopped | Standing::Missing)
    }
}

/// Looks until the effect is complete, the producer has left, or `limit` is over.
///
/// `before` is the look before the change was written at `written`.
pub(crate) async fn wait(
    remote: &Remote,
    change: &Change,
    before: Seen,
    written: Instant,
    limit: Duration,
) -> Verified {
    let deadline = written + limit;
    let mut closed = BTreeMap::new();
    note_closed(&before, Duration::ZERO, &mut closed);
    let mut seen = before;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let trouble = match timeout(left.max(LOOK_LIMIT), remote.observe()).await {
            Ok(Ok(look)) => {
                seen = look;
                None
            }
            Ok(Err(failure)) => Some(failure.sentence),
            Err(_) => Some(format!("no answer within {:?}", left.max(LOOK_LIMIT))),
        };
        let elapsed = written.elapsed();
        note_closed(&seen, elapsed, &mut closed);
        let mut missing = seen.beat().map_or_else(Vec::new, |beat| change.waits_for(beat));
        let verdict = seen.verdict();
        if !seen.is_alive() {
            missing.insert(0, format!("the producer: {}", verdict.sentence));
        }
        missing.extend(trouble);
        let verified = Verified { seen, elapsed, missing, closed };
        if verified.missing.is_empty() || verified.left() || Instant::now() >= deadline {
            return verified;
        }
        Verified { seen, closed, .. } = verified;
        sleep(LOOK_EVERY.min(deadline.saturating_duration_since(Instant::now()))).await;
    }
}

fn note_closed(seen: &Seen, elapsed: Duration, closed: &mut BTreeMap<String, Duration>) {
    for (name, job) in seen.beat().into_iter().flat_map(|beat| &beat.jobs) {
        if is_closed(job) {
            closed.entry(name.clone()).or_insert(elapsed);
        } else {
            closed.remove(name);
        }
    }
}
