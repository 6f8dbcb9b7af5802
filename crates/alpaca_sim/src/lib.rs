//! A simulated Alpaca market-data venue over real TCP.
//!
//! It plays the other side of the wire for tests, benchmarks and the demo: a tape or a made-up market, every
//! documented and observed rule of the stream protocol that a client can run into, and faults on demand. With
//! [`Config::data`] it also answers historical requests, from the same elements. It shares no code with any client, so
//! that it does not share a client's misunderstandings. It listens on loopback in plain `ws://` and `http://`.
//!
//! Where documentation and observation differ, [`Profile`] chooses. Where neither says: a failed authentication by
//! header is answered like one by message, and any attempt to authenticate ends the auth deadline.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use alpaca_sim::{Config, Venue};
//! let venue = Venue::start(Config::default()).await?;
//! println!("{}", venue.url("/v2/iex"));
//! venue.stop().await;
//! # Ok(())
//! # }
//! ```

mod catalogue;
mod channel;
mod config;
mod connection;
mod control;
mod control_message;
mod data;
mod deflate;
mod endpoint;
mod fault;
mod frame;
mod history;
mod journal;
mod mangle;
mod market;
mod msgpack;
mod outbox;
mod reel;
mod session;
mod slots;
mod state;
mod subscription;
mod synthetic;
mod tape;
mod upgrade;
mod venue;

pub use config::{Account, Config, Feed, Pace, Plan, Profile, Synthetic, Timings};
pub use fault::{Fault, FaultKind, Stage};
pub use journal::{ClosedBy, Event, EventKind};
pub use state::{ConnectionState, Counts, FeedState, PathPosition, State, Totals};
pub use venue::Venue;
