//! Breadth-first search over every input from every reachable state, for S1 to S6 and L1.
//!
//! A state is the machine itself and the sockets that the shell holds according to the commands it has taken. Two
//! states are one if they differ only in absolute time, in the names of connections, in how far counters have run past
//! the point where they matter, or in the random sequence. Time stands still, moves to the next deadline, or far past it.
//! The shell may take its commands at once or late, so what is queued is part of the state.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::hash_map::{DefaultHasher, Entry};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::hash::BuildHasherDefault;

use super::*;
use crate::message::{Bar, BarSpan, Control, Event};
use crate::subscription::Channel;
use crate::symbol::SymbolId;

const SECOND: Duration = Duration::from_secs(1);

/// Small and of whole seconds, so that few spans are told apart.
const LIMITS: Limits = Limits {
    dial_limit: Duration::from_secs(2),
    stage_limit: Duration::from_secs(3),
    close_limit: Duration::from_secs(1),
    probe_after: Duration::from_secs(2),
    pong_limit: Duration::from_secs(2),
    proven_after: Duration::from_secs(4),
    slot_retry_step: Duration::from_secs(1),
    slot_limit: Duration::from_secs(3),
    slot_redial_min: Duration::from_secs(1),
    slot_redial_max: Duration::from_secs(2),
    slot_alert_after: Duration::from_secs(4),
    backoff_base: Duration::from_secs(1),
    backoff_max: Duration::from_secs(2),
    refused_recheck: Duration::from_secs(2),
    redial_min: Duration::from_secs(2),
    rate_limited_min: Duration::from_secs(2),
};

/// The name that every normalised state gives to its last connection.
const LAST: u64 = 8;

/// Far more than there are.
const STATES_MAX: usize = 200_000;

/// Commands that the shell may leave untaken and still go on, and how many of them to send.
const UNTAKEN_MAX: usize = 2;
const UNSENT_MAX: usize = 1;

#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
enum Socket {
    Dialing,
    Open,
    Closing,
}

type Sockets = BTreeMap<ConnId, Socket>;

#[derive(Clone, Eq, PartialEq, Hash, Debug)]
struct World {
    machine: Lifecycle,
    sockets: Sockets,
}

#[derive(Clone, Eq, PartialEq, Debug)]
enum Input {
    Take,
    Wanted(bool),
    Shutdown,
    Desired(Subscriptions),
    Resubscribe(Subscriptions),
    Mute,
    News(ConnId, News),
    Early,
    Deadline,
    Oversleep,
}

#[derive(Clone, Eq, PartialEq, Debug)]
enum News {
    Dialed,
    DialFailed(DialFailure),
    Says(Control),
    Data,
    Link,
    Ended,
}

fn set(channels: &[Channel]) -> Subscriptions {
    channels.iter().map(|channel| (*channel, "A")).collect()
}

fn sets() -> [Subscriptions; 3] {
    [set(&[]), set(&[Channel::Trades]), set(&[Channel::Trades, Channel::Quotes])]
}

fn news() -> Vec<News> {
    let mut news = vec![
        News::Dialed,
        News::DialFailed(DialFailure::Http(429)),
        News::DialFailed(DialFailure::Http(403)),
        News::DialFailed(DialFailure::Unreachable(String::new())),
        News::Says(Control::Connected),
        News::Says(Control::Authenticated),
        News::Says(Control::OtherSuccess(String::new())),
        News::Data,
        News::Link,
        News::Ended,
    ];
    news.extend(sets().map(|state| News::Says(Control::Subscription(state))));
    // One of each way to react; which code belongs to which is a table tested by itself.
    for code in [400, 401, 402, 403, 404, 406] {
        news.push(News::Says(Control::Error { code, msg: String::new() }));
    }
    news
}

fn data() -> Event {
    let symbol = SymbolId(0);
    Event::Bar(Bar {
        ts: 0,
        received_ts: None,
        open: 1.0,
        high: 1.0,
        low: 1.0,
        close: 1.0,
        volume: 1.0,
        vwap: 1.0,
        trade_count: 1,
        symbol,
        span: BarSpan::Minute,
    })
}

fn tell(machine: &mut Lifecycle, now: Instant, conn: ConnId, news: &News) -> Option<Delivery> {
    let mut batch = Batch::default();
    match news {
        News::Dialed => machine.handle_dialed(now, conn),
        News::DialFailed(why) => machine.handle_dial_failed(now, conn, why.clone()),
        News::Link => machine.handle_link(now, conn),
        News::Ended => machine.handle_closed(now, conn, Closed::End),
        News::Says(control) => {
            batch.control.push(control.clone());
            return Some(machine.handle_frame(now, conn, &mut batch));
        }
        News::Data => {
            batch.events.push(data());
            return Some(machine.handle_frame(now, conn, &mut batch));
        }
    }
    None
}

/// What the shell does with one command, if it may.
fn obey(sockets: &mut Sockets, command: &Command) -> Result<(), String> {
    match command {
        Command::Dial(conn) => {
            if !sockets.is_empty() {
                return Err(format!("S1: {command:?} beside {sockets:?}"));
            }
            sockets.insert(*conn, Socket::Dialing);
        }
        Command::Send(conn, _) => {
            if sockets.get(conn) != Some(&Socket::Open) {
                return Err(format!("{command:?} with {sockets:?}"));
            }
        }
        Command::Close(conn) => {
            if sockets.insert(*conn, Socket::Closing) != Some(Socket::Open) {
                return Err(format!("{command:?} of what is not open"));
            }
        }
        Command::Abort(conn) => {
            sockets.remove(conn);
        }
    }
    Ok(())
}

impl World {
    fn new() -> Self {
        let mut machine = Lifecycle::new(LIMITS, sets()[2].clone(), 0);
        machine.last_conn = ConnId(LAST);
        Self { machine, sockets: Sockets::new() }
    }

    /// Every input that can come now.
    fn inputs(&self) -> Vec<Input> {
        let mut inputs = vec![Input::Take];
        let unsent =
            self.machine.outbox.commands().filter(|command| matches!(command, Command::Send(..))).count();
        if self.machine.outbox.commands().count() > UNTAKEN_MAX || unsent > UNSENT_MAX {
            return inputs;
        }
        inputs.extend([Input::Wanted(true), Input::Wanted(false), Input::Shutdown]);
        inputs.extend([Input::Early, Input::Deadline, Input::Oversleep]);
        inputs.extend(sets().map(Input::Desired));
        inputs.extend(sets().map(Input::Resubscribe));
        inputs.push(Input::Mute);
        for (conn, socket) in &self.sockets {
            let possible = |news: &News| match news {
                News::Dialed | News::DialFailed(_) => *socket == Socket::Dialing,
                News::Says(_) | News::Data | News::Link => *socket != Socket::Dialing,
                News::Ended => true,
            };
            inputs.extend(news().into_iter().filter(possible).map(|news| Input::News(*conn, news)));
        }
        inputs
    }

    /// The world after `input`, which comes at `origin`, and how much later that is.
    fn step(&mut self, input: &Input, origin: Instant) -> Result<Instant, String> {
        let machine = &mut self.machine;
        let (before, wanted) = (machine.phase(), machine.wanted);
        let mut now = origin;
        match input {
            Input::Take => {
                while let Some(command) = machine.poll_command() {
                    obey(&mut self.sockets, &command)?;
                }
            }
            Input::Wanted(wanted) => machine.handle_wanted(now, *wanted),
            Input::Shutdown => machine.handle_shutdown(now),
            Input::Desired(desired) => machine.handle_subscriptions(now, desired.clone()),
            Input::Resubscribe(pairs) => machine.handle_resubscribe(now, pairs),
            Input::Mute => {
                machine.handle_mute(now);
                let closes = before == Phase::Session(Stage::Live);
                if machine.phase() != if closes { Phase::Closing } else { before } {
                    return Err(format!("mute in {before:?} leads to {:?}", machine.phase()));
                }
            }
            Input::News(conn, news) => {
                match news {
                    News::Dialed => drop(self.sockets.insert(*conn, Socket::Open)),
                    News::DialFailed(_) | News::Ended => drop(self.sockets.remove(conn)),
                    News::Says(_) | News::Data | News::Link => {}
                }
                let current = machine.connection() == Some(*conn);
                let delivery = tell(machine, now, *conn, news);
                let may_deliver = current && wanted && matches!(before, Phase::Session(_));
                if (delivery == Some(Delivery::Deliver)) != (delivery.is_some() && may_deliver) {
                    return Err("data delivered that is not wanted, or wanted and not delivered".into());
                }
                let failed = matches!(news, News::DialFailed(_) | News::Ended) && before != Phase::Closing;
                if current && failed && machine.phase() == Phase::Dialing {
                    return Err("a failure that costs no wait".into());
                }
            }
            Input::Deadline => now = machine.poll_timeout().unwrap_or(origin),
            Input::Early => {}
            Input::Oversleep => now += 100 * SECOND,
        }
        if matches!(input, Input::Early | Input::Deadline | Input::Oversleep) {
            let early = machine.poll_timeout().is_none_or(|deadline| now < deadline);
            let asleep = machine.clone();
            machine.handle_timeout(now);
            if early && *machine != asleep {
                return Err("an early timeout did something".into());
            }
        }
        self.check()?;
        Ok(now)
    }

    /// S1, S2, S3 and S5 in this state, as if the shell took what is queued.
    fn check(&self) -> Result<(), String> {
        let machine = &self.machine;
        let mut sockets = self.sockets.clone();
        for command in machine.outbox.commands() {
            if !machine.wanted && matches!(command, Command::Dial(_) | Command::Send(..)) {
                return Err(format!("S3: {command:?}"));
            }
            obey(&mut sockets, command)?;
        }
        let phase = machine.phase();
        let resting = matches!(phase, Phase::Halted | Phase::Stopped);
        if (resting || phase == Phase::Waiting) && !sockets.is_empty() {
            return Err(format!("S2: {phase:?} with {sockets:?}"));
        }
        if machine.connection().is_some_and(|conn| !sockets.contains_key(&conn)) {
            return Err(format!("a connection that does not exist: {phase:?}"));
        }
        if resting != machine.poll_timeout().is_none() {
            return Err(format!("S5: {phase:?}"));
        }
        if machine.wanted && resting || !machine.wanted && phase == Phase::Waiting {
            return Err(format!("{phase:?} with wanted {}", machine.wanted));
        }
        Ok(())
    }

    /// S6: news about connections that are gone, or not yet dialed, changes nothing.
    fn check_strangers(&self, origin: Instant) -> Result<(), String> {
        for conn in [ConnId(0), ConnId(LAST - 1), ConnId(LAST), ConnId(LAST + 1)] {
            if self.machine.connection() == Some(conn) {
                continue;
            }
            let mut machine = self.machine.clone();
            for news in news() {
                if tell(&mut machine, origin, conn, &news) == Some(Delivery::Deliver) {
                    return Err(format!("S6: delivered {news:?} of {conn:?}"));
                }
            }
            if machine != self.machine {
                return Err(format!("S6: news of {conn:?} made {:?}", machine.phase()));
            }
        }
        Ok(())
    }

    /// S4: `end` comes to rest by timeouts alone within one `close_limit`.
    fn check_rest(mut self, end: &Input, origin: Instant) -> Result<(), String> {
        self.step(end, origin)?;
        for _ in 0..4 {
            let Some(deadline) = self.machine.poll_timeout() else {
                return Ok(());
            };
            if deadline > origin + LIMITS.close_limit {
                break;
            }
            self.machine.handle_timeout(deadline);
            self.check()?;
        }
        Err(format!("S4: {end:?} leaves {:?}", self.machine.phase()))
    }

    /// L1: a venue that answers leads to Live, and a venue that goes on answering keeps it there.
    fn check_live(mut self, origin: Instant) -> Result<(), String> {
        let mut now = origin;
        self.machine.handle_wanted(now, true);
        let mut lived = 0;
        // Perhaps pinged before, so a venue that answers now begins with a pong.
        let mut owes_pong = true;
        for _ in 0..60 {
            while let Some(command) = self.machine.poll_command() {
                obey(&mut self.sockets, &command)?;
                owes_pong |= matches!(command, Command::Send(_, Outgoing::Ping));
            }
            let phase = self.machine.phase();
            if lived > 0 && phase != Phase::Session(Stage::Live) {
                return Err(format!("L1: fell from Live to {phase:?}"));
            }
            let desired = Control::Subscription(self.machine.desired().clone());
            let answer = match phase {
                Phase::Dialing => News::Dialed,
                Phase::Session(Stage::Welcome) => News::Says(Control::Connected),
                Phase::Session(Stage::Auth) => News::Says(Control::Authenticated),
                Phase::Session(Stage::Subscribe) => News::Says(desired),
                Phase::Closing => News::Ended,
                Phase::Session(Stage::Live) if std::mem::take(&mut owes_pong) => News::Link,
                Phase::Session(Stage::Live) | Phase::Halted | Phase::Waiting | Phase::Stopped => {
                    lived += usize::from(phase == Phase::Session(Stage::Live));
                    if lived > 5 {
                        return Ok(());
                    }
                    now = self.machine.poll_timeout().ok_or("L1: at rest though wanted")?;
                    self.machine.handle_timeout(now);
                    continue;
                }
            };
            let conn = self.machine.connection().ok_or("L1: no connection")?;
            let change = match answer {
                News::Dialed => self.sockets.insert(conn, Socket::Open),
                News::Ended => self.sockets.remove(&conn),
                News::DialFailed(_) | News::Says(_) | News::Data | News::Link => None,
            };
            let _ = change;
            tell(&mut self.machine, now, conn, &answer);
        }
        Err(format!("L1: stuck in {:?}", self.machine.phase()))
    }

    /// Names states alike that will behave alike.
    fn normalise(&mut self, now: Instant, origin: Instant) {
        let machine = &mut self.machine;
        let rebase = |at: Instant| {
            if at >= now { origin + (at - now) } else { origin - (now - at) }
        };
        match &mut machine.state {
            State::Halted | State::Stopped => {}
            State::Waiting { until } => {
                let left = rebase(*until).saturating_duration_since(origin);
                *until = origin + SECOND * u32::try_from(left.as_millis().div_ceil(1_000)).unwrap();
            }
            State::Dialing { since, .. } => *since = rebase(*since),
            State::Session(session) => session.normalise(rebase, origin, &LIMITS),
            State::Closing { deadline, .. } => *deadline = rebase(*deadline),
        }
        machine.dialed_at = machine.dialed_at.map(rebase).filter(|at| *at + LIMITS.redial_min > origin);
        machine.owed = machine.owed.take().map(|_| (SECOND, Failure::DialTimeout));
        machine.failure = machine.failure.take().map(|failure| match failure.pace() {
            Pace::Refused => Failure::Rejected { code: 402, msg: String::new() },
            Pace::Jittered | Pace::SlotTaken | Pace::RateLimited => Failure::DialTimeout,
        });
        // Decides what is told, never what is done.
        machine.contest = None;
        machine.backoff.normalise();
        while machine.poll_notice().is_some() {}
        let mut names: BTreeSet<ConnId> = self.sockets.keys().copied().collect();
        names.extend(machine.outbox.commands().map(Command::conn));
        names.insert(machine.last_conn);
        let rename = |conn: ConnId| ConnId(LAST - names.range(conn..).skip(1).count() as u64);
        if let State::Dialing { conn, .. } | State::Closing { conn, .. } = &mut machine.state {
            *conn = rename(*conn);
        } else if let State::Session(session) = &mut machine.state {
            session.rename(rename);
        }
        machine.outbox.rename(rename);
        machine.last_conn = ConnId(LAST);
        self.sockets = self.sockets.iter().map(|(conn, socket)| (rename(*conn), *socket)).collect();
    }
}

/// How a state was found: from which, by what.
type Found = (usize, Option<Input>);

fn story(found: &[Found], mut at: usize, last: &str) -> String {
    let mut steps = Vec::new();
    while let (before, Some(input)) = &found[at] {
        steps.push(format!("{input:?}"));
        at = *before;
    }
    let mut text = String::from("from birth:\n");
    for step in steps.iter().rev() {
        writeln!(text, "  {step}").unwrap();
    }
    text + last
}

#[test]
fn every_input_from_every_state_keeps_the_invariants() {
    // The search needs some instant far from the platform's first; which one is of no account.
    #[allow(clippy::disallowed_methods)]
    let origin = Instant::now() + 1_000 * SECOND;

    let mut index: HashMap<World, usize, BuildHasherDefault<DefaultHasher>> = HashMap::default();
    let mut queue = vec![World::new()];
    let mut found: Vec<Found> = vec![(0, None)];
    index.insert(World::new(), 0);
    let (mut at, mut transitions, mut lives) = (0, 0_usize, 0_usize);
    while at < queue.len() {
        let world = queue[at].clone();
        let fail = |why: String| -> ! { panic!("{}\n{world:#?}", story(&found, at, &why)) };
        world.check_strangers(origin).unwrap_or_else(|why| fail(why));
        for end in [Input::Wanted(false), Input::Shutdown] {
            world.clone().check_rest(&end, origin).unwrap_or_else(|why| fail(why));
        }
        if !world.machine.stopping {
            world.clone().check_live(origin).unwrap_or_else(|why| fail(why));
            lives += 1;
        }
        let mut successors = Vec::new();
        for input in world.inputs() {
            let mut next = world.clone();
            let now = next.step(&input, origin).unwrap_or_else(|why| fail(format!("  {input:?}\n{why}")));
            next.normalise(now, origin);
            transitions += 1;
            successors.push((next, input));
        }
        for (next, input) in successors {
            if let Entry::Vacant(new) = index.entry(next) {
                queue.push(new.key().clone());
                new.insert(found.len());
                found.push((at, Some(input)));
            }
        }
        at += 1;
        assert!(queue.len() < STATES_MAX, "the states do not end: something counts without bound");
    }
    println!("{} states, {transitions} transitions, {lives} states led to Live", queue.len());

    let seen = |phase: Phase| queue.iter().any(|world| world.machine.phase() == phase);
    let stages = [Stage::Welcome, Stage::Auth, Stage::Subscribe, Stage::Live].map(Phase::Session);
    let others = [Phase::Halted, Phase::Waiting, Phase::Dialing, Phase::Closing, Phase::Stopped];
    assert!(stages.into_iter().chain(others).all(seen), "the search must reach every phase");
}
