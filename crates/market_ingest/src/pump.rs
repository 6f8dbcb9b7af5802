//! The pump of one job: drain the lifecycle's commands, wait for one thing, apply it, again.
//!
//! Waiting and deciding are apart: `select!` only waits, and every arm of it is cancel safe; `apply`
//! is synchronous and decides. Stop and switch come first in the `select!`, and at most
//! [`FRAMES_PER_TURN`] frames are taken before they are looked at again, so neither a flood nor a
//! silence keeps the pump from hearing them. Nothing here awaits a dial, a send or a sink alone.
//!
//! Invariants: nothing is dialed and nothing is kept open without the lease; a record reaches the sinks only while no
//! hold covers it; `JobState::paused` is true only when no
//! connection exists and the sinks have answered their drain; a decision is shown as effective only when that is so
//! of all it holds, and when all it resumed is subscribed again.

mod account;
mod lease;
mod shown;
mod spot;
mod vigil;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use alpaca_feed::decode::Decoder;
use alpaca_feed::encode::{Request, encode};
use alpaca_feed::lifecycle::{
    Command, ConnId, Delivery, DialFailure, Failure, Lifecycle, Limits, Notice, Outgoing, Pace, Phase,
};
use alpaca_feed::message::{Batch, Codec, Event, Kind};
use alpaca_feed::subscription::Subscriptions;
use alpaca_feed::symbol::{SymbolId, Symbols};
use alpaca_feed::watchdog::Watchdog;
use anyhow::anyhow;
use futures_util::future::join_all;
use ingest_status::Timestamp;
use ingest_switch::watch::Decided;
use ingest_switch::{Coverage, JobPlan};
use secrecy::ExposeSecret;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use crate::assets::Newest;
use crate::config::JobConfig;
use crate::filter::Filter;
use crate::gaps::GapBook;
use crate::job::{Aspect, JobState};
use crate::lease::{Fence, Tenure};
use crate::link::{Link, LinkEvent};
use crate::memory::Memory;
use crate::rest::Client;
use crate::sink::{self, Drained, JobId, Part, Sink, wall_ts};

/// Frames taken in one turn at most, once the first has arrived.
const FRAMES_PER_TURN: usize = 256;
/// No further frame is taken with so many events, which fit a core's cache.
const EVENTS_PER_TURN: usize = 512;
/// An idle pump turns this often, to show that it can.
const TICK: Duration = Duration::from_secs(1);
/// Malformed elements are told of this often at most, all together.
const MALFORMED_INTERVAL: Duration = Duration::from_secs(10);

type Draining = Pin<Box<dyn Future<Output = Vec<Drained>> + Send>>;

/// What a pump is connected to.
pub(crate) struct Wiring {
    pub(crate) decisions: watch::Receiver<Decided>,
    /// Whether this process may dial, asked at every turn.
    pub(crate) fence: Fence,
    /// Wakes the pump when that changes, and says why not.
    pub(crate) tenure: watch::Receiver<Tenure>,
    /// What the producer before this one left; nothing dials before it is known.
    pub(crate) memory: watch::Receiver<Memory>,
    pub(crate) book: Arc<GapBook>,
    /// True once the process is leaving.
    pub(crate) stopping: watch::Receiver<bool>,
    pub(crate) state: watch::Sender<JobState>,
    /// Told whenever something changed that a heartbeat should say at once.
    pub(crate) edges: Arc<Notify>,
    pub(crate) sinks: Vec<Sink>,
    /// Where the store keeps a table of assets.
    pub(crate) newest: Option<Arc<Newest>>,
    pub(crate) symbols: Arc<Symbols>,
    /// Who is asked about silent symbols; nobody where nothing is to be fetched.
    pub(crate) client: Option<Client>,
}

/// One job at work.
pub(crate) struct Pump {
    id: JobId,
    job: JobConfig,
    plan: JobPlan,
    filter: Filter,
    /// The decision that was taken up last.
    decided: Option<Decided>,
    /// What operators resumed and the venue has not been seen to send since. The first connection of a process is no
    /// resume: a venue that refuses one job must not keep the pause of another from being effective.
    awaited: Subscriptions,
    wiring: Wiring,
    lifecycle: Lifecycle,
    watchdog: Watchdog,
    watch_told: vigil::Told,
    spot_checks: spot::SpotChecks,
    account: account::Account,
    link: Link,
    decoder: Decoder,
    batch: Batch,
    state: JobState,
    pause: Option<Pause>,
    draining: Option<Draining>,
    /// The reason given for the hold that keeps the job from running.
    held_because: Option<String>,
    last_record_at: Option<Instant>,
    /// Of the newest event that has one.
    last_symbol: Option<SymbolId>,
    malformed_told: Told,
    /// Whether the lease was ours at the last look.
    leased: bool,
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

/// A hold of the job or of a part of it, or a stop, on its way to its effect.
struct Pause {
    decided_at: Instant,
    /// All of the job, or some of its symbols.
    whole: bool,
    /// Nobody asked for it: the lease is gone.
    unleased: bool,
    drained: Drained,
}

/// The one thing that a turn waited for.
enum Input {
    Stop,
    Decision,
    Tenure,
    Deadline,
    Link(ConnId, LinkEvent),
    Drained(Vec<Drained>),
    SpotCheck(spot::Answer),
    Tick,
}

impl Pump {
    pub(crate) fn new(
        id: JobId,
        job: JobConfig,
        limits: Limits,
        mute_after: Duration,
        seed: u64,
        wiring: Wiring,
    ) -> Self {
        let state = JobState::new(&job.name, now_utc(), Instant::now().into_std());
        let nothing_held = Coverage::new(&[]).job(&job.name);
        let mut watchdog = Watchdog::new(job.market, mute_after);
        watchdog.handle_desired(now(), &job.subscriptions);
        Self {
            id,
            plan: job.plan(),
            filter: Filter::new(nothing_held, Arc::clone(&wiring.symbols)),
            decided: None,
            awaited: Subscriptions::default(),
            lifecycle: Lifecycle::new(limits, job.subscriptions.clone(), seed),
            watchdog,
            watch_told: vigil::Told::Held,
            spot_checks: spot::SpotChecks::new(wiring.client.clone()),
            account: account::Account::default(),
            decoder: Decoder::new(Arc::clone(&wiring.symbols)),
            link: Link::None,
            batch: Batch::default(),
            pause: None,
            draining: None,
            held_because: None,
            last_record_at: None,
            last_symbol: None,
            malformed_told: Told::default(),
            leased: false,
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
        self.mind_lease();
        self.take_decision();
        loop {
            self.execute_commands();
            self.watch();
            self.keep_account();
            self.publish();
            if self.state.phase == Phase::Stopped && self.draining.is_none() {
                return Ok(());
            }
            let input = self.wait().await?;
            // Before anything else: a process that was stopped may find its lease over.
            self.mind_lease();
            self.apply(input);
        }
    }

    /// Cancel safe in every arm; which one is taken is decided in this order.
    async fn wait(&mut self) -> anyhow::Result<Input> {
        let deadlines = [self.lifecycle.poll_timeout(), self.watchdog.poll_timeout()];
        let deadline = deadlines.into_iter().flatten().min().map(Instant::from_std);
        let tick = Instant::now() + TICK;
        tokio::select! {
            biased;
            // A sender that is gone means that main is gone: stop as well.
            _ = self.wiring.stopping.wait_for(|stop| *stop), if !self.leaving => Ok(Input::Stop),
            changed = self.wiring.decisions.changed(), if !self.leaving => match changed {
                Ok(()) => Ok(Input::Decision),
                Err(_) => Err(anyhow!("the switch's task has ended")),
            },
            changed = self.wiring.tenure.changed(), if !self.leaving => match changed {
                Ok(()) => Ok(Input::Tenure),
                Err(_) => Err(anyhow!("the lease's task has ended")),
            },
            changed = self.wiring.memory.changed(), if !self.leaving => match changed {
                Ok(()) => Ok(Input::Tenure),
                Err(_) => Err(anyhow!("the memory's task has ended")),
            },
            () = until(deadline) => Ok(Input::Deadline),
            drained = drained(self.draining.as_mut()) => Ok(Input::Drained(drained)),
            (conn, event) = self.link.next() => Ok(Input::Link(conn, event)),
            answer = self.spot_checks.answered() => Ok(Input::SpotCheck(answer)),
            () = tokio::time::sleep_until(tick) => Ok(Input::Tick),
        }
    }

    fn apply(&mut self, input: Input) {
        match input {
            Input::Stop => self.stop(),
            Input::Decision => {
                self.account.stale = true;
                self.take_decision();
            }
            Input::Deadline => {
                self.account.stale = true;
                self.lifecycle.handle_timeout(now());
            }
            Input::Link(conn, event) => self.take_link_event(conn, event),
            Input::Drained(drained) => self.take_drained(&drained),
            Input::SpotCheck(answer) => self.take_spot_check(answer),
            // Minded already.
            Input::Tenure | Input::Tick => {}
        }
    }

    fn stop(&mut self) {
        self.leaving = true;
        self.lifecycle.handle_shutdown(now());
        if self.state.wanted {
            self.state.refused = false;
            self.pause = None;
            self.begin_pause(Instant::now(), Part { job: self.id, symbols: None });
        }
    }

    fn take_decision(&mut self) {
        let decided = self.wiring.decisions.borrow_and_update().clone();
        let coverage = Coverage::new(&decided.decision.holds);
        self.held_because = coverage
            .halted_by(std::slice::from_ref(&self.plan))
            .map(|hold| hold.reason.clone().unwrap_or_else(|| format!("held by {}", hold.source)));
        let same_holds =
            self.decided.as_ref().is_some_and(|last| last.decision.holds == decided.decision.holds);
        let decided_at = Instant::from_std(decided.at);
        // A control document that was made anew counts from the beginning: what it says has had no effect yet.
        if decided.decision.generation < self.state.effective_generation {
            (self.state.at_rest_generation, self.state.effective_generation) = (None, None);
        }
        let first = self.decided.replace(decided).is_none();
        // Whatever else follows: the heartbeat tells who holds, and how fresh the flags are.
        self.wiring.edges.notify_one();
        if same_holds {
            return;
        }

        self.filter = Filter::new(coverage.job(&self.job.name), Arc::clone(&self.wiring.symbols));
        let desired = self.filter.desired(&self.job.subscriptions);
        let wanted = !desired.is_empty();
        let before = std::mem::replace(&mut self.state.wanted, wanted);
        if wanted {
            let held_before = if before { self.lifecycle.desired().clone() } else { Default::default() };
            if !first {
                self.awaited = self.awaited.union(&desired.difference(&held_before));
            }
            // What is held again is no longer awaited.
            self.awaited = self.awaited.difference(&self.awaited.difference(&desired));
            self.state.paused_symbols = self.filter.paused_symbols(&self.job.subscriptions);
            if desired != *self.lifecycle.desired() {
                self.watchdog.handle_desired(now(), &desired);
            }
            self.lifecycle.handle_subscriptions(now(), desired);
        } else {
            self.state.paused_symbols = Vec::new();
            self.state.refused = false;
            self.awaited = Subscriptions::default();
        }
        self.lifecycle.handle_wanted(now(), wanted && self.leased);
        // Of this decision nothing is drained yet.
        self.state.messages_drained = 0;

        match (before, wanted) {
            (false, false) => {
                // Paused from the start: nothing was ever received.
                if self.state.paused_at.is_none() && self.pause.is_none() {
                    self.state.paused_at = Some(now_utc());
                    self.state.pauses += 1;
                }
            }
            (true, false) => self.begin_pause(decided_at, Part { job: self.id, symbols: None }),
            (_, true) => {
                self.state.was_live &= before;
                self.begin_pause_of_part(decided_at);
            }
        }
    }

    /// What of a job that runs is held; whatever else was being drained is wanted again.
    fn begin_pause_of_part(&mut self, decided_at: Instant) {
        let symbols = self.filter.held_symbols();
        if symbols.is_empty() {
            (self.pause, self.draining) = (None, None);
            self.state.drained = true;
        } else {
            self.begin_pause(decided_at, Part { job: self.id, symbols: Some(Arc::new(symbols)) });
        }
    }

    /// From here on nothing of this part is handed to the sinks; they are asked to deliver what they have of it. A
    /// later part contains the earlier one's, unless that was resumed.
    fn begin_pause(&mut self, decided_at: Instant, part: Part) {
        let whole = part.symbols.is_none();
        self.state.drained = false;
        self.pause = Some(Pause { decided_at, whole, unleased: false, drained: Drained::default() });
        let drains = self.wiring.sinks.iter().cloned().map(|sink| sink.drain(part.clone()));
        self.draining = Some(Box::pin(join_all(drains)));
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
        let now = now();
        self.handle_link_event(now, conn, event);
        for _ in 1..FRAMES_PER_TURN {
            if self.batch.events.len() >= EVENTS_PER_TURN {
                break;
            }
            match self.link.next_now() {
                Some((conn, event)) => self.handle_link_event(now, conn, event),
                None => break,
            }
        }
        self.deliver();
    }

    fn handle_link_event(&mut self, now: std::time::Instant, conn: ConnId, event: LinkEvent) {
        match event {
            LinkEvent::Dialed => self.lifecycle.handle_dialed(now, conn),
            LinkEvent::DialFailed(failure) => {
                self.account.stale = true;
                self.lifecycle.handle_dial_failed(now, conn, failure);
            }
            LinkEvent::Frame(frame) => {
                let controls = self.batch.control.len();
                self.state.frames += 1;
                self.state.bytes += frame.len() as u64;
                let mark = self.batch.events.len();
                self.decoder.decode(self.job.codec, &frame, &mut self.batch);
                let answered = self.batch.control.len() > controls;
                self.account.stale |= answered;
                match self.lifecycle.handle_frame(now, conn, &mut self.batch) {
                    Delivery::Deliver => {}
                    Delivery::Discard => self.batch.events.truncate(mark),
                }
                if answered {
                    // Of two answers in one turn the second may hide what the first left out.
                    self.keep_account();
                }
                self.execute_commands();
            }
            LinkEvent::Alive => self.lifecycle.handle_link(now, conn),
            LinkEvent::Closed(how) => {
                self.account.stale = true;
                self.lifecycle.handle_closed(now, conn, how);
            }
        }
    }

    /// Hands the turn's events to the sinks and counts them.
    fn deliver(&mut self) {
        if self.batch.malformed.count > 0 {
            self.state.malformed += self.batch.malformed.count;
            self.tell_malformed();
        }
        self.state.held_back += self.filter.apply(&mut self.batch);
        // The first time of all may come in one turn with the word that it will: then nothing was missed.
        if !self.batch.events.is_empty() && self.account.stale && self.account.is_timeless() {
            self.keep_account();
        }
        if let Some(last) = self.batch.events.last() {
            let (received_at, received_ts) = (Instant::now(), wall_ts());
            let (mut oldest, mut newest, mut records) = (i64::MAX, i64::MIN, 0);
            let mut quotes = 0;
            for event in &self.batch.events {
                // Most are.
                if let Event::Quote(_) = event {
                    quotes += 1;
                } else {
                    self.state.messages[event.kind() as usize] += 1;
                }
                if let Some(time) = sink::clock(event, received_ts) {
                    (oldest, newest) = (oldest.min(time), newest.max(time));
                    records += 1;
                }
            }
            self.state.messages[Kind::Quote as usize] += quotes;
            if records > 0 {
                self.state.lags.record(received_ts.saturating_sub(oldest), records.into());
                self.account.take_time(newest, records);
            }
            self.watchdog.handle_batch(received_at.into_std(), received_ts, &self.batch.events);
            self.state.last_received_ts = Some(received_ts);
            self.state.last_event_ts = Some(last.ts());
            self.state.lag_s = Some(received_ts.saturating_sub(last.ts()) as f64 / 1e9);
            self.last_symbol = self.batch.events.iter().rev().find_map(|e| e.symbol()).or(self.last_symbol);
            for sink in &self.wiring.sinks {
                sink.accept(self.id, &self.batch);
            }
            if let Some(newest) = &self.wiring.newest {
                newest.accept(&self.batch);
            }
            self.last_record_at = Some(received_at);
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
            Notice::SlotContested { since } => {
                let since_s = since.as_secs();
                tracing::error!(job, since_s, "slot_contested");
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
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

fn now_utc() -> Timestamp {
    jiff::Timestamp::now().into()
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
