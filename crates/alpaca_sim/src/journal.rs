//! The venue's log: what happened on which connection, and when.
//!
//! Tests judge a client by it, so every record is made at the moment of the fact, and their order is the order of facts.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;

/// Records kept; older ones are forgotten.
const KEPT: usize = 200_000;

/// One record of the log.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// Position in the log, from 1 on.
    pub seq: u64,
    /// Milliseconds since the venue started, by a monotonic clock.
    pub ms: f64,
    /// Wall-clock time in Unix microseconds.
    pub ts_us: i64,
    /// The connection, numbered from 1 in the order of arrival; 0 is the venue itself.
    pub conn: u64,
    /// The path of the connection, once it is known.
    pub path: Option<String>,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventKind {
    /// A TCP connection was accepted.
    TcpOpen {
        /// The client's address.
        peer: String,
    },
    /// The connection became a websocket.
    Upgrade {
        /// `json` or `msgpack`.
        codec: &'static str,
        /// Whether permessage-deflate was agreed.
        deflate: bool,
    },
    /// The upgrade was answered with an HTTP error.
    UpgradeRefused {
        /// The HTTP status.
        status: u16,
    },
    /// The client is authenticated and holds a slot.
    AuthOk {
        /// Its key id.
        account: String,
    },
    /// An authentication was refused.
    AuthRefused {
        /// The error code.
        code: u16,
    },
    /// A subscribe was carried out.
    Subscribe {
        /// The client's message.
        request: Value,
        /// The whole state after it.
        state: Value,
    },
    /// An unsubscribe was carried out.
    Unsubscribe {
        /// The client's message.
        request: Value,
        /// The whole state after it.
        state: Value,
    },
    /// An error message was sent.
    ErrorSent {
        /// The error code.
        code: u16,
    },
    /// The venue sent a ping.
    Ping,
    /// The client's pong came.
    Pong,
    /// The client's pong did not come in time.
    PongMissed,
    /// The client sent a Close frame.
    CloseReceived {
        /// Its close code.
        code: Option<u16>,
        /// Its reason.
        reason: String,
    },
    /// The client sent something that is no WebSocket frame.
    ProtocolError {
        /// What was wrong.
        error: String,
    },
    /// A fault struck.
    Fault {
        /// Its name.
        fault: &'static str,
    },
    /// The venue ends the connection.
    Cut {
        /// Why.
        cause: &'static str,
    },
    /// A call of the data port was answered.
    DataRequest {
        /// The symbols asked for, as they were written, cut after a kilobyte.
        symbols: String,
        /// The HTTP status; 0 for a call that a fault leaves without an answer.
        status: u16,
        /// Rows in the answer.
        rows: u64,
    },
    /// All of the tape was handed to this client.
    TapeFinished,
    /// The connection is gone.
    TcpClosed {
        /// Who ended it.
        how: ClosedBy,
    },
}

/// Who ended a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClosedBy {
    /// The client, in order.
    Fin,
    /// The client, by reset.
    Rst,
    /// The venue.
    Ours,
}

/// The log itself.
#[derive(Debug)]
pub(crate) struct Journal {
    started: Instant,
    events: Mutex<(u64, VecDeque<Event>)>,
    changed: watch::Sender<u64>,
}

impl Journal {
    pub(crate) fn new() -> Journal {
        Journal {
            started: Instant::now(),
            events: Mutex::new((0, VecDeque::new())),
            changed: watch::Sender::new(0),
        }
    }

    /// Milliseconds since the venue started.
    pub(crate) fn now_ms(&self) -> f64 {
        (self.started.elapsed().as_micros() as f64) / 1_000.0
    }

    /// Adds a record.
    pub(crate) fn record(&self, conn: u64, path: Option<&str>, kind: EventKind) {
        let mut guard = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, events) = &mut *guard;
        *last += 1;
        let seq = *last;
        events.push_back(Event {
            seq,
            ms: self.now_ms(),
            ts_us: jiff::Timestamp::now().as_microsecond(),
            conn,
            path: path.map(str::to_owned),
            kind,
        });
        if events.len() > KEPT {
            events.pop_front();
        }
        drop(guard);
        self.changed.send_replace(seq);
    }

    /// The records after number `since`.
    pub(crate) fn since(&self, since: u64) -> Vec<Event> {
        let guard = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        guard.1.iter().filter(|e| e.seq > since).cloned().collect()
    }

    /// Fires at each new record.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
