//! A listener whose connections are few and do not last: clients that connect and wait must not use up
//! the process's file descriptors, which the switch and the venue's socket need too.
//!
//! A handler that has a reason to take longer says until when; a connection without one ends on time.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// Connections at a time; further ones wait in the system's queue.
const CONNECTIONS_MAX: usize = 64;
/// A connection ends this long after it began; nearly every answer takes milliseconds.
const CONNECTION_LIMIT: Duration = Duration::from_secs(15);

pub(super) struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

pub(super) struct Connection {
    stream: TcpStream,
    wake: Pin<Box<Sleep>>,
    lease: Lease,
    _place: Option<OwnedSemaphorePermit>,
}

/// How long a connection may last, shared by the connection and the handler of its request.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    end: Arc<Mutex<Instant>>,
}

/// While it lives, the connection may last longer; afterwards the ordinary limit begins anew.
#[derive(Debug)]
pub(super) struct Extended(Option<Lease>);

impl Lease {
    fn new() -> Self {
        Self { end: Arc::new(Mutex::new(Instant::now() + CONNECTION_LIMIT)) }
    }

    /// Lets the connection last `more` from now on.
    pub(super) fn extend(&self, more: Duration) -> Extended {
        self.set(more + CONNECTION_LIMIT);
        Extended(Some(self.clone()))
    }

    fn set(&self, rest: Duration) {
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + rest;
    }

    fn end(&self) -> Instant {
        *self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Extended {
    /// Stands where there is no connection to extend, as in tests without a socket.
    pub(super) fn nothing() -> Self {
        Self(None)
    }
}

impl Drop for Extended {
    fn drop(&mut self) {
        if let Some(lease) = &self.0 {
            lease.set(CONNECTION_LIMIT);
        }
    }
}

impl Connected<IncomingStream<'_, Bounded>> for Lease {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        stream.io().lease.clone()
    }
}

impl Bounded {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // The semaphore is never closed, so there is always a place in the end.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        // axum's own accept sits out errors, such as a lack of descriptors.
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let lease = Lease::new();
        let wake = Box::pin(tokio::time::sleep_until(lease.end()));
        (Connection { stream, wake, lease, _place: place }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connection {
    /// Whether its time is over; otherwise the task is woken when it may be.
    fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        while self.wake.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let end = self.lease.end();
            if end <= now {
                return true;
            }
            // The end may come nearer again, so it is looked at now and then.
            self.wake.as_mut().reset(end.min(now + CONNECTION_LIMIT));
        }
        false
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_over(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_over(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
