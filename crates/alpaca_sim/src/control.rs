//! The HTTP control port: what a test sees of the venue, and how it interferes.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::extract::{Query, State as Extract};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::fault::Fault;
use crate::journal::Event;
use crate::state::State;
use crate::venue::Shared;

/// Opens the port and serves it until `tasks` is shut down.
pub(crate) async fn spawn(
    shared: &Arc<Shared>,
    wanted: SocketAddr,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(wanted).await.with_context(|| format!("cannot listen on {wanted}"))?;
    let addr = listener.local_addr()?;
    let router = Router::new()
        .route("/state", get(state))
        .route("/log", get(log))
        .route("/fault", post(inject).delete(clear))
        .route("/cut", post(cut))
        .with_state(Arc::clone(shared));
    tasks.spawn(async move {
        // Serving ends with the task; an error of one client is not the venue's.
        let _ = axum::serve(listener, router).await;
    });
    Ok(addr)
}

async fn state(Extract(shared): Extract<Arc<Shared>>) -> Json<State> {
    Json(shared.state())
}

#[derive(Deserialize)]
struct LogQuery {
    #[serde(default)]
    since: u64,
}

async fn log(Extract(shared): Extract<Arc<Shared>>, Query(query): Query<LogQuery>) -> Json<Vec<Event>> {
    Json(shared.journal.since(query.since))
}

async fn inject(
    Extract(shared): Extract<Arc<Shared>>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, (StatusCode, String)> {
    let fault = Fault::try_from(body).map_err(|e| (StatusCode::BAD_REQUEST, format!("{e:#}\n")))?;
    shared.faults.inject(fault);
    Ok(faults(&shared))
}

async fn clear(Extract(shared): Extract<Arc<Shared>>) -> Json<Value> {
    shared.faults.clear();
    faults(&shared)
}

#[derive(Deserialize)]
struct CutQuery {
    #[serde(default)]
    rst: bool,
}

async fn cut(Extract(shared): Extract<Arc<Shared>>, Query(query): Query<CutQuery>) -> StatusCode {
    shared.cut(query.rst);
    StatusCode::NO_CONTENT
}

fn faults(shared: &Shared) -> Json<Value> {
    Json(json!({"faults": shared.faults.list()}))
}
