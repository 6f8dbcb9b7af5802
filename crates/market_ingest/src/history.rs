//! What a pause was: one record per hold, written from the effect, not from the request.
//!
//! The `Chronicle` looks at what the pumps show. A hold whose effect was never complete leaves no record; one that
//! stood when the process ended is taken up again by the next, or closed if it is gone.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ingest_status::Timestamp;
use ingest_switch::watch::Decided;
use ingest_switch::{Coverage, Hold, JobPlan};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::job::JobState;
use crate::logging;
use crate::report::Report;
use crate::store::{Store, StoreError};

/// A pause is complete within this time.
pub(crate) const PAUSE_LIMIT: Duration = Duration::from_secs(2);
/// A resume is complete within this time.
pub(crate) const RESUME_LIMIT: Duration = Duration::from_secs(3);
/// How often to look; short against what is measured, long against a switch that flaps.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Records of earlier runs that are looked at for one left open.
const RECALLED_MAX: u32 = 1_000;
/// Records that wait for a store that is away; the oldest give way.
const WAITING_MAX: usize = 1_000;

/// One pause, as `ops/market_ingest/history/{id}` holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PauseRecord {
    /// The document's id: sorts by the beginning of the pause.
    #[serde(skip)]
    pub id: String,
    /// What was held.
    pub scope: String,
    /// Who held, `kind:detail`.
    pub source: String,
    /// Why.
    pub reason: Option<String>,
    /// Who asked.
    pub actor: Option<String>,
    /// When the hold began.
    pub paused_at: Timestamp,
    /// When its effect was complete: nothing it covers was delivered after this; none until then.
    pub effective_at: Option<Timestamp>,
    /// When it ended; none while it stands.
    pub resumed_at: Option<Timestamp>,
    /// Seconds from `paused_at` to `resumed_at`.
    pub duration_s: Option<f64>,
    /// Records received before the pause and delivered during it.
    pub messages_drained: u64,
    /// Gaps that it left; see the gaps of the same store.
    pub gap_ids: Vec<String>,
}

/// The task that writes the records, and counts what took too long.
#[derive(Debug)]
pub(crate) struct Chronicle {
    store: Store,
    report: Arc<Report>,
    plans: Vec<JobPlan>,
    late: Arc<Late>,
    /// Pauses whose hold stands, by their record's id.
    open: BTreeMap<String, PauseRecord>,
    /// Records to be written, newest state of each.
    waiting: BTreeMap<String, PauseRecord>,
    /// Whether the records of earlier runs were read.
    recalled: bool,
    failing: bool,
    /// The decision that is timed, and the jobs that were counted as late for it.
    timed: Option<u64>,
    counted: Vec<bool>,
}

/// Pauses and resumes that were not complete in time, by job.
#[derive(Debug)]
pub(crate) struct Late(Vec<AtomicU64>);

impl Late {
    pub(crate) fn new(jobs: usize) -> Arc<Self> {
        Arc::new(Self((0..jobs).map(|_| AtomicU64::new(0)).collect()))
    }

    /// Of the job of that number.
    pub(crate) fn count(&self, job: usize) -> u64 {
        self.0.get(job).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

impl Chronicle {
    pub(crate) fn new(store: Store, report: Arc<Report>, plans: Vec<JobPlan>, late: Arc<Late>) -> Self {
        let counted = vec![false; plans.len()];
        Self {
            store,
            report,
            plans,
            late,
            open: BTreeMap::new(),
            waiting: BTreeMap::new(),
            recalled: false,
            failing: false,
            timed: None,
            counted,
        }
    }

    /// Watches until the process stops.
    pub(crate) async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = stopping.wait_for(|stop| *stop) => return,
                _ = looks.tick() => {}
            }
            // What is comes before what was asked, so that no hold is called effective for an older effect.
            let jobs = self.report.jobs();
            let decided = self.report.decision();
            if !self.report.fence().may_write() {
                self.forget(&decided);
                continue;
            }
            self.count_late(&jobs, &decided);
            tokio::select! {
                biased;
                _ = stopping.wait_for(|stop| *stop) => return,
                () = self.record(&jobs, &decided) => {}
            }
        }
    }

    /// Without the lease the records are the holder's, and no decision has its effect here.
    fn forget(&mut self, decided: &Decided) {
        self.recalled = false;
        self.open.clear();
        self.waiting.clear();
        self.timed = Some(decided.seq);
        self.counted.fill(true);
    }

    /// Counts each job once for each decision that took too long to take effect.
    fn count_late(&mut self, jobs: &[JobState], decided: &Decided) {
        if self.timed.replace(decided.seq) != Some(decided.seq) {
            self.counted.fill(false);
        }
        let coverage = Coverage::new(&decided.decision.holds);
        let since = Instant::now().saturating_duration_since(decided.at);
        for (at, (job, plan)) in jobs.iter().zip(&self.plans).enumerate() {
            let runs = coverage.runs(plan);
            let limit = if runs { RESUME_LIMIT } else { PAUSE_LIMIT };
            if self.counted[at] || job.effective_seq == Some(decided.seq) || since <= limit {
                continue;
            }
            self.counted[at] = true;
            self.late.0[at].fetch_add(1, Ordering::Relaxed);
            let (asked, phase) = (if runs { "resume" } else { "pause" }, job.phase.as_str());
            tracing::warn!(
                job = &*job.name,
                asked,
                phase,
                limit_s = limit.as_secs(),
                "job_pause_resume_late"
            );
        }
    }

    async fn record(&mut self, jobs: &[JobState], decided: &Decided) {
        if !self.recalled {
            self.recalled = self.recall().await;
        }
        let now = jiff::Timestamp::now().into();
        let effective = jobs.iter().all(|job| job.at_rest_seq == Some(decided.seq));
        let holds = &decided.decision.holds;
        if effective {
            for hold in holds {
                self.open_record(hold, jobs, now);
            }
        }
        let standing: HashSet<String> = holds.iter().map(record_id).collect();
        let over: Vec<String> = self.open.keys().filter(|id| !standing.contains(*id)).cloned().collect();
        for id in over {
            if let Some(mut record) = self.open.remove(&id) {
                record.resumed_at = Some(now);
                record.gap_ids = self.report.book().ids_of_pauses(record.paused_at, now);
                record.duration_s = Some(now.seconds_since(record.paused_at));
                self.wait(record);
            }
        }
        self.write().await;
    }

    /// A hold whose effect is complete: told once, and again when its operator rewrites it.
    fn open_record(&mut self, hold: &Hold, jobs: &[JobState], now: Timestamp) {
        let id = record_id(hold);
        let told = self.open.get(&id);
        if told.is_some_and(|told| told.reason == hold.reason && told.effective_at.is_some()) {
            return;
        }
        let record = PauseRecord {
            id: id.clone(),
            scope: hold.scope.to_string(),
            source: hold.source.to_string(),
            reason: hold.reason.clone(),
            actor: hold.actor.clone(),
            paused_at: hold.since.into(),
            effective_at: told
                .and_then(|told| told.effective_at)
                .or_else(|| jobs.iter().filter_map(|job| job.at_rest_at).max())
                .or(Some(now)),
            resumed_at: None,
            duration_s: None,
            messages_drained: jobs.iter().map(|job| job.messages_drained).sum(),
            gap_ids: Vec::new(),
        };
        self.open.insert(id, record.clone());
        self.wait(record);
    }

    /// Takes up records of earlier runs that were left open; false while the store is away.
    async fn recall(&mut self) -> bool {
        match self.store.read_pauses(RECALLED_MAX).await {
            Ok(records) => {
                let left_open = records.into_iter().filter(|record| record.resumed_at.is_none());
                self.open.extend(left_open.map(|record| (record.id.clone(), record)));
                true
            }
            Err(error) => {
                self.complain(&error);
                false
            }
        }
    }

    fn wait(&mut self, record: PauseRecord) {
        if self.waiting.len() >= WAITING_MAX {
            self.waiting.pop_first();
        }
        self.waiting.insert(record.id.clone(), record);
    }

    async fn write(&mut self) {
        while let Some((id, record)) = self.waiting.pop_first() {
            if let Err(error) = self.store.write_pause(&record).await {
                self.complain(&error);
                self.waiting.entry(id).or_insert(record);
                return;
            }
            self.failing = false;
        }
    }

    fn complain(&mut self, error: &StoreError) {
        if !std::mem::replace(&mut self.failing, true) {
            let error = logging::chain(error);
            tracing::warn!(error, "the history of pauses cannot be kept; it is tried again");
        }
    }
}

/// Sorts by the beginning of the pause; the same hold has the same id in every process that can tell its beginning.
fn record_id(hold: &Hold) -> String {
    let name = format!("{} {}", hold.source, hold.scope);
    // FNV-1a: the same in every build.
    let hash =
        name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{:016}-{hash:08x}", hold.since.as_microsecond())
}
