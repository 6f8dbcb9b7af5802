//! The HTTP face: probes, metrics and status. Read only, and never in the way of the pumps.
//!
//! Paused is alive and ready. Cloud Run reserves some paths that end in z, hence the aliases.

mod bounded;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::bounded::Bounded;
use crate::beat::BeatCounts;
use crate::metrics;
use crate::report::Report;

/// What the handlers read.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) report: Arc<Report>,
    pub(crate) beats: Arc<BeatCounts>,
}

/// Opens the port.
pub(crate) async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("HTTP on {address} (INGEST_BIND, PORT) cannot be opened"))
}

/// Serves until the process stops.
pub(crate) async fn serve(
    listener: TcpListener,
    shown: Shown,
    mut stopping: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let stop = async move {
        // An error means that main is gone, which is a stop too.
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    let server = axum::serve(Bounded::new(listener), router(shown)).with_graceful_shutdown(stop);
    server.await.context("the HTTP server ended")
}

fn router(shown: Shown) -> Router {
    Router::new()
        .route("/livez", get(live))
        .route("/live", get(live))
        .route("/healthz", get(live))
        .route("/health", get(live))
        .route("/readyz", get(ready))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/api/v1/status", get(status))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(shown)
}

/// Live: the loops that do the work turn.
async fn live(State(shown): State<Shown>) -> Response {
    match shown.report.wedged(Instant::now()) {
        None => Json(summary(&shown)).into_response(),
        Some(job) => problem(StatusCode::SERVICE_UNAVAILABLE, &format!("the job {job} does not turn")),
    }
}

/// Ready: the first decision is known (it precedes the port) and no credential refusal stands.
async fn ready(State(shown): State<Shown>) -> Response {
    match shown.report.jobs().iter().find(|job| job.refused) {
        None => Json(summary(&shown)).into_response(),
        Some(job) => {
            let reason = job.reason.as_deref().unwrap_or("refused");
            problem(StatusCode::SERVICE_UNAVAILABLE, &format!("the job {}: {reason}", job.name))
        }
    }
}

async fn metrics(State(shown): State<Shown>) -> Response {
    match metrics::text(&shown.report, &shown.beats) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// The heartbeat as it would be written now.
async fn status(State(shown): State<Shown>) -> Response {
    Json(shown.report.heartbeat(jiff::Timestamp::now().into())).into_response()
}

async fn unknown_path(uri: Uri) -> Response {
    let detail = format!(
        "nothing at {}; there is /livez /readyz /healthz (and without z) /metrics /api/v1/status",
        uri.path()
    );
    problem(StatusCode::NOT_FOUND, &detail)
}

async fn wrong_method() -> Response {
    problem(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here")
}

fn summary(shown: &Shown) -> serde_json::Value {
    let status = if shown.report.paused() { "paused" } else { "running" };
    json!({ "status": status })
}

/// An error in the form of RFC 9457.
fn problem(status: StatusCode, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or("error");
    let body = json!({ "title": title, "status": status.as_u16(), "detail": detail });
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}
