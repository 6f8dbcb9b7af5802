//! Alpaca's historical data over HTTP: one page of one channel at a time, as the stream would have sent it.
//!
//! Rows have the letters of the stream's messages without type and symbol, so a page is written as a frame and read by
//! the stream's own decoder: there is one reading of a trade. The venue counts the calls of an account, so its limit, as
//! its own headers tell it, is one for all of a process. Whoever calls decides what to ask again; nothing here retries.

mod latest;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alpaca_feed::decode::Decoder;
use alpaca_feed::message::{Batch, Codec, Event};
use alpaca_feed::subscription::Channel;
use anyhow::Context as _;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep_until};

use crate::config::{Credentials, History};

/// Rows in one page, the venue's most.
const PAGE_ROWS: u32 = 10_000;
/// Articles in one page, the venue's most.
const PAGE_ARTICLES: u32 = 50;
/// A page that is not complete by then is asked for again.
const PAGE_LIMIT: Duration = Duration::from_secs(30);
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// No page is longer; a page of 10,000 trades has about 1.5 MB.
const PAGE_BYTES_MAX: usize = 64 << 20;
/// Waited for where the venue says that there were too many calls and not until when.
const LIMITED_PAUSE: Duration = Duration::from_secs(10);
/// Alpaca's code for data that the plan gives fifteen minutes late.
const TOO_RECENT: u64 = 42_210_000;
/// Characters of a refusal that are kept.
const MESSAGE_CHARS_MAX: usize = 200;

/// What to ask for, page by page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query<'a> {
    pub(crate) history: &'a History,
    pub(crate) channel: Channel,
    /// Named symbols, because the venue takes no wildcard; none for all news.
    pub(crate) symbols: &'a [String],
    /// First market time, nanoseconds since 1970, inclusive.
    pub(crate) from: i64,
    /// Last market time, inclusive.
    pub(crate) to: i64,
}

/// Some rows, in the venue's order: by symbol, then by time.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) events: Vec<Event>,
    /// Rows that could not be read.
    pub(crate) malformed: u64,
    /// Asks for the page that follows; none at the end.
    pub(crate) next: Option<String>,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestError {
    /// The venue counts calls, and there were too many.
    #[error("too many calls; the next in {0:?}")]
    Limited(Duration),
    /// The plan gives this data fifteen minutes late.
    #[error("the plan gives this data fifteen minutes late")]
    TooRecent,
    /// The venue cannot answer now.
    #[error("the venue answered {0}")]
    Failing(StatusCode),
    /// The venue will never answer this.
    #[error("the venue refused with {status}: {message}")]
    Refused { status: StatusCode, message: String },
    /// The venue was not reached, or broke off.
    #[error("the venue was not reached")]
    Unreachable(#[from] reqwest::Error),
    /// Something else answered.
    #[error("an answer that is no page: {0}")]
    Unreadable(String),
}

/// A client of one venue and account; its clones share the limit of calls.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    credentials: Credentials,
    /// No call before then.
    // Locked twice a call, never across an await.
    closed_until: Arc<Mutex<Option<Instant>>>,
}

impl Client {
    pub(crate) fn new(credentials: Credentials) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(PAGE_LIMIT)
            .connect_timeout(CONNECT_LIMIT)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("the HTTP client cannot be built")?;
        Ok(Self { http, credentials, closed_until: Arc::default() })
    }

    /// The body of an answer, once the venue wants another call.
    ///
    /// Cancel safe.
    async fn get(&self, url: String, parameters: &[(&'static str, String)]) -> Result<Vec<u8>, RestError> {
        while let Some(until) = self.closed_until() {
            sleep_until(until).await;
        }
        let mut response = self
            .http
            .get(url)
            .query(parameters)
            .header("APCA-API-KEY-ID", self.credentials.key.expose_secret())
            .header("APCA-API-SECRET-KEY", self.credentials.secret.expose_secret())
            .send()
            .await?;
        let status = response.status();
        let mut pause = pause(response.headers());
        if status == StatusCode::TOO_MANY_REQUESTS {
            pause = pause.or(Some(LIMITED_PAUSE));
        }
        if let Some(pause) = pause {
            let mut until = self.closed_until.lock().unwrap_or_else(PoisonError::into_inner);
            *until = (*until).max(Some(Instant::now() + pause));
        }
        let mut body = Vec::new();
        while let Some(bytes) = response.chunk().await? {
            if body.len() + bytes.len() > PAGE_BYTES_MAX {
                return Err(RestError::Unreadable(format!("more than {PAGE_BYTES_MAX} bytes")));
            }
            body.extend_from_slice(&bytes);
        }
        if status.is_success() { Ok(body) } else { Err(refusal(status, pause.unwrap_or_default(), &body)) }
    }

    /// None once calls are wanted.
    fn closed_until(&self) -> Option<Instant> {
        let until = *self.closed_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.filter(|until| Instant::now() < *until)
    }
}

/// Reads pages.
#[derive(Debug)]
pub(crate) struct Rest {
    client: Client,
    decoder: Decoder,
    frame: Vec<u8>,
    batch: Batch,
}

impl Rest {
    pub(crate) fn new(client: Client, decoder: Decoder) -> Self {
        Self { client, decoder, frame: Vec::new(), batch: Batch::default() }
    }

    /// One page, once the venue wants another call.
    ///
    /// Cancel safe: nothing of a page that was given up is kept.
    pub(crate) async fn page(&mut self, query: &Query<'_>, token: Option<&str>) -> Result<Page, RestError> {
        let url = query.history.url(query.channel);
        let body = self.client.get(url, &query.parameters(token)).await?;
        self.read(&body).map(|(events, malformed, next)| Page { events, malformed, next })
    }

    fn read(&mut self, body: &[u8]) -> Result<(Vec<Event>, u64, Option<String>), RestError> {
        self.frame.clear();
        self.frame.push(b'[');
        let mut json = serde_json::Deserializer::from_slice(body);
        let next = (PageSeed { frame: &mut self.frame }).deserialize(&mut json);
        let next = next.map_err(|error| RestError::Unreadable(error.to_string()))?;
        if self.frame.last() == Some(&b',') {
            self.frame.pop();
        }
        self.frame.push(b']');
        self.batch.clear();
        self.decoder.decode(Codec::Json, &self.frame, &mut self.batch);
        Ok((std::mem::take(&mut self.batch.events), self.batch.malformed.count, next))
    }
}

impl Query<'_> {
    fn parameters(&self, token: Option<&str>) -> Vec<(&'static str, String)> {
        let limit = if self.channel == Channel::News { PAGE_ARTICLES } else { PAGE_ROWS };
        let mut parameters = vec![
            ("start", rfc3339(self.from)),
            ("end", rfc3339(self.to)),
            ("limit", limit.to_string()),
            ("sort", "asc".to_owned()),
        ];
        if !self.symbols.is_empty() {
            parameters.push(("symbols", self.symbols.join(",")));
        }
        if self.channel == Channel::Bars {
            parameters.push(("timeframe", "1Min".to_owned()));
        }
        if let Some(feed) = self.history.feed {
            // Symbols by their names of that day, and prices as they were.
            parameters.extend([("feed", feed.to_owned()), ("asof", "-".to_owned())]);
            if self.channel == Channel::Bars {
                parameters.push(("adjustment", "raw".to_owned()));
            }
        }
        if self.channel == Channel::News {
            parameters.push(("include_content", "true".to_owned()));
        }
        parameters.extend(token.map(|token| ("page_token", token.to_owned())));
        parameters
    }
}

fn rfc3339(ns: i64) -> String {
    // Every i64 of nanoseconds is within jiff's range.
    jiff::Timestamp::from_nanosecond(i128::from(ns)).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

/// How long the venue wants no calls, by its headers.
fn pause(headers: &HeaderMap) -> Option<Duration> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<i64>().ok();
    if number("x-ratelimit-remaining")? > 0 {
        return None;
    }
    let left = number("x-ratelimit-reset")?.saturating_sub(jiff::Timestamp::now().as_second());
    // The reset is told in whole seconds; a clock that is off must not stop us for long.
    Some(Duration::from_secs(left.clamp(0, 65) as u64 + 1))
}

fn refusal(status: StatusCode, pause: Duration, body: &[u8]) -> RestError {
    #[derive(Default, Deserialize)]
    struct Refusal {
        #[serde(default)]
        code: u64,
        #[serde(default)]
        message: String,
    }
    let told: Refusal = serde_json::from_slice(body).unwrap_or_default();
    match status {
        StatusCode::TOO_MANY_REQUESTS => RestError::Limited(pause),
        StatusCode::FORBIDDEN if told.code == TOO_RECENT => RestError::TooRecent,
        StatusCode::REQUEST_TIMEOUT => RestError::Failing(status),
        _ if status.is_server_error() => RestError::Failing(status),
        _ => {
            let message = told.message.chars().take(MESSAGE_CHARS_MAX).collect();
            RestError::Refused { status, message }
        }
    }
}

/// Writes the rows of a page into a frame; yields the token of the next page.
struct PageSeed<'a> {
    frame: &'a mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for PageSeed<'_> {
    type Value = Option<String>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for PageSeed<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a page of trades, quotes, bars or news")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut next = None;
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match &*key {
                "next_page_token" => next = map.next_value()?,
                "trades" => map.next_value_seed(BySymbol { frame: self.frame, letter: 't' })?,
                "quotes" => map.next_value_seed(BySymbol { frame: self.frame, letter: 'q' })?,
                "bars" => map.next_value_seed(BySymbol { frame: self.frame, letter: 'b' })?,
                "news" => map.next_value_seed(Rows { frame: self.frame, head: r#"{"T":"n","# })?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(next)
    }
}

/// `{"AAPL": [row, …], …}`; null for a page without rows.
struct BySymbol<'a> {
    frame: &'a mut Vec<u8>,
    letter: char,
}

impl<'de> DeserializeSeed<'de> for BySymbol<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for BySymbol<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("rows by symbol")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(symbol) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            // A string is always written.
            let symbol = serde_json::to_string(&symbol).unwrap_or_default();
            let head = format!(r#"{{"T":"{}","S":{symbol},"#, self.letter);
            map.next_value_seed(Rows { frame: self.frame, head: &head })?;
        }
        Ok(())
    }
}

/// `[row, …]`; null for none.
struct Rows<'a> {
    frame: &'a mut Vec<u8>,
    /// The beginning of the stream's message, in place of the row's brace.
    head: &'a str,
}

impl<'de> DeserializeSeed<'de> for Rows<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Rows<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of rows")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<(), A::Error> {
        while let Some(row) = rows.next_element::<&'de RawValue>()? {
            let row = row.get();
            if is_void(row) {
                continue;
            }
            let fields = row.strip_prefix('{').filter(|fields| !fields.trim_start().starts_with('}'));
            if let Some(fields) = fields {
                self.frame.extend_from_slice(self.head.as_bytes());
                self.frame.extend_from_slice(fields.as_bytes());
            } else {
                // No row, or an empty one; the decoder counts it.
                self.frame.extend_from_slice(row.as_bytes());
            }
            self.frame.push(b',');
        }
        Ok(())
    }
}

/// A trade that was cancelled or replaced: the stream would have taken it back.
fn is_void(row: &str) -> bool {
    #[derive(Deserialize)]
    struct Update<'a> {
        #[serde(borrow)]
        u: Option<std::borrow::Cow<'a, str>>,
    }
    // Looked for first, so that ordinary rows are not parsed twice.
    row.contains(r#""u""#)
        && serde_json::from_str::<Update<'_>>(row)
            .is_ok_and(|row| matches!(row.u.as_deref(), Some("canceled" | "incorrect")))
}

#[cfg(test)]
mod tests;
