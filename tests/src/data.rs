//! Real market data, where it is at hand: it is licensed for internal tests and is not part of this
//! project, so a run without it says so and uses a synthetic market.

use std::path::PathBuf;

/// A file of the shared test data; none, with a line that says so, where it is absent.
#[must_use]
pub fn shared(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")).join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("NOT HERE: ../shared/data/{name}; the synthetic market stands in for it");
    None
}
