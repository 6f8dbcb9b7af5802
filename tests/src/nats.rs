//! A NATS server with JetStream as a process, and NATS's Python client as the independent reader.

use std::io::Read as _;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::child::Process;
use crate::clients::broker;
use crate::{free_port, wait_for};

/// A server, perhaps killed, and what it keeps.
#[derive(Debug)]
pub struct Nats {
    /// None before the first start and after [`Self::kill`].
    server: Option<Process>,
    port: u16,
    folder: tempfile::TempDir,
    arguments: Vec<String>,
}

impl Nats {
    /// A server that has a port and is yet to be started, with these further arguments.
    ///
    /// # Panics
    /// When there is no folder for it.
    #[must_use]
    pub fn absent(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Self { server: None, port: free_port(), folder, arguments }
    }

    /// A running server without any stream.
    ///
    /// # Panics
    /// When the server is not installed, or does not come up.
    #[must_use]
    pub fn start() -> Self {
        let mut nats = Self::absent(&[]);
        nats.restart();
        nats
    }

    /// Starts the server on its port, with what it kept.
    ///
    /// # Panics
    /// When it is not installed, or does not come up.
    pub fn restart(&mut self) {
        let mut command = Command::new(program());
        command.args(["--jetstream", "--addr", "127.0.0.1", "--port", &self.port.to_string(), "--store_dir"]);
        command.arg(self.folder.path()).args(&self.arguments);
        let mut server = Process::spawn(&mut command);
        wait_for("the NATS server", Duration::from_secs(30), || {
            assert!(server.is_running(), "nats-server ended: {}", server.stderr());
            let mut socket = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
            let mut greeting = [0; 4];
            socket.read_exact(&mut greeting).ok()?;
            (&greeting == b"INFO").then_some(())
        });
        self.server = Some(server);
    }

    /// Kills the server: no farewell to anybody.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.signal("KILL");
            server.wait_exit(Duration::from_secs(10));
        }
    }

    /// Sends the server a signal, such as `STOP` and `CONT`.
    ///
    /// # Panics
    /// When there is none.
    pub fn signal(&self, name: &str) {
        self.server.as_ref().expect("a running server").signal(name);
    }

    /// `nats://host:port`; a login such as `user:password@` may stand before the host.
    #[must_use]
    pub fn url(&self, login: &str) -> String {
        format!("nats://{login}127.0.0.1:{}", self.port)
    }

    /// Everything in a stream, in order: `record`, `subject` and `id` of each message.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn read(&self, login: &str, stream: &str) -> Vec<Value> {
        broker(&["nats", &self.url(login), stream])
    }

    /// Makes a stream, as somebody else would.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn make_stream(&self, stream: &str, subject: &str) {
        let said = broker(&["make", &self.url(""), stream, subject]);
        assert!(said.is_empty(), "{said:?}");
    }
}

fn program() -> PathBuf {
    let installed = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/clients/python/bin/nats-server");
    let program = std::env::var_os("NATS_SERVER").map_or_else(|| PathBuf::from(installed), PathBuf::from);
    assert!(program.exists(), "{} is missing: run scripts/clients", program.display());
    program
}
