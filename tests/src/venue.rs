//! The simulated venue as a process, and its own record of what clients did.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::child::Process;
use crate::{binary, http, wait_for};

/// A running `alpaca-sim`.
#[derive(Debug)]
pub struct Venue {
    /// The process.
    pub process: Process,
    stream: String,
    control: String,
    data: Option<String>,
}

impl Venue {
    /// Starts the simulator on free loopback ports with these further arguments.
    ///
    /// # Panics
    /// When it does not come up within a minute: a tape of a whole day takes its time on a loaded machine.
    #[must_use]
    pub fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(binary::path("alpaca-sim"));
        command.args(["--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"]).args(arguments);
        let mut process = Process::spawn(&mut command);
        let first = wait_for("the simulator's first line", Duration::from_secs(60), || {
            assert!(process.is_running(), "alpaca-sim ended: {}", process.stderr());
            process.stdout().first().map(|line| line.text.clone())
        });
        let urls: Value = serde_json::from_str(&first).expect("its first line is JSON");
        let url = |name: &str| urls[name].as_str().expect("a URL").to_owned();
        let data = urls["data"].as_str().map(str::to_owned);
        Self { stream: url("listening"), control: url("control"), data, process }
    }

    /// `ws://host:port`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.stream
    }

    /// `http://host:port` of its history.
    ///
    /// # Panics
    /// When it was started without.
    #[must_use]
    pub fn data_url(&self) -> &str {
        self.data.as_deref().expect("--data")
    }

    /// Connections, totals by type and symbol, position of the tape.
    ///
    /// # Panics
    /// When the control port does not answer.
    #[must_use]
    pub fn state(&self) -> Value {
        http::get_json(&format!("{}/state", self.control)).expect("the control port answers")
    }

    /// Everything clients did, oldest first.
    ///
    /// # Panics
    /// When the control port does not answer.
    #[must_use]
    pub fn log(&self) -> Vec<Value> {
        let log = http::get_json(&format!("{}/log", self.control)).expect("the control port answers");
        log.as_array().expect("a list").clone()
    }

    /// The log's entries of one kind.
    #[must_use]
    pub fn events(&self, kind: &str) -> Vec<Value> {
        self.log().into_iter().filter(|event| event["kind"] == kind).collect()
    }

    /// Position of the log's newest entry, for [`Self::since`].
    #[must_use]
    pub fn mark(&self) -> u64 {
        self.log().last().map_or(0, |event| event["seq"].as_u64().expect("a position"))
    }

    /// What clients did on one path after a position in the log; pings are left out.
    #[must_use]
    pub fn since(&self, mark: u64, path: &str) -> Vec<Value> {
        let later =
            |event: &Value| event["seq"].as_u64().expect("a position") > mark && event["path"] == path;
        let is_ping = |event: &Value| event["kind"] == "ping" || event["kind"] == "pong";
        self.log().into_iter().filter(|event| later(event) && !is_ping(event)).collect()
    }

    /// Paths of the open websockets, sorted.
    #[must_use]
    pub fn open_paths(&self) -> Vec<String> {
        let state = self.state();
        let connections = state["connections"].as_array().expect("a list");
        let mut paths: Vec<_> =
            connections.iter().map(|c| c["path"].as_str().unwrap_or_default().to_owned()).collect();
        paths.sort();
        paths
    }

    /// Begins a fault.
    ///
    /// # Panics
    /// When the simulator does not know it.
    pub fn fault(&self, fault: &Value) {
        let (status, body) = http::post(&format!("{}/fault", self.control), fault);
        assert!(status < 300, "{fault}: {status} {body}");
    }

    /// Ends all faults.
    ///
    /// # Panics
    /// When the simulator refuses.
    pub fn heal(&self) {
        assert!(http::delete(&format!("{}/fault", self.control)) < 300);
    }

    /// Cuts every connection.
    ///
    /// # Panics
    /// When the simulator refuses.
    pub fn cut(&self) {
        let (status, body) = http::post(&format!("{}/cut", self.control), &Value::Null);
        assert!(status < 300, "{status} {body}");
    }
}

/// What a subscribe or unsubscribe of the log names, each as `channel symbol`, sorted.
#[must_use]
pub fn pairs(event: &Value) -> Vec<String> {
    let request = event["request"].as_object();
    let lists = request.into_iter().flatten().filter_map(|(channel, list)| Some((channel, list.as_array()?)));
    let mut pairs: Vec<_> = lists
        .flat_map(|(channel, list)| {
            list.iter().map(move |symbol| format!("{channel} {}", symbol.as_str().unwrap_or_default()))
        })
        .collect();
    pairs.sort();
    pairs
}

/// Whether a symbol of the synthetic market is a stock: neither a pair nor an option contract.
#[must_use]
pub fn is_stock(symbol: &str) -> bool {
    symbol.len() <= 5 && symbol.chars().all(|c| c.is_ascii_uppercase() || c == '.')
}
