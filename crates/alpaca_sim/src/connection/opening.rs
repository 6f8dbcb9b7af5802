//! From the accepted socket to the greeting.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::control_message::Reply;
use crate::deflate::{Agreement, Deflater, Inflater, negotiate};
use crate::endpoint::{Codec, Endpoint};
use crate::fault::{FaultKind, Stage};
use crate::frame::Inbox;
use crate::journal::{ClosedBy, EventKind};
use crate::mangle::Mangler;
use crate::outbox::Outbox;
use crate::session::{Session, struck};
use crate::state::ConnectionRecord;
use crate::upgrade::{Request, refusal};
use crate::venue::Shared;

use super::timers::Timers;
use super::weather::Weather;
use super::{Connection, surroundings};

/// Reads the upgrade request and answers it; an error carries the path, if it is known, and who ended the connection.
pub(super) async fn open(
    shared: &Arc<Shared>,
    mut stream: TcpStream,
    peer: String,
    id: u64,
) -> Result<Connection, (Option<String>, ClosedBy)> {
    // Small control frames must not wait for an acknowledgement.
    let _ = stream.set_nodelay(true);
    let Some(request) = Request::read(&mut stream).await else {
        return Err((None, ClosedBy::Fin));
    };
    let path = request.path.split('?').next().unwrap_or_default().to_owned();
    let gone = |how| (Some(path.clone()), how);
    let stalled = |k: &FaultKind| matches!(k, FaultKind::Stall { at: Stage::Upgrade });
    if let Some(fault) = shared.faults.take(Some(&path), stalled) {
        shared.journal.record(id, Some(&path), struck(&fault));
        return Err(gone(outwait(shared, &mut stream).await));
    }
    let codec_and_answer = answer(shared, &request, &path);
    let (endpoint, codec, agreement, response) = match codec_and_answer {
        Ok(accepted) => accepted,
        Err(status) => {
            let kind = EventKind::UpgradeRefused { status };
            shared.journal.record(id, Some(&path), kind);
            let _ = stream.write_all(refusal(status).as_bytes()).await;
            let _ = stream.shutdown().await;
            return Err(gone(ClosedBy::Ours));
        }
    };
    let market = Arc::clone(shared.market_of(endpoint.product));
    // Done before the answer: a client must not wait for its first data while a whole session is being encoded.
    let _ = tokio::task::spawn_blocking(move || market.prepare(codec)).await;
    if stream.write_all(response.as_bytes()).await.is_err() {
        return Err(gone(ClosedBy::Rst));
    }
    let record = ConnectionRecord::new(id, &path, peer, codec, agreement.is_some(), &shared.journal);
    let mut connection =
        establish(shared, stream, record, endpoint, codec, agreement.as_ref(), request.rest.clone());
    shared.enrol(&connection.record);
    connection.note(EventKind::Upgrade { codec: codec.name(), deflate: agreement.is_some() });
    connection.greet(&request);
    Ok(connection)
}

type Accepted = (Endpoint, Codec, Option<Agreement>, String);

/// The answer to an upgrade request, or the HTTP status that refuses it.
fn answer(shared: &Shared, request: &Request, path: &str) -> Result<Accepted, u16> {
    let refused = |k: &FaultKind| matches!(k, FaultKind::RefuseUpgrade { .. });
    if let Some(FaultKind::RefuseUpgrade { status }) = shared.faults.take(Some(path), refused) {
        return Err(status);
    }
    let endpoint = Endpoint::at(path).ok_or(404_u16)?;
    let codec = endpoint.codec(request.header("Content-Type").as_deref());
    let agreement = request.header("Sec-WebSocket-Extensions").and_then(|offers| negotiate(&offers));
    let extension = agreement.as_ref().map(|a| a.response.as_str());
    let response = request.accept(extension).ok_or(426_u16)?;
    Ok((endpoint, codec, agreement, response))
}

fn establish(
    shared: &Arc<Shared>,
    stream: TcpStream,
    record: Arc<ConnectionRecord>,
    endpoint: Endpoint,
    codec: Codec,
    agreement: Option<&Agreement>,
    rest: Vec<u8>,
) -> Connection {
    let market = Arc::clone(shared.market_of(endpoint.product));
    let config = &shared.config;
    Connection {
        inbox: Inbox::new(rest, agreement.map(|_| Inflater::new())),
        outbox: Outbox::new(codec, agreement.map(Deflater::new), config.max_per_frame, config.per_frame),
        weather: Weather::new(&shared.faults, &endpoint.path),
        timers: Timers::new(config.timings),
        cuts: shared.cuts.subscribe(),
        tap: market.tap(),
        wanted: vec![false; market.catalogue.all().len()],
        wants_any: false,
        session: Session::new(endpoint, codec),
        shared: Arc::clone(shared),
        record,
        stream,
        codec,
        market,
        mangler: Mangler::default(),
        scratch: Vec::new(),
        messages: 0,
        closing: None,
        dead: false,
        holds_slot: false,
        tape_finished: false,
    }
}

impl Connection {
    /// Greets, authenticates by header where credentials are there, and hears what came with the request.
    fn greet(&mut self, request: &Request) {
        let path = Some(self.session.endpoint.path.clone());
        let stalled = |k: &FaultKind| matches!(k, FaultKind::Stall { at: Stage::Greeting });
        match self.shared.faults.take(path.as_deref(), stalled) {
            Some(fault) => {
                self.timers.stop_auth();
                self.note(struck(&fault));
            }
            None => self.say(&Reply::Connected),
        }
        if let Some(credentials) = request.credentials() {
            let shared = Arc::clone(&self.shared);
            let outcome =
                self.session.authenticate(&credentials.key, &credentials.secret, &surroundings(&shared));
            self.settle(outcome);
        }
    }
}

/// Keeps a stalled connection open until the client leaves or it is cut.
async fn outwait(shared: &Shared, stream: &mut TcpStream) -> ClosedBy {
    let mut cuts = shared.cuts.subscribe();
    let mut ignored = Vec::new();
    loop {
        tokio::select! {
            _ = cuts.changed() => return ClosedBy::Ours,
            read = stream.read_buf(&mut ignored) => match read {
                Ok(0) => return ClosedBy::Fin,
                Ok(_) => ignored.clear(),
                Err(_) => return ClosedBy::Rst,
            },
        }
    }
}
