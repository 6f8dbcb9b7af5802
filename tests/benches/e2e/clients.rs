//! Rust clients to compare with, each in a process of its own: this program starts itself again.
//!
//! `raw` is the least that a client can do: it takes frames off a blocking socket by hand and decodes them, and nothing
//! else. `serde` is what one would write first: tokio-tungstenite, a tagged enum, owned texts, a date-time type.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use alpaca_feed::decode::Decoder;
use alpaca_feed::encode::{Request, encode};
use alpaca_feed::message::{Batch, Codec, Control, Event};
use alpaca_feed::subscription::{Channel, Subscriptions};
use alpaca_feed::symbol::Symbols;
use futures_util::{SinkExt, StreamExt};
use market_ingest::lag::Lags;
use serde::Deserialize;
use tokio_tungstenite::tungstenite::Message;

/// After the last message, so that whoever measures sees the end before the process is gone.
const LINGER: Duration = Duration::from_millis(300);

/// Runs as a client if the arguments say so.
pub(crate) fn run_if_asked() -> bool {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [flag, name, url, expected] = arguments.as_slice() else { return false };
    if flag != "--client" {
        return false;
    }
    let expected = expected.parse().expect("a number");
    match name.as_str() {
        "raw-msgpack" => raw(url, Codec::MessagePack, expected),
        "raw-json" => raw(url, Codec::Json, expected),
        "serde" => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(idiomatic(url, expected)),
        other => panic!("no client {other}"),
    }
    std::thread::sleep(LINGER);
    true
}

/// This program as a client.
pub(crate) fn ourselves(client: &str, url: &str, expected: u64) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--client", client, url, &expected.to_string()]);
    command
}

fn raw(url: &str, codec: Codec, expected: u64) {
    let mut raw = Raw::open(url, codec);
    let mut decoder = Decoder::new(Symbols::new());
    let mut batch = Batch::default();
    let lags = Lags::default();
    let mut total = 0;
    while total < expected {
        assert!(raw.fill(), "the venue closed after {total}");
        while let Some(frame) = raw.next() {
            decoder.decode(codec, frame.payload, &mut batch);
        }
        // As the producer counts it: by the oldest of what is delivered together.
        if let Some(oldest) = batch.events.iter().map(Event::ts).min() {
            let now = jiff::Timestamp::now().as_nanosecond() as i64;
            lags.record(now.saturating_sub(oldest), batch.events.len() as u64);
        }
        total += batch.events.len() as u64;
        raw.answer(codec, &mut batch);
        batch.clear();
    }
    assert_eq!(total, expected);
    println!("{}", serde_json::to_string(&lags.quantiles()).expect("numbers"));
}

/// A websocket over a blocking socket, unframed by hand; the venue sends whole, unmasked frames.
pub(crate) struct Raw {
    socket: TcpStream,
    buffer: Vec<u8>,
    /// What of the buffer was taken, and to where it is filled.
    at: usize,
    filled: usize,
}

/// One frame.
pub(crate) struct RawFrame<'a> {
    pub(crate) whole: &'a [u8],
    pub(crate) payload: &'a [u8],
}

impl Raw {
    pub(crate) fn open(url: &str, codec: Codec) -> Self {
        let (host, path) =
            url.strip_prefix("ws://").and_then(|url| url.split_once('/')).expect("ws://HOST/PATH");
        let mut socket = TcpStream::connect(host).expect("a venue");
        socket.set_nodelay(true).expect("an option");
        let kind = if codec == Codec::Json { "json" } else { "msgpack" };
        let request = format!(
            "GET /{path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Content-Type: application/{kind}\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).expect("a request");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).expect("an answer");
            head.push(byte[0]);
        }
        Self { socket, buffer: vec![0; 64 << 10], at: 0, filled: 0 }
    }

    /// From now on [`Self::fill`] gives up when nothing came for so long.
    pub(crate) fn give_up_after(&self, after: Duration) {
        self.socket.set_read_timeout(Some(after)).expect("an option");
    }

    /// Waits for more; false when there will be none.
    pub(crate) fn fill(&mut self) -> bool {
        self.buffer.copy_within(self.at..self.filled, 0);
        (self.at, self.filled) = (0, self.filled - self.at);
        if self.filled == self.buffer.len() {
            self.buffer.resize(2 * self.filled, 0);
        }
        let more = self.socket.read(&mut self.buffer[self.filled..]).unwrap_or(0);
        self.filled += more;
        more > 0
    }

    /// The next frame that is there as a whole.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<RawFrame<'_>> {
        let bytes = &self.buffer[self.at..self.filled];
        let (head, len) = match *bytes.get(1)? {
            126 => (4, usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?))),
            127 => (10, u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?) as usize),
            len => (2, usize::from(len)),
        };
        let whole = bytes.get(..head + len)?;
        self.at += whole.len();
        Some(RawFrame { whole, payload: &whole[head..] })
    }

    /// Answers what the venue says until the subscription stands: a login, and all trades, quotes and bars.
    pub(crate) fn answer(&mut self, codec: Codec, batch: &mut Batch) {
        for control in batch.control.drain(..) {
            let channels = [Channel::Trades, Channel::Quotes, Channel::Bars];
            let wanted: Subscriptions = channels.into_iter().map(|channel| (channel, "*")).collect();
            let request = match control {
                Control::Connected => Request::Auth { key: "raw", secret: "secret" },
                Control::Authenticated => Request::Subscribe(&wanted),
                Control::OtherSuccess(_) | Control::Error { .. } | Control::Subscription(_) => continue,
            };
            self.send(codec, &request);
        }
    }

    /// One masked frame; the mask may be zero.
    fn send(&mut self, codec: Codec, request: &Request<'_>) {
        let mut payload = Vec::new();
        encode(codec, request, &mut payload);
        let opcode = if codec == Codec::Json { 0x81 } else { 0x82 };
        let len = u16::try_from(payload.len()).expect("a short request");
        let mut frame = vec![opcode, 0x80 | 126];
        frame.extend(len.to_be_bytes());
        frame.extend([0; 4]);
        frame.extend(payload);
        self.socket.write_all(&frame).expect("a request");
    }
}

/// What the documentation of the stream suggests to write.
#[derive(Debug, Deserialize)]
#[serde(tag = "T")]
#[allow(dead_code)]
enum Element {
    #[serde(rename = "t")]
    Trade {
        #[serde(rename = "S")]
        symbol: String,
        i: u64,
        x: String,
        p: f64,
        s: f64,
        c: Vec<String>,
        z: String,
        t: jiff::Timestamp,
    },
    #[serde(rename = "q")]
    Quote {
        #[serde(rename = "S")]
        symbol: String,
        bx: String,
        bp: f64,
        bs: f64,
        ax: String,
        ap: f64,
        #[serde(rename = "as")]
        ask_size: f64,
        c: Vec<String>,
        z: String,
        t: jiff::Timestamp,
    },
    #[serde(rename = "b")]
    Bar {
        #[serde(rename = "S")]
        symbol: String,
        o: f64,
        h: f64,
        l: f64,
        c: f64,
        v: f64,
        t: jiff::Timestamp,
        n: u64,
        vw: f64,
    },
    #[serde(rename = "c")]
    Correction {},
    #[serde(rename = "x")]
    Cancel {},
    #[serde(rename = "success")]
    Success { msg: String },
    #[serde(rename = "subscription")]
    Subscription {},
}

async fn idiomatic(url: &str, expected: u64) {
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("a venue");
    let (mut total, began) = (0, Instant::now());
    while total < expected {
        assert!(began.elapsed() < super::LIMIT, "{total} of {expected}");
        let message = socket.next().await.expect("data").expect("data");
        let Message::Text(text) = message else { continue };
        for element in serde_json::from_str::<Vec<Element>>(&text).expect("elements") {
            let answer = match &element {
                Element::Success { msg } if msg == "connected" => {
                    r#"{"action":"auth","key":"serde","secret":"secret"}"#
                }
                Element::Success { .. } => {
                    r#"{"action":"subscribe","trades":["*"],"quotes":["*"],"bars":["*"]}"#
                }
                Element::Subscription {} => continue,
                Element::Trade { .. }
                | Element::Quote { .. }
                | Element::Bar { .. }
                | Element::Correction {}
                | Element::Cancel {} => {
                    std::hint::black_box(&element);
                    total += 1;
                    continue;
                }
            };
            socket.send(Message::text(answer)).await.expect("a request");
        }
    }
    assert_eq!(total, expected);
}
