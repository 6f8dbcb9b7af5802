//! Harness of the black-box tests: real processes, real sockets, real files, real time.
//!
//! Everything a test starts ends with the value that stands for it. Tests wait for a predicate with
//! a limit ([`wait_for`]), never for a time to pass. A part that cannot be had is a failure that
//! says how to get it, unless the run was told to go without.

pub mod binary;
pub mod child;
pub mod clients;
pub mod data;
pub mod disk;
pub mod firestore;
pub mod http;
pub mod kubernetes;
pub mod nats;
pub mod place;
pub mod postgres;
pub mod producer;
pub mod pubsub;
pub mod rude;
pub mod sqlite;
pub mod tls;
pub mod venue;

use std::time::{Duration, Instant};

/// Asks until there is an answer.
///
/// # Panics
/// When there is none within the limit; the message names what was waited for.
pub fn wait_for<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} in vain for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A free loopback port, free again when this returns.
///
/// # Panics
/// When the system has none.
#[must_use]
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    listener.local_addr().expect("its address").port()
}

/// The wall clock, microseconds since the Unix epoch: what logs and the venue write.
#[must_use]
pub fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}
