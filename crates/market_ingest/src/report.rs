//! The truth about the process, composed from what the pumps show: the one source of the heartbeat,
//! the status over HTTP and the metrics.
//!
//! Invariant: `status` is `paused` exactly when a hold covers everything and every job shows that it
//! has no connection and has delivered everything; what was asked and what is are told apart.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use alpaca_feed::watchdog::Freshness;
use futures_util::future::{FutureExt as _, select_all};
use ingest_status::{
    Condition, ConditionStatus, Heartbeat, HoldReport, JobReport, SCHEMA, Status, Timestamp,
};
use ingest_switch::Decision;
use ingest_switch::watch::Decided;
use tokio::sync::watch;

use crate::gaps::GapBook;
use crate::job::JobState;
use crate::lease::Fence;
use crate::sink::Sink;

/// A working loop has turned within this time; else it is wedged and must not be vouched for.
pub const WEDGED_AFTER: Duration = Duration::from_secs(5);

/// What does not change while the process lives.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Names this process among all others.
    pub instance_id: String,
    /// Cloud Run's revision.
    pub revision: Option<String>,
    /// When it started.
    pub started_at: Timestamp,
    /// Time between two heartbeats.
    pub interval: Duration,
}

/// Composes the report. Shared by the tasks that show it.
#[derive(Debug)]
pub struct Report {
    identity: Identity,
    decisions: watch::Receiver<Decided>,
    jobs: Vec<watch::Receiver<JobState>>,
    sinks: Vec<Sink>,
    fence: Fence,
    book: Arc<GapBook>,
    transitions: Mutex<Transitions>,
}

/// Since when each thing has been as it is.
#[derive(Debug, Default)]
struct Transitions {
    status: Option<(Status, Timestamp)>,
    conditions: BTreeMap<&'static str, (ConditionStatus, Timestamp)>,
}

impl Report {
    /// A report over these jobs and sinks.
    #[must_use]
    pub(crate) fn new(
        identity: Identity,
        decisions: watch::Receiver<Decided>,
        jobs: Vec<watch::Receiver<JobState>>,
        sinks: Vec<Sink>,
        fence: Fence,
        book: Arc<GapBook>,
    ) -> Self {
        Self { identity, decisions, jobs, sinks, fence, book, transitions: Mutex::default() }
    }

    /// The gaps of all jobs.
    pub(crate) fn book(&self) -> &GapBook {
        &self.book
    }

    /// What does not change.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The present decision.
    #[must_use]
    pub fn decision(&self) -> Decided {
        self.decisions.borrow().clone()
    }

    /// The jobs as of now.
    #[must_use]
    pub fn jobs(&self) -> Vec<JobState> {
        self.jobs.iter().map(|job| job.borrow().clone()).collect()
    }

    /// Newest generation of the control document whose effect is complete in every job; none before.
    #[must_use]
    pub fn effective_generation(&self) -> Option<i64> {
        self.jobs.iter().map(|job| job.borrow().effective_generation).min().flatten()
    }

    /// Newest generation of the control document whose holds are at rest in every job, whatever it resumed.
    #[must_use]
    pub fn at_rest_generation(&self) -> Option<i64> {
        self.jobs.iter().map(|job| job.borrow().at_rest_generation).min().flatten()
    }

    /// Whether this process is the one that ingests.
    #[must_use]
    pub fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Where market data goes.
    #[must_use]
    pub fn sinks(&self) -> &[Sink] {
        &self.sinks
    }

    /// The first job whose loop has not turned for [`WEDGED_AFTER`]; a job that has ended owes nothing.
    #[must_use]
    pub fn wedged(&self, now: Instant) -> Option<String> {
        let wedged = |job: &JobState| {
            job.phase != alpaca_feed::lifecycle::Phase::Stopped
                && now.saturating_duration_since(job.tick) > WEDGED_AFTER
        };
        self.jobs().iter().find(|job| wedged(job)).map(|job| job.name.to_string())
    }

    /// Whether ingestion is paused in effect.
    #[must_use]
    pub fn paused(&self) -> bool {
        !self.decisions.borrow().decision.enabled && self.jobs.iter().all(|job| job.borrow().paused())
    }

    /// Completes once [`Self::paused`] is something else than `was`. Cancel safe.
    pub async fn paused_is_no_longer(&self, was: bool) {
        let mut decisions = self.decisions.clone();
        let mut jobs = self.jobs.clone();
        while self.paused() == was {
            let decided = std::iter::once(changed(&mut decisions).boxed());
            select_all(jobs.iter_mut().map(|job| changed(job).boxed()).chain(decided)).await;
        }
    }

    /// The heartbeat as it would be written at `now`; the writer adds `seq`.
    #[must_use]
    pub fn heartbeat(&self, now: Timestamp) -> Heartbeat {
        // What was asked is read before what is, so that a flip between the two cannot make a
        // running producer look paused.
        let decision = self.decision().decision;
        let jobs = self.jobs();
        let paused = !decision.enabled && jobs.iter().all(JobState::paused);
        let status = if paused { Status::Paused } else { Status::Running };
        let newest = jobs.iter().filter(|j| j.last_symbol.is_some()).max_by_key(|j| j.last_received_ts);
        let mut transitions = self.transitions.lock().unwrap_or_else(PoisonError::into_inner);
        Heartbeat {
            status,
            ts: now,
            ingest_enabled: decision.enabled,
            ingest_enabled_source: decision.source.as_ref().map(ToString::to_string),
            last_symbol: newest.and_then(|job| job.last_symbol.as_deref()).map(str::to_owned),
            schema: SCHEMA,
            interval_s: Some(self.identity.interval.as_secs_f64()),
            seq: 0,
            instance_id: self.identity.instance_id.clone(),
            epoch: self.fence.pass(),
            revision: self.identity.revision.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: Some(self.identity.started_at),
            stopped_at: None,
            effective_since: Some(match jobs.iter().filter_map(|job| job.paused_at).max() {
                Some(paused_at) if paused => {
                    transitions.status = Some((status, paused_at));
                    paused_at
                }
                _ => transitions.status_since(status, now),
            }),
            observed_generation: decision.generation,
            effective_generation: self.effective_generation(),
            holds: decision.holds.iter().map(hold_report).collect(),
            flag_fresh: decision.flag_fresh,
            conditions: self.conditions(&jobs, &decision, &mut transitions, now),
            jobs: jobs.iter().map(|job| (job.name.to_string(), self.job(job))).collect(),
            counters: self.counters(&jobs),
            updated_at: None,
        }
    }

    fn conditions(
        &self,
        jobs: &[JobState],
        decision: &Decision,
        transitions: &mut Transitions,
        now: Timestamp,
    ) -> Vec<Condition> {
        let mut conditions = Vec::new();
        let mut state = |kind: &'static str, holds: Option<bool>, reason: &str, message: String| {
            let status = match holds {
                Some(true) => ConditionStatus::True,
                Some(false) => ConditionStatus::False,
                None => ConditionStatus::Unknown,
            };
            conditions.push(Condition {
                kind: kind.to_owned(),
                status,
                reason: reason.to_owned(),
                message,
                last_transition_time: transitions.condition_since(kind, status, now),
            });
        };

        // A job that is held on purpose while others run is no lack; when all are held, nothing is ingested.
        let held = jobs.iter().all(|job| !job.wanted);
        let idle = jobs.iter().find(|job| (job.wanted || held) && !job.connected());
        let why = idle.map(|job| {
            let reason = job.reason.as_deref().unwrap_or("not connected yet");
            format!("{} is {}: {reason}", job.name, job.phase)
        });
        let message = why.clone().unwrap_or_default();
        let reason = match idle {
            None => "Live",
            Some(_) if held => "Held",
            Some(job) if job.refused => "Refused",
            Some(_) => "NotConnected",
        };
        state("Ingesting", Some(idle.is_none()), reason, message.clone());
        state("Connected", Some(idle.is_none()), reason, message);
        let (fresh, reason, message) = data_fresh(jobs);
        state("DataFresh", fresh, reason, message);
        let reason = if decision.flag_fresh { "Readable" } else { "LastDecisionStands" };
        state("FlagFresh", Some(decision.flag_fresh), reason, decision.doubts.join("; "));
        let failing: Vec<_> =
            self.sinks.iter().filter(|s| s.healthy() == Some(false)).map(Sink::name).collect();
        let unknown = self.sinks.iter().any(|s| s.healthy().is_none());
        let (healthy, reason) = match (failing.is_empty(), unknown) {
            (false, _) => (Some(false), "WriteFailed"),
            (true, true) => (None, "NothingWrittenYet"),
            (true, false) => (Some(true), "Written"),
        };
        state("SinkHealthy", healthy, reason, failing.join(", "));
        let (behind, reason, message) = self.catching_up(jobs);
        state("CatchingUp", Some(behind), reason, message);
        conditions
    }

    fn catching_up(&self, jobs: &[JobState]) -> (bool, &'static str, String) {
        let mut sentences = Vec::new();
        for job in jobs {
            let outlook = self.book.outlook(&job.name);
            if outlook.waiting > 0 {
                let (waiting, waiting_s) = (outlook.waiting, outlook.waiting_s);
                let why = outlook.reason.map(|why| format!(": {why}")).unwrap_or_default();
                sentences.push(format!("{}: {waiting} gaps of {waiting_s:.0} s{why}", job.name));
            }
        }
        let reason = if sentences.is_empty() { "NothingMissing" } else { "Backfill" };
        (!sentences.is_empty(), reason, sentences.join("; "))
    }

    fn job(&self, job: &JobState) -> JobReport {
        let received_to = self.book.received_to(&job.name).map(Timestamp::from_nanoseconds);
        JobReport { received_to, ..JobReport::from(job) }
    }

    fn counters(&self, jobs: &[JobState]) -> BTreeMap<String, u64> {
        use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
        let mut counters: BTreeMap<String, u64> = [
            ("messages", jobs.iter().map(JobState::messages_total).sum()),
            ("malformed", jobs.iter().map(|j| j.malformed).sum()),
            ("frames", jobs.iter().map(|j| j.frames).sum()),
            ("dials", jobs.iter().map(|j| j.dials).sum()),
            ("disconnects", jobs.iter().map(|j| j.disconnects).sum()),
        ]
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count))
        .collect();
        for sink in &self.sinks {
            let counts = sink.counts();
            let name = sink.name();
            // Several sinks of one kind are told as one.
            let mut add = |what: &str, count: &AtomicU64| {
                *counters.entry(format!("{name}_{what}")).or_default() += count.load(Relaxed);
            };
            add("written", &counts.written);
            add("errors", &counts.errors);
            add("dropped", &counts.dropped);
        }
        counters
    }
}

impl Transitions {
    fn status_since(&mut self, status: Status, now: Timestamp) -> Timestamp {
        match self.status {
            Some((before, since)) if before == status => since,
            _ => {
                self.status = Some((status, now));
                now
            }
        }
    }

    fn condition_since(&mut self, kind: &'static str, status: ConditionStatus, now: Timestamp) -> Timestamp {
        let entry = self.conditions.entry(kind).or_insert((status, now));
        if entry.0 != status {
            *entry = (status, now);
        }
        entry.1
    }
}

/// The condition `DataFresh`: one job whose data is stale refutes it, one whose data flows is enough where the others
/// have nothing to say, such as a market that is closed.
fn data_fresh(jobs: &[JobState]) -> (Option<bool>, &'static str, String) {
    let wanted = || jobs.iter().filter(|job| job.wanted);
    let gone = |job: &&JobState| job.freshness == Freshness::NotLive;
    let told = wanted()
        .find(|job| job.is_fresh() == Some(false))
        .or_else(|| wanted().find(gone))
        .or_else(|| wanted().find(|job| job.is_fresh() == Some(true)))
        .or_else(|| wanted().next());
    let Some(job) = told else { return (None, "Held", String::new()) };
    let name = &job.name;
    let message = match job.freshness {
        Freshness::Mute => format!("{name} is connected and mute: {}", job.mute.join(", ")),
        Freshness::Lagging => {
            format!("{name} is {:.0} s behind, and was not", job.lag_s.unwrap_or_default())
        }
        Freshness::Flowing if !job.suspects.is_empty() => {
            format!("{name} flows; silent for longer than they usually are: {}", job.suspects.join(", "))
        }
        Freshness::Flowing => String::new(),
        Freshness::Quiet => format!("{name} is silent, and nothing says that this is unusual"),
        Freshness::Halted => format!("every symbol of {name} is halted"),
        Freshness::MarketClosed => format!("{name} is silent and its market closed"),
        Freshness::NotLive => format!("{name} is not connected"),
    };
    (job.is_fresh(), freshness_word(job.freshness), message)
}

/// Reasons of the condition `DataFresh`, as documents carry them.
fn freshness_word(freshness: Freshness) -> &'static str {
    match freshness {
        Freshness::Flowing => "Flowing",
        Freshness::Mute => "Mute",
        Freshness::Lagging => "Lagging",
        Freshness::Quiet => "LearningOrQuiet",
        Freshness::Halted => "Halted",
        Freshness::MarketClosed => "MarketClosed",
        Freshness::NotLive => "NotConnected",
    }
}

/// Completes at the next value; never when there will be none.
async fn changed<T: Send + Sync>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        std::future::pending().await
    }
}

/// A hold as documents and answers carry it.
pub(crate) fn hold_report(hold: &ingest_switch::Hold) -> HoldReport {
    HoldReport {
        source: hold.source.to_string(),
        scope: hold.scope.to_string(),
        reason: hold.reason.clone(),
        actor: hold.actor.clone(),
        since: hold.since.into(),
        until: hold.until.map(Timestamp::from),
    }
}

#[cfg(test)]
mod tests;
