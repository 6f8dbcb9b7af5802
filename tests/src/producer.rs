//! The producer as a process: its environment, its log records, its HTTP face.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::child::Process;
use crate::venue::Venue;
use crate::{binary, http, wait_for};

/// Long enough for a loaded machine, short enough to notice.
const START_LIMIT: Duration = Duration::from_secs(20);

/// What has happened is in the log by then.
const LOG_LIMIT: Duration = Duration::from_secs(5);

/// The environment of a producer to come; nothing is inherited but `PATH`.
#[derive(Clone, Debug)]
pub struct Setup {
    vars: BTreeMap<String, String>,
    under: Vec<&'static str>,
}

impl Setup {
    /// Against this venue, with an SQLite store in `dir`, on a free HTTP port, polling fast.
    #[must_use]
    pub fn new(venue: &Venue, dir: &Path) -> Self {
        Self::bare()
            .var("ALPACA_STREAM_URL", venue.url())
            .var("INGEST_STORE", format!("sqlite:{}", dir.join("store.db").display()))
    }

    /// Nothing but a free HTTP port and JSON logs.
    #[must_use]
    pub fn bare() -> Self {
        let setup = Self { vars: BTreeMap::new(), under: Vec::new() };
        // The simulator's history lags behind only where a test asks for it.
        setup.var("PORT", "0").var("LOG_FORMAT", "json").var("INGEST_BACKFILL_AFTER_S", "2")
    }

    /// Asks this venue for its history, and keeps every record in `dir/records`, in files that are soon complete.
    #[must_use]
    pub fn with_records(self, venue: &Venue, dir: &Path) -> Self {
        self.var("ALPACA_DATA_URL", venue.data_url())
            .var("INGEST_SINKS", format!("ndjson:{}", dir.join("records").display()))
            .var("INGEST_FILE_MAX_AGE_S", "0.5")
    }

    /// Sets one variable.
    #[must_use]
    pub fn var(mut self, name: &str, value: impl ToString) -> Self {
        self.vars.insert(name.to_owned(), value.to_string());
        self
    }

    /// Has the producer run by another program, with these arguments before its own.
    #[must_use]
    pub fn under(mut self, program: &[&'static str]) -> Self {
        self.under = program.to_vec();
        self
    }

    /// Starts the producer and waits until its port is open.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(&self) -> Producer {
        let mut producer = self.spawn();
        let address = wait_for("http_listening", START_LIMIT, || {
            assert!(producer.process.is_running(), "ended at once: {}", producer.process.stderr());
            producer.log("http_listening").first().map(|r| r.text("address"))
        });
        producer.http = format!("http://{address}");
        producer
    }

    /// Starts the producer without waiting for anything.
    #[must_use]
    pub fn spawn(&self) -> Producer {
        Producer { process: Process::spawn(&mut self.command()), http: String::new() }
    }

    /// Starts the producer with pipes for its output that nobody reads.
    #[must_use]
    pub fn spawn_unread(&self) -> Process {
        Process::spawn_unread(&mut self.command())
    }

    fn command(&self) -> Command {
        let own = binary::path("market-ingest");
        let mut command = match self.under.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(own);
                command
            }
            None => Command::new(own),
        };
        command.env_clear().envs(&self.vars);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    }
}

/// A running producer.
#[derive(Debug)]
pub struct Producer {
    /// The process.
    pub process: Process,
    http: String,
}

/// One JSON log record.
#[derive(Clone, Debug)]
pub struct Record {
    /// When the harness read it.
    pub at: Instant,
    /// The record.
    pub json: Value,
}

impl Record {
    /// When the producer wrote it, microseconds since the Unix epoch.
    ///
    /// # Panics
    /// When its `time` is no RFC 3339 time.
    #[must_use]
    pub fn time_us(&self) -> i64 {
        self.text("time").parse::<jiff::Timestamp>().expect("a time").as_microsecond()
    }

    /// A field as text without quotes; empty when absent.
    #[must_use]
    pub fn text(&self, field: &str) -> String {
        let value = &self.json[field];
        match value.as_str() {
            Some(text) => text.to_owned(),
            None if value.is_null() => String::new(),
            None => value.to_string(),
        }
    }
}

impl Producer {
    /// All log records so far; what just happened may be missing.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        let parse = |line: crate::child::Line| {
            serde_json::from_str(&line.text).ok().map(|json| Record { at: line.at, json })
        };
        self.process.stdout().into_iter().filter_map(parse).collect()
    }

    /// The log records with this message so far.
    #[must_use]
    pub fn log(&self, message: &str) -> Vec<Record> {
        self.records().into_iter().filter(|r| r.json["message"] == message).collect()
    }

    /// All the log records with this message, of which there are so many: the log is written by a thread of its own,
    /// so what the status or the venue shows already may be told a moment later.
    ///
    /// # Panics
    /// When there are fewer after a while, or more.
    #[must_use]
    pub fn told<const COUNT: usize>(&self, message: &str) -> [Record; COUNT] {
        exactly(message, || self.log(message))
    }

    /// All the `ingest_switch` records with this status, of which there are so many; as [`Self::told`].
    ///
    /// # Panics
    /// When there are fewer after a while, or more.
    #[must_use]
    pub fn told_edges<const COUNT: usize>(&self, status: &str) -> [Record; COUNT] {
        exactly(status, || self.edges(status))
    }

    /// The `ingest_switch` records with this status so far.
    #[must_use]
    pub fn edges(&self, status: &str) -> Vec<Record> {
        self.log("ingest_switch").into_iter().filter(|r| r.json["status"] == status).collect()
    }

    /// A URL of the producer's HTTP face.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.http)
    }

    /// The heartbeat as it would be written now.
    ///
    /// # Panics
    /// When HTTP does not answer.
    #[must_use]
    pub fn status(&self) -> Value {
        http::get_json(&self.url("/api/v1/status")).expect("/api/v1/status answers")
    }

    /// Waits until a predicate over the status holds.
    ///
    /// # Panics
    /// When it does not within the limit.
    pub fn wait_status(&self, what: &str, limit: Duration, holds: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, limit, || Some(self.status()).filter(&holds))
    }

    /// Waits until a predicate over one job's report holds.
    ///
    /// # Panics
    /// When it does not within the limit.
    pub fn wait_job(&self, job: &str, what: &str, limit: Duration, holds: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, limit, || Some(self.status()["jobs"][job].take()).filter(&holds))
    }

    /// Waits until every job is live.
    ///
    /// # Panics
    /// When one is not within twenty seconds.
    pub fn wait_live(&self) {
        self.wait_status("a live job", START_LIMIT, |s| {
            s["jobs"].as_object().is_some_and(|jobs| jobs.values().all(|j| j["phase"] == "live"))
        });
    }

    /// Value of a metric's sample, named with its labels as in the text; none when absent.
    ///
    /// # Panics
    /// When HTTP does not answer.
    #[must_use]
    pub fn metric(&self, sample: &str) -> Option<f64> {
        let (status, text) = http::get(&self.url("/metrics")).expect("/metrics answers");
        assert_eq!(status, 200);
        text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
    }

    /// Asks it to leave and waits for the end.
    ///
    /// # Panics
    /// When it does not end within eight seconds.
    pub fn stop(&mut self) -> ExitStatus {
        self.process.signal("TERM");
        self.process.wait_exit(Duration::from_secs(8))
    }
}

fn exactly<const COUNT: usize>(what: &str, read: impl Fn() -> Vec<Record>) -> [Record; COUNT] {
    let what = format!("{COUNT} records of {what}");
    let records = wait_for(&what, LOG_LIMIT, || Some(read()).filter(|records| records.len() >= COUNT));
    records.try_into().unwrap_or_else(|records| panic!("{what}, found {records:#?}"))
}
