//! The heartbeat's shape: the five fields every consumer knows, and what was added since.
//!
//! Readers of the first version of this document must go on working, so everything but the five
//! has a default when absent, and unknown fields are ignored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Version of the document's shape, written as `schema`.
pub const SCHEMA: u32 = 1;

/// The document at `tenants/{TENANT_ID}/ops/market_ingest`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Heartbeat {
    /// What the producer really does: `paused` only when held, without a socket, and drained.
    pub status: Status,
    /// When the producer wrote this, by its own clock.
    pub ts: Timestamp,
    /// What the operators asked for; false when holds cover every job.
    pub ingest_enabled: bool,
    /// Who asked: `env:INGEST_ENABLED`, `file:<path>`, …; null when nobody has an opinion.
    pub ingest_enabled_source: Option<String>,
    /// Symbol of the newest event, null before the first.
    pub last_symbol: Option<String>,

    /// [`SCHEMA`] of the writer.
    #[serde(default)]
    pub schema: u32,
    /// Seconds between two heartbeats; the thresholds of [`crate::judge`] follow it.
    #[serde(default)]
    pub interval_s: Option<f64>,
    /// Counts this process's heartbeats, from 1.
    #[serde(default)]
    pub seq: u64,
    /// Names this process; two overlapping revisions differ in it.
    #[serde(default)]
    pub instance_id: String,
    /// Epoch of the lease under which it was written: never goes back. Null before the writer held the lease, and from
    /// versions without one.
    #[serde(default)]
    pub epoch: Option<i64>,
    /// Cloud Run's `K_REVISION`.
    #[serde(default)]
    pub revision: Option<String>,
    /// Version of the program.
    #[serde(default)]
    pub version: String,
    /// Start of the process.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    /// Set by the last write of a clean stop, null otherwise.
    #[serde(default)]
    pub stopped_at: Option<Timestamp>,
    /// Since when `status` has its present value.
    #[serde(default)]
    pub effective_since: Option<Timestamp>,
    /// Newest generation of the control document that was read; null without one.
    #[serde(default)]
    pub observed_generation: Option<i64>,
    /// Newest generation of the control document whose effect is complete; null without one.
    #[serde(default)]
    pub effective_generation: Option<i64>,
    /// Every standing hold, oldest first.
    #[serde(default)]
    pub holds: Vec<HoldReport>,
    /// False while a flag that was readable cannot be read and its last decision stands.
    #[serde(default = "yes")]
    pub flag_fresh: bool,
    /// Conditions in Kubernetes' form.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// One entry a job.
    #[serde(default)]
    pub jobs: BTreeMap<String, JobReport>,
    /// Totals since the start of the process.
    #[serde(default)]
    pub counters: BTreeMap<String, u64>,
    /// The store's own time of the write; absent from what the producer sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Timestamp>,
}

/// The two words of `status`; there is no third.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Ingesting, or trying to.
    Running,
    /// Held, no socket exists, everything received is delivered.
    Paused,
}

/// A standing request by one source not to ingest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HoldReport {
    /// `kind:detail`, such as `file:/flags/ingest`.
    pub source: String,
    /// What it covers, such as `all`.
    pub scope: String,
    /// Why, in the operator's words.
    #[serde(default)]
    pub reason: Option<String>,
    /// Who.
    #[serde(default)]
    pub actor: Option<String>,
    /// Since when it stands.
    pub since: Timestamp,
    /// When it ends by itself.
    #[serde(default)]
    pub until: Option<Timestamp>,
}

/// One observation about the producer, in Kubernetes' form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `Ingesting`, `Connected`, `DataFresh`, `FlagFresh`, `SinkHealthy` or `CatchingUp`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// One CamelCase word for programs.
    pub reason: String,
    /// A sentence for people; may be empty.
    pub message: String,
    /// When `status` last changed.
    pub last_transition_time: Timestamp,
}

/// Whether a [`Condition`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not.
    False,
    /// It cannot be told.
    Unknown,
}

/// One feed connection and its symbols.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JobReport {
    /// What the job does.
    pub status: JobStatus,
    /// Since when.
    pub since: Timestamp,
    /// When the present pause was complete; null while the job is not paused.
    #[serde(default)]
    pub paused_at: Option<Timestamp>,
    /// Why, when there is something to say: a hold's reason, a refusal, a lost connection.
    #[serde(default)]
    pub reason: Option<String>,
    /// The phase of the connection's lifecycle, such as `waiting` or `live`.
    pub phase: String,
    /// Authenticated and subscribed.
    pub connected: bool,
    /// Channel and symbol pairs that the venue acknowledged.
    pub subscribed: u64,
    /// Event time of the newest event.
    #[serde(default)]
    pub last_event_ts: Option<Timestamp>,
    /// Market time up to which everything that was received is kept, or is a gap: where the gap of a crash would begin.
    #[serde(default)]
    pub received_to: Option<Timestamp>,
    /// Seconds from the newest event's own time to its receipt; null before the first.
    #[serde(default)]
    pub lag_s: Option<f64>,
    /// Events received since the start of the process.
    pub messages: u64,
    /// Newest generation of the control document of which all that it holds of this job is at rest, whether or not
    /// what it resumed is back; null without one.
    #[serde(default)]
    pub at_rest_generation: Option<i64>,
    /// Symbols that a hold covers while the job as a whole runs.
    #[serde(default)]
    pub paused_symbols: Vec<String>,
}

/// The words of a job's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum JobStatus {
    /// Wanted, not yet live for the first time.
    Starting,
    /// Wanted.
    Running,
    /// Held, without a socket, drained.
    Paused,
    /// Ended on purpose.
    Stopped,
    /// The venue refuses it for a reason that only a person can change.
    Failed,
}

impl Heartbeat {
    /// The condition of that type, if the writer stated one.
    #[must_use]
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|c| c.kind == kind)
    }
}

fn yes() -> bool {
    true
}
