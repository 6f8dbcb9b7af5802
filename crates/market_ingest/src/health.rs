//! The health files: the state of the process for whoever may read its directory and nothing else, such as a script
//! that reaches a container by `exec` only.
//!
//! `liveness` is five lines, rewritten every two seconds and at once on a change; `readiness` exists exactly while the
//! process is running, that is, not paused in effect; `holds` has one line for every hold that stands. Each is
//! replaced whole, by a rename.
//!
//! Invariants: nothing is written without the lease, for the directory may be shared with the holder; while a pump does
//! not turn nothing is written, so that the time in `liveness` grows old; `liveness` is written before `holds` and read
//! after it, so that a reader never sees a release without its effect; at most one write is in flight, however slow the
//! directory is; no failure here ends the process.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use ingest_switch::Hold;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::{sleep, timeout};

use crate::report::Report;

const LIVENESS: &str = "liveness";
const READINESS: &str = "readiness";
const HOLDS: &str = "holds";

/// `liveness` is rewritten this often; five seconds are promised.
const INTERVAL: Duration = Duration::from_secs(2);
/// How often to look for the lease, without which the files are another process's.
const LEASE_INTERVAL: Duration = Duration::from_millis(100);
/// A write that takes longer is told of.
const SLOW_AFTER: Duration = Duration::from_secs(5);
/// Start and stop wait this long for the directory.
const START_STOP_LIMIT: Duration = Duration::from_secs(1);
/// A `liveness` of this age vouches for nobody any more.
pub const STALE_AFTER: Duration = Duration::from_secs(10);

/// Keeps the files true.
#[derive(Debug)]
pub(crate) struct HealthFiles {
    dir: PathBuf,
    report: Arc<Report>,
    /// Whether the lease was ours at the last look.
    leased: bool,
    failing: bool,
}

impl HealthFiles {
    pub(crate) fn new(dir: PathBuf, report: Arc<Report>) -> Self {
        Self { dir, report, leased: false, failing: false }
    }

    /// Takes away what an earlier run left in the directory: it is true of nobody. For use before anything dials.
    pub(crate) async fn forget_earlier_run(dir: &Path) {
        let owned = dir.to_owned();
        let forgetting =
            spawn_blocking(move || all([LIVENESS, READINESS, HOLDS].map(|name| remove(&owned.join(name)))));
        match timeout(START_STOP_LIMIT, forgetting).await {
            Ok(outcome) => {
                if let Err(error) = flat(outcome) {
                    let dir = dir.display();
                    tracing::warn!(%dir, %error, "health files of an earlier run cannot be removed");
                }
            }
            Err(_) => {
                tracing::warn!(dir = %dir.display(), "the directory of the health files does not answer")
            }
        }
    }

    /// Writes until the process stops, then takes `readiness` away.
    pub(crate) async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        loop {
            let paused = self.report.paused();
            let leased = self.report.fence().may_write();
            if std::mem::replace(&mut self.leased, leased) && !leased {
                self.unready().await;
            }
            if leased && self.report.wedged(Instant::now()).is_none() {
                let (dir, snapshot) = (self.dir.clone(), Snapshot::of(&self.report));
                let mut writing = spawn_blocking(move || snapshot.write(&dir));
                tokio::select! {
                    biased;
                    () = self.settle(&mut writing) => {}
                    () = leaves(&mut stopping) => {
                        // It may be about to make `readiness`; what is removed below must stay removed.
                        let _ = timeout(START_STOP_LIMIT, writing).await;
                        break;
                    }
                }
            }
            tokio::select! {
                biased;
                () = leaves(&mut stopping) => break,
                () = self.report.paused_is_no_longer(paused) => {}
                () = sleep(if leased { INTERVAL } else { LEASE_INTERVAL }) => {}
            }
        }
        self.unready().await;
    }

    /// Takes `readiness` away.
    async fn unready(&mut self) {
        let readiness = self.dir.join(READINESS);
        match timeout(START_STOP_LIMIT, spawn_blocking(move || remove(&readiness))).await {
            Ok(outcome) => self.tell(flat(outcome)),
            Err(_) => self.tell(Err(io::ErrorKind::TimedOut.into())),
        }
    }

    /// Waits for a write, however long it takes, and tells how it went. Cancel safe.
    async fn settle(&mut self, writing: &mut JoinHandle<io::Result<()>>) {
        if let Ok(outcome) = timeout(SLOW_AFTER, &mut *writing).await {
            return self.tell(flat(outcome));
        }
        self.tell(Err(io::ErrorKind::TimedOut.into()));
        self.tell(flat(writing.await));
    }

    /// Failures are told once until a write succeeds.
    fn tell(&mut self, outcome: io::Result<()>) {
        let dir = self.dir.display();
        match (outcome, self.failing) {
            (Err(error), false) => {
                tracing::warn!(%dir, %error, "health files cannot be written; it is tried again");
                self.failing = true;
            }
            (Ok(()), true) => {
                tracing::info!(%dir, "health files are written again");
                self.failing = false;
            }
            (Ok(()), false) | (Err(_), true) => {}
        }
    }
}

/// What the files say of one moment.
#[derive(Debug)]
struct Snapshot {
    paused: bool,
    liveness: String,
    holds: String,
}

impl Snapshot {
    fn of(report: &Report) -> Self {
        let decided = report.decision();
        let paused = report.paused();
        let (jobs, sinks) = (report.jobs(), report.sinks());
        let batches: u64 = jobs.iter().map(|job| job.frames).sum();
        let documents: u64 = sinks.iter().map(|sink| sink.counts().written.load(Relaxed)).sum();
        let failed: u64 = sinks.iter().map(|sink| sink.counts().errors.load(Relaxed)).sum();
        let errors = jobs.iter().map(|job| job.malformed).sum::<u64>() + failed;
        let state = if paused { "paused" } else { "running" };
        let now = jiff::Timestamp::now();
        Self {
            paused,
            liveness: format!(
                "{state}\n{now:.3}\nbatches={batches}\ndocuments={documents}\nerrors={errors}\n"
            ),
            holds: decided.decision.holds.iter().map(hold_line).collect(),
        }
    }

    /// Every file is tried, whatever becomes of the others; the first failure is returned.
    fn write(&self, dir: &Path) -> io::Result<()> {
        std::fs::create_dir_all(dir)?;
        let liveness = replace(dir, LIVENESS, &self.liveness);
        let holds = replace(dir, HOLDS, &self.holds);
        let path = dir.join(READINESS);
        let readiness = match (self.paused, path.try_exists()) {
            (true, _) => remove(&path),
            (false, Ok(true)) => Ok(()),
            (false, _) => replace(dir, READINESS, ""),
        };
        all([liveness, holds, readiness])
    }
}

/// Completes when the process stops; an error means that main is gone, which is a stop too. Cancel safe.
async fn leaves(stopping: &mut watch::Receiver<bool>) {
    // What it returns borrows the value and must not be held over an await.
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// Source, scope, since, until, actor and reason, separated by tabs; `-` for what is not known.
fn hold_line(hold: &Hold) -> String {
    let until = hold.until.map(|until| until.to_string());
    let fields = [
        Some(hold.source.to_string()),
        Some(hold.scope.to_string()),
        Some(hold.since.to_string()),
        until,
        hold.actor.clone(),
        hold.reason.clone(),
    ];
    let shown = fields.map(|field| {
        let text = field.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned());
        text.replace(char::is_control, " ")
    });
    shown.join("\t") + "\n"
}

/// What the health files of a process say, for whoever cannot read them otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The lines of `liveness`, then `readiness=present` or `readiness=absent`, then `hold=…` for each hold.
    pub text: String,
    /// Why `liveness` vouches for nobody; none while it does.
    pub fault: Option<String>,
}

/// Reads the health files in `dir` as of `now`.
///
/// # Errors
/// When `liveness` cannot be read.
pub fn inspect(dir: &Path, now: jiff::Timestamp) -> io::Result<Inspection> {
    let holds = std::fs::read_to_string(dir.join(HOLDS)).unwrap_or_default();
    let ready = dir.join(READINESS).exists();
    let mut text = std::fs::read_to_string(dir.join(LIVENESS))?;
    let written_at = text.lines().nth(1).and_then(|line| line.parse::<jiff::Timestamp>().ok());
    let fault = match written_at.map(|at| now.duration_since(at)) {
        None => Some("its second line is no time".to_owned()),
        Some(age) if age.unsigned_abs() > STALE_AFTER => {
            Some(format!("it is {:.0} s old", age.as_secs_f64()))
        }
        Some(_) => None,
    };
    // Writing to a String cannot fail.
    let _ = writeln!(text, "readiness={}", if ready { "present" } else { "absent" });
    for line in holds.lines() {
        let _ = writeln!(text, "hold={line}");
    }
    Ok(Inspection { text, fault })
}

/// Readers see the old content or the new one, never a part.
fn replace(dir: &Path, name: &str, content: &str) -> io::Result<()> {
    let new = dir.join(format!(".{name}.new"));
    std::fs::write(&new, content)?;
    std::fs::rename(&new, dir.join(name))
}

/// What is not there is removed already.
fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn all<const N: usize>(outcomes: [io::Result<()>; N]) -> io::Result<()> {
    outcomes.into_iter().collect()
}

/// A blocking task that died is a failure like any other.
fn flat(outcome: Result<io::Result<()>, JoinError>) -> io::Result<()> {
    outcome.unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[cfg(test)]
mod tests;
