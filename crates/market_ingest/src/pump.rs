//! The pump of one job: drain the lifecycle's commands, wait for one thing, apply it, again.
//!
//! Waiting and deciding are apart: `select!` only waits, and every arm of it is cancel safe; `apply`
//! is synchronous and decides. Stop and switch come first in the `select!`, and at most
//! [`FRAMES_PER_TURN`] frames are taken before they are looked at again, so neither a flood nor a
//! silence keeps the pump from hearing them. Nothing here awaits a dial, a send or a sink alone.
//!
//! Invariant: a record reaches the sinks only while the job is wanted; `JobState::paused` is true
//! only when no connection exists and the sinks have answered their drain.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use alpaca_feed::decode::Decoder;
use alpaca_feed::encode::{Request, encode};
use alpaca_feed::lifecycle::{
    Command, ConnId, Delivery, DialFailure, Failure, Lifecycle, Limits, Notice, Outgoing, Pace, Phase,
};
use alpaca_feed::message::{Batch, Codec};
use alpaca_feed::symbol::Symbols;
use anyhow::anyhow;
use futures_util::future::join_all;
use ingest_status::Timestamp;
use ingest_switch::watch::Decided;
use secrecy::ExposeSecret;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use crate::config::JobConfig;
use crate::job::{Aspect, JobState};
use crate::link::{Link, LinkEvent};
use crate::sink::{Drained, Sink};

/// Frames taken in one turn, once the first has arrived.
const FRAMES_PER_TURN: usize = 64;
/// An idle pump turns this often, to show that it can.
const TICK: Duration = Duration::from_secs(1);
/// Malformed elements are told of this often at most, all together.
const MALFORMED_INTERVAL: Duration = Duration::from_secs(10);
/// Counters are shown this often; changes in kind at once.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(100);

type Draining = Pin<Box<dyn Future<Output = Vec<Drained>> + Send>>;

/// What a pump is connected to.
pub(crate) struct Wiring {
    pub(crate) decisions: watch::Receiver<Decided>,
    /// True once the process is leaving.
    pub(crate) stopping: watch::Receiver<bool>,
    pub(crate) state: watch::Sender<JobState>,
    /// Told whenever something changed that a heartbeat should say at once.
    pub(crate) edges: Arc<Notify>,
    pub(crate) sinks: Vec<Sink>,
    pub(crate) symbols: Arc<Symbols>,
}

/// One job at work.
pub(crate) struct Pump {
    job: JobConfig,
    wiring: Wiring,
    lifecycle: Lifecycle,
    link: Link,
    decoder: Decoder,
    batch: Batch,
    state: JobState,
    pause: Option<Pause>,
    draining: Option<Draining>,
    /// The reason given for the hold that keeps the job from running.
    held_because: Option<String>,
    last_record_at: Option<Instant>,
    malformed_told: Told,
    /// Set by the stop that was heard, never by looking: a stop that is only seen would be missed.
    leaving: bool,
    shown: Aspect,
    shown_at: Instant,
}

/// What was last said of malformed elements: when, and how many there were by then.
#[derive(Default)]
struct Told {
    at: Option<Instant>,
    count: u64,
}

/// A pause or stop on its way to its effect.
struct Pause {
    decided_at: Instant,
    drained: Drained,
}

/// The one thing that a turn waited for.
enum Input {
    Stop,
    Decision,
    Deadline,
    Link(ConnId, LinkEvent),
    Drained(Vec<Drained>),
    Tick,
}

impl Pump {
    pub(crate) fn new(job: JobConfig, limits: Limits, seed: u64, wiring: Wiring) -> Self {
        let state = JobState::new(&job.name, now_utc(), Instant::now().into_std());
        Self {
            lifecycle: Lifecycle::new(limits, job.subscriptions.clone(), seed),
            decoder: Decoder::new(Arc::clone(&wiring.symbols)),
            link: Link::None,
            batch: Batch::default(),
            pause: None,
            draining: None,
            held_because: None,
            last_record_at: None,
            malformed_told: Told::default(),
            leaving: false,
            shown: state.aspect(),
            shown_at: Instant::now(),
            state,
            job,
            wiring,
        }
    }

    /// Runs until the process stops; ends with the connection closed and the sinks drained.
    ///
    /// # Errors
    /// When the switch is gone: a producer that cannot be halted must not run.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        self.take_decision();
        loop {
            self.execute_commands();
            self.publish();
            if self.state.phase == Phase::Stopped && self.draining.is_none() {
                return Ok(());
            }
            let input = self.wait().await?;
            self.apply(input);
        }
    }

    /// Cancel safe in every arm; which one is taken is decided in this order.
    async fn wait(&mut self) -> anyhow::Result<Input> {
        let deadline = self.lifecycle.poll_timeout().map(Instant::from_std);
        let tick = Instant::now() + TICK;
        tokio::select! {
            biased;
            // A sender that is gone means that main is gone: stop as well.
            _ = self.wiring.stopping.wait_for(|stop| *stop), if !self.leaving => Ok(Input::Stop),
            changed = self.wiring.decisions.changed(), if !self.leaving => match changed {
                Ok(()) => Ok(Input::Decision),
                Err(_) => Err(anyhow!("the switch's task has ended")),
            },
            () = until(deadline) => Ok(Input::Deadline),
            drained = drained(self.draining.as_mut()) => Ok(Input::Drained(drained)),
            (conn, event) = self.link.next() => Ok(Input::Link(conn, event)),
            () = tokio::time::sleep_until(tick) => Ok(Input::Tick),
        }
    }

    fn apply(&mut self, input: Input) {
        match input {
            Input::Stop => self.stop(),
            Input::Decision => self.take_decision(),
            Input::Deadline => self.lifecycle.handle_timeout(now()),
            Input::Link(conn, event) => self.take_link_event(conn, event),
            Input::Drained(drained) => self.take_drained(&drained),
            Input::Tick => {}
        }
    }

    fn stop(&mut self) {
        self.leaving = true;
        self.lifecycle.handle_shutdown(now());
        if self.state.wanted {
            self.begin_pause(Instant::now());
        }
    }

    fn take_decision(&mut self) {
        let (wanted, decided_at) = {
            let decided = self.wiring.decisions.borrow_and_update();
            self.held_because = decided
                .decision
                .holds
                .first()
                .map(|hold| hold.reason.clone().unwrap_or_else(|| format!("held by {}", hold.source)));
            (decided.decision.enabled, decided.at)
        };
        if wanted == self.state.wanted {
            // Who holds, or how fresh the flag is, has changed: no edge of the job's will follow.
            self.wiring.edges.notify_one();
            return;
        }
        self.state.wanted = wanted;
        self.lifecycle.handle_wanted(now(), wanted);
        if wanted {
            self.pause = None;
            self.draining = None;
            self.state.drained = true;
            self.state.was_live = false;
        } else {
            self.begin_pause(Instant::from_std(decided_at));
        }
    }

    /// From here on nothing is handed to the sinks; they are asked to deliver what they have.
    fn begin_pause(&mut self, decided_at: Instant) {
        if self.pause.is_some() {
            return;
        }
        self.state.drained = false;
        self.state.refused = false;
        self.pause = Some(Pause { decided_at, drained: Drained::default() });
        self.draining = Some(Box::pin(join_all(self.wiring.sinks.iter().cloned().map(Sink::drain))));
    }

    fn take_drained(&mut self, drained: &[Drained]) {
        self.draining = None;
        self.state.drained = true;
        if let Some(pause) = &mut self.pause {
            pause.drained.delivered = drained.iter().map(|d| d.delivered).sum();
            pause.drained.dropped = drained.iter().map(|d| d.dropped).sum();
        }
    }

    /// Takes what has arrived and what is already buffered behind it.
    fn take_link_event(&mut self, conn: ConnId, event: LinkEvent) {
        self.handle_link_event(conn, event);
        for _ in 1..FRAMES_PER_TURN {
            match self.link.next_now() {
                Some((conn, event)) => self.handle_link_event(conn, event),
                None => break,
            }
        }
        self.deliver();
    }

    fn handle_link_event(&mut self, conn: ConnId, event: LinkEvent) {
        match event {
            LinkEvent::Dialed => self.lifecycle.handle_dialed(now(), conn),
            LinkEvent::DialFailed(failure) => {
                self.lifecycle.handle_dial_failed(now(), conn, failure);
            }
            LinkEvent::Frame(frame) => {
                self.state.frames += 1;
                self.state.bytes += frame.len() as u64;
                let mark = self.batch.events.len();
                self.decoder.decode(self.job.codec, &frame, &mut self.batch);
                match self.lifecycle.handle_frame(now(), conn, &mut self.batch) {
                    Delivery::Deliver => {}
                    Delivery::Discard => self.batch.events.truncate(mark),
                }
                self.execute_commands();
            }
            LinkEvent::Alive => self.lifecycle.handle_link(now(), conn),
            LinkEvent::Closed(how) => self.lifecycle.handle_closed(now(), conn, how),
        }
    }

    /// Hands the turn's events to the sinks and counts them.
    fn deliver(&mut self) {
        if self.batch.malformed.count > 0 {
            self.state.malformed += self.batch.malformed.count;
            self.tell_malformed();
        }
        if let Some(last) = self.batch.events.last() {
            for event in &self.batch.events {
                self.state.messages[event.kind() as usize] += 1;
            }
            let received_ts = jiff::Timestamp::now().as_nanosecond() as i64;
            self.state.last_received_ts = Some(received_ts);
            self.state.last_event_ts = Some(last.ts());
            self.state.lag_s = Some(received_ts.saturating_sub(last.ts()) as f64 / 1e9);
            if let Some(symbol) = self.batch.events.iter().rev().find_map(|e| e.symbol()) {
                self.state.last_symbol = Some(self.wiring.symbols.name(symbol));
            }
            for sink in &self.wiring.sinks {
                sink.accept(&self.batch);
            }
            self.last_record_at = Some(Instant::now());
        }
        self.batch.clear();
    }

    /// A venue that sends nothing but damage must not fill the log.
    fn tell_malformed(&mut self) {
        let now = Instant::now();
        if self.malformed_told.at.is_some_and(|at| now < at + MALFORMED_INTERVAL) {
            return;
        }
        let count = self.state.malformed - self.malformed_told.count;
        self.malformed_told = Told { at: Some(now), count: self.state.malformed };
        let sample = self.batch.malformed.sample.as_deref().unwrap_or_default();
        let job = &*self.state.name;
        tracing::warn!(job, count, sample, "elements that cannot be decoded were left out");
    }

    fn execute_commands(&mut self) {
        while let Some(command) = self.lifecycle.poll_command() {
            match command {
                Command::Dial(conn) => {
                    self.state.dials += 1;
                    self.link = Link::dial(conn, &self.job.url, self.job.codec);
                }
                Command::Send(conn, outgoing) => self.link.send(conn, self.encoded(&outgoing)),
                Command::Close(conn) => self.link.close(conn),
                Command::Abort(conn) => self.link.abort(conn),
            }
        }
        while let Some(notice) = self.lifecycle.poll_notice() {
            self.take_notice(notice);
        }
    }

    fn encoded(&self, outgoing: &Outgoing) -> Message {
        let credentials = &self.job.credentials;
        let request = match outgoing {
            Outgoing::Auth => Request::Auth {
                key: credentials.key.expose_secret(),
                secret: credentials.secret.expose_secret(),
            },
            Outgoing::Subscribe(symbols) => Request::Subscribe(symbols),
            Outgoing::Unsubscribe(symbols) => Request::Unsubscribe(symbols),
            Outgoing::Ping => return Message::Ping(Default::default()),
        };
        let mut bytes = Vec::new();
        encode(self.job.codec, &request, &mut bytes);
        match self.job.codec {
            Codec::MessagePack => Message::binary(bytes),
            // The encoder writes JSON, which is text.
            Codec::Json => Message::text(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }

    fn take_notice(&mut self, notice: Notice) {
        let job = &*self.state.name;
        match notice {
            Notice::Live { took, attempts, .. } => {
                self.state.was_live = true;
                self.state.refused = false;
                let took_ms = took.as_millis() as u64;
                let subscribed = self.lifecycle.subscribed().len();
                tracing::info!(job, took_ms, attempts, subscribed, "job_live");
            }
            Notice::Rejected { code, msg, disposition, .. } => {
                *self.state.rejections.entry(code).or_default() += 1;
                tracing::warn!(job, code, msg, ?disposition, "venue_rejected");
            }
            Notice::Mismatch { missing, extra } => {
                tracing::warn!(job, ?missing, ?extra, "subscriptions differ from what was asked");
            }
            Notice::Disconnected { cause, .. } => {
                self.state.disconnects += 1;
                tracing::warn!(job, cause = %cause, "job_disconnected");
            }
            Notice::BackingOff { attempt, delay, pace, reason } => {
                self.state.refused = pace == Pace::Refused;
                if let Failure::Dial(DialFailure::Http(status)) = reason {
                    *self.state.rejections.entry(status).or_default() += 1;
                }
                let delay_s = delay.as_secs_f64();
                if self.state.refused {
                    tracing::error!(job, attempt, delay_s, reason = %reason, "job_refused");
                } else {
                    tracing::warn!(job, attempt, delay_s, reason = %reason, "job_backing_off");
                }
            }
        }
    }

    /// Shows the present state: at once when it changed in kind, else now and then. The heartbeat is
    /// woken only by what it should say at once.
    fn publish(&mut self) {
        let phase_before = std::mem::replace(&mut self.state.phase, self.lifecycle.phase());
        self.state.reason = match (&self.held_because, self.lifecycle.reason()) {
            (None, Some(failure)) => Some(failure.to_string()),
            (because, _) => because.clone(),
        };
        self.tell_effect();
        let now = Instant::now();
        let aspect = self.state.aspect();
        let changed = aspect != self.shown;
        if !changed && self.state.phase == phase_before && now < self.shown_at + PUBLISH_INTERVAL {
            return;
        }
        if aspect.status != self.shown.status {
            self.state.since = now_utc();
        }
        self.shown = aspect;
        self.shown_at = now;
        self.state.subscribed = self.lifecycle.subscribed().len() as u64;
        self.state.tick = now.into_std();
        self.wiring.state.send_replace(self.state.clone());
        if changed {
            self.wiring.edges.notify_one();
        }
    }

    /// Logs a pause or stop once, when its effect is complete.
    fn tell_effect(&mut self) {
        let resting = matches!(self.state.phase, Phase::Halted | Phase::Stopped);
        if !resting || !self.state.drained {
            return;
        }
        let Some(pause) = self.pause.take() else { return };
        let effect = pause.decided_at.elapsed();
        self.state.pause_effect_s = Some(effect.as_secs_f64());
        let last_record =
            self.last_record_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(pause.decided_at));
        let Drained { delivered, dropped } = pause.drained;
        tracing::info!(
            job = &*self.state.name,
            stopping = self.state.phase == Phase::Stopped,
            effect_ms = milliseconds(effect),
            last_record_ms = milliseconds(last_record),
            delivered,
            dropped,
            "job_at_rest"
        );
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

fn now_utc() -> Timestamp {
    jiff::Timestamp::now().into()
}

/// With three decimals: microseconds.
fn milliseconds(span: Duration) -> f64 {
    span.as_micros() as f64 / 1e3
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn drained(draining: Option<&mut Draining>) -> Vec<Drained> {
    match draining {
        Some(draining) => draining.await,
        None => std::future::pending().await,
    }
}
