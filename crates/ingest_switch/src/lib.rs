#![doc = include_str!("../README.md")]
//!
//! # Rooms
//!
//! - [`flag`]: what a flag's text says.
//! - [`hold`]: who holds what, and since when.
//! - [`hold_set`]: all sources together; the one decision and its edges.
//! - `watch` (feature `watch`): the same for a live environment value and flag file, on tokio.
//!
//! All but `watch` is pure: the time is passed in, nothing is read, logged or awaited.

pub mod flag;
pub mod hold;
pub mod hold_set;
#[cfg(feature = "watch")]
pub mod watch;

pub use flag::{Flag, Notes};
pub use hold::{Hold, Scope, Source};
pub use hold_set::{Cause, Decision, Doubt, Edge, HoldSet, Observation, Outcome, Warning};
