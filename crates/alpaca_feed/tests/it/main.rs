//! Promises of the crate, by its public API.
