//! One connection to the venue: what to do next, given what happened and when.
//!
//! The machine owns no socket, no clock and no credentials. The shell calls one `handle_…` with the time it happened,
//! then polls [`Lifecycle::poll_command`] and [`Lifecycle::poll_notice`] until both are empty, then waits for the next
//! thing or for [`Lifecycle::poll_timeout`]. *Wanted* means: not held by an operator and not stopping.
//!
//! | | Halted | Waiting | Dialing | Session | Closing |
//! |---|---|---|---|---|---|
//! | not wanted | | → Halted | Abort → Halted | Close → Closing | remember |
//! | wanted | forget failures, Dial | | | | forget failures |
//! | timeout | | Dial | Abort, count → rest | count, Close → Closing | Abort → rest |
//! | dialed | | | → Session(Welcome) | | |
//! | dial failed, closed | | | count → rest | count → rest | → rest |
//! | good frame | | | | next stage, or renew liveness; proof of health forgets failures | |
//! | rejection | | | | by [`Disposition`] | |
//! | mute | | | | live: count, Close → Closing | |
//! | shutdown | → Stopped | → Stopped | Abort → Stopped | Close → Closing | remember |
//!
//! *Rest* is the one place that decides what follows when no connection exists: stopping → Stopped; not wanted →
//! Halted; a failure to sit out, or a dial less than `redial_min` ago → Waiting; else Dial. Stopped, the sixth phase, is
//! the end of all.
//!
//! Invariants, asserted in debug builds and searched exhaustively in a test:
//! - S1: at most one connection exists, also across off, on, off; a dial follows the end or the abort of the one before.
//! - S2: Halted, Waiting and Stopped hold no connection, so "paused" can mean "socket closed".
//! - S3: while not wanted there is no Dial and no Send, not even one that was queued before.
//! - S4: from every state, not wanted or shutdown comes to rest by timeouts alone within one `close_limit`.
//! - S5: every phase but the two resting ones has a deadline.
//! - S6: news about any connection but the current one changes nothing.
//! - L1: from every state, wanted and a well-behaved venue lead to Live.

mod failure;
mod limits;
mod output;
#[cfg(test)]
mod search;

use std::fmt;
use std::time::{Duration, Instant};

pub use crate::backoff::Pace;
pub use failure::{Closed, DialFailure, Failure};
pub use limits::Limits;
pub(crate) use output::Outbox;
pub use output::{Command, Notice, Outgoing};

use crate::backoff::Backoff;
use crate::disposition::Disposition;
use crate::message::{Batch, Control};
use crate::session::{Session, Surroundings};
use crate::subscription::Subscriptions;

/// Names one connection of one [`Lifecycle`], never reused.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub struct ConnId(pub u64);

/// Where the machine is.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum Phase {
    /// Not wanted, no connection; the state at birth.
    Halted,
    /// Wanted, no connection; sitting out a failure.
    Waiting,
    /// TCP, TLS and upgrade in flight.
    Dialing,
    /// A connection is open.
    Session(Stage),
    /// The close frame is on its way; waiting for the end of the socket.
    Closing,
    /// The process is leaving; nothing follows.
    Stopped,
}

impl Phase {
    /// The phase in one word, that of the stage for a session.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Halted => "halted",
            Self::Waiting => "waiting",
            Self::Dialing => "dialing",
            Self::Session(stage) => stage.as_str(),
            Self::Closing => "closing",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far an open connection has come.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub enum Stage {
    /// Waiting for the greeting.
    Welcome,
    /// Waiting for the answer to the credentials, or for the slot.
    Auth,
    /// Waiting for the first acknowledgement.
    Subscribe,
    /// Subscribed.
    Live,
}

impl Stage {
    /// The stage in one word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Welcome => "welcome",
            Self::Auth => "auth",
            Self::Subscribe => "subscribe",
            Self::Live => "live",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What to do with the market data of a frame.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
#[must_use]
pub enum Delivery {
    /// Hand it to the sinks.
    Deliver,
    /// Drop it: it is not wanted any more, or comes from a connection that is not the current one.
    Discard,
}

/// The machine; see the module's text.
#[derive(Clone, Eq, PartialEq, Hash, Debug)]
pub struct Lifecycle {
    limits: Limits,
    /// Only what a client may ask for.
    desired: Subscriptions,
    /// False for ever once `stopping`.
    wanted: bool,
    stopping: bool,
    state: State,
    last_conn: ConnId,
    dialed_at: Option<Instant>,
    backoff: Backoff,
    /// The wait that the last failure costs, until `rest` spends it or an operator's resume forgives it.
    owed: Option<(Duration, Failure)>,
    /// The last failure since the last Live or resume.
    failure: Option<Failure>,
    /// Since when others hold the slot, across connections, until Live or a pause.
    contest: Option<Contest>,
    outbox: Outbox,
    nothing: Subscriptions,
}

#[derive(Clone, Eq, PartialEq, Hash, Debug)]
enum State {
    Halted,
    Waiting { until: Instant },
    Dialing { conn: ConnId, since: Instant },
    Session(Box<Session>),
    Closing { conn: ConnId, deadline: Instant },
    Stopped,
}

/// A slot that others hold, and whether that was told.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
enum Contest {
    Since(Instant),
    Told,
}

impl Lifecycle {
    /// A machine at rest, [`Phase::Halted`]; `seed` decides its jitter.
    #[must_use]
    pub fn new(limits: Limits, desired: Subscriptions, seed: u64) -> Self {
        Self {
            limits,
            desired: requestable(desired),
            wanted: false,
            stopping: false,
            state: State::Halted,
            last_conn: ConnId(0),
            dialed_at: None,
            backoff: Backoff::new(seed),
            owed: None,
            failure: None,
            contest: None,
            outbox: Outbox::default(),
            nothing: Subscriptions::default(),
        }
    }

    /// An operator's decision; only a change of it does anything, and becoming wanted forgets all failures.
    pub fn handle_wanted(&mut self, now: Instant, wanted: bool) {
        if self.stopping || self.wanted == wanted {
            return;
        }
        self.wanted = wanted;
        if wanted {
            self.backoff.forgive();
            self.owed = None;
            self.failure = None;
            if matches!(self.state, State::Halted) {
                self.rest(now);
            }
        } else {
            self.leave(now);
        }
        self.check();
    }

    /// The set to be subscribed from now on; a live connection is changed by the smallest difference, and nothing is
    /// asked for when it is empty: such a session is live with nothing.
    ///
    /// Channels that the venue manages itself are ignored. A request that was refused before is tried again.
    pub fn handle_subscriptions(&mut self, now: Instant, desired: Subscriptions) {
        let desired = requestable(desired);
        if desired == self.desired {
            return;
        }
        self.desired = desired;
        if let State::Session(session) = &mut self.state {
            session.desired_changed(
                now,
                &mut surroundings(&self.limits, &self.desired, &self.backoff, &mut self.outbox),
            );
        }
        self.check();
    }

    /// Data of these pairs should come and does not: takes them away and adds them again, as far as they are desired and
    /// acknowledged. Does nothing unless the connection is settled: then it is being done, or there is nothing to mend.
    pub fn handle_resubscribe(&mut self, now: Instant, pairs: &Subscriptions) {
        let pairs = self.desired.intersection(pairs);
        if let State::Session(session) = &mut self.state {
            session.resubscribe(
                now,
                &pairs,
                &mut surroundings(&self.limits, &self.desired, &self.backoff, &mut self.outbox),
            );
        }
        self.check();
    }

    /// Data should come and does not, whatever the link says: a live connection is closed and counts as failed.
    pub fn handle_mute(&mut self, now: Instant) {
        if self.is_live() {
            self.fail(now, Failure::Mute);
        }
    }

    /// What comes is old: a live connection is closed and counts as failed.
    pub fn handle_lagging(&mut self, now: Instant) {
        if self.is_live() {
            self.fail(now, Failure::Lagging);
        }
    }

    /// The connection is open.
    pub fn handle_dialed(&mut self, now: Instant, conn: ConnId) {
        if let State::Dialing { conn: current, since } = self.state
            && current == conn
        {
            self.state = State::Session(Box::new(Session::new(now, conn, since, &self.limits)));
            self.check();
        }
    }

    /// The connection did not come about.
    pub fn handle_dial_failed(&mut self, now: Instant, conn: ConnId, why: DialFailure) {
        self.gone(now, conn, Failure::Dial(why));
    }

    /// A decoded frame. Its control messages are taken out and acted upon; the answer is about its events.
    ///
    /// In the steady state, data on a live connection, this stores an instant and allocates nothing.
    pub fn handle_frame(&mut self, now: Instant, conn: ConnId, batch: &mut Batch) -> Delivery {
        let State::Session(session) = &mut self.state else {
            return Delivery::Discard;
        };
        if session.conn() != conn {
            return Delivery::Discard;
        }
        for control in batch.control.drain(..) {
            let slot_taken = matches!(&control, Control::Error { code, .. }
                if Disposition::of_code(*code) == Disposition::SlotTaken);
            let mut around = surroundings(&self.limits, &self.desired, &self.backoff, &mut self.outbox);
            if let Err(failure) = session.handle_control(now, control, &mut around) {
                // What came in the same frame came while it was wanted, so it is still delivered.
                self.fail(now, failure);
                return Delivery::Deliver;
            }
            if session.is_live() {
                self.failure = None;
                self.contest = None;
            } else if slot_taken {
                contest(now, &mut self.contest, self.limits.slot_alert_after, &mut self.outbox);
            }
        }
        if session.hear(now, !batch.events.is_empty(), &self.limits) {
            self.backoff.forgive();
        }
        self.check();
        Delivery::Deliver
    }

    /// A sign of life without content: a ping or a pong.
    pub fn handle_link(&mut self, now: Instant, conn: ConnId) {
        if let State::Session(session) = &mut self.state
            && session.conn() == conn
            && session.hear(now, false, &self.limits)
        {
            self.backoff.forgive();
        }
    }

    /// The open connection has ended, asked or unasked, or a send on it failed.
    pub fn handle_closed(&mut self, now: Instant, conn: ConnId, how: Closed) {
        self.gone(now, conn, Failure::Closed(how));
    }

    /// Time has passed; harmless before [`Self::poll_timeout`].
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|deadline| now < deadline) {
            return;
        }
        match &mut self.state {
            State::Halted | State::Stopped => {}
            State::Waiting { .. } => self.dial(now),
            State::Dialing { conn, .. } => {
                self.outbox.abort(*conn);
                self.count(Failure::DialTimeout);
                self.rest(now);
            }
            State::Session(session) => {
                let mut around = surroundings(&self.limits, &self.desired, &self.backoff, &mut self.outbox);
                if let Err(failure) = session.handle_timeout(now, &mut around) {
                    self.fail(now, failure);
                }
            }
            State::Closing { conn, .. } => {
                self.outbox.abort(*conn);
                self.rest(now);
            }
        }
        self.check();
    }

    /// The process is leaving: as not wanted, and for ever.
    pub fn handle_shutdown(&mut self, now: Instant) {
        self.stopping = true;
        self.wanted = false;
        self.leave(now);
        self.check();
    }

    /// What to do next; poll until `None` after every `handle_…`.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.outbox.next_command()
    }

    /// What to tell next; poll until `None` after every `handle_…`.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.outbox.next_notice()
    }

    /// When to call [`Self::handle_timeout`]; `None` at rest. Data on a live connection moves it later, so a timer set
    /// earlier may be left running: an early call does nothing.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Halted | State::Stopped => None,
            State::Waiting { until } => Some(*until),
            State::Dialing { since, .. } => Some(*since + self.limits.dial_limit),
            State::Session(session) => Some(session.deadline(&self.limits)),
            State::Closing { deadline, .. } => Some(*deadline),
        }
    }

    /// Where the machine is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match &self.state {
            State::Halted => Phase::Halted,
            State::Waiting { .. } => Phase::Waiting,
            State::Dialing { .. } => Phase::Dialing,
            State::Session(session) => Phase::Session(session.stage()),
            State::Closing { .. } => Phase::Closing,
            State::Stopped => Phase::Stopped,
        }
    }

    /// The current connection: dialing, open or closing.
    #[must_use]
    pub fn connection(&self) -> Option<ConnId> {
        match &self.state {
            State::Halted | State::Waiting { .. } | State::Stopped => None,
            State::Dialing { conn, .. } | State::Closing { conn, .. } => Some(*conn),
            State::Session(session) => Some(session.conn()),
        }
    }

    /// What the venue last acknowledged on this connection, without the channels it manages itself; empty without a
    /// session.
    #[must_use]
    pub fn subscribed(&self) -> &Subscriptions {
        if let State::Session(session) = &self.state { session.subscribed() } else { &self.nothing }
    }

    /// What should be subscribed, without the channels that the venue manages itself.
    #[must_use]
    pub fn desired(&self) -> &Subscriptions {
        &self.desired
    }

    /// Whether a connection is authenticated and its subscriptions are answered.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.phase() == Phase::Session(Stage::Live)
    }

    /// Whether a connection is live and every request on it is answered: the venue sends what is desired, or has said
    /// why not.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        matches!(&self.state, State::Session(session) if session.is_settled())
    }

    /// Failures since health was last proven or an operator resumed.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.backoff.attempts()
    }

    /// The last failure, until the next Live or resume.
    #[must_use]
    pub fn reason(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// The refusal that stands and that only a person can cure: credentials, plan or configuration.
    #[must_use]
    pub fn refusal(&self) -> Option<&Failure> {
        self.failure.as_ref().filter(|failure| failure.pace() == Pace::Refused)
    }

    /// Not wanted any more: ends what exists.
    fn leave(&mut self, now: Instant) {
        self.contest = None;
        match &self.state {
            State::Halted | State::Waiting { .. } => self.rest(now),
            State::Dialing { conn, .. } => {
                self.outbox.abort(*conn);
                self.rest(now);
            }
            State::Session(session) => {
                let conn = session.conn();
                self.close(now, conn);
            }
            State::Closing { .. } | State::Stopped => {}
        }
    }

    /// The connection ended outside; without a connection of that name nothing changes.
    fn gone(&mut self, now: Instant, conn: ConnId, failure: Failure) {
        if self.connection() != Some(conn) {
            return;
        }
        self.outbox.withdraw(conn);
        match &self.state {
            State::Halted | State::Waiting { .. } | State::Stopped => {}
            State::Dialing { .. } => self.count(failure),
            State::Session(session) => {
                let cause = session.explain(failure);
                self.disconnected(conn, cause);
            }
            State::Closing { .. } => {}
        }
        self.rest(now);
        self.check();
    }

    /// The session failed while its socket is still open.
    fn fail(&mut self, now: Instant, failure: Failure) {
        if let State::Session(session) = &self.state {
            let (conn, cause) = (session.conn(), session.explain(failure));
            self.disconnected(conn, cause);
            self.close(now, conn);
        }
        self.check();
    }

    fn disconnected(&mut self, conn: ConnId, cause: Failure) {
        self.outbox.tell(Notice::Disconnected { conn, cause: cause.clone() });
        self.count(cause);
    }

    fn count(&mut self, failure: Failure) {
        let delay = self.backoff.count(failure.pace(), &self.limits);
        self.owed = Some((delay, failure.clone()));
        self.failure = Some(failure);
    }

    fn close(&mut self, now: Instant, conn: ConnId) {
        self.outbox.close(conn);
        self.state = State::Closing { conn, deadline: now + self.limits.close_limit };
    }

    /// No connection exists: decides what follows.
    fn rest(&mut self, now: Instant) {
        if self.stopping {
            self.state = State::Stopped;
        } else if !self.wanted {
            self.state = State::Halted;
        } else if let Some((delay, reason)) = self.owed.take() {
            self.state = State::Waiting { until: now + delay };
            let (attempt, pace) = (self.backoff.attempts(), reason.pace());
            self.outbox.tell(Notice::BackingOff { attempt, delay, pace, reason });
        } else if let Some(until) =
            self.dialed_at.map(|at| at + self.limits.redial_min).filter(|at| now < *at)
        {
            self.state = State::Waiting { until };
        } else {
            self.dial(now);
        }
    }

    fn dial(&mut self, now: Instant) {
        self.dialed_at = Some(now);
        self.last_conn = ConnId(self.last_conn.0 + 1);
        self.state = State::Dialing { conn: self.last_conn, since: now };
        self.outbox.dial(self.last_conn);
    }

    /// S3 and S5; S2 holds by the shape of `State`, the others by the search.
    fn check(&self) {
        debug_assert!(
            self.wanted
                || self
                    .outbox
                    .commands()
                    .all(|command| matches!(command, Command::Close(_) | Command::Abort(_))),
            "S3: {:?}",
            self.outbox
        );
        debug_assert_eq!(
            self.poll_timeout().is_none(),
            matches!(self.state, State::Halted | State::Stopped),
            "S5: {:?}",
            self.state
        );
    }
}

/// One more refusal of the slot: tells once that somebody must act. A function, so that the session can be borrowed beside it.
fn contest(now: Instant, contest: &mut Option<Contest>, alert_after: Duration, outbox: &mut Outbox) {
    if let Contest::Since(since) = *contest.get_or_insert(Contest::Since(now)) {
        let since = now.saturating_duration_since(since);
        if since >= alert_after {
            *contest = Some(Contest::Told);
            outbox.tell(Notice::SlotContested { since });
        }
    }
}

/// What a session may look at and speak through; a function, so that the session itself can be borrowed beside it.
fn surroundings<'a>(
    limits: &'a Limits,
    desired: &'a Subscriptions,
    backoff: &Backoff,
    outbox: &'a mut Outbox,
) -> Surroundings<'a> {
    Surroundings { limits, desired, attempts: backoff.attempts(), outbox }
}

fn requestable(set: Subscriptions) -> Subscriptions {
    set.iter().filter(|(channel, _)| channel.is_requestable()).collect()
}
