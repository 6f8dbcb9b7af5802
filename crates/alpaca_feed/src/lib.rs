//! What to do next on one Alpaca connection, and how to read its frames; sans-IO.
//!
//! Nothing here knows a socket, a clock or a random number: bytes, instants and seeds are passed in, so that every
//! path can be tested by calling it. Four parts share the message model:
//!
//! - the codec: [`decode`] turns frames into a reused [`message::Batch`], [`encode`] writes what the client says;
//! - the connection: [`lifecycle`] says what to dial, send, close and wait for;
//! - the account of what was missed: [`gap_ledger`];
//! - the data: [`watchdog`] says whether it flows as it should by the market's [`calendar`], and what to try if not.

mod backoff;
pub mod calendar;
pub mod decode;
pub mod disposition;
pub mod encode;
pub mod gap_ledger;
pub mod lifecycle;
pub mod message;
mod session;
pub mod subscription;
pub mod symbol;
pub mod watchdog;
