//! Black-box tests over all of market-ingest. Each module is a part of the promise.

#![allow(clippy::unwrap_used)]

mod allocations;
mod backfill;
mod configuration;
mod conformance;
mod control;
mod documents;
mod equation;
mod faults;
mod health_files;
mod http_api;
mod ingestctl;
mod kubernetes;
mod lease;
mod overflow;
mod real_input;
mod seed_agent_pause_operations;
mod seed_ingest_enabled_flow;
mod seed_job_pause_resume;
mod seed_per_asset_pause;
mod seen;
mod sinks_brokers;
mod sinks_files;
mod stop;
mod stores_firestore;
mod stores_sql;
mod surface;
mod switch;
mod tls;
mod watchdog;
