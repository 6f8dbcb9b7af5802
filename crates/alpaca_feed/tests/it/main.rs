//! Promises of the crate, by its public API.
#![allow(clippy::unwrap_used)]

mod codec_data;
mod codec_elements;
mod codec_frames;
mod codec_mutations;
mod codec_oracle;
mod codec_tapes;
mod codec_usual;
mod lifecycle;
mod watchdog;
