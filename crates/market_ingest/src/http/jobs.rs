//! The jobs one by one: what each does, why, how it is doing, and its pauses.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::routing::get;
use ingest_status::{HoldReport, JobReport, Timestamp};
use ingest_switch::Scope;
use schemars::JsonSchema;
use serde::Serialize;

use super::openapi::{Operation, Route};
use super::params::JobName;
use super::problem::Problem;
use super::reach::overlap;
use super::reads::Pause;
use super::{SHAPE, Shown};
use crate::job::{JobState, KINDS};
use crate::lag::Quantiles;
use crate::report::hold_report;

/// The newest records of the store among which a job's pauses are looked for.
const HISTORY_READ: u32 = 500;
/// Pauses told of one job.
const HISTORY_TOLD: usize = 50;

/// All jobs.
#[derive(Debug, Serialize, JsonSchema)]
struct Jobs {
    /// Version of this shape.
    schema: u32,
    /// In the order of the configuration.
    jobs: Vec<Job>,
}

/// What a job does.
#[derive(Debug, Serialize, JsonSchema)]
struct Job {
    /// Its name.
    name: String,
    #[serde(flatten)]
    report: JobReport,
}

/// A job with everything that is known of it.
#[derive(Debug, Serialize, JsonSchema)]
struct JobDetail {
    /// Version of this shape.
    schema: u32,
    #[serde(flatten)]
    job: Job,
    /// Every hold that covers some of it, oldest first.
    holds: Vec<HoldReport>,
    metrics: JobMetrics,
    /// Seconds from the newest event's own time until now; null unless paused.
    lag_while_paused_s: Option<f64>,
    last_processed: Option<LastProcessed>,
    /// Its newest pauses, newest first; null when the store does not answer.
    pause_history: Option<Vec<Pause>>,
    /// Why there is no pause history.
    pause_history_error: Option<String>,
}

/// Counts since the start of the process.
#[derive(Debug, Serialize, JsonSchema)]
struct JobMetrics {
    /// Events received, by kind.
    messages: BTreeMap<&'static str, u64>,
    /// From a record's own time to its delivery to the sinks, by the oldest of what is delivered together.
    lag: Quantiles,
    /// Elements that could not be decoded.
    malformed: u64,
    /// Frames received.
    frames: u64,
    /// Payload bytes received.
    bytes: u64,
    /// Connections tried.
    dials: u64,
    /// Connections that ended unasked.
    disconnects: u64,
    /// Errors of the venue by code.
    rejections: BTreeMap<String, u64>,
    /// Seconds from the last decision to pause to its complete effect.
    pause_effect_s: Option<f64>,
}

/// The newest event that was received and delivered.
#[derive(Debug, Serialize, JsonSchema)]
struct LastProcessed {
    /// Its own time.
    ts: Timestamp,
    /// Its symbol; null where it has none.
    symbol: Option<String>,
    /// When it was received.
    received_at: Option<Timestamp>,
}

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get(
            "/api/v1/jobs",
            get(jobs),
            Operation::new("jobs", "All jobs.").answer::<Jobs>(200, "In the order of the configuration."),
        ),
        Route::get(
            "/api/v1/jobs/{name}",
            get(job),
            Operation::new("job", "One job with its metrics and pauses.")
                .answer::<JobDetail>(200, "Everything that is known of it.")
                .problem(400, "The path is no text.")
                .job(),
        ),
    ]
}

async fn jobs(State(shown): State<Shown>) -> Json<Jobs> {
    Json(Jobs { schema: SHAPE, jobs: shown.report.jobs().iter().map(Job::from).collect() })
}

async fn job(State(shown): State<Shown>, JobName(name): JobName) -> Result<Json<JobDetail>, Problem> {
    let name = shown.known(Some(name))?;
    let states = shown.report.jobs();
    let Some(state) = states.iter().find(|job| name.as_deref() == Some(&*job.name)) else {
        return Err(Problem::new(axum::http::StatusCode::NOT_FOUND, "the job is not there"));
    };
    let scope = Scope::job(&state.name);
    let concerns = |other: &Scope| overlap(&scope, other, &shown.plans);
    let (pause_history, pause_history_error) = match shown.store.read_pauses(HISTORY_READ).await {
        Ok(records) => {
            let own = records.into_iter().filter(|r| r.scope.parse().is_ok_and(|scope| concerns(&scope)));
            (Some(own.take(HISTORY_TOLD).map(Pause::from).collect()), None)
        }
        Err(error) => (None, Some(error.to_string())),
    };
    let holds = shown.report.decision().decision.holds;
    let now: Timestamp = jiff::Timestamp::now().into();
    let last_ts = state.last_event_ts.map(Timestamp::from_nanoseconds);
    Ok(Json(JobDetail {
        schema: SHAPE,
        job: Job::from(state),
        holds: holds.iter().filter(|hold| concerns(&hold.scope)).map(hold_report).collect(),
        metrics: JobMetrics::from(state),
        lag_while_paused_s: last_ts.filter(|_| state.paused()).map(|ts| now.seconds_since(ts)),
        last_processed: last_ts.map(|ts| LastProcessed {
            ts,
            symbol: state.last_symbol.as_deref().map(str::to_owned),
            received_at: state.last_received_ts.map(Timestamp::from_nanoseconds),
        }),
        pause_history,
        pause_history_error,
    }))
}

impl From<&JobState> for Job {
    fn from(state: &JobState) -> Self {
        Self { name: state.name.to_string(), report: state.into() }
    }
}

impl From<&JobState> for JobMetrics {
    fn from(state: &JobState) -> Self {
        Self {
            messages: KINDS.iter().map(|(kind, word)| (*word, state.messages[*kind as usize])).collect(),
            lag: state.lags.quantiles(),
            malformed: state.malformed,
            frames: state.frames,
            bytes: state.bytes,
            dials: state.dials,
            disconnects: state.disconnects,
            rejections: state.rejections.iter().map(|(code, count)| (code.to_string(), *count)).collect(),
            pause_effect_s: state.pause_effect_s,
        }
    }
}
