//! The watcher on a real file system: every way to edit a flag file, and files that misbehave.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

mod edits;
mod inputs;
mod misbehaving;
mod no_events;
mod pace;
mod records;
mod rig;
