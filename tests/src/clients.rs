//! Independent clients: Google's and Alpaca's own libraries, as small scripts.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

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
