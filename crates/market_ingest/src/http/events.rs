//! The status as a stream of server-sent events: at once, and whenever what it says has changed.
//!
//! Few streams at a time, and none for ever: a client opens its stream anew, as browsers do by themselves.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::connect_info::ConnectInfo;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use ingest_status::Heartbeat;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

use super::Shown;
use super::bounded::{Extended, Lease};
use super::openapi::{Operation, Route};
use super::problem::Problem;

/// Streams at a time.
const STREAMS_MAX: usize = 16;
/// A stream ends after this time; its client opens another.
const STREAM_LIMIT: Duration = Duration::from_secs(600);
/// Time between two looks at what is, and so between two events.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A stream without events says so this often, so that either side notices when the other is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

pub(super) fn routes() -> Vec<Route> {
    // One event, not the whole text.
    let event = json!({
        "type": "object",
        "required": ["event", "data"],
        "properties": {
            "event": { "enum": ["status", "wedged"] },
            "data": { "type": "string", "contentMediaType": "application/json" },
        },
    });
    let operation = Operation::new("events", "The status as server-sent events.")
        .other(
            "text/event-stream",
            "Event `status` with the heartbeat, at once and on every change of what it says; event `wedged` with the \
             name of a job whose loop does not turn, in whose place nobody vouches.",
            event,
        )
        .problem(503, "There are too many streams, or the producer is leaving.");
    let places = Arc::new(Semaphore::new(STREAMS_MAX));
    let serve = get(async move |State(shown): State<Shown>, request: Request| {
        events(shown, Arc::clone(&places), &request)
    });
    vec![Route::get("/api/v1/events", serve, operation)]
}

fn events(shown: Shown, places: Arc<Semaphore>, request: &Request) -> Result<Response, Problem> {
    let unavailable = |detail| Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail);
    if *shown.stopping.borrow() {
        return Err(unavailable("the producer is leaving"));
    }
    let Ok(place) = places.try_acquire_owned() else {
        return Err(unavailable("as many streams as there may be are open").header(header::RETRY_AFTER, "10"));
    };
    let lease = request.extensions().get::<ConnectInfo<Lease>>();
    let longer = lease.map_or_else(Extended::nothing, |ConnectInfo(lease)| lease.extend(STREAM_LIMIT));
    let watch =
        Watch { shown, told: None, until: Instant::now() + STREAM_LIMIT, _place: place, _longer: longer };
    let events = stream::unfold(watch, |mut watch| async {
        let event = watch.next().await?;
        Some((Ok::<_, Infallible>(event), watch))
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("still here");
    // A proxy that collects an answer before it passes it on would make it late.
    let unbuffered = [("x-accel-buffering", "no")];
    Ok((unbuffered, Sse::new(events).keep_alive(keep_alive)).into_response())
}

/// One client's stream.
struct Watch {
    shown: Shown,
    /// What was told last, without what changes all the time.
    told: Option<Value>,
    until: Instant,
    _place: OwnedSemaphorePermit,
    _longer: Extended,
}

impl Watch {
    /// The next event; none when the stream ends.
    async fn next(&mut self) -> Option<Event> {
        let mut stopping = self.shown.stopping.clone();
        tokio::select! {
            biased;
            _ = stopping.wait_for(|stop| *stop) => None,
            event = self.change() => event,
        }
    }

    async fn change(&mut self) -> Option<Event> {
        if self.told.is_some() {
            sleep(LOOK_EVERY).await;
        }
        while Instant::now() < self.until {
            if let Some(event) = self.look() {
                return Some(event);
            }
            sleep(LOOK_EVERY).await;
        }
        None
    }

    /// An event if there is something new.
    fn look(&mut self) -> Option<Event> {
        let (name, new, data) = match self.shown.report.wedged(Instant::now()) {
            Some(job) => ("wedged", json!({ "wedged": job }), json!({ "job": job })),
            None => {
                let beat = self.shown.report.heartbeat(jiff::Timestamp::now().into());
                ("status", lasting(&beat), json!(beat))
            }
        };
        if self.told.as_ref() == Some(&new) {
            return None;
        }
        self.told = Some(new);
        Some(Event::default().event(name).data(data.to_string()))
    }
}

/// What of a heartbeat is worth an event when it changes: not the time, nor what counts messages.
fn lasting(beat: &Heartbeat) -> Value {
    let jobs: Vec<_> = beat
        .jobs
        .iter()
        .map(|(name, job)| {
            json!([name, job.status, job.since, job.reason, job.phase, job.subscribed, job.paused_symbols])
        })
        .collect();
    json!({
        "status": beat.status,
        "ingest_enabled": beat.ingest_enabled,
        "source": beat.ingest_enabled_source,
        "holds": beat.holds,
        "flag_fresh": beat.flag_fresh,
        "generations": [beat.observed_generation, beat.effective_generation],
        "conditions": beat.conditions,
        "jobs": jobs,
    })
}
