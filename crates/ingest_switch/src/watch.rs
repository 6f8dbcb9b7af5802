//! The switch of a live process: an environment value and a flag file, watched on tokio.
//!
//! The file is watched twice over: by events of its directory, which see in-place writes, renames,
//! symlink swaps and re-creation within milliseconds, and by a poll, because some mounts have no events.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::hold::Hold;
use crate::hold_set::Decision;

/// What to watch.
#[derive(Clone, Debug)]
pub struct Config {
    /// The value of `INGEST_ENABLED`, read once by the caller; `None` where unset.
    pub env: Option<String>,
    /// The flag file, `INGEST_ENABLED_FILE`; it and its directory need not exist yet.
    pub file: Option<PathBuf>,
    /// How often the file is read when no event comes.
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
    /// When, on the monotonic clock: from here the time to take effect is measured.
    pub at: Instant,
    /// Counts the decisions published, from 0 (the first reading).
    pub seq: u64,
}

/// The task that keeps the decision up to date; see [`start`].
#[derive(Debug)]
pub struct Watcher {}

/// Reads environment and file once, within a second, and returns the first decision with the task
/// that follows them from there.
///
/// The receiver changes only when the decision does. The caller runs [`Watcher::run`] as a task.
pub async fn start(config: Config) -> (watch::Receiver<Decided>, Watcher) {
    let _ = config;
    unimplemented!()
}

impl Watcher {
    /// Follows the sources until every receiver is gone.
    ///
    /// Cancel safe: dropping the future ends the watch. A read that hangs then still occupies one
    /// blocking thread, so end the runtime with `shutdown_timeout`.
    pub async fn run(self) {}
}
