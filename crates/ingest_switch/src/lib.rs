#![doc = include_str!("../README.md")]
//!
//! # Rooms
//!
//! - [`flag`]: what a flag's text says.
//! - [`hold`]: who holds what, and since when.
//! - [`scope`]: what a hold covers.
//! - [`observation`]: what a look at a source showed.
//! - [`coverage`]: what is held, and by whom.
//! - [`hold_set`]: all sources together; the one decision and its edges.
//! - [`schedule`]: windows in which to ingest; outside them it holds.
//! - `watch` (feature `watch`): the same for a live process, on tokio.
//!
//! All but `watch` is pure: the time is passed in, nothing is read, logged or awaited.

pub mod coverage;
pub mod flag;
pub mod hold;
pub mod hold_set;
pub mod observation;
pub mod schedule;
pub mod scope;
#[cfg(feature = "watch")]
pub mod watch;

pub use coverage::{Coverage, JobCoverage, JobPlan};
pub use flag::{Flag, Notes};
pub use hold::{Hold, Source};
pub use hold_set::{Decision, Edge, GroupOutcome, HoldSet, Outcome};
pub use observation::{Cause, Doubt, Observation, Warning};
pub use schedule::{BadSchedule, Schedule, ScheduleState};
pub use scope::{CHANNELS, Scope, Target, UnknownScope};
