//! One TCP connection, from its acceptance to its end.
//!
//! A single task owns the socket, the session and both buffers. It waits for the first of: a cut, a change of faults, the
//! socket, the market, a deadline; then applies what came and goes round. Reading never waits for writing, so
//! a client that does not read is still heard, and judged by what piles up for it.

mod market_data;
mod opening;
mod strike;
mod timers;
mod weather;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{Interest, Ready};
use tokio::net::TcpStream;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use crate::control_message::Reply;
use crate::endpoint::Codec;
use crate::frame::{Inbox, Incoming, Opcode};
use crate::journal::{ClosedBy, EventKind};
use crate::mangle::Mangler;
use crate::market::{Batch, Market, Tap};
use crate::outbox::Outbox;
use crate::session::{Outcome, Session, Surroundings};
use crate::state::ConnectionRecord;
use crate::venue::{CutOrder, Shared};

use timers::Timers;
pub(crate) use weather::Weather;

/// How long last words (404, 407, an answered Close) may take to leave before the drop.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(1);
/// A wait without a deadline.
const FAR: Duration = Duration::from_secs(3_600);
/// Writes of a trickling venue are this far apart.
const TRICKLE_INTERVAL: Duration = Duration::from_millis(20);

/// Serves one client until it is gone.
pub(crate) async fn serve(shared: Arc<Shared>, stream: TcpStream, peer: String, id: u64) {
    shared.journal.record(id, None, EventKind::TcpOpen { peer: peer.clone() });
    match opening::open(&shared, stream, peer, id).await {
        Ok(mut connection) => {
            let how = connection.run().await;
            connection.finish(how);
        }
        Err((path, how)) => {
            shared.journal.record(id, path.as_deref(), EventKind::TcpClosed { how });
        }
    }
}

/// An open websocket.
struct Connection {
    shared: Arc<Shared>,
    record: Arc<ConnectionRecord>,
    stream: TcpStream,
    inbox: Inbox,
    outbox: Outbox,
    session: Session,
    codec: Codec,
    market: Arc<Market>,
    tap: Tap,
    /// Per series of the market, whether this client gets it.
    wanted: Vec<bool>,
    wants_any: bool,
    mangler: Mangler,
    scratch: Vec<u8>,
    weather: Weather,
    timers: Timers,
    cuts: watch::Receiver<CutOrder>,
    /// Elements put into the outbox so far.
    messages: u64,
    /// Set when only last words are left to write; the end comes after them or at this time.
    closing: Option<Instant>,
    /// Set by the half-open fault: nothing is answered or sent any more.
    dead: bool,
    /// With `dead`: the slot stays taken until a real venue would have noticed.
    holds_slot: bool,
    tape_finished: bool,
}

/// What ended a wait.
enum Woken {
    Cut,
    Weather,
    Socket(std::io::Result<Ready>),
    Batch(Result<Batch, broadcast::error::RecvError>),
    Deadline,
}

impl Connection {
    async fn run(&mut self) -> ClosedBy {
        loop {
            if let Some(how) = self.turn() {
                return how;
            }
            let writing = !self.outbox.unsent().is_empty() && !self.dead;
            let interest = if writing && self.timers.may_write() {
                Interest::READABLE | Interest::WRITABLE
            } else {
                Interest::READABLE
            };
            let deadline = self.deadline();
            let woken = tokio::select! {
                biased;
                _ = self.cuts.changed() => Woken::Cut,
                () = self.weather.changed() => Woken::Weather,
                ready = self.stream.ready(interest) => Woken::Socket(ready),
                batch = next_batch(&mut self.tap) => Woken::Batch(batch),
                () = tokio::time::sleep_until(deadline) => Woken::Deadline,
            };
            if let Some(how) = self.apply(woken) {
                return how;
            }
        }
    }

    /// Ends the connection: the socket first, then the record of it, then the slot.
    fn finish(self, how: ClosedBy) {
        let Connection { shared, record, stream, session, holds_slot, .. } = self;
        drop(stream);
        shared.forget(&record);
        shared.journal.record(record.id, Some(&record.path), EventKind::TcpClosed { how });
        if holds_slot {
            let timings = shared.config.timings;
            tokio::spawn(async move {
                tokio::time::sleep(timings.ping_interval + timings.pong_limit).await;
                drop(session);
            });
        }
    }

    /// Everything that can be done without waiting.
    fn turn(&mut self) -> Option<ClosedBy> {
        let now = Instant::now();
        if let Some(limit) = self.closing {
            let done = self.outbox.unsent().is_empty() || now >= limit;
            return done.then_some(ClosedBy::Ours);
        }
        if self.dead {
            return None;
        }
        let ended = self.keep_time(now).or_else(|| self.strike());
        // Either may have left only last words to say, or struck the connection dead.
        if ended.is_none() && self.closing.is_none() && !self.dead {
            self.take_from_reel();
            self.note_finished();
        }
        ended
    }

    /// The next moment at which something is due by itself.
    fn deadline(&self) -> Instant {
        match self.closing {
            _ if self.dead => Instant::now() + FAR,
            Some(limit) => self.timers.next_write().map_or(limit, |write| write.min(limit)),
            None => self.timers.next(),
        }
    }

    fn apply(&mut self, woken: Woken) -> Option<ClosedBy> {
        match woken {
            Woken::Cut => {
                let order = *self.cuts.borrow_and_update();
                Some(self.cut("cut on request", order.rst))
            }
            Woken::Weather => {
                self.weather.refresh();
                None
            }
            Woken::Socket(Ok(ready)) => self.exchange(ready),
            Woken::Socket(Err(_)) => Some(ClosedBy::Rst),
            Woken::Batch(Ok(batch)) => {
                self.take_batch(&batch);
                None
            }
            Woken::Batch(Err(broadcast::error::RecvError::Lagged(_))) => {
                if self.is_listening() && self.closing.is_none() && !self.dead {
                    self.slow_client();
                }
                None
            }
            Woken::Batch(Err(broadcast::error::RecvError::Closed)) => {
                // The market is gone: the venue is stopping.
                Some(ClosedBy::Ours)
            }
            Woken::Deadline => None,
        }
    }

    fn exchange(&mut self, ready: Ready) -> Option<ClosedBy> {
        if ready.is_readable() || ready.is_read_closed() {
            let ended = self.read();
            if let Some(how) = self.hear().or(ended) {
                return Some(how);
            }
        }
        if ready.is_writable() && !self.dead && self.write().is_err() {
            // What the client said before it went is still in the socket.
            let ended = self.read();
            return self.hear().or(ended).or(Some(ClosedBy::Rst));
        }
        None
    }

    fn read(&mut self) -> Option<ClosedBy> {
        loop {
            match self.stream.try_read_buf(self.inbox.buffer()) {
                Ok(0) => return Some(ClosedBy::Fin),
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return None,
                Err(_) => return Some(ClosedBy::Rst),
            }
        }
    }

    fn write(&mut self) -> std::io::Result<()> {
        while !self.outbox.unsent().is_empty() {
            let unsent = self.outbox.unsent();
            let chunk = match self.weather.trickle_bytes_per_s {
                Some(rate) => {
                    self.timers.write_after(TRICKLE_INTERVAL);
                    let share = (rate as usize * TRICKLE_INTERVAL.as_millis() as usize) / 1_000;
                    &unsent[..share.clamp(1, unsent.len())]
                }
                None => unsent,
            };
            match self.stream.try_write(chunk) {
                Ok(len) => {
                    self.outbox.advance(len);
                    self.record.bytes_sent.fetch_add(len as u64, Ordering::Relaxed);
                }
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            }
            if self.weather.trickle_bytes_per_s.is_some() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes all whole messages out of the inbox.
    fn hear(&mut self) -> Option<ClosedBy> {
        loop {
            match self.inbox.next() {
                Ok(None) => return None,
                Ok(Some(incoming)) => {
                    self.record.frames_received.fetch_add(1, Ordering::Relaxed);
                    if let Some(how) = self.answer(incoming) {
                        return Some(how);
                    }
                }
                Err(error) => {
                    let error = format!("{error:?}");
                    self.note(EventKind::ProtocolError { error });
                    return Some(ClosedBy::Ours);
                }
            }
        }
    }

    fn answer(&mut self, incoming: Incoming) -> Option<ClosedBy> {
        match incoming {
            Incoming::Close(frame) => {
                let (code, reason) = frame.map_or((None, String::new()), |(c, r)| (Some(c), r));
                self.note(EventKind::CloseReceived { code, reason });
                self.hang_up(code)
            }
            _ if self.dead || self.closing.is_some() => None,
            Incoming::Ping(payload) => {
                if !self.weather.ignore_pings {
                    self.outbox.control(Opcode::Pong, &payload);
                }
                None
            }
            Incoming::Pong => {
                self.timers.pong();
                self.note(EventKind::Pong);
                None
            }
            Incoming::Message(payload) => {
                self.converse(&payload);
                None
            }
        }
    }

    /// What follows on the client's Close frame: observed, the drop; documented, an answer and then the drop.
    fn hang_up(&mut self, code: Option<u16>) -> Option<ClosedBy> {
        if self.dead {
            return None;
        }
        match self.shared.config.profile {
            crate::Profile::Observed => Some(ClosedBy::Ours),
            crate::Profile::Documented => {
                let echo = code.map(u16::to_be_bytes).unwrap_or_default();
                let len = if code.is_some() { 2 } else { 0 };
                self.outbox.control(Opcode::Close, &echo[..len]);
                self.closing = Some(Instant::now() + LAST_WORDS_LIMIT);
                None
            }
        }
    }

    fn converse(&mut self, payload: &[u8]) {
        let shared = Arc::clone(&self.shared);
        let outcome = self.session.handle(payload, &surroundings(&shared));
        self.settle(outcome);
    }

    /// Records what a message led to and sends the reply.
    fn settle(&mut self, outcome: Outcome) {
        for fact in outcome.facts {
            if let EventKind::AuthOk { account } = &fact {
                self.timers.stop_eviction();
                self.record.authenticate(account);
            } else if let EventKind::AuthRefused { code: 406 } = &fact {
                let hold = self.shared.config.timings.refused_hold;
                self.timers.evict_after(hold);
            } else if let EventKind::Subscribe { .. } | EventKind::Unsubscribe { .. } = &fact {
                self.resubscribe();
            }
            self.note(fact);
        }
        if self.session.auth_tried() {
            self.timers.stop_auth();
        }
        if let Some(reply) = outcome.reply {
            self.say(&reply);
        }
    }

    fn resubscribe(&mut self) {
        let subscriptions = self.session.subscriptions();
        self.wanted = self.market.wanted(subscriptions, self.session.endpoint.product);
        self.wants_any = self.wanted.contains(&true);
        self.record.subscribe(self.session.subscription_state());
        if !subscriptions.is_empty() {
            self.market.note_subscriber();
        }
    }

    fn say(&mut self, reply: &Reply) {
        self.outbox.reply(reply);
        self.count();
    }

    fn keep_time(&mut self, now: Instant) -> Option<ClosedBy> {
        if self.timers.auth_is_over(now) {
            self.note(EventKind::ErrorSent { code: 404 });
            self.say(&Reply::Error(404));
            return self.last_words("auth timeout");
        }
        if self.timers.eviction_is_due(now) {
            return Some(self.cut("connection limit", false));
        }
        if self.timers.pong_is_missed(now) {
            self.note(EventKind::PongMissed);
            return Some(self.cut("pong missed", false));
        }
        if self.timers.ping_is_due(now) {
            self.note(EventKind::Ping);
            self.outbox.control(Opcode::Ping, &[]);
        }
        None
    }

    /// Lets what is in the outbox leave, then ends.
    fn last_words(&mut self, cause: &'static str) -> Option<ClosedBy> {
        self.note(EventKind::Cut { cause });
        self.closing = Some(Instant::now() + LAST_WORDS_LIMIT);
        None
    }

    fn cut(&mut self, cause: &'static str, rst: bool) -> ClosedBy {
        self.note(EventKind::Cut { cause });
        if rst {
            // Best effort: without it the end is a FIN.
            let _ = self.stream.set_zero_linger();
        }
        ClosedBy::Ours
    }

    /// The client is too slow: everything that waits is thrown away but for the frame that is half out.
    fn slow_client(&mut self) {
        self.outbox.keep_current_frame();
        self.note(EventKind::ErrorSent { code: 407 });
        self.say(&Reply::Error(407));
        self.last_words("slow client");
    }

    fn note(&self, kind: EventKind) {
        self.shared.journal.record(self.record.id, Some(&self.record.path), kind);
    }

    fn count(&self) {
        let frames = self.outbox.frames_made();
        self.record.frames_sent.store(frames, Ordering::Relaxed);
        self.record.messages_sent.store(self.messages, Ordering::Relaxed);
        let backlog = self.outbox.backlog() as u64;
        self.record.waiting_bytes.store(backlog, Ordering::Relaxed);
    }
}

fn surroundings(shared: &Shared) -> Surroundings<'_> {
    Surroundings { config: &shared.config, slots: &shared.slots, faults: &shared.faults }
}

async fn next_batch(tap: &mut Tap) -> Result<Batch, broadcast::error::RecvError> {
    match tap {
        Tap::Clock(batches) => batches.recv().await,
        Tap::Reel { .. } => std::future::pending().await,
    }
}
