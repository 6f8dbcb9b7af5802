//! The heartbeat document and the verdict on it, shared by producer and consumers.
//!
//! The producer writes a [`Heartbeat`] to `tenants/{TENANT_ID}/ops/market_ingest`; a consumer reads
//! it back and asks [`judge`] whether the data may be traded on. Both sides use this crate, so the
//! shape cannot drift between them. Nothing here reads a clock or talks to a store.
//!
//! Invariants: `status` has exactly two words; everything that is not provably fresh and live is
//! not tradeable; a document that cannot be read is judged `stale`, never `live`.

mod heartbeat;
mod timestamp;
mod verdict;

pub use heartbeat::{
    Condition, ConditionStatus, Heartbeat, HoldReport, JobReport, JobStatus, SCHEMA, Status,
};
pub use timestamp::Timestamp;
pub use verdict::{Observed, Standing, Thresholds, Verdict, judge};
