//! The switch of a live process: an environment value, a flag file, a schedule, and whatever other sources
//! the process hands in, watched on tokio.
//!
//! The file is watched twice over: by events of its directory, which see in-place writes, renames,
//! symlink swaps and re-creation within milliseconds, and by a poll, because some mounts (secret
//! volumes, FUSE) have no events. Every look is bounded, and a file that hangs delays nothing but itself.
//!
//! Ends of holds and changes of the schedule follow the wall clock, also when it is set meanwhile.
//!
//! Edges are logged here, once each, as records `ingest_switch` with `status` `initial`, `halted` or `resumed`;
//! holds that come and go without an edge, as `hold_placed` and `hold_released`.

// The pure part is told the time; this is where it is read.
#![allow(clippy::disallowed_methods)]

mod directory_events;
mod flag_file;
mod records;

use std::ops::Range;
use std::path::{self, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use self::flag_file::FlagFile;
use crate::coverage::JobPlan;
use crate::flag;
use crate::hold::{Hold, Source};
use crate::hold_set::{Decision, Edge, HoldSet};
use crate::observation::{Doubt, Observation, Warning};
use crate::schedule::Schedule;

/// The variable whose value [`Config::env`] is.
const ENV_NAME: &str = "INGEST_ENABLED";

/// How long the wall clock is not looked at while it will change something: it may be set meanwhile.
const CLOCK_LOOK_MAX: Duration = Duration::from_millis(500);

/// How many inputs are taken in one turn before the file and the clock are looked at again.
const TURN_MAX: usize = 64;

/// A schedule that never changes is nevertheless asked again after this long.
const SCHEDULE_LOOK_MAX: SignedDuration = SignedDuration::from_hours(24);

/// What to watch.
#[derive(Debug)]
pub struct Config {
    /// The value of `INGEST_ENABLED`, read once by the caller; `None` where unset.
    pub env: Option<String>,
    /// The flag file, `INGEST_ENABLED_FILE`; it and its directory need not exist yet.
    pub file: Option<PathBuf>,
    /// How often the file is read when no event comes; at least 5 ms.
    pub poll: Duration,
    /// Whether directory events are asked for; without them the poll alone finds changes.
    pub events: bool,
    /// What the jobs would ingest if nothing were held; see [`HoldSet::new`].
    pub jobs: Vec<JobPlan>,
    /// When to ingest, `INGEST_SCHEDULE`.
    pub schedule: Option<Schedule>,
    /// The holds in the last heartbeat of an earlier run, oldest first. Those of another file are
    /// ignored, and so are those that live no longer than the process (environment, signals) or follow
    /// the clock (schedule). The others stand until their source or group is read, and their kind's group
    /// releases those that nobody lists; see [`HoldSet::remember`].
    pub remembered: Vec<Hold>,
    /// What else the process reads, as it comes; once closed, no more is awaited.
    pub inputs: mpsc::Receiver<Input>,
    /// What else the process has read already: taken up before the first decision.
    pub first: Vec<Input>,
}

/// What the process has read of a source, or of a group of sources read at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// One look at one source; see [`HoldSet::observe`].
    Source(Source, Observation),
    /// One reading of a whole group; see [`HoldSet::observe_group`].
    Group {
        /// The group's name.
        group: &'static str,
        /// Its sources, all of them.
        readings: Vec<(Source, Observation)>,
        /// The generation of what was read, if it has one.
        generation: Option<i64>,
    },
    /// A group cannot be read; see [`HoldSet::doubt_group`].
    GroupDoubt {
        /// The group's name.
        group: &'static str,
        /// Why not.
        doubt: Doubt,
    },
}

/// A decision, and when this process came to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// What was decided.
    pub decision: Decision,
    /// When, on tokio's monotonic clock: from here the time to take effect is measured.
    pub at: std::time::Instant,
    /// Counts the decisions published, from 0 (the first reading).
    pub seq: u64,
}

/// The task that keeps the decision up to date; see [`start`].
#[derive(Debug)]
pub struct Watcher {
    /// The wall clock.
    clock: fn() -> Timestamp,
    holds: HoldSet,
    file: Option<(Source, FlagFile)>,
    schedule: Option<Scheduled>,
    /// None once closed.
    inputs: Option<mpsc::Receiver<Input>>,
    publish: watch::Sender<Decided>,
}

/// A schedule and what it last said.
#[derive(Debug)]
struct Scheduled {
    schedule: Schedule,
    source: Source,
    /// When what it said is so.
    valid: Range<Timestamp>,
}

/// What is yet to be told of what was taken up since the last publication.
#[derive(Debug, Default)]
struct Untold {
    edge: Option<Edge>,
    warnings: Vec<Warning>,
}

enum Wake {
    Looked(Source, Observation),
    Clock,
    /// So many; none means that no more will come.
    Inputs(usize),
}

/// Reads every source once and returns the first decision, with the task that follows them from there.
///
/// Takes little more than a second even where the file hangs. The receiver changes only when the
/// decision does. The caller runs [`Watcher::run`] as a task; dropping it instead ends the watch.
pub async fn start(config: Config) -> (watch::Receiver<Decided>, Watcher) {
    start_by(Timestamp::now, config).await
}

async fn start_by(clock: fn() -> Timestamp, config: Config) -> (watch::Receiver<Decided>, Watcher) {
    let mut holds = HoldSet::new(clock(), config.jobs);
    let mut untold = Untold::default();
    let mut file = config.file.map(|path| {
        let source = Source::file(&path);
        let path = path::absolute(&path).unwrap_or(path);
        (source, FlagFile::new(path, config.poll, config.events))
    });

    for hold in config.remembered {
        let counts = match hold.source.kind() {
            "env" | "signal" | "schedule" => false,
            "file" => file.as_ref().is_some_and(|(source, _)| hold.source == *source),
            _ => true,
        };
        if counts {
            holds.remember(clock(), hold);
        }
    }
    if let Some(value) = config.env {
        let said = flag::parse(value.as_bytes()).into();
        untold.observe(&mut holds, clock(), Input::Source(Source::env(ENV_NAME), said));
    }
    for input in by_claim(config.first, &holds.decision().holds) {
        untold.observe(&mut holds, clock(), input);
    }
    if let Some((source, flag_file)) = &mut file {
        let seen = flag_file.next().await;
        untold.observe(&mut holds, clock(), Input::Source(source.clone(), seen));
    }
    let mut schedule = config.schedule.map(Scheduled::new);
    untold.look_at_clock(&mut holds, clock(), schedule.as_mut());

    let decision = holds.decision();
    untold.warnings.iter().for_each(records::warning);
    records::initial(&decision);
    let (publish, receiver) = watch::channel(Decided { decision, at: Instant::now().into_std(), seq: 0 });
    let inputs = Some(config.inputs);
    (receiver, Watcher { clock, holds, file, schedule, inputs, publish })
}

impl Watcher {
    /// Follows the sources until every receiver is gone.
    ///
    /// Cancel safe: dropping the future ends the watch. A read that hangs then still occupies a
    /// blocking thread, so end the runtime with `shutdown_timeout`.
    pub async fn run(mut self) {
        let mut inputs = Vec::with_capacity(TURN_MAX);
        loop {
            let nap = self.nap();
            let wake = tokio::select! {
                biased;
                () = self.publish.closed() => return,
                (source, seen) = next_look(self.file.as_mut()) => Wake::Looked(source.clone(), seen),
                () = sleep(nap.unwrap_or_default()), if nap.is_some() => Wake::Clock,
                count = receive(self.inputs.as_mut(), &mut inputs) => Wake::Inputs(count),
            };
            let mut untold = Untold::default();
            // Whatever woke it, so that a busy source cannot delay the clock.
            untold.look_at_clock(&mut self.holds, (self.clock)(), self.schedule.as_mut());
            match wake {
                Wake::Clock => {}
                Wake::Looked(source, seen) => self.take_up(Input::Source(source, seen), &mut untold),
                Wake::Inputs(0) => self.inputs = None,
                Wake::Inputs(_) => inputs.drain(..).for_each(|input| self.take_up(input, &mut untold)),
            }
            self.publish(&mut untold);
        }
    }

    /// How long the clock need not be looked at; none while it changes nothing.
    fn nap(&self) -> Option<Duration> {
        let change = self.schedule.as_ref().map(|schedule| schedule.valid.end);
        let next = self.holds.next_expiry().into_iter().chain(change).min()?;
        let left = (self.clock)().duration_until(next);
        Some(Duration::try_from(left).unwrap_or(Duration::ZERO).min(CLOCK_LOOK_MAX))
    }

    /// Takes up an input; one that halts is published at once, before what else there is to take up.
    fn take_up(&mut self, input: Input, untold: &mut Untold) {
        untold.observe(&mut self.holds, (self.clock)(), input);
        if !self.holds.enabled() && self.publish.borrow().decision.enabled {
            self.publish(untold);
        }
    }

    fn publish(&self, untold: &mut Untold) {
        let decision = self.holds.decision();
        let mut before = None;
        self.publish.send_if_modified(|last| {
            if last.decision == decision {
                return false;
            }
            let (at, seq) = (Instant::now().into_std(), last.seq + 1);
            let now = Decided { decision: decision.clone(), at, seq };
            before = Some(std::mem::replace(last, now).decision);
            true
        });
        // Only now: a log that is slow to take a line must not hold the decision back.
        let Untold { edge, warnings } = std::mem::take(untold);
        warnings.iter().for_each(records::warning);
        if let Some(before) = before {
            records::change(&before, &decision, edge.as_ref());
        }
    }
}

impl Untold {
    fn observe(&mut self, holds: &mut HoldSet, now: Timestamp, input: Input) {
        let edge = match input {
            Input::Source(source, observation) => {
                let outcome = holds.observe(now, &source, observation);
                self.warnings.extend(outcome.warning);
                outcome.edge
            }
            Input::Group { group, readings, generation } => {
                let outcome = holds.observe_group(now, group, readings, generation);
                self.warnings.extend(outcome.warnings);
                outcome.edge
            }
            Input::GroupDoubt { group, doubt } => {
                let outcome = holds.doubt_group(now, group, doubt);
                self.warnings.extend(outcome.warnings);
                outcome.edge
            }
        };
        self.edge = edge.or(self.edge.take());
    }

    /// Ends holds whose time has come, and follows the schedule.
    fn look_at_clock(&mut self, holds: &mut HoldSet, now: Timestamp, schedule: Option<&mut Scheduled>) {
        self.edge = holds.expire(now).edge.or(self.edge.take());
        if let Some(schedule) = schedule.filter(|schedule| !schedule.valid.contains(&now)) {
            let said = schedule.observe(now);
            self.observe(holds, now, Input::Source(schedule.source.clone(), said));
        }
    }
}

impl Scheduled {
    /// A schedule not yet asked.
    fn new(schedule: Schedule) -> Self {
        let source = Source::schedule(&schedule.to_string());
        Self { schedule, source, valid: Timestamp::MIN..Timestamp::MIN }
    }

    fn observe(&mut self, now: Timestamp) -> Observation {
        let next = self.schedule.state(now).until;
        let look_again = || now.saturating_add(SCHEDULE_LOOK_MAX).unwrap_or(Timestamp::MAX);
        self.valid = now..next.unwrap_or_else(look_again);
        self.schedule.observe(now)
    }
}

/// The inputs in the order in which they claim the holds `remembered`: a group that is named after the kind of one
/// releases it unless it has been read, so the groups that may list it by name come first.
fn by_claim(mut inputs: Vec<Input>, remembered: &[Hold]) -> Vec<Input> {
    let claims_kind = |input: &Input| match input {
        Input::Source(..) => false,
        Input::Group { group, .. } | Input::GroupDoubt { group, .. } => {
            remembered.iter().any(|hold| hold.source.kind() == *group)
        }
    };
    inputs.sort_by_key(claims_kind);
    inputs
}

async fn next_look(file: Option<&mut (Source, FlagFile)>) -> (&Source, Observation) {
    match file {
        Some((source, file)) => (source, file.next().await),
        None => std::future::pending().await,
    }
}

async fn receive(inputs: Option<&mut mpsc::Receiver<Input>>, into: &mut Vec<Input>) -> usize {
    match inputs {
        Some(inputs) => inputs.recv_many(into, TURN_MAX).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
