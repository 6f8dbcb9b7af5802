//! What a job's pump knows about itself, published for heartbeat, HTTP and metrics.
//!
//! Only the pump writes it, each turn and at least once a second; `tick` proves that the loop which
//! does the work still turns. Readers derive, they never set.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alpaca_feed::lifecycle::{Phase, Stage};
use alpaca_feed::message::Kind;
use alpaca_feed::subscription::Channel;
use alpaca_feed::watchdog::Freshness;
use ingest_status::{JobReport, JobStatus, Timestamp};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use crate::lag::Lags;

/// Kinds of events, in the order of [`JobState::messages`].
pub const KINDS: [(Kind, &str); 14] = [
    (Kind::Trade, "trade"),
    (Kind::Quote, "quote"),
    (Kind::Bar, "bar"),
    (Kind::UpdatedBar, "updated_bar"),
    (Kind::DailyBar, "daily_bar"),
    (Kind::Correction, "correction"),
    (Kind::Cancel, "cancel"),
    (Kind::Status, "status"),
    (Kind::Luld, "luld"),
    (Kind::Imbalance, "imbalance"),
    (Kind::Orderbook, "orderbook"),
    (Kind::Pricing, "pricing"),
    (Kind::News, "news"),
    (Kind::Unknown, "unknown"),
];

/// What a heartbeat should say at once; attempts to connect come and go without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Aspect {
    pub(crate) status: JobStatus,
    pub(crate) connected: bool,
    pub(crate) refused: bool,
    pub(crate) stale: bool,
    pub(crate) at_rest_seq: Option<u64>,
    pub(crate) effective_seq: Option<u64>,
}

/// One job as of its last turn.
#[derive(Clone, Debug)]
pub struct JobState {
    /// The job's name.
    pub name: Arc<str>,
    /// Whether the job shall run, as the pump last heard it.
    pub wanted: bool,
    /// Where the connection's lifecycle is.
    pub phase: Phase,
    /// No record received before the pause waits in a sink any more.
    pub drained: bool,
    /// Whether the job was live since it was last wanted.
    pub was_live: bool,
    /// The venue refuses for a reason that only a person can change.
    pub refused: bool,
    /// Why it does not run, or what went wrong last.
    pub reason: Option<String>,
    /// When [`Self::status`] took its present value.
    pub since: Timestamp,
    /// Channel and symbol pairs that the venue acknowledged.
    pub subscribed: u64,
    /// Newest time of the market that was received, by what tells it; ns UTC.
    pub clock: Option<i64>,
    /// Time of the newest event, ns UTC.
    pub last_event_ts: Option<i64>,
    /// Seconds from the newest event's own time to its receipt.
    pub lag_s: Option<f64>,
    /// From the own time of the oldest record of each turn to its delivery.
    pub lags: Lags,
    /// Symbol of the newest event that has one.
    pub last_symbol: Option<Arc<str>>,
    /// When it was received, ns UTC.
    pub last_received_ts: Option<i64>,
    /// Events that came although a hold covers them, and were left out.
    pub held_back: u64,
    /// Events by kind; see [`KINDS`].
    pub messages: [u64; KINDS.len()],
    /// Elements that could not be decoded.
    pub malformed: u64,
    /// Frames received.
    pub frames: u64,
    /// Payload bytes received.
    pub bytes: u64,
    /// Connections tried.
    pub dials: u64,
    /// Connections that ended, for whatever reason.
    pub disconnects: u64,
    /// Error messages of the venue by code; HTTP answers to an upgrade by status.
    pub rejections: BTreeMap<u16, u64>,
    /// Seconds from the last decision to pause to its complete effect.
    pub pause_effect_s: Option<f64>,
    /// When the present pause was complete; none while the job is not paused.
    pub paused_at: Option<Timestamp>,
    /// Pauses that were complete.
    pub pauses: u64,
    /// Resumes that were complete: live again.
    pub resumes: u64,
    /// Seconds from a pause's completion to the resume's, of all pauses that are over.
    pub pause_durations: Histogram,
    /// Events waiting in sinks when the last pause began, and delivered before it was complete.
    pub messages_drained: u64,
    /// Newest decision, by its number, of which all that it holds of this job is at rest.
    pub at_rest_seq: Option<u64>,
    /// When that was so.
    pub at_rest_at: Option<Timestamp>,
    /// Generation of the control document in that decision; none without one.
    pub at_rest_generation: Option<i64>,
    /// Newest decision, by its number, whose effect on this job is complete.
    pub effective_seq: Option<u64>,
    /// Generation of the control document in that decision; none without one.
    pub effective_generation: Option<i64>,
    /// Symbols that holds cover while the job as a whole runs, sorted; `*` stands for patterns.
    pub paused_symbols: Vec<String>,
    /// Whether what comes is what should come, and of now.
    pub freshness: Freshness,
    /// Channels and symbols that are silent and should not be; at most a few are named.
    pub mute: Vec<String>,
    /// Symbols that are silent while others flow, and may be mute; at most a few are named.
    pub suspects: Vec<String>,
    /// Spells of silence that should not have been.
    pub mutes: u64,
    /// When each channel was last heard.
    pub heard: Vec<(Channel, Instant)>,
    /// The silence of each that would be an alarm; a channel of which too little is known to judge it is not here.
    pub silence_limits: Vec<(Channel, Duration)>,
    /// The market's time from which on something may be missing that is no gap yet; none while nothing is in doubt.
    pub doubt_from: Option<i64>,
    /// When the pump last turned.
    pub tick: Instant,
}

impl JobState {
    /// The state of a pump that has not turned yet.
    #[must_use]
    pub fn new(name: &str, now: Timestamp, tick: Instant) -> Self {
        Self {
            name: name.into(),
            wanted: false,
            phase: Phase::Halted,
            drained: true,
            was_live: false,
            refused: false,
            reason: None,
            since: now,
            subscribed: 0,
            clock: None,
            last_event_ts: None,
            lag_s: None,
            lags: Lags::default(),
            last_symbol: None,
            last_received_ts: None,
            held_back: 0,
            messages: [0; KINDS.len()],
            malformed: 0,
            frames: 0,
            bytes: 0,
            dials: 0,
            disconnects: 0,
            rejections: BTreeMap::new(),
            pause_effect_s: None,
            paused_at: None,
            pauses: 0,
            resumes: 0,
            pause_durations: Histogram::new(exponential_buckets(1.0, 4.0, 10)),
            messages_drained: 0,
            at_rest_seq: None,
            at_rest_at: None,
            at_rest_generation: None,
            effective_seq: None,
            effective_generation: None,
            paused_symbols: Vec::new(),
            freshness: Freshness::NotLive,
            mute: Vec::new(),
            suspects: Vec::new(),
            mutes: 0,
            heard: Vec::new(),
            silence_limits: Vec::new(),
            doubt_from: None,
            tick,
        }
    }

    /// Held, without a connection, everything delivered: the only state that may be called paused.
    #[must_use]
    pub fn paused(&self) -> bool {
        !self.wanted && self.drained && matches!(self.phase, Phase::Halted | Phase::Stopped)
    }

    pub(crate) fn aspect(&self) -> Aspect {
        Aspect {
            status: self.status(),
            connected: self.connected(),
            refused: self.refused,
            stale: self.is_fresh() == Some(false),
            at_rest_seq: self.at_rest_seq,
            effective_seq: self.effective_seq,
        }
    }

    /// Authenticated and subscribed.
    #[must_use]
    pub fn connected(&self) -> bool {
        self.phase == Phase::Session(Stage::Live)
    }

    /// Whether its data can be taken for fresh; none where that cannot be told, as of a quiet market.
    #[must_use]
    pub fn is_fresh(&self) -> Option<bool> {
        match self.freshness {
            _ if !self.wanted => None,
            Freshness::Flowing => Some(true),
            Freshness::Mute | Freshness::Lagging => Some(false),
            Freshness::Quiet | Freshness::Halted | Freshness::MarketClosed | Freshness::NotLive => None,
        }
    }

    /// The job's status word.
    #[must_use]
    pub fn status(&self) -> JobStatus {
        if self.phase == Phase::Stopped {
            JobStatus::Stopped
        } else if self.paused() {
            JobStatus::Paused
        } else if self.refused {
            JobStatus::Failed
        } else if self.was_live || !self.wanted {
            JobStatus::Running
        } else {
            JobStatus::Starting
        }
    }

    /// Events of all kinds.
    #[must_use]
    pub fn messages_total(&self) -> u64 {
        self.messages.iter().sum()
    }
}

impl From<&JobState> for JobReport {
    fn from(job: &JobState) -> Self {
        Self {
            status: job.status(),
            since: job.since,
            paused_at: job.paused_at.filter(|_| job.paused()),
            reason: job.reason.clone(),
            phase: job.phase.to_string(),
            connected: job.connected(),
            subscribed: job.subscribed,
            last_event_ts: job.last_event_ts.map(Timestamp::from_nanoseconds),
            received_to: None,
            lag_s: job.lag_s,
            messages: job.messages_total(),
            paused_symbols: job.paused_symbols.clone(),
            at_rest_generation: job.at_rest_generation,
        }
    }
}
