//! One watched flag in a directory of its own, with everything it logs.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ingest_switch::watch::{Config, Decided, start};
use ingest_switch::{Decision, Hold};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Metadata, Subscriber};

/// So long that only events can explain a change.
pub(crate) const NEVER: Duration = Duration::from_secs(3600);

/// How long any awaited thing may take before the test fails.
const LIMIT: Duration = Duration::from_secs(10);

/// A directory to put flag files in.
pub(crate) struct Place {
    dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A place whose file `enabled` holds `text`.
    pub(crate) fn with_flag(text: &str) -> (Self, PathBuf) {
        let place = Self::new();
        let flag = place.path("enabled");
        fs::write(&flag, text).unwrap();
        (place, flag)
    }
}

/// Replaces `to` as careful editors do: written beside it, then renamed over it.
pub(crate) fn rename_over(to: &Path, text: &str) {
    let beside = to.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::rename(&beside, to).unwrap();
}

/// A named pipe: reading it hangs until someone writes.
pub(crate) fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Ends the reads that hang on the named pipe at `path`.
pub(crate) fn release_fifo(path: &Path) {
    // Opened for both, a pipe needs no peer; closing it again is the end of the text.
    drop(fs::File::options().read(true).write(true).open(path).unwrap());
}

pub(crate) fn config(file: &Path) -> Config {
    Config {
        env: None,
        file: Some(file.to_owned()),
        poll: NEVER,
        events: true,
        jobs: Vec::new(),
        schedule: None,
        remembered: Vec::new(),
        inputs: mpsc::channel(1).1,
        first: Vec::new(),
    }
}

/// A running watcher, what it decided and what it logged.
pub(crate) struct Rig {
    receiver: watch::Receiver<Decided>,
    task: JoinHandle<()>,
    records: Records,
    _logging: DefaultGuard,
}

impl Rig {
    /// Starts watching; to be called on a current-thread runtime, whose log records are kept.
    pub(crate) async fn start(config: Config) -> Self {
        let records = Records::default();
        let logging = tracing::subscriber::set_default(records.clone());
        let (receiver, watcher) = start(config).await;
        let task = tokio::spawn(watcher.run());
        Self { receiver, task, records, _logging: logging }
    }

    pub(crate) async fn watching(file: &Path) -> Self {
        Self::start(config(file)).await
    }

    pub(crate) fn now(&self) -> Decision {
        self.receiver.borrow().decision.clone()
    }

    pub(crate) fn seq(&self) -> u64 {
        self.receiver.borrow().seq
    }

    /// Waits for a decision that `wanted` accepts.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Decision) -> bool) -> Decided {
        let found = self.receiver.wait_for(|decided| wanted(&decided.decision));
        let found = timeout(LIMIT, found).await.map(|decided| decided.unwrap().clone());
        found.unwrap_or_else(|_| panic!("still {:?}\n{}", self.now(), self.records))
    }

    pub(crate) async fn until_enabled(&mut self, enabled: bool) -> Decided {
        self.until(|decision| decision.enabled == enabled && decision.flag_fresh).await
    }

    pub(crate) async fn until_stale(&mut self) -> Decided {
        self.until(|decision| !decision.flag_fresh).await
    }

    pub(crate) fn records(&self) -> &Records {
        &self.records
    }

    /// Ends the watcher by dropping what it tells, as a service does when it stops.
    pub(crate) async fn stop(self) -> Records {
        drop(self.receiver);
        timeout(LIMIT, self.task).await.expect("the watcher ends with its receivers").unwrap();
        self.records
    }
}

/// The hold of `file` as an earlier run would have published it.
pub(crate) fn remembered(file: &Path) -> Hold {
    Hold {
        source: ingest_switch::Source::file(file),
        scope: ingest_switch::Scope::ALL,
        reason: Some("of yesterday".to_owned()),
        actor: None,
        since: "2026-11-21T10:00:00Z".parse().unwrap(),
        until: None,
    }
}

/// One log record.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) level: Level,
    pub(crate) target: &'static str,
    pub(crate) fields: BTreeMap<&'static str, String>,
}

impl Line {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }
}

/// Every record of this crate above TRACE, in order.
#[derive(Clone, Default)]
pub(crate) struct Records(Arc<Mutex<Vec<Line>>>);

impl Records {
    /// The records with a `status`.
    pub(crate) fn edges(&self) -> Vec<Line> {
        self.select(|line| line.fields.contains_key("status"))
    }

    /// The values of `status`, in order.
    pub(crate) fn statuses(&self) -> Vec<String> {
        self.edges().iter().map(|line| line.fields["status"].clone()).collect()
    }

    /// The messages of the warnings that are not edges.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let is_warning = |line: &Line| line.level == Level::WARN && !line.fields.contains_key("status");
        self.select(is_warning).iter().map(|line| line.fields["message"].clone()).collect()
    }

    /// The records with one of these messages, in order.
    pub(crate) fn with_message(&self, messages: &[&str]) -> Vec<Line> {
        self.select(|line| line.field("message").is_some_and(|message| messages.contains(&message)))
    }

    fn select(&self, wanted: impl Fn(&Line) -> bool) -> Vec<Line> {
        self.0.lock().unwrap().iter().filter(|line| wanted(line)).cloned().collect()
    }
}

impl fmt::Display for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.lock().unwrap().iter().try_for_each(|line| writeln!(f, "{line:?}"))
    }
}

impl Subscriber for Records {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("ingest_switch") && *metadata.level() <= Level::DEBUG
    }

    fn event(&self, event: &Event<'_>) {
        let (level, target) = (*event.metadata().level(), event.metadata().target());
        let mut line = Line { level, target, fields: BTreeMap::new() };
        event.record(&mut line);
        self.0.lock().unwrap().push(line);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }
}
