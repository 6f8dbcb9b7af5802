//! The market-data producer: Alpaca websocket to sinks, with a soft kill switch.
//!
//! A quote walks `link` → `pump` → `sink`; a flip walks `ingest_switch::watch` → `pump` → `report` →
//! `beat`. See `ARCHITECTURE.md`.

mod beat;
pub mod config;
#[cfg(feature = "demo")]
pub mod demo;
mod http;
pub mod job;
mod link;
pub mod logging;
mod metrics;
mod pump;
pub mod report;
pub mod service;
pub mod sink;
pub mod store;
