//! Black-box tests over all of market-ingest. Each module is a part of the promise.

#![allow(clippy::unwrap_used)]

mod configuration;
mod documents;
mod faults;
mod real_input;
mod stop;
mod surface;
mod switch;
