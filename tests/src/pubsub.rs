//! Google's Pub/Sub emulator as a process, and Google's Python client as the independent reader.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::child::Process;
use crate::clients::broker;
use crate::{free_port, http, wait_for};

/// The project that tests use.
const PROJECT: &str = "market-ingest-test";

/// A running emulator without any topic.
#[derive(Debug)]
pub struct Pubsub {
    /// The process; signals may freeze or kill it.
    pub process: Process,
    port: u16,
}

impl Pubsub {
    /// Starts the emulator; none when the run was told to go without, and then it says so.
    ///
    /// # Panics
    /// When it is not there, or does not come up.
    #[must_use]
    pub fn start() -> Option<Self> {
        Self::start_on(free_port())
    }

    /// Starts the emulator on a given port, as [`Self::start`] does.
    ///
    /// # Panics
    /// When it is not there, or does not come up.
    #[must_use]
    pub fn start_on(port: u16) -> Option<Self> {
        if std::env::var_os("WITHOUT_EMULATORS").is_some() {
            eprintln!("LEFT OUT: the Pub/Sub emulator (WITHOUT_EMULATORS is set)");
            return None;
        }
        let mut command = Command::new("java");
        command.args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-Duser.language=en", "-jar"]).arg(jar());
        command.args(["--host=127.0.0.1", &format!("--port={port}")]);
        let mut process = Process::spawn(&mut command);
        wait_for("the Pub/Sub emulator", Duration::from_secs(60), || {
            assert!(process.is_running(), "the emulator ended: {}", process.stderr());
            http::get(&format!("http://127.0.0.1:{port}/")).filter(|(status, _)| *status == 200)
        });
        Some(Self { process, port })
    }

    /// `host:port`, for `PUBSUB_EMULATOR_HOST`.
    #[must_use]
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Makes a topic with one subscription that keeps the order of each key, and gives its full name.
    ///
    /// # Panics
    /// When the emulator refuses.
    #[must_use]
    pub fn make_topic(&self, id: &str) -> String {
        let topic = topic(id);
        let make = |name: &str, body: &Value| {
            let (status, body) = http::put(&format!("http://{}/v1/{name}", self.host()), body);
            assert_eq!(status, 200, "{body}");
        };
        make(&topic, &json!({}));
        make(
            &subscription(id),
            &json!({"topic": topic, "enableMessageOrdering": true, "ackDeadlineSeconds": 600}),
        );
        topic
    }

    /// What comes of a topic's subscription until so many different records did, in order of arrival: `record`, `order`
    /// and `attributes` of each message.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn read(&self, id: &str, records: usize) -> Vec<Value> {
        broker(&["pubsub", &self.host(), &subscription(id), &records.to_string()])
    }
}

/// The full name of a topic.
#[must_use]
pub fn topic(id: &str) -> String {
    format!("projects/{PROJECT}/topics/{id}")
}

fn subscription(id: &str) -> String {
    format!("projects/{PROJECT}/subscriptions/{id}")
}

fn jar() -> PathBuf {
    let named = std::env::var_os("PUBSUB_EMULATOR_JAR").map(PathBuf::from);
    named.or_else(found).filter(|jar| jar.exists()).expect(
        "the Pub/Sub emulator: install the Google Cloud CLI with its component pubsub-emulator, or run scripts/test \
         --without-emulators",
    )
}

fn found() -> Option<PathBuf> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/pubsub-emulator");
    let output = Command::new(script).arg("jar").output().ok()?;
    Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
}
