//! A plain client for the tests: tokio-tungstenite for the frames, rmpv for MessagePack.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::time::Duration;

use alpaca_sim::{Config, Feed, Pace, Synthetic, Timings, Venue};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// How long anything may take that should come at once.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    Json,
    Msgpack,
}

pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    codec: Codec,
}

/// What a client gets from the venue.
#[derive(Debug, PartialEq)]
pub(crate) enum Got {
    Frame(Vec<Value>),
    Ping,
    Pong(Vec<u8>),
    /// A Close frame came.
    Close,
    /// The connection ended, with or without an error.
    End,
}

impl Client {
    pub(crate) async fn open(venue: &Venue, path: &str, codec: Codec) -> Client {
        Client::open_with(venue, path, codec, &[]).await.unwrap()
    }

    pub(crate) async fn open_with(
        venue: &Venue,
        path: &str,
        codec: Codec,
        headers: &[(&'static str, &str)],
    ) -> Result<Client, Error> {
        let mut request = venue.url(path).into_client_request().unwrap();
        let kind = if codec == Codec::Json { "application/json" } else { "application/msgpack" };
        request.headers_mut().insert("Content-Type", kind.parse().unwrap());
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let (socket, _) = tokio::time::timeout(LIMIT, connect_async(request)).await.unwrap()?;
        Ok(Client { socket, codec })
    }

    /// Opens a session and authenticates as `key`.
    pub(crate) async fn sign_in(venue: &Venue, path: &str, codec: Codec, key: &str) -> Client {
        let mut client = Client::open(venue, path, codec).await;
        client.expect(json!({"T": "success", "msg": "connected"})).await;
        client.say(auth(key, "secret")).await;
        client.expect(json!({"T": "success", "msg": "authenticated"})).await;
        client
    }

    /// Signs in and subscribes to these channels with these symbols.
    pub(crate) async fn subscribe(venue: &Venue, path: &str, codec: Codec, request: Value) -> Client {
        let mut client = Client::sign_in(venue, path, codec, "key").await;
        client.say(request).await;
        let ack = client.control().await;
        assert_eq!(ack["T"], "subscription");
        client
    }

    pub(crate) async fn say(&mut self, message: Value) {
        let message = match self.codec {
            Codec::Json => Message::text(message.to_string()),
            Codec::Msgpack => {
                let mut bytes = Vec::new();
                rmpv::encode::write_value(&mut bytes, &to_msgpack(&message)).unwrap();
                Message::binary(bytes)
            }
        };
        self.socket.send(message).await.unwrap();
    }

    pub(crate) async fn next_within(&mut self, limit: Duration) -> Option<Got> {
        let next = tokio::time::timeout(limit, self.socket.next()).await.ok()?;
        Some(match next {
            None | Some(Err(_)) => Got::End,
            Some(Ok(Message::Text(text))) => {
                assert_eq!(self.codec, Codec::Json, "text on a MessagePack stream");
                Got::Frame(serde_json::from_str(&text).unwrap())
            }
            Some(Ok(Message::Binary(bytes))) => {
                assert_eq!(self.codec, Codec::Msgpack, "binary on a JSON stream");
                let mut rest = &bytes[..];
                let value = rmpv::decode::read_value(&mut rest).unwrap();
                assert!(rest.is_empty(), "bytes after the array");
                Got::Frame(value.as_array().unwrap().iter().map(from_msgpack).collect())
            }
            Some(Ok(Message::Ping(_))) => Got::Ping,
            Some(Ok(Message::Pong(payload))) => Got::Pong(payload.to_vec()),
            Some(Ok(Message::Close(_) | Message::Frame(_))) => Got::Close,
        })
    }

    pub(crate) async fn next(&mut self) -> Got {
        self.next_within(LIMIT).await.unwrap()
    }

    /// The elements of the next frame with messages; pings are passed over.
    pub(crate) async fn frame(&mut self) -> Vec<Value> {
        loop {
            match self.next().await {
                Got::Frame(elements) => return elements,
                Got::Ping | Got::Pong(_) => {}
                end @ (Got::Close | Got::End) => panic!("a frame was expected, got {end:?}"),
            }
        }
    }

    /// The next control message, which must be alone in its frame; data frames are passed over.
    pub(crate) async fn control(&mut self) -> Value {
        loop {
            let mut elements = self.frame().await;
            let kind = elements[0]["T"].as_str().unwrap().to_owned();
            if matches!(&*kind, "success" | "error" | "subscription") {
                assert_eq!(elements.len(), 1, "a control message has company");
                return elements.remove(0);
            }
        }
    }

    pub(crate) async fn expect(&mut self, control: Value) {
        assert_eq!(self.control().await, control);
    }

    pub(crate) async fn expect_error(&mut self, code: u16) {
        let error = self.control().await;
        assert_eq!((&error["T"], &error["code"]), (&json!("error"), &json!(code)));
        assert!(error["msg"].is_string());
    }

    /// Reads data until `count` elements are there.
    pub(crate) async fn elements(&mut self, count: usize) -> Vec<Value> {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(self.frame().await);
        }
        all
    }

    /// Reads until the connection ends; the data that came before, and whether a Close frame came.
    pub(crate) async fn until_end(&mut self) -> (Vec<Value>, bool) {
        let (mut all, mut closed) = (Vec::new(), false);
        loop {
            match self.next().await {
                Got::Frame(elements) => all.extend(elements),
                Got::Ping | Got::Pong(_) => {}
                Got::Close => closed = true,
                Got::End => return (all, closed),
            }
        }
    }

    /// True when nothing but pings comes for so long.
    pub(crate) async fn is_silent_for(&mut self, limit: Duration) -> bool {
        let quiet = async {
            loop {
                match self.next_within(LIMIT).await {
                    Some(Got::Ping) => {}
                    _ => return,
                }
            }
        };
        tokio::time::timeout(limit, quiet).await.is_err()
    }
}

pub(crate) fn auth(key: &str, secret: &str) -> Value {
    json!({"action": "auth", "key": key, "secret": secret})
}

fn to_msgpack(value: &Value) -> rmpv::Value {
    match value {
        Value::Null => rmpv::Value::Nil,
        Value::Bool(b) => (*b).into(),
        Value::Number(n) => n.as_i64().map_or_else(|| n.as_f64().unwrap().into(), rmpv::Value::from),
        Value::String(s) => s.as_str().into(),
        Value::Array(items) => rmpv::Value::Array(items.iter().map(to_msgpack).collect()),
        Value::Object(map) => {
            rmpv::Value::Map(map.iter().map(|(k, v)| (k.as_str().into(), to_msgpack(v))).collect())
        }
    }
}

/// Timestamps become text again; in elements `T` must be the first key, as strict clients want it.
fn from_msgpack(value: &rmpv::Value) -> Value {
    match value {
        rmpv::Value::Nil => Value::Null,
        rmpv::Value::Boolean(b) => (*b).into(),
        rmpv::Value::Integer(n) => n.as_u64().map_or_else(|| n.as_i64().unwrap().into(), Value::from),
        rmpv::Value::F32(f) => f64::from(*f).into(),
        rmpv::Value::F64(f) => (*f).into(),
        rmpv::Value::String(s) => s.as_str().unwrap().into(),
        rmpv::Value::Binary(_) => panic!("binary data in a message"),
        rmpv::Value::Array(items) => items.iter().map(from_msgpack).collect(),
        rmpv::Value::Map(pairs) => {
            let keys: Vec<_> = pairs.iter().map(|(k, _)| k.as_str().unwrap()).collect();
            let place = keys.iter().position(|k| *k == "T");
            assert!(place.is_none_or(|i| i == 0), "T is not the first of {keys:?}");
            pairs.iter().map(|(k, v)| (k.as_str().unwrap().to_owned(), from_msgpack(v))).collect()
        }
        rmpv::Value::Ext(kind, bytes) => {
            assert_eq!(*kind, -1, "an extension that is no timestamp");
            timestamp(bytes).to_string().into()
        }
    }
}

fn timestamp(bytes: &[u8]) -> jiff::Timestamp {
    let (seconds, nanos) = match bytes.len() {
        4 => (i64::from(u32::from_be_bytes(bytes.try_into().unwrap())), 0),
        8 => {
            let both = u64::from_be_bytes(bytes.try_into().unwrap());
            ((both & ((1 << 34) - 1)) as i64, (both >> 34) as i32)
        }
        12 => {
            let nanos = u32::from_be_bytes(bytes[..4].try_into().unwrap());
            (i64::from_be_bytes(bytes[4..].try_into().unwrap()), nanos as i32)
        }
        other => panic!("a timestamp of {other} bytes"),
    };
    jiff::Timestamp::new(seconds, nanos).unwrap()
}

/// Equality that takes `12` and `12.0` for the same number.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => {
            x.as_u64().is_some_and(|n| Some(n) == y.as_u64()) || x.as_f64() == y.as_f64()
        }
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(a, b)| same(a, b)),
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len() && x.iter().all(|(k, v)| y.get(k).is_some_and(|w| same(v, w)))
        }
        _ => a == b,
    }
}

/// A venue on a synthetic market of `count` elements, taken at the client's pace.
pub(crate) fn taken(count: usize) -> Config {
    Config {
        feed: Feed::Synthetic(Synthetic { messages: Some(count), symbols: 40, ..Synthetic::default() }),
        ..Config::default()
    }
}

/// A venue on an endless market in real time.
pub(crate) fn live(rate_per_s: f64) -> Config {
    Config {
        feed: Feed::Synthetic(Synthetic { rate_per_s, symbols: 20, ..Synthetic::default() }),
        ..Config::default()
    }
}

/// Clocks that tick fast enough for a test.
pub(crate) fn quick() -> Timings {
    Timings {
        auth_limit: Duration::from_millis(300),
        ping_interval: Duration::from_millis(200),
        pong_limit: Duration::from_millis(300),
        refused_hold: Duration::from_millis(500),
    }
}

/// The recorded session in `../shared`, or `None`, said aloud, where it is not there.
pub(crate) fn recorded(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("NO RECORDED DATA: {} is not there; the synthetic market stands in", path.display());
    None
}

/// The recorded five minutes around the open, or the synthetic market in their place.
pub(crate) fn recorded_or_synthetic() -> Feed {
    match recorded("equities_smoke.ndjson.gz") {
        Some(path) => Feed::Tape { paths: vec![path], pace: Pace::AsTaken, looped: false },
        None => Feed::Synthetic(Synthetic { messages: Some(16_000), ..Synthetic::default() }),
    }
}
