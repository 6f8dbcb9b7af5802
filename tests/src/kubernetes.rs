//! A cluster that is played by a stand-in for `kubectl`, and the control script run against it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::child::Process;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The cluster; `tests/stand_ins/kubectl` says what it can play.
#[derive(Debug)]
pub struct Cluster {
    dir: tempfile::TempDir,
}

/// How a run of the control script ended.
#[derive(Debug)]
pub struct Run {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// How long it took.
    pub took: Duration,
}

impl Cluster {
    /// A cluster as described.
    ///
    /// # Panics
    /// When it cannot be written down.
    #[must_use]
    pub fn new(cluster: &Value) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("cluster.json"), cluster.to_string()).expect("the cluster");
        let stand_in = Path::new(ROOT).join("tests/stand_ins/kubectl");
        let call = format!("#!/bin/sh\nexec '{}' -I -S '{}' \"$@\"\n", python(), stand_in.display());
        let kubectl = dir.path().join("bin/kubectl");
        std::fs::create_dir(dir.path().join("bin")).expect("a directory");
        std::fs::write(&kubectl, call).expect("kubectl");
        std::fs::set_permissions(&kubectl, std::fs::Permissions::from_mode(0o755)).expect("a mode");
        Self { dir }
    }

    /// A cluster with one healthy agent, and this in its ConfigMap.
    #[must_use]
    pub fn with_agent(configmap: &str) -> Self {
        Self::new(&json!({"configmap": configmap, "pods": {"agent-1": {"file": configmap}}}))
    }

    /// The cluster as it is now.
    ///
    /// # Panics
    /// When the stand-in left nothing that can be read.
    #[must_use]
    pub fn now(&self) -> Value {
        let text = std::fs::read_to_string(self.dir.path().join("cluster.json")).expect("the cluster");
        serde_json::from_str(&text).expect("JSON")
    }

    /// What is under `state` in the ConfigMap.
    ///
    /// # Panics
    /// When there is nothing.
    #[must_use]
    pub fn configmap(&self) -> String {
        self.now()["configmap"].as_str().expect("text in the ConfigMap").to_owned()
    }

    /// The calls of `kubectl` so far, each as its arguments joined by spaces.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.path().join("calls")).unwrap_or_default();
        let call = |line: &str| serde_json::from_str::<Vec<String>>(line).ok().map(|words| words.join(" "));
        text.lines().filter_map(call).collect()
    }

    /// Runs the control script as kim, with half a minute for the effect.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Run {
        self.run_with(arguments, &[])
    }

    /// Runs the control script with these variables besides.
    #[must_use]
    pub fn run_with(&self, arguments: &[&str], vars: &[(&str, &str)]) -> Run {
        let script = PathBuf::from(ROOT).join("scripts/control-agent.sh");
        self.finish(Command::new(script).args(arguments), vars)
    }

    /// Runs a target of the Makefile.
    #[must_use]
    pub fn make(&self, target: &str) -> Run {
        self.finish(Command::new("make").args(["--no-print-directory", "-C", ROOT, target]), &[])
    }

    /// # Panics
    /// When it does not end within a minute.
    fn finish(&self, command: &mut Command, vars: &[(&str, &str)]) -> Run {
        let path = std::env::var("PATH").unwrap_or_default();
        command.env_clear().env("PATH", format!("{}:{path}", self.dir.path().join("bin").display()));
        command.env("CLUSTER", self.dir.path()).env("BY", "kim").env("TIMEOUT", "30");
        command.envs(vars.iter().copied());
        let started = Instant::now();
        let mut process = Process::spawn(command);
        let status = process.wait_exit(Duration::from_secs(60));
        let out = process.stdout().iter().map(|line| format!("{}\n", line.text)).collect();
        Run { code: status.code().unwrap_or(-1), out, err: process.stderr(), took: started.elapsed() }
    }
}

/// The interpreter itself: what is called `python3` may be a slow script that looks for it.
fn python() -> &'static str {
    static PYTHON: OnceLock<String> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let mut command = Command::new("python3");
        let output =
            command.args(["-c", "import sys; print(sys.executable)"]).output().expect("python3 runs");
        String::from_utf8(output.stdout).expect("a path").trim().to_owned()
    })
}
