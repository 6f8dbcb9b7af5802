//! One producer at a time: the lease of the tenant, with an epoch that fences whoever had it before.
//!
//! The keeper takes it before anything dials, renews it while the process runs, and gives it up when the sockets are
//! closed. Others ask the [`Fence`] right before they write or dial; the `Tenure` tells them why they must not.
//!
//! 14 s of validity and a renewal every 9 s are 9,600 writes a day, which together with a heartbeat every 15 s (5,760)
//! stays within Firestore's 20,000 free ones.

mod tenancy;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::bail;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use self::tenancy::{Answer, News, Question, Tenancy, Terms};
use crate::logging;
use crate::store::{Lease, Store};

const TTL: Duration = Duration::from_secs(14);
const RENEW_EVERY: Duration = Duration::from_secs(9);
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// One question takes no longer: between a renewal that fails and the end of the lease there must be time for more.
const CALL_LIMIT: Duration = Duration::from_secs(3);
/// The timer stands still while the machine is suspended, the lease does not: look at the clock this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whether this process may write and dial, right now. Cheap to clone and to ask.
#[derive(Clone, Debug)]
pub struct Fence(Arc<Pass>);

#[derive(Debug, Default)]
struct Pass {
    epoch: AtomicI64,
    /// Nanoseconds of [`since_boot`]; 0 without the lease.
    valid_until_ns: AtomicU64,
}

impl Fence {
    /// That of a process without the lease.
    #[must_use]
    pub fn closed() -> Self {
        Self(Arc::default())
    }

    /// That of a process which holds the lease for an hour.
    #[cfg(test)]
    pub(crate) fn held(epoch: i64) -> Self {
        let fence = Self::closed();
        fence.set(Some((epoch, since_boot() + Duration::from_secs(3600))));
        fence
    }

    #[cfg(test)]
    pub(crate) fn reopen(&self, epoch: i64) {
        self.set(Some((epoch, since_boot() + Duration::from_secs(3600))));
    }

    #[cfg(test)]
    pub(crate) fn close(&self) {
        self.set(None);
    }

    /// Whether the lease is ours at this moment; false as soon as its time is over, whatever the process was doing.
    #[must_use]
    pub fn may_write(&self) -> bool {
        nanoseconds(since_boot()) < self.0.valid_until_ns.load(Ordering::Acquire)
    }

    /// That it is ours, for those who write in several steps.
    ///
    /// # Errors
    /// When it is not.
    pub(crate) fn require(&self) -> anyhow::Result<()> {
        if self.may_write() { Ok(()) } else { bail!("this process may not write any more") }
    }

    /// The epoch of the lease that this process has or had last; 0 before the first.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.0.epoch.load(Ordering::Acquire).unsigned_abs()
    }

    /// The epoch to write under; none while this process must not write.
    pub(crate) fn pass(&self) -> Option<i64> {
        // Read first: an epoch only grows, and one that is too old is refused by the store.
        let epoch = self.0.epoch.load(Ordering::Acquire);
        self.may_write().then_some(epoch)
    }

    fn set(&self, pass: Option<(i64, Duration)>) {
        let until = match pass {
            Some((epoch, until)) => {
                self.0.epoch.store(epoch, Ordering::Release);
                nanoseconds(until)
            }
            None => 0,
        };
        self.0.valid_until_ns.store(until, Ordering::Release);
    }
}

/// Where this process stands with the lease, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tenure {
    /// It has it.
    Held,
    /// It waits: for what.
    Waiting(Arc<str>),
}

/// Asks the store, and tells the others.
#[derive(Debug)]
pub(crate) struct Keeper {
    store: Store,
    holder: String,
    tenancy: Tenancy,
    fence: Fence,
    tenure: watch::Sender<Tenure>,
    /// Told when the lease is ours, so that the heartbeat says so at once.
    edges: Arc<Notify>,
}

impl Keeper {
    /// A keeper for `holder`, who has nothing yet, and what the others ask.
    pub(crate) fn new(
        store: Store,
        holder: String,
        edges: Arc<Notify>,
    ) -> (Self, Fence, watch::Receiver<Tenure>) {
        let terms = Terms {
            ttl: TTL,
            renew_every: RENEW_EVERY,
            retry_after: RETRY_AFTER,
            ask_every: store.lease_poll(),
        };
        let tenancy = Tenancy::new(terms, since_boot());
        let fence = Fence::closed();
        let (tenure, shown) = watch::channel(Tenure::Waiting("waits for the lease".into()));
        (Self { store, holder, tenancy, fence: fence.clone(), tenure, edges }, fence, shown)
    }

    /// Keeps it until told to let go, which then has until the deadline it is told; no deadline, no release.
    pub(crate) async fn run(mut self, mut let_go: oneshot::Receiver<Instant>) {
        loop {
            let wait = self.tenancy.due().saturating_sub(since_boot()).min(LOOK_EVERY);
            let told = tokio::select! {
                biased;
                told = &mut let_go => Some(told),
                () = sleep(wait) => None,
            };
            let told = match told {
                None if since_boot() < self.tenancy.due() => continue,
                None => {
                    let asked = since_boot();
                    tokio::select! {
                        biased;
                        told = &mut let_go => Some(told),
                        answer = ask(&self.store, &self.holder, self.tenancy.question()) => {
                            self.take(asked, answer);
                            None
                        }
                    }
                }
                told => told,
            };
            if let Some(told) = told {
                if let Ok(deadline) = told {
                    self.release(deadline).await;
                }
                return;
            }
        }
    }

    fn take(&mut self, asked: Duration, answer: Answer) {
        let news = self.tenancy.answered(asked, since_boot(), answer);
        self.fence.set(self.tenancy.pass());
        let Some(news) = news else { return };
        let tenure = match news {
            News::Taken { epoch, waited } => {
                tracing::info!(epoch, waited_ms = waited.as_millis() as u64, "lease_taken");
                Tenure::Held
            }
            News::Confirmed => {
                tracing::info!(epoch = self.fence.epoch(), "lease_confirmed");
                Tenure::Held
            }
            News::Waiting(Lease { holder, epoch, expires_at }) => {
                tracing::info!(holder, epoch, %expires_at, "lease_waiting");
                Tenure::Waiting(format!("waits for the lease of {holder} (epoch {epoch})").into())
            }
            News::Lost { epoch, by } => {
                let by = format!("{} (epoch {})", by.holder, by.epoch);
                tracing::warn!(epoch, by, "lease_lost");
                Tenure::Waiting(format!("waits for the lease, lost to {by}").into())
            }
            News::Unreachable(error) => {
                let holding = self.fence.may_write();
                tracing::warn!(error, holding, "lease_unreachable");
                if holding {
                    return;
                }
                Tenure::Waiting("waits for the lease: the store does not answer".into())
            }
        };
        let held = tenure == Tenure::Held;
        self.tenure.send_replace(tenure);
        if held {
            self.edges.notify_one();
        }
    }

    /// Lets a successor in at once. A question that was given up may have taken the lease, so this is asked in any case.
    async fn release(self, deadline: Instant) {
        self.fence.set(None);
        match timeout_at(deadline, self.store.release_lease(&self.holder)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let error = logging::chain(&error);
                tracing::warn!(error, "the lease was not released; it ends by itself");
            }
            Err(_) => tracing::warn!("the lease was not released in time; it ends by itself"),
        }
    }
}

/// Cancel safe: a question that was given up is done or not, and asking again is safe.
async fn ask(store: &Store, holder: &str, question: Question) -> Answer {
    let answer = timeout(CALL_LIMIT, async {
        match question {
            Question::Take => store.take_lease(holder, TTL).await.map(Answer::Taking),
            Question::Renew { epoch } => store.renew_lease(holder, epoch, TTL).await.map(Answer::Renewal),
        }
    });
    match answer.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => Answer::Unreachable(logging::chain(&error)),
        Err(_) => Answer::Unreachable(format!("no answer within {CALL_LIMIT:?}")),
    }
}

/// Time since the machine was started. It passes while the process is stopped and, on Linux, while the machine is
/// suspended.
fn since_boot() -> Duration {
    #[cfg(target_os = "linux")]
    let clock = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = ClockId::Monotonic;
    let now = clock_gettime(clock);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Enough for five centuries.
fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_opens_with_a_pass_and_closes_by_the_clock_alone() {
        let fence = Fence::closed();
        assert_eq!((fence.may_write(), fence.epoch(), fence.pass()), (false, 0, None));
        let fence = Fence::held(7);
        assert_eq!((fence.clone().may_write(), fence.epoch(), fence.pass()), (true, 7, Some(7)));
        fence.set(Some((7, since_boot())));
        assert_eq!((fence.may_write(), fence.epoch(), fence.pass()), (false, 7, None));
        fence.set(None);
        assert_eq!(fence.pass(), None);
    }
}
