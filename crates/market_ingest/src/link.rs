//! The connection of a job as a value: none, being dialled, or an open websocket.
//!
//! Aborting is assignment: dropping a link closes its socket. Sending never waits: a message goes
//! into the socket's buffer and is flushed while the next event is awaited, so that a venue that
//! has stopped reading cannot keep a pump from hearing the switch.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use alpaca_feed::lifecycle::{Closed, ConnId, DialFailure};
use alpaca_feed::message::Codec;
use bytes::Bytes;
use futures_util::{Sink, Stream};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::http::header::CONTENT_TYPE;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Uri};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;
type Dial = Pin<Box<dyn Future<Output = Result<Socket, DialFailure>> + Send>>;

/// Sweet spot of the read buffer: larger ones cost more than they save.
const READ_BUFFER_BYTES: usize = 64 * 1024;
/// News frames can be huge; a limit guards the memory only.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// At most one connection, with the name the lifecycle gave it.
pub(crate) enum Link {
    None,
    Dialing(ConnId, Dial),
    Open(ConnId, Box<OpenSocket>),
}

pub(crate) struct OpenSocket {
    socket: Socket,
    unflushed: bool,
    /// What the peer's close frame said.
    farewell: Option<Closed>,
}

/// News about the link.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    Dialed,
    DialFailed(DialFailure),
    /// A text or binary message: the codec goes by payload, not by opcode.
    Frame(Bytes),
    /// A ping or pong.
    Alive,
    /// The connection is no more.
    Closed(Closed),
}

impl Link {
    /// Starts dialling.
    pub(crate) fn dial(conn: ConnId, url: &str, codec: Codec) -> Self {
        Self::Dialing(conn, Box::pin(dial(url.to_owned(), codec)))
    }

    /// Puts a message into the buffer of the connection of that name, if it is still the one.
    pub(crate) fn send(&mut self, conn: ConnId, message: Message) {
        let Self::Open(open_conn, open) = self else { return };
        if *open_conn == conn {
            open.unflushed = true;
            // A failed write shows as the end of the stream at the next read.
            let _ = Pin::new(&mut open.socket).start_send(message);
        }
    }

    /// Says goodbye; the end of the stream is still to come.
    pub(crate) fn close(&mut self, conn: ConnId) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        self.send(conn, Message::Close(Some(frame)));
    }

    /// Drops the connection of that name, whatever it is doing.
    pub(crate) fn abort(&mut self, conn: ConnId) {
        let current = match self {
            Self::None => return,
            Self::Dialing(current, _) | Self::Open(current, _) => *current,
        };
        if current == conn {
            *self = Self::None;
        }
    }

    /// The next news; never, without a connection.
    ///
    /// Cancel safe: what is not returned stays in the link.
    pub(crate) async fn next(&mut self) -> (ConnId, LinkEvent) {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`Self::next`], without waiting: `None` when nothing has arrived.
    pub(crate) fn next_now(&mut self) -> Option<(ConnId, LinkEvent)> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match self.poll_next(&mut cx) {
            Poll::Ready(news) => Some(news),
            Poll::Pending => None,
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<(ConnId, LinkEvent)> {
        match self {
            Self::None => Poll::Pending,
            Self::Dialing(conn, dial) => {
                let conn = *conn;
                let event = match ready!(dial.as_mut().poll(cx)) {
                    Ok(socket) => {
                        let open = OpenSocket { socket, unflushed: false, farewell: None };
                        *self = Self::Open(conn, Box::new(open));
                        LinkEvent::Dialed
                    }
                    Err(failure) => {
                        *self = Self::None;
                        LinkEvent::DialFailed(failure)
                    }
                };
                Poll::Ready((conn, event))
            }
            Self::Open(conn, open) => {
                let conn = *conn;
                let event = ready!(open.poll_next(cx));
                if matches!(event, LinkEvent::Closed(_)) {
                    *self = Self::None;
                }
                Poll::Ready((conn, event))
            }
        }
    }
}

impl OpenSocket {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<LinkEvent> {
        loop {
            if self.unflushed {
                match Pin::new(&mut self.socket).poll_flush(cx) {
                    Poll::Ready(Ok(())) => self.unflushed = false,
                    Poll::Ready(Err(error)) => return Poll::Ready(self.ended(Some(&error))),
                    Poll::Pending => {}
                }
            }
            return Poll::Ready(match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => LinkEvent::Frame(bytes),
                Some(Ok(Message::Text(text))) => LinkEvent::Frame(text.into()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => LinkEvent::Alive,
                Some(Ok(Message::Close(frame))) => {
                    let (code, reason) =
                        frame.map_or((1005, String::new()), |f| (f.code.into(), f.reason.to_string()));
                    self.farewell = Some(Closed::Frame { code, reason });
                    // The answer is queued; the stream ends after it.
                    self.unflushed = true;
                    continue;
                }
                // Raw frames are never returned by reads.
                Some(Ok(Message::Frame(_))) => continue,
                Some(Err(error)) => self.ended(Some(&error)),
                None => self.ended(None),
            });
        }
    }

    fn ended(&self, error: Option<&Error>) -> LinkEvent {
        LinkEvent::Closed(match (&self.farewell, error) {
            (Some(farewell), _) => farewell.clone(),
            (None, None | Some(Error::ConnectionClosed | Error::AlreadyClosed)) => Closed::End,
            (None, Some(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => Closed::End,
            (None, Some(error)) => Closed::Lost(error.to_string()),
        })
    }
}

async fn dial(url: String, codec: Codec) -> Result<Socket, DialFailure> {
    let unusable = |error: &dyn std::fmt::Display| DialFailure::Unreachable(error.to_string());
    let mut request = url.as_str().into_client_request().map_err(|e| unusable(&e))?;
    let content_type = match codec {
        Codec::Json => "application/json",
        Codec::MessagePack => "application/msgpack",
    };
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    let (host, port) = address(request.uri()).ok_or_else(|| unusable(&"a URL without a host"))?;
    let stream = TcpStream::connect((host, port)).await.map_err(|e| unusable(&e))?;
    stream.set_nodelay(true).map_err(|e| unusable(&e))?;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    // Without TLS it is not asked.
    let connector = if request.uri().scheme_str() == Some("wss") { Some(connector().await?) } else { None };
    match client_async_tls_with_config(request, stream, Some(config), connector).await {
        Ok((socket, _response)) => Ok(socket),
        Err(Error::Http(response)) => Err(DialFailure::Http(response.status().as_u16())),
        Err(error) => Err(unusable(&error)),
    }
}

/// Believes the authorities that are built in and those of the system, or of `SSL_CERT_FILE` in their stead. They are read
/// once, and not by the pump's thread: a file that hangs must not keep it from hearing the switch.
async fn connector() -> Result<Connector, DialFailure> {
    static TRUST: OnceCell<Arc<ClientConfig>> = OnceCell::const_new();
    let read = || async { tokio::task::spawn_blocking(trust).await };
    let config = TRUST.get_or_try_init(read).await;
    config
        .map(|config| Connector::Rustls(Arc::clone(config)))
        .map_err(|e| DialFailure::Unreachable(e.to_string()))
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
