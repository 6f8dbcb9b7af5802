//! The venue judged from outside, by a websocket library it does not use and by Alpaca's own SDKs.

mod binary;
mod client;
mod data;
mod faults;
mod handshake;
mod replay;
mod sdks;
mod subscriptions;
