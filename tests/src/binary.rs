//! The programs under test, built by the same cargo in the same profile as the tests.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// Path of a program of this workspace; builds all of them on first use.
///
/// # Panics
/// When they do not build.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build).join(name)
}

fn build() -> PathBuf {
    // …/target/<profile>/deps/it-<hash>
    let test = std::env::current_exe().expect("the test's own path");
    let profile_dir = test.ancestors().nth(2).expect("…/<profile>/deps/<test>").to_owned();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--workspace", "--bins"]);
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    if profile_dir.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo.status().expect("cargo runs");
    assert!(status.success(), "the programs under test do not build");
    profile_dir
}
