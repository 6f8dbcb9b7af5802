//! The machine by its commands: a state, an input, and exactly these commands; leftovers fail.

mod backoff;
mod liveness;
mod mute;
mod pauses;
mod refusals;
mod stages;
mod subscriptions;

use std::time::{Duration, Instant};

use alpaca_feed::lifecycle::{
    Closed, Command, ConnId, Delivery, DialFailure, Lifecycle, Limits, Notice, Outgoing, Phase, Stage,
};
use alpaca_feed::message::{Bar, BarSpan, Batch, Control, Event};
use alpaca_feed::subscription::{Channel, Subscriptions};
use alpaca_feed::symbol::SymbolId;

const LIMITS: Limits = Limits {
    dial_limit: Duration::from_secs(10),
    stage_limit: Duration::from_secs(10),
    close_limit: Duration::from_millis(1_500),
    probe_after: Duration::from_secs(10),
    pong_limit: Duration::from_secs(25),
    proven_after: Duration::from_secs(30),
    slot_retry_step: Duration::from_millis(500),
    slot_limit: Duration::from_secs(15),
    slot_redial_min: Duration::from_secs(1),
    slot_redial_max: Duration::from_secs(3),
    slot_alert_after: Duration::from_secs(120),
    backoff_base: Duration::from_secs(1),
    backoff_max: Duration::from_secs(60),
    refused_recheck: Duration::from_secs(60),
    // Most tables let no time pass; the one about a flapping switch sets its own.
    redial_min: Duration::ZERO,
    rate_limited_min: Duration::from_secs(30),
};

const SPY: &[(Channel, &str)] = &[(Channel::Trades, "SPY"), (Channel::Quotes, "SPY")];

fn set(pairs: &[(Channel, &str)]) -> Subscriptions {
    pairs.iter().copied().collect()
}

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn dial(conn: u64) -> Command {
    Command::Dial(ConnId(conn))
}

fn auth(conn: u64) -> Command {
    Command::Send(ConnId(conn), Outgoing::Auth)
}

fn subscribe(conn: u64, pairs: &[(Channel, &str)]) -> Command {
    Command::Send(ConnId(conn), Outgoing::Subscribe(set(pairs)))
}

fn unsubscribe(conn: u64, pairs: &[(Channel, &str)]) -> Command {
    Command::Send(ConnId(conn), Outgoing::Unsubscribe(set(pairs)))
}

fn ping(conn: u64) -> Command {
    Command::Send(ConnId(conn), Outgoing::Ping)
}

fn close(conn: u64) -> Command {
    Command::Close(ConnId(conn))
}

fn abort(conn: u64) -> Command {
    Command::Abort(ConnId(conn))
}

fn error(code: u16) -> Control {
    Control::Error { code, msg: format!("text of {code}") }
}

fn acknowledged(pairs: &[(Channel, &str)]) -> Control {
    Control::Subscription(set(pairs))
}

/// A machine, its clock, and the other side played by the test.
struct Rig {
    machine: Lifecycle,
    now: Instant,
}

impl Rig {
    /// At rest, to subscribe to `pairs`.
    fn halted(pairs: &[(Channel, &str)]) -> Self {
        Self::seeded(pairs, 7)
    }

    fn seeded(pairs: &[(Channel, &str)], seed: u64) -> Self {
        // The tests need some instant to count from; which one is of no account.
        #[allow(clippy::disallowed_methods)]
        let now = Instant::now();
        Self { machine: Lifecycle::new(LIMITS, set(pairs), seed), now }
    }

    /// The first connection, in `stage`, with [`SPY`] desired and all commands so far taken.
    fn in_stage(stage: Stage) -> Self {
        let mut rig = Self::halted(SPY);
        rig.wanted(true);
        rig.expect(&[dial(1)]);
        rig.lead(1, stage);
        rig
    }

    fn live() -> Self {
        let rig = Self::in_stage(Stage::Live);
        assert!(rig.machine.is_live());
        rig
    }

    /// Leads `conn`, which is dialing, as a good venue would, until it is in `stage`.
    fn lead(&mut self, conn: u64, stage: Stage) {
        let desired = self.machine.desired().clone();
        self.dialed(conn);
        if stage >= Stage::Auth {
            self.says(conn, Control::Connected);
            self.expect(&[auth(conn)]);
        }
        if stage >= Stage::Subscribe {
            self.says(conn, Control::Authenticated);
            self.expect(&[Command::Send(ConnId(conn), Outgoing::Subscribe(desired.clone()))]);
        }
        if stage >= Stage::Live {
            self.says(conn, Control::Subscription(desired));
        }
        self.expect(&[]);
        self.expect_phase(Phase::Session(stage));
        self.notices();
    }

    fn wanted(&mut self, wanted: bool) {
        self.machine.handle_wanted(self.now, wanted);
    }

    fn desire(&mut self, pairs: &[(Channel, &str)]) {
        self.machine.handle_subscriptions(self.now, set(pairs));
    }

    fn shutdown(&mut self) {
        self.machine.handle_shutdown(self.now);
    }

    fn dialed(&mut self, conn: u64) {
        self.machine.handle_dialed(self.now, ConnId(conn));
    }

    fn dial_fails(&mut self, conn: u64, why: DialFailure) {
        self.machine.handle_dial_failed(self.now, ConnId(conn), why);
    }

    /// A frame with one control message, as the venue sends them.
    fn says(&mut self, conn: u64, control: Control) {
        let mut batch = Batch { control: vec![control], ..Batch::default() };
        let _ = self.machine.handle_frame(self.now, ConnId(conn), &mut batch);
    }

    /// A frame with one event.
    fn data(&mut self, conn: u64) -> Delivery {
        self.machine.handle_frame(
            self.now,
            ConnId(conn),
            &mut Batch { events: vec![bar()], ..Batch::default() },
        )
    }

    fn link(&mut self, conn: u64) {
        self.machine.handle_link(self.now, ConnId(conn));
    }

    fn closed(&mut self, conn: u64) {
        self.machine.handle_closed(self.now, ConnId(conn), Closed::End);
    }

    /// Lets time pass, stopping at every deadline on the way; early calls in between do nothing.
    fn pass(&mut self, span: Duration) {
        let (until, mut deadlines) = (self.now + span, 0);
        while let Some(deadline) = self.machine.poll_timeout().filter(|deadline| *deadline <= until) {
            let before = self.machine.clone();
            self.machine.handle_timeout(deadline - Duration::from_nanos(1));
            assert_eq!(self.machine, before, "an early timeout did something");
            self.now = deadline;
            self.machine.handle_timeout(deadline);
            deadlines += 1;
            assert!(deadlines < 10_000, "deadlines do not end in {:?}", self.machine.phase());
        }
        self.now = until;
    }

    /// Lets time pass to the next deadline; says how long it took.
    fn pass_to_deadline(&mut self) -> Duration {
        let deadline = self.machine.poll_timeout().expect("a deadline");
        let span = deadline.saturating_duration_since(self.now);
        self.pass(span);
        span
    }

    /// Exactly these commands are there to be taken.
    #[track_caller]
    fn expect(&mut self, commands: &[Command]) {
        let taken: Vec<_> = std::iter::from_fn(|| self.machine.poll_command()).collect();
        assert_eq!(taken, commands, "in phase {:?}", self.machine.phase());
    }

    #[track_caller]
    fn expect_phase(&self, phase: Phase) {
        assert_eq!(self.machine.phase(), phase);
    }

    /// Everything told since the last call.
    fn notices(&mut self) -> Vec<Notice> {
        std::iter::from_fn(|| self.machine.poll_notice()).collect()
    }

    /// Waits out a back-off and expects the dial of `conn`; says how long it was.
    #[track_caller]
    fn redial(&mut self, conn: u64) -> Duration {
        self.expect_phase(Phase::Waiting);
        let span = self.pass_to_deadline();
        self.expect(&[dial(conn)]);
        span
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.expect(&[]);
        }
    }
}

fn bar() -> Event {
    let (symbol, span) = (SymbolId(0), BarSpan::Minute);
    let (open, high, low, close, vwap) = (1.0, 1.0, 1.0, 1.0, 1.0);
    Event::Bar(Bar {
        ts: 0,
        received_ts: None,
        open,
        high,
        low,
        close,
        volume: 1.0,
        vwap,
        trade_count: 1,
        symbol,
        span,
    })
}

#[test]
fn the_default_limits_are_the_documented_ones() {
    assert_eq!(Limits::default(), Limits { redial_min: secs(1.0), ..LIMITS });
    // The contract: the socket is closed within 2 s of any pause.
    assert!(LIMITS.close_limit < Duration::from_secs(2));
}
