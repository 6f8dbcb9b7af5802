//! The connection of a job as a value: none, being dialled, or an open websocket.
//!
//! Aborting is assignment: dropping a link closes its socket. Sending never waits: a message goes
//! into the socket's buffer and is flushed while the next event is awaited, so that a venue that
//! has stopped reading cannot keep a pump from hearing the switch.

mod socket;

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use alpaca_feed::lifecycle::{Closed, ConnId, DialFailure};
use alpaca_feed::message::Codec;
use bytes::Bytes;
use tokio::time::{Sleep, sleep};
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

use self::socket::Socket;

/// After its close frame a peer ends the connection within this time, or we do; as long as the lifecycle waits after ours.
const FAREWELL_LIMIT: Duration = Duration::from_millis(1_500);

type Dial = Pin<Box<dyn Future<Output = Result<Socket, DialFailure>> + Send>>;

/// At most one connection, with the name the lifecycle gave it.
pub(crate) enum Link {
    None,
    Dialing(ConnId, Dial),
    Open(ConnId, Box<OpenSocket>),
}

pub(crate) struct OpenSocket {
    socket: Socket,
    unflushed: bool,
    /// What the peer's close frame said, and until when the end of the stream is waited for.
    farewell: Option<(Closed, Pin<Box<Sleep>>)>,
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
        Self::Dialing(conn, Box::pin(socket::dial(url.to_owned(), codec)))
    }

    /// Puts a message into the buffer of the connection of that name, if it is still the one.
    pub(crate) fn send(&mut self, conn: ConnId, message: Message) {
        let Self::Open(open_conn, open) = self else { return };
        if *open_conn == conn {
            open.unflushed = true;
            // A failed write shows as the end of the stream, and one that a peer in no mood to read has no room for as an
            // answer that does not come: the lifecycle waits for neither longer than its stage lasts.
            let _ = open.socket.write(message);
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
        let mut cx = Context::from_waker(Waker::noop());
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
                match self.socket.poll_flush(cx) {
                    // A close that was answered in full is not an error yet: what has arrived is read first.
                    Poll::Ready(Ok(()) | Err(Error::ConnectionClosed)) => self.unflushed = false,
                    Poll::Ready(Err(error)) => return Poll::Ready(self.ended(&error)),
                    Poll::Pending => {}
                }
            }
            if let Some((farewell, limit)) = &mut self.farewell
                && limit.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(LinkEvent::Closed(farewell.clone()));
            }
            return Poll::Ready(match ready!(self.socket.poll_read(cx)) {
                Ok(Message::Binary(bytes)) => LinkEvent::Frame(bytes),
                Ok(Message::Text(text)) => LinkEvent::Frame(text.into()),
                Ok(Message::Ping(_) | Message::Pong(_)) => LinkEvent::Alive,
                Ok(Message::Close(frame)) => {
                    let (code, reason) =
                        frame.map_or((1005, String::new()), |f| (f.code.into(), f.reason.to_string()));
                    let limit = Box::pin(sleep(FAREWELL_LIMIT));
                    self.farewell = Some((Closed::Frame { code, reason }, limit));
                    // The answer is queued; the stream ends after it.
                    self.unflushed = true;
                    continue;
                }
                // Raw frames are never returned by reads.
                Ok(Message::Frame(_)) => continue,
                Err(error) => self.ended(&error),
            });
        }
    }

    fn ended(&self, error: &Error) -> LinkEvent {
        LinkEvent::Closed(match (&self.farewell, error) {
            (Some((farewell, _)), _) => farewell.clone(),
            (None, Error::ConnectionClosed | Error::AlreadyClosed) => Closed::End,
            (None, Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => Closed::End,
            (None, error) => Closed::Lost(error.to_string()),
        })
    }
}
