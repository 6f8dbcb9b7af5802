//! The venue's state at a moment, as the control port shows it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::catalogue::Catalogue;
use crate::channel::Channel;
use crate::endpoint::Codec;
use crate::fault::Fault;
use crate::journal::Journal;
use crate::market::Market;

/// Counts of elements by symbol and type letter; news counts under its symbols joined by commas.
pub type Counts = BTreeMap<String, BTreeMap<&'static str, u64>>;

/// A snapshot of the venue.
#[derive(Clone, Debug, Serialize)]
pub struct State {
    /// Milliseconds since the start.
    pub uptime_ms: f64,
    /// TCP connections accepted so far.
    pub accepted: u64,
    /// The open websockets, oldest first.
    pub connections: Vec<ConnectionState>,
    /// What was handed to clients, all connections together. The test stream is left out.
    pub sent: Totals,
    /// What the market holds (a tape, a fixed number of synthetic elements) or has made so far.
    pub feed: FeedState,
    /// The faults in force with the strikes they have left.
    pub faults: Vec<Fault>,
}

/// Counts of elements.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// All of them.
    pub messages: u64,
    /// By type letter.
    pub by_type: BTreeMap<&'static str, u64>,
    /// By symbol and type letter.
    pub by_symbol: Counts,
}

/// What the market holds and how far it has come.
#[derive(Clone, Debug, Serialize)]
pub struct FeedState {
    /// Number of elements; `None` for a market without end.
    pub len: Option<u64>,
    /// Elements that the clock has gone past; 0 where clients take at their own pace.
    pub position: u64,
    /// How far each account has come on each path, where clients take at their own pace.
    pub positions: Vec<PathPosition>,
    /// Whether the end was reached: all of it written to some client's socket, or the clock past it.
    pub finished: bool,
    /// Counts of the elements held or made.
    #[serde(flatten)]
    pub totals: Totals,
    /// The newest quote of each symbol, in the order of sending.
    pub last_quotes: BTreeMap<String, Box<RawValue>>,
}

/// How far one account has come on one path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PathPosition {
    /// The key id.
    pub account: String,
    /// The path.
    pub path: String,
    /// Elements gone past.
    pub position: u64,
}

/// One open websocket.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConnectionState {
    /// The number of the connection, as in the log.
    pub id: u64,
    /// Its path.
    pub path: String,
    /// The client's address.
    pub peer: String,
    /// `json` or `msgpack`.
    pub codec: &'static str,
    /// Whether permessage-deflate was agreed.
    pub deflate: bool,
    /// Milliseconds since the venue started, at the upgrade.
    pub since_ms: f64,
    /// Whether it holds a slot.
    pub authenticated: bool,
    /// The key id, once it is authenticated.
    pub account: Option<String>,
    /// Channel to sorted symbols.
    pub subscriptions: Value,
    /// Frames with messages (data and control), pings and pongs left out.
    pub frames_sent: u64,
    /// Elements of market data.
    pub messages_sent: u64,
    /// Bytes that the socket took after the upgrade.
    pub bytes_sent: u64,
    /// Messages, pings, pongs and closes of the client.
    pub frames_received: u64,
    /// Bytes that wait for the socket.
    pub waiting_bytes: u64,
}

/// The part of a connection that the state shows; its task writes it, anyone reads it.
#[derive(Debug)]
pub(crate) struct ConnectionRecord {
    pub(crate) id: u64,
    pub(crate) path: String,
    peer: String,
    codec: Codec,
    deflate: bool,
    since_ms: f64,
    account: Mutex<Option<String>>,
    subscriptions: Mutex<Value>,
    pub(crate) frames_sent: AtomicU64,
    pub(crate) messages_sent: AtomicU64,
    pub(crate) bytes_sent: AtomicU64,
    pub(crate) frames_received: AtomicU64,
    pub(crate) waiting_bytes: AtomicU64,
}

impl ConnectionRecord {
    pub(crate) fn new(
        id: u64,
        path: &str,
        peer: String,
        codec: Codec,
        deflate: bool,
        journal: &Journal,
    ) -> Arc<ConnectionRecord> {
        Arc::new(ConnectionRecord {
            id,
            path: path.to_owned(),
            peer,
            codec,
            deflate,
            since_ms: journal.now_ms(),
            account: Mutex::new(None),
            subscriptions: Mutex::new(json!({})),
            frames_sent: AtomicU64::new(0),
            messages_sent: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            frames_received: AtomicU64::new(0),
            waiting_bytes: AtomicU64::new(0),
        })
    }

    pub(crate) fn authenticate(&self, account: &str) {
        let mut slot = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = Some(account.to_owned());
    }

    pub(crate) fn subscribe(&self, state: Value) {
        let mut slot = self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = state;
    }

    pub(crate) fn state(&self) -> ConnectionState {
        let account = self.account.lock().unwrap_or_else(PoisonError::into_inner);
        let subscriptions = self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner);
        ConnectionState {
            id: self.id,
            path: self.path.clone(),
            peer: self.peer.clone(),
            codec: self.codec.name(),
            deflate: self.deflate,
            since_ms: self.since_ms,
            authenticated: account.is_some(),
            account: account.clone(),
            subscriptions: subscriptions.clone(),
            frames_sent: self.frames_sent.load(Ordering::Relaxed),
            messages_sent: self.messages_sent.load(Ordering::Relaxed),
            bytes_sent: self.bytes_sent.load(Ordering::Relaxed),
            frames_received: self.frames_received.load(Ordering::Relaxed),
            waiting_bytes: self.waiting_bytes.load(Ordering::Relaxed),
        }
    }
}

impl Totals {
    /// The totals of counts per series.
    pub(crate) fn of(counts: &[u64], catalogue: &Catalogue) -> Totals {
        let mut totals = Totals::default();
        for (series, count) in catalogue.all().iter().zip(counts) {
            if *count == 0 {
                continue;
            }
            let letter = series.channel.letter();
            totals.messages += count;
            *totals.by_type.entry(letter).or_default() += count;
            let symbol = totals.by_symbol.entry(series.label()).or_default();
            *symbol.entry(letter).or_default() += count;
        }
        totals
    }
}

impl FeedState {
    pub(crate) fn of(market: &Market, positions: Vec<PathPosition>) -> FeedState {
        let made = market.made();
        let quote = |(series, json): (&u32, &Vec<u8>)| {
            let series = market.catalogue.get(*series);
            debug_assert_eq!(series.channel, Channel::Quotes);
            let text = String::from_utf8_lossy(json).into_owned();
            let raw = RawValue::from_string(text).ok()?;
            Some((series.label(), raw))
        };
        FeedState {
            len: market.len(),
            position: market.position(),
            positions,
            finished: market.is_finished(),
            totals: Totals::of(&made.counts, &market.catalogue),
            last_quotes: made.last_quotes.iter().filter_map(quote).collect(),
        }
    }
}
