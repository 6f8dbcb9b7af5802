//! What the venue has newest of some symbols: what tells one that is mute from one that is quiet.

use std::collections::BTreeMap;

use alpaca_feed::subscription::Subscriptions;
use serde::Deserialize;

use super::{Client, RestError};
use crate::config::History;

/// Of each channel's word, the newest message of each symbol; what else there is does not matter.
type Answer = BTreeMap<String, serde_json::Value>;

/// The part of a message that is looked at.
#[derive(Deserialize)]
struct Message {
    #[serde(rename = "t")]
    at: jiff::Timestamp,
}

impl Client {
    /// The market's time of the newest message of each symbol on the channels named with it, nanoseconds since 1970; a
    /// symbol of which there is none is absent. One call a channel, each once the venue wants it.
    ///
    /// Cancel safe.
    pub(crate) async fn newest(
        &self,
        history: &History,
        asked: &Subscriptions,
    ) -> Result<BTreeMap<String, i64>, RestError> {
        let mut newest = BTreeMap::new();
        for (channel, symbols) in asked.channels() {
            let Some((url, feed)) = history.latest(channel) else { continue };
            let symbols: Vec<&str> = symbols.iter().map(String::as_str).collect();
            let mut parameters = vec![("symbols", symbols.join(","))];
            parameters.extend(feed.map(|feed| ("feed", feed.to_owned())));
            let body = self.get(url, &parameters).await?;
            let unreadable = |error: serde_json::Error| RestError::Unreadable(error.to_string());
            let mut answer: Answer = serde_json::from_slice(&body).map_err(unreadable)?;
            let Some(messages) = answer.remove(channel.as_str()) else { continue };
            let messages: BTreeMap<String, Message> = serde_json::from_value(messages).map_err(unreadable)?;
            for (symbol, message) in messages {
                let at = i64::try_from(message.at.as_nanosecond()).unwrap_or(i64::MAX);
                let newest: &mut i64 = newest.entry(symbol).or_insert(at);
                *newest = at.max(*newest);
            }
        }
        Ok(newest)
    }
}
