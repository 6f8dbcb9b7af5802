//! The data port: the REST twin of the streams, over the same elements.
//!
//! Plain HTTP/1.1, as Alpaca's historical API answers it: pages by token, a limit of calls, credentials, and faults
//! on demand. Each call is in the log. Where documentation and observation are silent: a date is a whole day in UTC,
//! symbols ascend whatever the sort, news goes by its time of creation.

mod bucket;
mod page;
mod query;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query as Parameters, State as Extract};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use futures_util::stream;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::data::bucket::{Allowance, Bucket};
use crate::data::page::Page;
use crate::data::query::{Query, Refusal, Target};
use crate::endpoint::Product;
use crate::fault::FaultKind;
use crate::journal::EventKind;
use crate::session::{accepted, struck};
use crate::venue::Shared;

/// How long the first half of an answer has to leave before the cut.
const HALF_TIME: Duration = Duration::from_millis(50);
/// Symbols are cut to this many bytes in the log.
const LOGGED_BYTES: usize = 1_024;

struct Port {
    shared: Arc<Shared>,
    bucket: Bucket,
    stopped: watch::Receiver<()>,
}

/// Opens the port and serves it until the sender of `stopped` is gone.
pub(crate) async fn spawn(
    shared: &Arc<Shared>,
    wanted: SocketAddr,
    stopped: watch::Receiver<()>,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(wanted).await.with_context(|| format!("cannot listen on {wanted}"))?;
    let addr = listener.local_addr()?;
    let bucket = Bucket::new(shared.config.plan.data_calls_per_min);
    let port = Arc::new(Port { shared: Arc::clone(shared), bucket, stopped: stopped.clone() });
    let router = Router::new().fallback(answer).with_state(port);
    tasks.spawn(async move {
        // Serving ends with the stop; an error of one client is not the venue's.
        let _ = axum::serve(listener, router).with_graceful_shutdown(ended(stopped)).await;
    });
    Ok(addr)
}

/// Waits for the stop.
async fn ended(mut stopped: watch::Receiver<()>) {
    while stopped.changed().await.is_ok() {}
}

/// What a call came to.
enum Outcome {
    Page { page: Page, allowance: Allowance },
    Refused { refusal: Refusal, allowance: Option<Allowance> },
}

async fn answer(Extract(port): Extract<Arc<Port>>, method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path();
    let shared = &port.shared;
    let log = |kind| shared.journal.record(0, Some(path), kind);
    let parameters = parameters(&uri);
    let asked = parameters.as_ref().ok().and_then(|p| p.get("symbols")).map_or("", String::as_str);
    let target = Target::at(path).filter(|_| method == Method::GET);
    let single = target.as_ref().and_then(|t| t.single.clone());
    let symbols = clipped(single.as_deref().unwrap_or(asked)).to_owned();
    let strike = |pick: fn(&FaultKind) -> bool| {
        let fault = shared.faults.take(Some(path), pick)?;
        log(struck(&fault));
        Some(fault)
    };
    if let Some(FaultKind::DataDelay { ms }) = strike(|k| matches!(k, FaultKind::DataDelay { .. })) {
        let _ = tokio::time::timeout(Duration::from_millis(ms), ended(port.stopped.clone())).await;
    }
    if strike(|k| matches!(k, FaultKind::DataStall {})).is_some() {
        log(EventKind::DataRequest { symbols, status: 0, rows: 0 });
        ended(port.stopped.clone()).await;
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let outcome = match strike(|k| matches!(k, FaultKind::DataError { .. })) {
        Some(FaultKind::DataError { status }) => injected(status),
        _ => port.serve(target, parameters, &headers).await,
    };
    let (status, rows) = match &outcome {
        Outcome::Page { page, .. } => (200, page.rows as u64),
        Outcome::Refused { refusal, .. } => (refusal.status, 0),
    };
    let cut = status == 200 && strike(|k| matches!(k, FaultKind::DataCut {})).is_some();
    log(EventKind::DataRequest { symbols, status, rows });
    response(outcome, cut)
}

impl Port {
    async fn serve(
        &self,
        target: Option<Target>,
        parameters: Result<HashMap<String, String>, Refusal>,
        headers: &HeaderMap,
    ) -> Outcome {
        let refused = |status, message: &str| {
            let refusal = Refusal { status, code: None, message: message.to_owned() };
            Outcome::Refused { refusal, allowance: None }
        };
        let Some(target) = target else {
            return refused(404, "endpoint not found");
        };
        if target.product != Product::Crypto && !self.is_known(headers) {
            return refused(401, "request is not authorized");
        }
        let allowance = self.bucket.take();
        if !allowance.granted {
            let refusal = Refusal { status: 429, code: None, message: "too many requests.".to_owned() };
            return Outcome::Refused { refusal, allowance: Some(allowance) };
        }
        let config = &self.shared.config;
        let market = &self.shared.market;
        let query = parameters.and_then(|p| Query::read(target, &p, &config.plan, market.now_ns()));
        let query = match query {
            Ok(query) => query,
            Err(refusal) => return Outcome::Refused { refusal, allowance: Some(allowance) },
        };
        let until_ns = market.public_until_ns(config.data_lag);
        let market = Arc::clone(market);
        // Ten thousand rows take milliseconds, which the streams must not wait for.
        let page = if query.target.latest { page::latest } else { page::page };
        match tokio::task::spawn_blocking(move || page(&market, &query, until_ns)).await {
            Ok(page) => Outcome::Page { page, allowance },
            Err(_) => refused(500, "the venue is being stopped"),
        }
    }

    /// Whether the credentials open the account; without an account configured, none are needed.
    fn is_known(&self, headers: &HeaderMap) -> bool {
        let header = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok()).unwrap_or_default();
        let (key, secret) = (header("APCA-API-KEY-ID"), header("APCA-API-SECRET-KEY"));
        let account = self.shared.config.account.as_ref();
        account.is_none() || accepted(key, secret, account).is_some()
    }
}

fn parameters(uri: &Uri) -> Result<HashMap<String, String>, Refusal> {
    Parameters::try_from_uri(uri).map(|Parameters(map)| map).map_err(|e| Refusal {
        status: 400,
        code: None,
        message: format!("invalid query: {e}"),
    })
}

/// The answer of a fault; a 429 tells to come back in a second.
fn injected(status: u16) -> Outcome {
    let message = match status {
        429 => "too many requests.",
        500 => "internal server error occurred",
        _ => "injected by the simulated venue",
    };
    let now_s = jiff::Timestamp::now().as_second();
    let reset_s = u64::try_from(now_s).unwrap_or_default() + 1;
    let refusal = Refusal { status, code: None, message: message.to_owned() };
    let allowance = (status == 429).then_some(Allowance { granted: false, limit: 0, remaining: 0, reset_s });
    Outcome::Refused { refusal, allowance }
}

fn response(outcome: Outcome, cut: bool) -> Response {
    let (status, body, allowance) = match outcome {
        Outcome::Page { page, allowance } => (200, page.body, Some(allowance)),
        Outcome::Refused { refusal, allowance } => {
            let mut body = json!({"message": refusal.message});
            if let Some(code) = refusal.code {
                body["code"] = code.into();
            }
            (refusal.status, body.to_string().into_bytes(), allowance)
        }
    };
    let length = body.len();
    let mut response = Response::new(if cut { half(body) } else { Body::from(body) });
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if let Some(allowance) = allowance.filter(|_| matches!(status, 200 | 400 | 429)) {
        headers.insert("x-ratelimit-limit", HeaderValue::from(allowance.limit));
        headers.insert("x-ratelimit-remaining", HeaderValue::from(allowance.remaining));
        headers.insert("x-ratelimit-reset", HeaderValue::from(allowance.reset_s));
    }
    response
}

/// A body that promises all of `bytes` and breaks off after half of them.
fn half(mut bytes: Vec<u8>) -> Body {
    bytes.truncate(bytes.len() / 2);
    let first = stream::iter([Ok(Bytes::from(bytes))]);
    // What is not yet on its way when a body fails is not sent at all.
    let failure = stream::once(async {
        tokio::time::sleep(HALF_TIME).await;
        Err(io::Error::from(io::ErrorKind::ConnectionAborted))
    });
    Body::from_stream(first.chain(failure))
}

fn clipped(text: &str) -> &str {
    let mut end = text.len().min(LOGGED_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
