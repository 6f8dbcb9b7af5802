//! Whether the process is alive and ready, and its metrics. Paused is alive and ready.
//!
//! Cloud Run reserves some paths that end in z, hence the aliases.

use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use ingest_status::Status;
use schemars::JsonSchema;
use serde::Serialize;

use super::Shown;
use super::openapi::{Operation, Route};
use super::problem::Problem;
use crate::metrics;

/// In a word.
#[derive(Debug, Serialize, JsonSchema)]
struct Summary {
    status: Status,
}

pub(super) fn routes() -> Vec<Route> {
    let alive = |path, id| {
        let operation = Operation::new(id, "Whether the loops that do the work turn.")
            .answer::<Summary>(200, "They do, paused or not.")
            .problem(503, "One does not: which.");
        Route::get(path, get(live), operation)
    };
    let willing = |path, id| {
        let operation =
            Operation::new(id, "Whether the first decision is known and the venue refuses nobody.")
                .answer::<Summary>(200, "Ready, paused or not.")
                .problem(503, "The venue refuses a job: which and why.");
        Route::get(path, get(ready), operation)
    };
    vec![
        alive("/livez", "livez"),
        alive("/live", "live"),
        alive("/healthz", "healthz"),
        alive("/health", "health"),
        willing("/readyz", "readyz"),
        willing("/ready", "ready"),
        Route::get(
            "/metrics",
            get(metrics),
            Operation::new("metrics", "Metrics for Prometheus.")
                .text(metrics::CONTENT_TYPE, "OpenMetrics text.")
                .problem(500, "They cannot be written."),
        ),
    ]
}

/// Live: the loops that do the work turn.
async fn live(State(shown): State<Shown>) -> Result<Json<Summary>, Problem> {
    match shown.report.wedged(Instant::now()) {
        None => Ok(summary(&shown)),
        Some(job) => {
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("the job {job} does not turn")))
        }
    }
}

/// Ready: the first decision is known (it precedes the port) and no credential refusal stands.
async fn ready(State(shown): State<Shown>) -> Result<Json<Summary>, Problem> {
    match shown.report.jobs().iter().find(|job| job.refused) {
        None => Ok(summary(&shown)),
        Some(job) => {
            let reason = job.reason.as_deref().unwrap_or("refused");
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("the job {}: {reason}", job.name)))
        }
    }
}

async fn metrics(State(shown): State<Shown>) -> Response {
    match metrics::text(&shown.report, &shown.beats, &shown.late) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn summary(shown: &Shown) -> Json<Summary> {
    let status = if shown.report.paused() { Status::Paused } else { Status::Running };
    Json(Summary { status })
}
