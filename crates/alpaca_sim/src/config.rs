//! What the venue plays, to whom, and by which of its two readings of the protocol.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::fault::Fault;

/// Everything that can be chosen about a venue; the default is a synthetic market on a free loopback port.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients connect; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where the HTTP control port listens; `None` opens none.
    pub control: Option<SocketAddr>,
    /// Where the HTTP data port, the REST twin of the streams, listens; `None` opens none and keeps no history.
    pub data: Option<SocketAddr>,
    /// How far the data port is behind the streams, by the venue's clock.
    pub data_lag: Duration,
    /// The market data.
    pub feed: Feed,
    /// Which reading of the protocol to play where documentation and observation differ.
    pub profile: Profile,
    /// The credentials that are accepted; `None` accepts any that are not empty.
    pub account: Option<Account>,
    /// What the account may do.
    pub plan: Plan,
    /// The venue's clocks.
    pub timings: Timings,
    /// How much unsent data a client may have before it gets 407 and is cut, in bytes.
    pub send_buffer_bytes: usize,
    /// Most elements in one frame.
    pub max_per_frame: usize,
    /// Exactly this many elements in every frame, for benchmarks; `None` frames by arrival, as the real venue does.
    pub per_frame: Option<usize>,
    /// Whether trades and quotes in MessagePack carry `r`, the venue's time of receipt.
    pub received_at: bool,
    /// Faults that are active from the start.
    pub faults: Vec<Fault>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            control: None,
            data: None,
            data_lag: Duration::ZERO,
            feed: Feed::Synthetic(Synthetic::default()),
            profile: Profile::Observed,
            account: None,
            plan: Plan::default(),
            timings: Timings::default(),
            send_buffer_bytes: 8 << 20,
            max_per_frame: 256,
            per_frame: None,
            received_at: true,
            faults: Vec::new(),
        }
    }
}

/// Where the market data comes from.
#[derive(Clone, Debug)]
pub enum Feed {
    /// Recorded data.
    Tape {
        /// Files of newline-delimited JSON, plain, `.gz` or `.zst`; several are merged by time.
        paths: Vec<PathBuf>,
        /// How fast it is played.
        pace: Pace,
        /// Whether it begins again at its end.
        looped: bool,
    },
    /// A made-up market.
    Synthetic(Synthetic),
}

/// How fast a tape is played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// By the tape's own clock, this many times as fast, from the first subscription on; who is not there misses it.
    Speed(f64),
    /// As fast as each subscriber takes it; each has its own place on the tape, kept across reconnects.
    AsTaken,
}

/// A seeded market of random walks with every message type in it.
#[derive(Clone, Debug)]
pub struct Synthetic {
    /// The same seed makes the same market.
    pub seed: u64,
    /// Number of stocks; a few crypto pairs, options and perpetuals come on top.
    pub symbols: usize,
    /// Elements a second.
    pub rate_per_s: f64,
    /// `None` runs in real time without end; `Some` makes this many elements, sent as fast as taken.
    pub messages: Option<usize>,
}

impl Default for Synthetic {
    fn default() -> Synthetic {
        Synthetic { seed: 1, symbols: 500, rate_per_s: 1_000.0, messages: None }
    }
}

/// Which reading of the protocol is played where the documentation and the observed service differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// As seen on the wire: empty channels left out of acknowledgements, Close frames never answered,
    /// a channel of another stream refused with 400.
    #[default]
    Observed,
    /// As documented: empty channels listed, Close frames answered, a channel of another stream refused with 410.
    Documented,
}

/// One account's credentials.
#[derive(Clone, Debug)]
pub struct Account {
    /// The key id.
    pub key: String,
    /// The secret; bearer tokens are compared with it too.
    pub secret: String,
}

/// What a subscription plan allows.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Most distinct symbols over `trades` and `quotes` of a stream (bars are exempt), else 405; `None` is no limit.
    pub symbol_limit: Option<usize>,
    /// Most symbols of option quotes, else 405; `None` is no limit.
    pub option_quote_limit: Option<usize>,
    /// Feeds (last part of the path) that are refused with 409 at auth; without `sip`, the data port has `sip` rows
    /// only when they are 15 minutes old.
    pub refused_feeds: Vec<String>,
    /// Connections per account and path, else 406.
    pub connections_per_endpoint: usize,
    /// Calls of the data port a minute, else 429.
    pub data_calls_per_min: u32,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            symbol_limit: None,
            option_quote_limit: None,
            refused_feeds: Vec::new(),
            connections_per_endpoint: 1,
            data_calls_per_min: 10_000,
        }
    }
}

impl Plan {
    /// The free plan: 30 symbols, 200 option quotes, 200 calls a minute, no `sip`.
    pub fn basic() -> Plan {
        Plan {
            symbol_limit: Some(30),
            option_quote_limit: Some(200),
            refused_feeds: vec!["sip".to_owned(), "opra".to_owned()],
            connections_per_endpoint: 1,
            data_calls_per_min: 200,
        }
    }
}

/// The venue's clocks.
#[derive(Clone, Copy, Debug)]
pub struct Timings {
    /// How long a client may take to its first auth message before 404 and the drop.
    pub auth_limit: Duration,
    /// Time between the venue's pings.
    pub ping_interval: Duration,
    /// How long a pong may take before the client is dropped.
    pub pong_limit: Duration,
    /// How long a client that was refused with 406 is kept before it is dropped.
    pub refused_hold: Duration,
}

impl Default for Timings {
    fn default() -> Timings {
        Timings {
            auth_limit: Duration::from_secs(10),
            ping_interval: Duration::from_secs(54),
            pong_limit: Duration::from_secs(6),
            refused_hold: Duration::from_secs(10),
        }
    }
}
