//! A websocket over tokio: dialling, TLS and handshake, then messages by polling.
//!
//! The protocol is tungstenite's. It is driven directly, through [`Polled`], because one task both reads and writes:
//! the stream of tokio-tungstenite serves a reader and a writer in two tasks, and registers both at each frame, which at one
//! message a frame was a seventh of the producer's time (`docs/decisions/one-websocket-library.md`).

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use alpaca_feed::lifecycle::DialFailure;
use alpaca_feed::message::Codec;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::HandshakeError;
use tokio_tungstenite::tungstenite::handshake::client::{ClientHandshake, Request};
use tokio_tungstenite::tungstenite::http::header::CONTENT_TYPE;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Uri};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket};

type Stream = MaybeTlsStream<TcpStream>;

/// Sweet spot of the read buffer: larger ones cost more than they save.
const READ_BUFFER_BYTES: usize = 64 * 1024;
/// News frames can be huge; a limit guards the memory only.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Pongs and requests that a peer does not take: more is not kept for it.
const UNSENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// An open websocket.
pub(crate) struct Socket(WebSocket<Polled>);

impl Socket {
    /// The next message, control frames included; pings and a close are answered at the next read.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, Error>> {
        self.0.get_mut().wake(cx.waker());
        or_pending(self.0.read())
    }

    /// Brings what was written to the peer.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.get_mut().wake(cx.waker());
        or_pending(self.0.flush())
    }

    /// Puts a message into the buffer. It never waits: what the peer does not take yet stays for [`Self::poll_flush`].
    pub(super) fn write(&mut self, message: Message) -> Result<(), Error> {
        self.0.write(message)
    }
}

/// A stream of tokio as the blocking kind that tungstenite reads: what would wait is `WouldBlock`, and wakes the task that
/// polled last.
struct Polled {
    stream: Stream,
    waker: Waker,
}

impl Polled {
    fn wake(&mut self, waker: &Waker) {
        self.waker.clone_from(waker);
    }

    fn poll<T>(
        &mut self,
        operation: impl FnOnce(Pin<&mut Stream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> io::Result<T> {
        match operation(Pin::new(&mut self.stream), &mut Context::from_waker(&self.waker)) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Read for Polled {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        self.poll(|stream, cx| stream.poll_read(cx, &mut buffer))?;
        Ok(buffer.filled().len())
    }
}

impl Write for Polled {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.poll(|stream, cx| stream.poll_write(cx, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.poll(|stream, cx| stream.poll_flush(cx))
    }
}

fn or_pending<T>(result: Result<T, Error>) -> Poll<Result<T, Error>> {
    match result {
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

/// Connects, by TLS for `wss`, and shakes hands.
pub(super) async fn dial(url: String, codec: Codec) -> Result<Socket, DialFailure> {
    let unusable =
        |what: &str, error: &dyn std::fmt::Display| DialFailure::Unreachable(format!("{what}: {error}"));
    let mut request = url.as_str().into_client_request().map_err(|e| unusable(&url, &e))?;
    let content_type = match codec {
        Codec::Json => "application/json",
        Codec::MessagePack => "application/msgpack",
    };
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    let (host, port) = address(request.uri()).ok_or_else(|| unusable(&url, &"there is no host"))?;
    let peer = format!("{host}:{port}");
    let tcp = TcpStream::connect((host.as_str(), port)).await.map_err(|e| unusable(&peer, &e))?;
    tcp.set_nodelay(true).map_err(|e| unusable(&peer, &e))?;
    let stream = if request.uri().scheme_str() == Some("wss") {
        let name = ServerName::try_from(host).map_err(|e| unusable(&peer, &e))?;
        let tls = TlsConnector::from(trusting().await?).connect(name, tcp).await;
        MaybeTlsStream::Rustls(tls.map_err(|e| unusable(&format!("TLS with {peer}"), &e))?)
    } else {
        MaybeTlsStream::Plain(tcp)
    };
    match handshake(request, stream).await {
        Ok(socket) => Ok(socket),
        Err(Error::Http(response)) => Err(DialFailure::Http(response.status().as_u16())),
        Err(error) => Err(unusable(&format!("the handshake with {peer}"), &error)),
    }
}

async fn handshake(request: Request, stream: Stream) -> Result<Socket, Error> {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_write_buffer_size(UNSENT_BYTES_MAX)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let polled = Polled { stream, waker: Waker::noop().clone() };
    let mut unfinished = Some(ClientHandshake::start(polled, request, Some(config))?);
    poll_fn(|cx| {
        let Some(mut handshake) = unfinished.take() else { return Poll::Pending };
        handshake.get_mut().get_mut().wake(cx.waker());
        match handshake.handshake() {
            Ok((socket, _response)) => Poll::Ready(Ok(Socket(socket))),
            Err(HandshakeError::Failure(error)) => Poll::Ready(Err(error)),
            Err(HandshakeError::Interrupted(handshake)) => {
                unfinished = Some(handshake);
                Poll::Pending
            }
        }
    })
    .await
}

/// Believes the authorities that are built in and those of the system, or of `SSL_CERT_FILE` in their stead. They are read
/// once, and not by the pump's thread: a file that hangs must not keep it from hearing the switch.
async fn trusting() -> Result<Arc<ClientConfig>, DialFailure> {
    static TRUST: OnceCell<Arc<ClientConfig>> = OnceCell::const_new();
    let read = || async { tokio::task::spawn_blocking(trust).await };
    let config = TRUST.get_or_try_init(read).await;
    config.map(Arc::clone).map_err(|e| DialFailure::Unreachable(e.to_string()))
}

fn trust() -> Arc<ClientConfig> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let system = rustls_native_certs::load_native_certs();
    if let Some(error) = system.errors.first() {
        tracing::warn!(%error, "the system's certificates cannot all be read");
    }
    roots.add_parsable_certificates(system.certs);
    Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

fn address(uri: &Uri) -> Option<(String, u16)> {
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
    let default = if uri.scheme_str() == Some("wss") { 443 } else { 80 };
    Some((host, uri.port_u16().unwrap_or(default)))
}
