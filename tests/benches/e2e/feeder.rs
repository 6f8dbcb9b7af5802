//! A venue that costs little: frames that were recorded from the simulator before, written as fast as they are taken or
//! at a rate, plain and by TLS, from a process of its own. Whoever connects is greeted, believed and fed.
//!
//! At a rate each message's time is set to that of its writing, so that the receiver can tell how long it was on its way.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use alpaca_feed::decode::Decoder;
use alpaca_feed::message::{Batch, Codec};
use alpaca_feed::symbol::Symbols;
use e2e::child::Process;
use e2e::producer::Setup;
use e2e::venue::Venue;
use e2e::{tls, wait_for};
use tokio_rustls::rustls::{ServerConnection, StreamOwned};
use tokio_tungstenite::tungstenite;

use super::LIMIT;
use super::clients::Raw;

/// Written at once, where there is no rate.
const WRITE_BYTES: usize = 256 << 10;
/// A recording is over when nothing came for so long.
const OVER_AFTER: Duration = Duration::from_secs(1);
/// How a message's own time begins in MessagePack: the key, and a timestamp of eight bytes.
const STAMP_HEAD: [u8; 4] = [0xa1, b't', 0xd7, 0xff];

/// What a feeder feeds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Feed {
    pub(crate) codec: &'static str,
    pub(crate) per_frame: &'static str,
    pub(crate) symbols: &'static str,
    /// Sent over and over.
    pub(crate) recorded: u64,
    pub(crate) messages: u64,
    /// Messages a second, stamped, without bars; MessagePack only. 0: as fast as they are taken.
    pub(crate) rate: u64,
}

/// A running feeder.
pub(crate) struct Feeder {
    pub(crate) url: String,
    pub(crate) tls_url: String,
    pub(crate) certificate: PathBuf,
    /// What each connection gets, in all.
    pub(crate) messages: u64,
    pub(crate) process: Process,
}

impl Feeder {
    /// Records a market of the simulator and begins to listen; its certificate goes into `dir`.
    pub(crate) fn start(feed: &Feed, dir: &Path) -> Self {
        let recorded = feed.recorded.to_string();
        let market = ["--synthetic", "--symbols", feed.symbols, "--messages", &recorded];
        let venue = Venue::start(&[&market[..], &["--per-frame", feed.per_frame]].concat());
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--feeder", &format!("{}/v2/sip", venue.url()), feed.codec]);
        command.args([feed.messages.to_string(), feed.rate.to_string()]).arg(dir);
        let mut process = Process::spawn(&mut command);
        let line = wait_for("the feeder's first line", LIMIT, || {
            assert!(process.is_running(), "the feeder ended: {}", process.stderr());
            process.stdout().first().map(|line| line.text.clone())
        });
        let mut words = line.split(' ');
        let mut word = || words.next().expect("four words").to_owned();
        let (url, tls_url, certificate) = (word(), word(), word().into());
        let messages = word().parse().expect("a number");
        Self { url, tls_url, certificate, messages, process }
    }

    /// A producer of its whole stream, with the `null` sink and its store in `dir`.
    pub(crate) fn setup(&self, by_tls: bool, dir: &Path) -> Setup {
        Setup::bare()
            .var("ALPACA_STREAM_URL", if by_tls { &self.tls_url } else { &self.url })
            .var("SSL_CERT_FILE", self.certificate.display())
            .var("INGEST_STORE", format!("sqlite:{}", dir.join("store.db").display()))
            .var("ALPACA_DATA_FEED", "sip")
            .var("MONITORED_SYMBOLS", "*")
            .var("INGEST_SINKS", "null")
            .var("APCA_API_KEY_ID", "key")
            .var("APCA_API_SECRET_KEY", "secret")
    }
}

/// Runs as a feeder if the arguments say so.
pub(crate) fn run_if_asked() -> bool {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [flag, venue, codec, messages, rate, dir] = arguments.as_slice() else { return false };
    if flag != "--feeder" {
        return false;
    }
    let codec = if codec == "json" { Codec::Json } else { Codec::MessagePack };
    let rate = rate.parse().expect("a rate");
    let market = Market::record(venue, codec, rate > 0, messages.parse().expect("a number"));
    let (plain, secure) = (listen(), listen());
    let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
    let (config, pem) = tls::own_certificate();
    let certificate = Path::new(dir).join(format!("feeder-{}.pem", port(&secure)));
    std::fs::write(&certificate, pem).expect("a file");
    let messages = market.sent.iter().map(|frame| u64::from(frame.messages)).sum::<u64>();
    println!(
        "ws://127.0.0.1:{} wss://localhost:{} {} {messages}",
        port(&plain),
        port(&secure),
        certificate.display()
    );
    let (market, config) = (&market, &config);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for socket in secure.incoming().flatten() {
                let _ = socket.set_nodelay(true);
                let session = ServerConnection::new(Arc::clone(config)).expect("a session");
                scope.spawn(move || market.serve(StreamOwned::new(session, socket), rate));
            }
        });
        for socket in plain.incoming().flatten() {
            let _ = socket.set_nodelay(true);
            scope.spawn(move || market.serve(socket, rate));
        }
    });
    true
}

fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a port")
}

/// Frames as they lie on the wire, and in which order they are sent.
struct Market {
    bytes: Vec<u8>,
    /// Greeting, word on the login, word on the subscription.
    opening: Vec<Vec<u8>>,
    sent: Vec<Frame>,
    stamps: Vec<u32>,
}

#[derive(Clone)]
struct Frame {
    bytes: Range<usize>,
    messages: u32,
    /// Where in `stamps` its times are.
    stamps: Range<usize>,
}

impl Market {
    fn record(venue: &str, codec: Codec, stamped: bool, messages: u64) -> Self {
        let mut raw = Raw::open(venue, codec);
        raw.give_up_after(OVER_AFTER);
        let mut decoder = Decoder::new(Symbols::new());
        let mut batch = Batch::default();
        let mut market =
            Self { bytes: Vec::new(), opening: Vec::new(), sent: Vec::new(), stamps: Vec::new() };
        while raw.fill() {
            while let Some(frame) = raw.next() {
                decoder.decode(codec, frame.payload, &mut batch);
                if batch.control.is_empty() {
                    market.keep(frame.whole, batch.events.len(), stamped);
                } else {
                    market.opening.push(frame.whole.to_vec());
                    raw.answer(codec, &mut batch);
                }
                batch.clear();
            }
        }
        let recorded = market.sent.clone();
        let mut total = 0;
        market.sent = recorded
            .into_iter()
            .cycle()
            .take_while(|frame| {
                let goes_on = total < messages;
                total += u64::from(frame.messages);
                goes_on
            })
            .collect();
        market
    }

    fn keep(&mut self, frame: &[u8], messages: usize, stamped: bool) {
        let begin = self.bytes.len();
        let stamps = self.stamps.len();
        if stamped {
            let heads = frame.windows(STAMP_HEAD.len()).enumerate().filter(|(_, bytes)| *bytes == STAMP_HEAD);
            self.stamps.extend(heads.map(|(at, _)| (at + STAMP_HEAD.len()) as u32));
            if self.stamps.len() - stamps != messages {
                // A bar has whole seconds, and a time of its own.
                self.stamps.truncate(stamps);
                return;
            }
        }
        self.bytes.extend_from_slice(frame);
        let bytes = begin..self.bytes.len();
        self.sent.push(Frame { bytes, messages: messages as u32, stamps: stamps..self.stamps.len() });
    }

    /// One connection, from its greeting to its end.
    fn serve<S: Read + Write>(&self, stream: S, rate: u64) {
        let Ok(mut socket) = tungstenite::accept(stream) else { return };
        let [greeting, login, subscription] = self.opening.as_slice() else { panic!("an opening of three") };
        // Written past the library, which has nothing of its own to write meanwhile.
        let opened = socket.get_mut().write_all(greeting).is_ok()
            && socket.read().is_ok()
            && socket.get_mut().write_all(login).is_ok()
            && socket.read().is_ok()
            && socket.get_mut().write_all(subscription).is_ok();
        let fed =
            opened && if rate > 0 { self.pace(socket.get_mut(), rate) } else { self.blast(socket.get_mut()) };
        // Whoever leaves is let go; pings are answered.
        while fed && socket.read().is_ok() {}
    }

    fn blast(&self, stream: &mut impl Write) -> bool {
        let mut begin = 0;
        let mut end = 0;
        // What lies side by side is written at once.
        for frame in &self.sent {
            if frame.bytes.start != end || end - begin >= WRITE_BYTES {
                if stream.write_all(&self.bytes[begin..end]).is_err() {
                    return false;
                }
                begin = frame.bytes.start;
            }
            end = frame.bytes.end;
        }
        stream.write_all(&self.bytes[begin..end]).and_then(|()| stream.flush()).is_ok()
    }

    fn pace(&self, stream: &mut impl Write, rate: u64) -> bool {
        let mut out = Vec::new();
        let began = Instant::now();
        let mut sent = 0;
        let mut frames = self.sent.iter().peekable();
        while frames.peek().is_some() {
            let due = (began.elapsed().as_nanos() * u128::from(rate) / 1_000_000_000) as u64;
            if sent >= due {
                std::thread::yield_now();
                continue;
            }
            let stamp = stamp_now();
            out.clear();
            while sent < due
                && let Some(frame) = frames.next()
            {
                let begin = out.len();
                out.extend_from_slice(&self.bytes[frame.bytes.clone()]);
                for at in &self.stamps[frame.stamps.clone()] {
                    let at = begin + *at as usize;
                    out[at..at + 8].copy_from_slice(&stamp);
                }
                sent += u64::from(frame.messages);
            }
            if stream.write_all(&out).and_then(|()| stream.flush()).is_err() {
                return false;
            }
        }
        true
    }
}

/// A MessagePack timestamp of eight bytes: 30 bits of nanoseconds, 34 of seconds.
fn stamp_now() -> [u8; 8] {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970");
    (u64::from(now.subsec_nanos()) << 34 | now.as_secs()).to_be_bytes()
}
