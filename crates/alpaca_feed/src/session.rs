//! Everything that belongs to one open connection and dies with it: its stage, its debts, its subscriptions.
//!
//! The session decides what a frame or a deadline means and speaks through the outbox it is lent; an `Err` says that
//! the connection has failed, and the lifecycle ends it. Every stage has a deadline: those of the first three are hard,
//! that of [`Stage::Live`] moves with every sign of life.

mod requests;

use std::time::Instant;

use crate::backoff::Pace;
use crate::disposition::Disposition;
use crate::lifecycle::{ConnId, Failure, Limits, Notice, Outbox, Outgoing, Stage};
use crate::message::Control;
use crate::subscription::Subscriptions;
use requests::Requests;

/// What the lifecycle lends to its session.
pub(crate) struct Surroundings<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) desired: &'a Subscriptions,
    pub(crate) attempts: u32,
    pub(crate) outbox: &'a mut Outbox,
}

/// One open connection.
#[derive(Clone, Eq, PartialEq, Hash, Debug)]
pub(crate) struct Session {
    conn: ConnId,
    dialed_at: Instant,
    progress: Progress,
    /// How often the slot was found taken since the last authentication.
    slot_refusals: u32,
    /// Whether the one further authentication after a 401 is spent.
    reauthenticated: bool,
    requests: Requests,
}

#[derive(Clone, Eq, PartialEq, Hash, Debug)]
enum Progress {
    Welcome { deadline: Instant },
    Auth { deadline: Instant, again_at: Option<Instant> },
    Subscribe { deadline: Instant },
    Live(Pulse),
}

/// Liveness of the link; a quiet market is not a dead connection, so pings and pongs count.
#[derive(Clone, Eq, PartialEq, Hash, Debug)]
struct Pulse {
    since: Instant,
    heard_at: Instant,
    /// Our ping that nothing has answered yet.
    probed_at: Option<Instant>,
    proven: bool,
}

impl Session {
    /// An upgraded connection that waits for the greeting.
    pub(crate) fn new(now: Instant, conn: ConnId, dialed_at: Instant, limits: &Limits) -> Self {
        Self {
            conn,
            dialed_at,
            progress: Progress::Welcome { deadline: now + limits.stage_limit },
            slot_refusals: 0,
            reauthenticated: false,
            requests: Requests::new(),
        }
    }

    pub(crate) fn conn(&self) -> ConnId {
        self.conn
    }

    pub(crate) fn stage(&self) -> Stage {
        match self.progress {
            Progress::Welcome { .. } => Stage::Welcome,
            Progress::Auth { .. } => Stage::Auth,
            Progress::Subscribe { .. } => Stage::Subscribe,
            Progress::Live(_) => Stage::Live,
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        matches!(self.progress, Progress::Live(_))
    }

    /// Live, and no request waits for its answer.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_live() && self.requests.answer_by().is_none()
    }

    pub(crate) fn subscribed(&self) -> &Subscriptions {
        self.requests.acknowledged()
    }

    /// The next instant at which [`Self::handle_timeout`] has something to do.
    pub(crate) fn deadline(&self, limits: &Limits) -> Instant {
        match &self.progress {
            Progress::Welcome { deadline } | Progress::Subscribe { deadline } => *deadline,
            Progress::Auth { deadline, again_at } => {
                again_at.map_or(*deadline, |again_at| again_at.min(*deadline))
            }
            Progress::Live(pulse) => {
                let link = match pulse.probed_at {
                    None => pulse.heard_at + limits.probe_after,
                    Some(probed_at) => probed_at + limits.pong_limit,
                };
                self.requests.answer_by().map_or(link, |answer_by| answer_by.min(link))
            }
        }
    }

    /// A sign of life, perhaps with data; true when it proves the connection healthy for the first time.
    pub(crate) fn hear(&mut self, now: Instant, data: bool, limits: &Limits) -> bool {
        let Progress::Live(pulse) = &mut self.progress else {
            return false;
        };
        pulse.heard_at = now;
        pulse.probed_at = None;
        if pulse.proven || !(data || now >= pulse.since + limits.proven_after) {
            return false;
        }
        pulse.proven = true;
        true
    }

    /// A message about the connection.
    pub(crate) fn handle_control(
        &mut self,
        now: Instant,
        control: Control,
        around: &mut Surroundings<'_>,
    ) -> Result<(), Failure> {
        match control {
            Control::Connected => {
                if self.stage() == Stage::Welcome {
                    self.authenticate(now, around);
                }
            }
            // Also unasked, in answer to credentials in the upgrade's headers.
            Control::Authenticated => self.authenticated(now, around),
            Control::OtherSuccess(_) => {}
            Control::Subscription(acknowledged) => {
                self.requests.acknowledge(&acknowledged);
                if self.stage() >= Stage::Subscribe {
                    self.advance(now, around);
                }
            }
            Control::Error { code, msg } => return self.handle_rejection(now, code, msg, around),
        }
        Ok(())
    }

    /// A deadline has come.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        around: &mut Surroundings<'_>,
    ) -> Result<(), Failure> {
        let stage = self.stage();
        match &mut self.progress {
            Progress::Welcome { deadline } | Progress::Subscribe { deadline } => {
                if now >= *deadline {
                    return Err(Failure::Stalled(stage));
                }
            }
            Progress::Auth { deadline, again_at } => {
                if now >= *deadline {
                    return Err(Failure::Stalled(stage));
                }
                if again_at.take_if(|again_at| now >= *again_at).is_some() {
                    around.outbox.send(self.conn, Outgoing::Auth);
                }
            }
            Progress::Live(pulse) => {
                match pulse.probed_at {
                    // Only silence after a ping counts: a process that slept must not take its own sleep for the venue's.
                    Some(probed_at) if now >= probed_at + around.limits.pong_limit => {
                        return Err(Failure::LinkSilent);
                    }
                    None if now >= pulse.heard_at + around.limits.probe_after => {
                        pulse.probed_at = Some(now);
                        around.outbox.send(self.conn, Outgoing::Ping);
                    }
                    Some(_) | None => {}
                }
                if self.requests.answer_by().is_some_and(|answer_by| now >= answer_by) {
                    // The answer may be queued behind data: no reason to lose a stream that flows.
                    self.requests.give_up();
                    self.advance(now, around);
                }
            }
        }
        Ok(())
    }

    /// Another set is desired.
    pub(crate) fn desired_changed(&mut self, now: Instant, around: &mut Surroundings<'_>) {
        self.requests.replan();
        if self.stage() >= Stage::Subscribe {
            self.advance(now, around);
        }
    }

    /// Asks for these pairs anew, as far as they are acknowledged and nothing else is being asked.
    pub(crate) fn resubscribe(&mut self, now: Instant, pairs: &Subscriptions, around: &mut Surroundings<'_>) {
        if self.is_settled() && self.requests.renew(pairs) {
            self.advance(now, around);
        }
    }

    /// The failure to report when this connection ends with `failure`: a taken slot explains most ends.
    pub(crate) fn explain(&self, failure: Failure) -> Failure {
        if self.slot_refusals > 0 && failure.pace() == Pace::Jittered {
            Failure::SlotTaken { refusals: self.slot_refusals }
        } else {
            failure
        }
    }

    fn handle_rejection(
        &mut self,
        now: Instant,
        code: u16,
        msg: String,
        around: &mut Surroundings<'_>,
    ) -> Result<(), Failure> {
        let disposition = Disposition::of_code(code);
        around.outbox.tell(Notice::Rejected { conn: self.conn, code, msg: msg.clone(), disposition });
        match disposition {
            Disposition::AlreadyAuthenticated => self.authenticated(now, around),
            Disposition::SlotTaken => self.slot_taken(now, around.limits),
            Disposition::Reauthenticate if !self.reauthenticated => {
                self.reauthenticated = true;
                self.requests.replan_unanswered();
                self.authenticate(now, around);
            }
            Disposition::OurFault | Disposition::KeepPartial | Disposition::DropChannel
                if self.stage() >= Stage::Subscribe =>
            {
                if self.requests.refuse() {
                    self.advance(now, around);
                }
            }
            Disposition::OurFault
            | Disposition::KeepPartial
            | Disposition::DropChannel
            | Disposition::Reauthenticate
            | Disposition::Refused
            | Disposition::AuthTimeout
            | Disposition::SlowClient
            | Disposition::SlowDown
            | Disposition::ServerError
            | Disposition::Unlisted => return Err(Failure::Rejected { code, msg }),
        }
        Ok(())
    }

    fn authenticate(&mut self, now: Instant, around: &mut Surroundings<'_>) {
        self.progress = Progress::Auth { deadline: now + around.limits.stage_limit, again_at: None };
        around.outbox.send(self.conn, Outgoing::Auth);
    }

    fn authenticated(&mut self, now: Instant, around: &mut Surroundings<'_>) {
        if self.stage() < Stage::Subscribe {
            self.slot_refusals = 0;
            self.progress = Progress::Subscribe { deadline: now + around.limits.stage_limit };
            self.advance(now, around);
        }
    }

    /// Stays and asks again, ever more slowly, until the venue drops us or the slot falls free; the incumbent is not
    /// disturbed by that.
    fn slot_taken(&mut self, now: Instant, limits: &Limits) {
        let mut deadline = now + limits.slot_limit;
        if let Progress::Auth { deadline: first, .. } = self.progress
            && self.slot_refusals > 0
        {
            deadline = first;
        }
        self.slot_refusals = self.slot_refusals.saturating_add(1);
        self.requests.replan_unanswered();
        let again_at = Some(now + limits.slot_retry_step.saturating_mul(self.slot_refusals));
        self.progress = Progress::Auth { deadline, again_at };
    }

    /// Sends the next request, or, when all are answered, goes live and compares.
    fn advance(&mut self, now: Instant, around: &mut Surroundings<'_>) {
        let answer_by = now + around.limits.stage_limit;
        if let Some(request) = self.requests.next(around.desired, answer_by) {
            around.outbox.send(self.conn, request);
            if let Progress::Subscribe { deadline } = &mut self.progress {
                *deadline = answer_by;
            }
        }
        if self.requests.answer_by().is_some() {
            return;
        }
        if !self.is_live() {
            self.progress =
                Progress::Live(Pulse { since: now, heard_at: now, probed_at: None, proven: false });
            let took = now.saturating_duration_since(self.dialed_at);
            around.outbox.tell(Notice::Live { conn: self.conn, took, attempts: around.attempts });
        }
        if let Some((missing, extra)) = self.requests.mismatch(around.desired) {
            around.outbox.tell(Notice::Mismatch { missing, extra });
        }
    }
}

#[cfg(test)]
impl Session {
    /// For the search: moves all instants, and cuts what no longer makes a difference.
    pub(crate) fn normalise(
        &mut self,
        rebase: impl Fn(Instant) -> Instant,
        origin: Instant,
        limits: &Limits,
    ) {
        self.dialed_at = origin;
        self.slot_refusals = self.slot_refusals.min(4);
        self.requests.rebase(&rebase);
        match &mut self.progress {
            Progress::Welcome { deadline } | Progress::Subscribe { deadline } => {
                *deadline = rebase(*deadline)
            }
            Progress::Auth { deadline, again_at } => {
                *deadline = rebase(*deadline);
                *again_at = again_at.map(&rebase).map(|again_at| again_at.min(*deadline));
            }
            Progress::Live(pulse) => {
                pulse.since =
                    if pulse.proven { origin } else { rebase(pulse.since).max(origin - limits.proven_after) };
                pulse.probed_at = pulse.probed_at.map(&rebase);
                pulse.heard_at = if pulse.probed_at.is_some() { origin } else { rebase(pulse.heard_at) };
            }
        }
    }

    /// For the search: gives the connection another name.
    pub(crate) fn rename(&mut self, rename: impl Fn(ConnId) -> ConnId) {
        self.conn = rename(self.conn);
    }
}
