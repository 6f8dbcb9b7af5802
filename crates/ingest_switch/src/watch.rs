//! The switch of a live process: an environment value and a flag file, watched on tokio.
//!
//! The file is watched twice over: by events of its directory, which see in-place writes, renames,
//! symlink swaps and re-creation within milliseconds, and by a poll, because some mounts (secret
//! volumes, FUSE) have no events. Every look is bounded, and a file that hangs delays nothing but itself.
//!
//! Edges are logged here, once each, as records `ingest_switch` with `status` `initial`, `halted` or `resumed`.

// The pure part is told the time; this is where it is read.
#![allow(clippy::disallowed_methods)]

mod directory_events;
mod flag_file;

use std::fmt::Write as _;
use std::path::{self, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use self::flag_file::FlagFile;
use crate::flag;
use crate::hold::{Hold, Source};
use crate::hold_set::{Decision, Edge, HoldSet, Observation, Outcome, Warning};

/// The variable whose value [`Config::env`] is.
const ENV_NAME: &str = "INGEST_ENABLED";

/// How long the end of a hold is slept for at most: the wall clock may be set meanwhile.
const EXPIRY_SLEEP_MAX: Duration = Duration::from_secs(30);

/// What to watch.
#[derive(Clone, Debug)]
pub struct Config {
    /// The value of `INGEST_ENABLED`, read once by the caller; `None` where unset.
    pub env: Option<String>,
    /// The flag file, `INGEST_ENABLED_FILE`; it and its directory need not exist yet.
    pub file: Option<PathBuf>,
    /// How often the file is read when no event comes; at least 5 ms.
    pub poll: Duration,
    /// Whether directory events are asked for; without them the poll alone finds changes.
    pub events: bool,
    /// The hold of this same file in the last heartbeat of an earlier run, if there was one. A hold
    /// of another source is ignored.
    pub remembered: Option<Hold>,
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
    holds: HoldSet,
    file: Option<(Source, FlagFile)>,
    publish: watch::Sender<Decided>,
}

/// Reads environment and file once and returns the first decision, with the task that follows them
/// from there.
///
/// Takes little more than a second even where the file hangs. The receiver changes only when the
/// decision does. The caller runs [`Watcher::run`] as a task; dropping it instead ends the watch.
pub async fn start(config: Config) -> (watch::Receiver<Decided>, Watcher) {
    let mut holds = HoldSet::new(Timestamp::now());
    let mut file = config.file.map(|path| {
        let source = Source::file(&path);
        let path = path::absolute(&path).unwrap_or(path);
        (source, FlagFile::new(path, config.poll, config.events))
    });

    if let Some(value) = config.env {
        let said = flag::parse(value.as_bytes()).into();
        let outcome = holds.observe(Timestamp::now(), &Source::env(ENV_NAME), said);
        log_warning(outcome.warning.as_ref());
    }
    if let Some((source, flag_file)) = &mut file {
        if let Some(hold) = config.remembered.filter(|hold| hold.source == *source) {
            holds.remember(Timestamp::now(), hold);
        }
        let seen = flag_file.next().await;
        let outcome = holds.observe(Timestamp::now(), source, seen);
        log_warning(outcome.warning.as_ref());
    }

    let decision = holds.decision();
    log_initial(&decision);
    let (publish, receiver) = watch::channel(Decided { decision, at: Instant::now().into_std(), seq: 0 });
    (receiver, Watcher { holds, file, publish })
}

impl Watcher {
    /// Follows the sources until every receiver is gone.
    ///
    /// Cancel safe: dropping the future ends the watch. A read that hangs then still occupies a
    /// blocking thread, so end the runtime with `shutdown_timeout`.
    pub async fn run(mut self) {
        loop {
            let ends_in = self.holds.next_expiry().map(|until| {
                let left = Timestamp::now().duration_until(until);
                Duration::try_from(left).unwrap_or(Duration::ZERO).min(EXPIRY_SLEEP_MAX)
            });
            let outcome = tokio::select! {
                biased;
                () = self.publish.closed() => return,
                (source, seen) = next_look(self.file.as_mut()) => {
                    self.holds.observe(Timestamp::now(), source, seen)
                }
                () = sleep(ends_in.unwrap_or_default()), if ends_in.is_some() => {
                    self.holds.expire(Timestamp::now())
                }
            };
            self.publish(&outcome);
        }
    }

    fn publish(&self, outcome: &Outcome) {
        let decision = self.holds.decision();
        let published = self.publish.send_if_modified(|last| {
            if last.decision == decision {
                return false;
            }
            let (decision, seq) = (decision.clone(), last.seq + 1);
            *last = Decided { decision, at: Instant::now().into_std(), seq };
            true
        });
        // Only now: a log that is slow to take a line must not hold the decision back.
        log_warning(outcome.warning.as_ref());
        if !published {
            return;
        }
        match &outcome.edge {
            Some(edge) => log_edge(edge, &decision),
            None => debug!(
                target: "ingest_switch",
                holds = list(&decision.holds),
                flag_fresh = decision.flag_fresh,
                "holds changed"
            ),
        }
    }
}

async fn next_look(file: Option<&mut (Source, FlagFile)>) -> (&Source, Observation) {
    match file {
        Some((source, file)) => (source, file.next().await),
        None => std::future::pending().await,
    }
}

fn log_warning(warning: Option<&Warning>) {
    if let Some(warning) = warning {
        warn!(target: "ingest_switch", source = warning.source.as_str(), "{warning}");
    }
}

fn log_initial(decision: &Decision) {
    let oldest = decision.holds.first();
    info!(
        target: "ingest_switch",
        status = "initial",
        ingest_enabled = decision.enabled,
        ingest_enabled_source = decision.source.as_ref().map(Source::as_str),
        holds = list(&decision.holds),
        reason = oldest.and_then(|hold| hold.reason.as_deref()),
        actor = oldest.and_then(|hold| hold.actor.as_deref()),
        "ingest_switch"
    );
}

fn log_edge(edge: &Edge, decision: &Decision) {
    let source = decision.source.as_ref().map(Source::as_str);
    match edge {
        Edge::Halted(hold) => warn!(
            target: "ingest_switch",
            status = "halted",
            ingest_enabled = decision.enabled,
            ingest_enabled_source = source,
            holds = list(&decision.holds),
            reason = hold.reason.as_deref(),
            actor = hold.actor.as_deref(),
            "ingest_switch"
        ),
        Edge::Resumed { released, reason, actor } => info!(
            target: "ingest_switch",
            status = "resumed",
            ingest_enabled = decision.enabled,
            ingest_enabled_source = source,
            holds = list(&decision.holds),
            released = %released,
            reason = reason.as_deref(),
            actor = actor.as_deref(),
            "ingest_switch"
        ),
    }
}

/// The holds in one line, `[…; …]`.
fn list(holds: &[Hold]) -> String {
    let mut line = String::from("[");
    for (at, hold) in holds.iter().enumerate() {
        let separator = if at == 0 { "" } else { "; " };
        // Writing to a string does not fail.
        let _ = write!(line, "{separator}{hold}");
    }
    line.push(']');
    line
}
