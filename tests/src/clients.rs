//! Independent clients: Google's and Alpaca's own libraries, as small scripts.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::child::Process;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// A document's fields as Google's Python client sees them: `{field: [type, value]}`.
///
/// # Panics
/// When the client is not installed, or cannot read the document.
#[must_use]
pub fn read_firestore(host: &str, project: &str, path: &str) -> Value {
    let python = PathBuf::from(ROOT).join("target/clients/python/bin/python");
    assert!(python.exists(), "{} is missing: run scripts/clients", python.display());
    let output = Command::new(python)
        .arg(Path::new(ROOT).join("tests/clients/read_firestore.py"))
        .args([project, path])
        .env("FIRESTORE_EMULATOR_HOST", host)
        .output()
        .expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The records that a full-rate sink left in a directory, as pyarrow reads them: columns by name, times in nanoseconds.
///
/// # Panics
/// When the readers are not installed, cannot read a file, or disagree with DuckDB on how many records there are.
#[must_use]
pub fn read_files(kind: &str, dir: &Path) -> Vec<Value> {
    let python = PathBuf::from(ROOT).join("target/clients/python/bin/python");
    assert!(python.exists(), "{} is missing: run scripts/clients", python.display());
    let output = Command::new(python)
        .arg(Path::new(ROOT).join("tests/clients/read_files.py"))
        .arg(kind)
        .arg(dir)
        .output()
        .expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let mut records: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let told = records.pop().expect("a last line");
    for (reader, rows) in told["readers"].as_object().expect("readers") {
        assert_eq!(rows.as_u64(), Some(records.len() as u64), "{reader}: {told}");
    }
    records
}

/// What a broker's own Python client prints, by `tests/clients/read_broker.py`.
///
/// # Panics
/// When the client is not installed, or fails.
#[must_use]
pub fn broker(arguments: &[&str]) -> Vec<Value> {
    let python = PathBuf::from(ROOT).join("target/clients/python/bin/python");
    assert!(python.exists(), "{} is missing: run scripts/clients", python.display());
    let output = Command::new(python)
        .arg(Path::new(ROOT).join("tests/clients/read_broker.py"))
        .args(arguments)
        .output()
        .expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// What schemathesis says of an HTTP interface that it judges by its own description, with this token for writes; it
/// works in `dir`.
///
/// # Panics
/// When it is not installed, finds a fault, or takes longer than a minute.
#[must_use]
pub fn schemathesis(description: &str, token: &str, dir: &Path) -> String {
    let root = std::path::absolute(ROOT).expect("a path");
    let program = root.join("target/clients/python/bin/schemathesis");
    assert!(program.exists(), "{} is missing: run scripts/clients", program.display());
    let mut command = Command::new(program);
    command.arg("--config-file").arg(root.join("tests/clients/schemathesis.toml")).args(["run", description]);
    command.env("SCHEMATHESIS_HOOKS_FILE", root.join("tests/clients/schemathesis_hooks.py"));
    command.env("INGEST_ADMIN_TOKEN", token).current_dir(dir);
    let mut process = Process::spawn(&mut command);
    let status = process.wait_exit(Duration::from_secs(60));
    let said = process.stdout().iter().map(|line| line.text.as_str()).collect::<Vec<_>>().join("\n");
    assert!(status.success(), "{said}\n{}", process.stderr());
    said
}
