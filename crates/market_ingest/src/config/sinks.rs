//! `INGEST_SINKS`: where market data goes.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use axum::http::Uri;
use secrecy::SecretString;

use super::raw::Raw;
use super::{Problems, listing};

/// A place that market data is delivered to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkConfig {
    /// Newest quote per symbol, into the store.
    Quotes,
    /// Every record, as lines of JSON in files of this directory.
    Ndjson(PathBuf),
    /// Every record, in Parquet files of this directory.
    Parquet(PathBuf),
    /// Every record, as messages of a Pub/Sub topic.
    Pubsub(PubsubTopic),
    /// Every record, as messages of a JetStream stream.
    Nats(NatsStream),
    /// Counts and forgets.
    Null,
}

/// A topic of Google Cloud Pub/Sub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PubsubTopic {
    /// `projects/PROJECT/topics/TOPIC`.
    pub name: String,
    /// `host:port` of an emulator; no credentials are needed then.
    pub emulator_host: Option<String>,
}

/// A stream of a NATS server.
#[derive(Clone, Debug)]
pub struct NatsStream {
    /// `nats://host:port` or `tls://host:port`, without credentials.
    pub server: String,
    /// Its name.
    pub stream: String,
    /// What to show the server.
    pub login: NatsLogin,
}

/// One stream is one sink, whoever logs in.
impl PartialEq for NatsStream {
    fn eq(&self, other: &Self) -> bool {
        (&self.server, &self.stream) == (&other.server, &other.stream)
    }
}

impl Eq for NatsStream {}

impl fmt::Display for NatsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.server, self.stream)
    }
}

/// How a NATS server knows us.
#[derive(Clone, Debug)]
pub enum NatsLogin {
    /// It takes everybody.
    Nobody,
    /// By name and password.
    User(String, SecretString),
    /// By a token.
    Token(SecretString),
}

const ACCEPTED: &str = "quotes, ndjson:DIR, parquet:DIR, pubsub:TOPIC, nats:URL/STREAM, null (a comma list)";
const TOPIC: &str = "pubsub:TOPIC or pubsub:projects/PROJECT/topics/TOPIC; a topic is 3 to 255 letters, digits and \
                     any of - . _ ~ + %, begins with a letter and not with goog";
const STREAM: &str = "nats:nats://HOST[:PORT]/STREAM or nats:tls://HOST[:PORT]/STREAM, with USER:PASSWORD@ or TOKEN@ \
                      before the host if need be, in which %2C stands for a comma; a stream is letters, digits, - and _";
const TORN: &str = "nats:nats://USER:PASSWORD@HOST[:PORT]/STREAM, or TOKEN@ before the host; a comma in a login must be \
                    written %2C";

/// All sinks that the environment asks for, each once.
pub(super) fn sinks(raw: &Raw, problems: &mut Problems) -> Option<Vec<SinkConfig>> {
    let mut sinks = Vec::new();
    let mut good = true;
    let text = raw.ingest_sinks.as_deref().unwrap_or("quotes");
    let words: Vec<&str> = listing::words(text).collect();
    let (login_to, torn) = (words.iter().rposition(|word| word.contains('@')), torn_login(&words));
    let mut told_torn = false;
    for (at, word) in words.iter().enumerate() {
        let accepted = match sink(raw, word) {
            Ok(sink) if sinks.contains(&sink) => continue,
            Ok(sink) => {
                sinks.push(sink);
                continue;
            }
            Err(_) if torn.as_ref().is_some_and(|torn| torn.contains(&at)) => TORN,
            Err(accepted) => accepted,
        };
        good = false;
        // Up to the last `@` a word may be a piece of a login, so it is not shown by itself.
        let shown = if login_to.is_some_and(|to| at <= to) { text } else { word };
        if accepted != TORN || !std::mem::replace(&mut told_torn, true) {
            problems.add("INGEST_SINKS", shown, accepted);
        }
    }
    if good && sinks.is_empty() {
        problems.add("INGEST_SINKS", text, ACCEPTED);
        good = false;
    }
    good.then_some(sinks)
}

/// The words that a comma made of one login: the first has the beginning of a URL, the last the end of the login.
fn torn_login(words: &[&str]) -> Option<RangeInclusive<usize>> {
    let first = words.iter().position(|word| word.contains("://") && !word.contains('@'))?;
    let last = words.iter().rposition(|word| word.contains('@') && !word.contains("://"))?;
    (first < last).then_some(first..=last)
}

fn sink(raw: &Raw, word: &str) -> Result<SinkConfig, &'static str> {
    let (kind, target) = word.split_once(':').map_or((word, None), |(kind, t)| (kind, Some(t.trim())));
    match (kind, target) {
        ("quotes", None) => Ok(SinkConfig::Quotes),
        ("null", None) => Ok(SinkConfig::Null),
        ("ndjson", Some(dir)) if !dir.is_empty() => Ok(SinkConfig::Ndjson(PathBuf::from(dir))),
        ("parquet", Some(dir)) if !dir.is_empty() => Ok(SinkConfig::Parquet(PathBuf::from(dir))),
        ("pubsub", Some(topic)) => {
            let emulator_host = raw.pubsub_emulator_host.clone();
            Ok(SinkConfig::Pubsub(PubsubTopic { name: topic_name(raw, topic)?, emulator_host }))
        }
        ("nats", Some(url)) => nats_stream(url).map(SinkConfig::Nats).ok_or(STREAM),
        _ => Err(ACCEPTED),
    }
}

fn topic_name(raw: &Raw, topic: &str) -> Result<String, &'static str> {
    let is_good = |topic: &str| {
        let mut bytes = topic.bytes();
        (3..=255).contains(&topic.len())
            && bytes.next().is_some_and(|first| first.is_ascii_alphabetic())
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-._~+%".contains(&byte))
            && !topic.starts_with("goog")
    };
    match topic.split('/').collect::<Vec<_>>()[..] {
        ["projects", project, "topics", id] if !project.is_empty() && is_good(id) => Ok(topic.to_owned()),
        [id] if is_good(id) => match raw.project() {
            Some(project) => Ok(format!("projects/{project}/topics/{id}")),
            None => Err("pubsub:projects/PROJECT/topics/TOPIC, or pubsub:TOPIC with a project id in \
                         FIRESTORE_PROJECT_ID or GOOGLE_CLOUD_PROJECT"),
        },
        _ => Err(TOPIC),
    }
}

fn nats_stream(text: &str) -> Option<NatsStream> {
    let uri: Uri = text.parse().ok()?;
    let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "nats" | "tls"))?;
    let (login, place) = match uri.authority()?.as_str().rsplit_once('@') {
        Some((login, place)) => (Some(login), place),
        None => (None, uri.authority()?.as_str()),
    };
    let host = uri.host().filter(|host| !host.is_empty())?;
    let port = match place.strip_prefix(host)? {
        "" => 4222,
        port => port.strip_prefix(':')?.parse().ok().filter(|port: &u16| *port != 0)?,
    };
    let stream = uri.path().strip_prefix('/').filter(|stream| !stream.is_empty())?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if uri.query().is_some() || !stream.bytes().all(is_plain) {
        return None;
    }
    let login = match login.map(|login| login.split_once(':').ok_or(login)) {
        None => NatsLogin::Nobody,
        Some(Ok((user, password))) => NatsLogin::User(decoded(user)?, decoded(password)?.into()),
        Some(Err(token)) => NatsLogin::Token(decoded(token)?.into()),
    };
    Some(NatsStream { server: format!("{scheme}://{host}:{port}"), stream: stream.to_owned(), login })
}

/// Text in which `%XX` stands for a byte.
fn decoded(text: &str) -> Option<String> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}
