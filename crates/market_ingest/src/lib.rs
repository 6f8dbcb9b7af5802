//! The market-data producer: Alpaca websocket to sinks, with a soft kill switch.
//!
//! A quote walks `link` → `pump` → `sink`; a flip walks `ingest_switch::watch` → `pump` → `report` →
//! `beat`. See `ARCHITECTURE.md`.

mod assets;
mod backfill;
mod beat;
pub mod config;
pub mod control;
#[cfg(feature = "demo")]
pub mod demo;
mod filter;
pub mod gaps;
pub mod health;
pub mod history;
mod http;
pub mod job;
pub mod lag;
pub mod lease;
mod link;
pub mod logging;
mod marks;
mod memory;
mod metrics;
mod pump;
pub mod report;
mod rest;
mod seen;
pub mod service;
pub mod sink;
pub mod sources;
pub mod store;
