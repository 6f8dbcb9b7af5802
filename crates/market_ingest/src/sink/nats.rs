//! `nats:URL/STREAM`: one message a record in a JetStream stream.
//!
//! Invariants: what [`Destination::write`] returned for was acknowledged by the stream. A connection carries messages in
//! order from the first that is not acknowledged, and is never resumed: after a failure, or when a call was given up,
//! another one begins there again, and the broker leaves out by their ids what it has. So the first copy of each message
//! is in order whatever the connections do.

mod subject;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alpaca_feed::message::Event;
use anyhow::bail;
use async_nats::jetstream::context::{ContextBuilder, CreateStreamErrorKind, PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{Context, stream};
use async_nats::jetstream::{Error as Refusal, ErrorCode};
use async_nats::{Auth, AuthError, ConnectErrorKind, ConnectOptions};
use bytes::Bytes;
use secrecy::ExposeSecret as _;

use self::subject::{covers, token};
use super::chunk::{Chunk, Origin, Record};
use super::full_rate::{Destination, Written};
use super::json::Encoder;
use super::key::letter;
use crate::config::{NatsLogin, NatsStream};
use crate::lease::Fence;

/// The broker answers within this time, or is dialed anew.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// A connection whose peer is silent is given up after three of these.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// How long a stream that we make remembers ids.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// More than a batch ever has: the acknowledgements are awaited once all of it is sent.
const UNACKNOWLEDGED_MAX: usize = 1 << 16;
/// A longer subject or id would not fit the protocol's lines.
const NAME_BYTES_MAX: usize = 1024;

/// A stream.
pub struct Nats {
    target: NatsStream,
    jobs: Arc<[Arc<str>]>,
    encoder: Encoder,
    fence: Fence,
    /// Away while it is at work: one that was left in the middle is not used again.
    connection: Option<Context>,
}

/// A record on its way.
struct Letter {
    subject: String,
    id: String,
    body: Bytes,
}

impl Nats {
    /// Publishes to this stream what this encoder makes of the records of these jobs; connects to nothing yet.
    #[must_use]
    pub fn new(target: NatsStream, jobs: Arc<[Arc<str>]>, encoder: Encoder, fence: Fence) -> Self {
        Self { target, jobs, encoder, fence, connection: None }
    }

    fn letters(&mut self, epoch: u64, chunks: &[Arc<Chunk>]) -> Vec<Letter> {
        let mut text = Vec::new();
        let records = chunks.iter().flat_map(|chunk| chunk.records());
        let letters = records.map(|record| {
            text.clear();
            self.encoder.write(&mut text, &record, epoch);
            Letter {
                subject: self.subject(&record),
                id: self.id(&record),
                body: Bytes::copy_from_slice(&text),
            }
        });
        letters.collect()
    }

    fn subject(&mut self, record: &Record<'_>) -> String {
        let mut subject = format!("{}.", self.target.stream);
        token(&mut subject, self.encoder.job(record));
        subject.push('.');
        token(&mut subject, letter(record.event));
        subject.push('.');
        token(&mut subject, self.encoder.symbol(record));
        subject
    }

    fn id(&mut self, record: &Record<'_>) -> String {
        let mut id = format!("{}/", self.encoder.job(record));
        id.push_str(self.encoder.key(record));
        // It may know of late trades that the streamed one did not, so it is another message.
        if matches!(record.event, Event::Bar(_)) && record.origin == Origin::Backfill {
            id.push_str("/backfill");
        }
        // Headers are lines.
        id.retain(|c| !c.is_control());
        id
    }

    async fn connect(&self) -> anyhow::Result<Context> {
        let auth = auth(&self.target.login);
        // A connection that comes back by itself would go on in the middle of what it had.
        let once = Arc::new(AtomicBool::new(false));
        let used = Arc::clone(&once);
        let client = ConnectOptions::with_auth_callback(move |_| {
            let auth =
                if used.load(Ordering::Relaxed) { Err(AuthError::new("used")) } else { Ok(auth.clone()) };
            async { auth }
        })
        .max_reconnects(1)
        .ignore_discovered_servers()
        .connection_timeout(ANSWER_LIMIT)
        .request_timeout(Some(ANSWER_LIMIT))
        .ping_interval(PING_INTERVAL)
        .name("market-ingest")
        .connect(&self.target.server)
        .await;
        once.store(true, Ordering::Relaxed);
        let client = client.map_err(|error| {
            let advice = match error.kind() {
                ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                    "the server refuses the login in INGEST_SINKS"
                }
                ConnectErrorKind::Tls => "no secure connection can be made",
                ConnectErrorKind::ServerParse
                | ConnectErrorKind::Dns
                | ConnectErrorKind::TimedOut
                | ConnectErrorKind::Io
                | ConnectErrorKind::MaxReconnects => "the server cannot be reached",
            };
            anyhow::Error::new(error).context(format!("{}: {advice}", self.target))
        })?;
        let context = ContextBuilder::new()
            .timeout(ANSWER_LIMIT)
            .ack_timeout(ANSWER_LIMIT)
            .max_ack_inflight(UNACKNOWLEDGED_MAX)
            .build(client);
        self.require_stream(&context).await?;
        Ok(context)
    }

    /// Finds the stream, or makes it.
    async fn require_stream(&self, context: &Context) -> anyhow::Result<()> {
        let name = &self.target.stream;
        let wanted = stream::Config {
            name: name.clone(),
            subjects: vec![format!("{name}.>")],
            duplicate_window: DUPLICATE_WINDOW,
            description: Some("market data, by market-ingest".to_owned()),
            ..stream::Config::default()
        };
        let stream = context.get_or_create_stream(wanted).await.map_err(|error| {
            let kind = error.kind();
            let advice = if kind == CreateStreamErrorKind::JetStreamUnavailable {
                "JetStream is not enabled on this server"
            } else if kind == CreateStreamErrorKind::TimedOut {
                "JetStream does not answer, or this login may neither look at the stream nor make it"
            } else {
                "the stream can be neither found nor made"
            };
            anyhow::Error::new(error).context(format!("{}: {advice}", self.target))
        })?;
        let subjects = &stream.cached_info().config.subjects;
        for job in &*self.jobs {
            let mut ours = format!("{name}.");
            token(&mut ours, job);
            ours.push_str(".*.*");
            if !subjects.iter().any(|theirs| covers(theirs, &ours)) {
                let subjects = subjects.join(" ");
                bail!(
                    "{}: the stream takes the subjects {subjects}, and not {ours}: add {name}.> to them, or name \
                     another stream in INGEST_SINKS",
                    self.target
                );
            }
        }
        Ok(())
    }

    fn explained(&self, error: PublishError) -> anyhow::Error {
        anyhow::Error::new(error)
            .context(format!("{}: the broker is gone or did not acknowledge", self.target))
    }
}

fn auth(login: &NatsLogin) -> Auth {
    let mut auth = Auth::new();
    match login {
        NatsLogin::Nobody => {}
        NatsLogin::User(name, password) => {
            auth.username = Some(name.clone());
            auth.password = Some(password.expose_secret().to_owned());
        }
        NatsLogin::Token(token) => auth.token = Some(token.expose_secret().to_owned()),
    }
    auth
}

/// Whether the broker will never take the message: no repetition helps.
fn is_too_large(error: &PublishError) -> bool {
    let refusal = std::error::Error::source(error).and_then(|source| source.downcast_ref::<Refusal>());
    let too_large = [ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM, ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM];
    error.kind() == PublishErrorKind::MaxPayloadExceeded
        || refusal.is_some_and(|refusal| too_large.contains(&refusal.error_code()))
}

impl Destination for Nats {
    const LINGER: Duration = Duration::from_millis(20);
    const BATCH_BYTES: usize = 256 << 10;

    async fn write(&mut self, epoch: u64, chunks: &[Arc<Chunk>]) -> anyhow::Result<Written> {
        let letters = self.letters(epoch, chunks);
        let context = match self.connection.take() {
            Some(context) => context,
            None => self.connect().await?,
        };
        self.fence.require()?;
        let mut written = Written::default();
        let mut sent = Vec::with_capacity(letters.len());
        for Letter { subject, id, body } in letters {
            if subject.len().max(id.len()) > NAME_BYTES_MAX {
                written.refused += 1;
                continue;
            }
            let message = PublishMessage::build().payload(body).message_id(id);
            match context.send_publish(subject, message).await {
                Ok(acknowledgement) => sent.push(acknowledgement),
                Err(error) if is_too_large(&error) => written.refused += 1,
                Err(error) => return Err(self.explained(error)),
            }
        }
        for acknowledgement in sent {
            match acknowledgement.await {
                Ok(_) => {}
                Err(error) if is_too_large(&error) => written.refused += 1,
                Err(error) => return Err(self.explained(error)),
            }
        }
        if written.refused > 0 {
            let (stream, records) = (&self.target.stream, written.refused);
            tracing::warn!(stream, records, "records are larger than the broker takes and were left out");
        }
        self.connection = Some(context);
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use alpaca_feed::decode::Decoder;
    use alpaca_feed::message::{Batch, Codec};
    use alpaca_feed::symbol::Symbols;

    use super::super::JobId;
    use super::*;
    use crate::config::NatsLogin;

    /// The broker leaves out what has an id that it knows.
    #[test]
    fn a_fetched_bar_is_a_message_of_its_own_and_a_fetched_trade_is_not() {
        let symbols = Symbols::new();
        let mut batch = Batch::default();
        let frame = r#"[{"T":"b","S":"IBM","o":1,"h":1,"l":1,"c":1,"v":1,"t":"2026-11-25T15:00:00Z","n":1,"vw":1},
            {"T":"t","S":"IBM","i":7,"x":"P","p":1,"s":1,"c":["@"],"z":"A","t":"2026-11-25T15:00:00Z"}]"#;
        Decoder::new(Arc::clone(&symbols)).decode(Codec::Json, frame.as_bytes(), &mut batch);
        let jobs: Arc<[Arc<str>]> = ["sip".into()].into();
        let target = NatsStream { server: String::new(), stream: "M".to_owned(), login: NatsLogin::Nobody };
        let encoder = Encoder::new(symbols, Arc::clone(&jobs));
        let mut nats = Nats::new(target, jobs, encoder, Fence::closed());
        let mut id = |event, origin| nats.id(&Record { event, job: JobId(0), origin, seq: None, ordinal: 0 });
        let [bar, trade] = batch.events.as_slice() else { panic!("{:?}", batch.malformed) };
        assert_ne!(id(bar, Origin::Live), id(bar, Origin::Backfill));
        assert_eq!(id(trade, Origin::Live), id(trade, Origin::Backfill));
    }
}
