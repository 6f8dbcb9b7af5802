//! A child process with its output: lines are collected as they come, and it dies with its owner.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::wait_for;

/// One line of output, and when it was read.
#[derive(Clone, Debug)]
pub struct Line {
    /// When it was read.
    pub at: Instant,
    /// Without the line's end.
    pub text: String,
}

/// A running program.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    stdout: Arc<Mutex<Vec<Line>>>,
    stderr: Arc<Mutex<Vec<Line>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts it with its output collected.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn spawn(command: &mut Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        let (stdout, out_reader) = collect(child.stdout.take().expect("piped"));
        let (stderr, err_reader) = collect(child.stderr.take().expect("piped"));
        Self { child, name, stdout, stderr, readers: vec![out_reader, err_reader] }
    }

    /// Starts it with pipes for its output that stay unread.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn spawn_unread(command: &mut Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        Self { child, name, stdout: Arc::default(), stderr: Arc::default(), readers: Vec::new() }
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Standard output so far.
    #[must_use]
    pub fn stdout(&self) -> Vec<Line> {
        self.stdout.lock().expect("no panic while collecting").clone()
    }

    /// Standard error so far, as one text.
    #[must_use]
    pub fn stderr(&self) -> String {
        let lines = self.stderr.lock().expect("no panic while collecting");
        lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>().join("\n")
    }

    /// Sends a signal by name, such as `TERM`, `KILL` or `STOP`.
    ///
    /// # Panics
    /// When `kill` does not run.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status();
        assert!(status.expect("kill runs").success(), "kill -{name} {}", self.name);
    }

    /// Resident memory, KiB.
    ///
    /// # Panics
    /// When the system does not tell.
    #[must_use]
    pub fn memory_kib(&self) -> u64 {
        self.status_kib("VmRSS:")
    }

    /// The most that was ever resident, KiB.
    ///
    /// # Panics
    /// When the system does not tell.
    #[must_use]
    pub fn peak_kib(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    fn status_kib(&self, field: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("a running process");
        let line = text.lines().find_map(|line| line.strip_prefix(field)).expect("the field");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Waits for its end, and for all of its output.
    ///
    /// # Panics
    /// When it does not end within the limit.
    pub fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        let status = wait_for(&what, limit, || self.child.try_wait().expect("a child of ours"));
        for reader in self.readers.drain(..) {
            reader.join().expect("no panic while reading");
        }
        status
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child of ours").is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; a stopped process dies by KILL too.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let stdout = self.stdout();
            let tail = stdout.len().saturating_sub(40);
            eprintln!("--- last output of {}", self.name);
            for line in &stdout[tail..] {
                eprintln!("{}", line.text);
            }
            eprintln!("{}", self.stderr());
        }
    }
}

fn collect(source: impl Read + Send + 'static) -> (Arc<Mutex<Vec<Line>>>, JoinHandle<()>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&lines);
    let reader = std::thread::spawn(move || {
        for text in BufReader::new(source).lines().map_while(Result::ok) {
            let line = Line { at: Instant::now(), text };
            sink.lock().expect("no panic while reading").push(line);
        }
    });
    (lines, reader)
}
