//! The HTTP face: probes, metrics, what is, the verbs that pause and resume, and the dashboard. Never in the way of
//! the pumps.
//!
//! Reads are open to whoever reaches the port; writes are let through by [`Access`]. Every error is a
//! `application/problem+json`. What is served and what `/api/v1/openapi.json` describes is one table.

mod access;
mod body;
mod bounded;
mod dashboard;
mod events;
mod jobs;
mod openapi;
mod params;
mod probes;
mod problem;
mod reach;
mod reads;
mod writes;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use ingest_switch::JobPlan;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub(crate) use self::access::Access;
use self::bounded::{Bounded, Lease};
use self::openapi::Route;
use self::problem::Problem;
use crate::beat::BeatCounts;
use crate::history::Late;
use crate::report::Report;
use crate::store::Store;

/// Version of the shapes below `/api/v1`, as their `schema`.
const SHAPE: u32 = 1;

/// What the handlers read, and where they write.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) report: Arc<Report>,
    pub(crate) beats: Arc<BeatCounts>,
    /// Holds the control document and the history.
    pub(crate) store: Store,
    /// What each job would ingest if nothing were held.
    pub(crate) plans: Arc<[JobPlan]>,
    pub(crate) access: Arc<Access>,
    /// Pauses and resumes that were not complete in time, for the metrics.
    pub(crate) late: Arc<Late>,
    /// True once the process is leaving.
    pub(crate) stopping: watch::Receiver<bool>,
}

/// Opens the port.
pub(crate) async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("HTTP on {address} (INGEST_BIND, PORT) cannot be opened"))
}

/// Serves until the process stops.
pub(crate) async fn serve(listener: TcpListener, shown: Shown) -> anyhow::Result<()> {
    let mut stopping = shown.stopping.clone();
    let stop = async move {
        // An error means that main is gone, which is a stop too.
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    let service = router(shown).into_make_service_with_connect_info::<Lease>();
    let server = axum::serve(Bounded::new(listener), service).with_graceful_shutdown(stop);
    server.await.context("the HTTP server ended")
}

fn router(shown: Shown) -> Router {
    let mut router = Router::new();
    for route in routes() {
        let only = route.method.to_uppercase();
        let wrong_method = async move |method: Method| {
            let detail = format!("{method} is not answered here, {only} is");
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
        };
        router = router.route(route.path, route.serve.fallback(wrong_method));
    }
    router.fallback(unknown_path).with_state(shown)
}

/// Everything that is served.
fn routes() -> Vec<Route> {
    [
        dashboard::routes(),
        probes::routes(),
        reads::routes(),
        jobs::routes(),
        events::routes(),
        writes::routes(),
        openapi::routes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

async fn unknown_path(uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    Problem::new(
        StatusCode::NOT_FOUND,
        format!("nothing at {path}; /api/v1/openapi.json describes what there is, such as /api/v1/status"),
    )
}

#[cfg(test)]
mod tests;
