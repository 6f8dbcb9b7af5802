//! `pubsub:TOPIC`: one message a record in a topic of Google Cloud Pub/Sub.
//!
//! Invariants: what [`Destination::write`] returned for was acknowledged by Pub/Sub. Messages of one ordering key, the
//! symbol, are sent in order and one request at a time; after a failure, or when a call was given up, everything that
//! was not acknowledged is sent again in the same order by a new publisher. What an old one still has in hand comes in
//! that order too, within [`CALL_LIMIT`], so the first copy of each message is in order whatever happens.

use std::error::Error as StdError;
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use google_cloud_auth::credentials::{Builder, Credentials, anonymous};
use google_cloud_auth::errors::CredentialsError;
use google_cloud_gax::error::Error;
use google_cloud_gax::error::rpc::Code;
use google_cloud_gax::retry_policy::RetryPolicyExt as _;
use google_cloud_pubsub::client::{BasePublisher, Publisher};
use google_cloud_pubsub::error::PublishError;
use google_cloud_pubsub::model::Message;
use google_cloud_pubsub::retry_policy::RetryableErrors;

use super::chunk::{Chunk, Record};
use super::full_rate::{Destination, Written};
use super::json::Encoder;
use super::key::letter;
use crate::config::PubsubTopic;
use crate::lease::Fence;

/// A request is repeated within this time while that may help. Also the longest that a message can arrive after it was
/// given up.
const CALL_LIMIT: Duration = Duration::from_secs(5);
/// Pub/Sub takes requests of 10 MB; this leaves room for what lies around the message.
const MESSAGE_BYTES_MAX: usize = 10_000_000 - 4096;
/// Longest value of an attribute that Pub/Sub takes.
const ATTRIBUTE_BYTES_MAX: usize = 1024;
/// Messages of one symbol that go in one request.
const REQUEST_MESSAGES_MAX: u32 = 1000;

/// A topic.
pub struct Pubsub {
    topic: PubsubTopic,
    encoder: Encoder,
    fence: Fence,
    /// The connection, once there is one.
    base: Option<BasePublisher>,
    /// Away while it is at work: after a failure its ordering keys are paused, and another one takes its place.
    publisher: Option<Publisher>,
}

impl Pubsub {
    /// Publishes to this topic what this encoder makes of records; connects to nothing yet.
    #[must_use]
    pub fn new(topic: PubsubTopic, encoder: Encoder, fence: Fence) -> Self {
        Self { topic, encoder, fence, base: None, publisher: None }
    }

    fn messages(&mut self, epoch: u64, chunks: &[Arc<Chunk>]) -> (Vec<Message>, Written) {
        let mut messages = Vec::with_capacity(chunks.iter().map(|chunk| chunk.len()).sum());
        let mut written = Written::default();
        let epoch_text = epoch.to_string();
        let mut text = Vec::new();
        for record in chunks.iter().flat_map(|chunk| chunk.records()) {
            text.clear();
            self.encoder.write(&mut text, &record, epoch);
            match self.message(&record, &epoch_text, &text) {
                Some(message) => messages.push(message),
                None => written.refused += 1,
            }
        }
        if written.refused > 0 {
            let (topic, records) = (&self.topic.name, written.refused);
            tracing::warn!(topic, records, "records are larger than Pub/Sub takes and were left out");
        }
        (messages, written)
    }

    /// None where Pub/Sub would refuse it for ever.
    fn message(&mut self, record: &Record<'_>, epoch: &str, text: &[u8]) -> Option<Message> {
        let key = self.encoder.key(record).to_owned();
        let job = self.encoder.job(record).to_owned();
        let symbol = self.encoder.symbol(record).to_owned();
        let kind = letter(record.event);
        // News has no symbol, and comes in order all the same.
        let order = if symbol.is_empty() { job.clone() } else { symbol.clone() };
        let fits = [&key, &job, &symbol, kind].iter().all(|text| text.len() <= ATTRIBUTE_BYTES_MAX)
            && text.len() <= MESSAGE_BYTES_MAX - 5 * ATTRIBUTE_BYTES_MAX;
        let attributes = [
            ("key", key),
            ("type", kind.to_owned()),
            ("job", job),
            ("symbol", symbol),
            ("origin", record.origin.as_str().to_owned()),
            ("epoch", epoch.to_owned()),
        ];
        fits.then(|| {
            Message::new()
                .set_data(Bytes::copy_from_slice(text))
                .set_ordering_key(order)
                .set_attributes(attributes)
        })
    }

    /// Taken out: a publisher that was dropped in the middle of its work is not asked again.
    async fn take_publisher(&mut self) -> anyhow::Result<Publisher> {
        if let Some(publisher) = self.publisher.take() {
            return Ok(publisher);
        }
        let base = match &self.base {
            Some(base) => base,
            None => self.base.insert(self.connect().await?),
        };
        let publisher = base.publisher(&*self.topic.name).set_message_count_threshold(REQUEST_MESSAGES_MAX);
        Ok(publisher.build())
    }

    async fn connect(&self) -> anyhow::Result<BasePublisher> {
        let builder = BasePublisher::builder().with_retry_policy(RetryableErrors.with_time_limit(CALL_LIMIT));
        let builder = match &self.topic.emulator_host {
            Some(host) => {
                let nobody: Credentials = anonymous::Builder::new().build();
                builder.with_endpoint(format!("http://{host}")).with_credentials(nobody)
            }
            None => {
                let credentials = Builder::default().build().with_context(|| self.advice(ADVICE_LOGIN))?;
                builder.with_credentials(credentials)
            }
        };
        builder.build().await.with_context(|| self.advice("no connection can be made"))
    }

    fn explained(&self, error: PublishError) -> anyhow::Error {
        // The first to fail says why; those behind it only that their key is paused.
        let advice = if let PublishError::Rpc(error) = &error { advice(error) } else { "not acknowledged" };
        anyhow::Error::new(error).context(self.advice(advice))
    }

    fn advice(&self, advice: &str) -> String {
        let PubsubTopic { name, emulator_host } = &self.topic;
        match emulator_host {
            Some(host) => format!("{name} on the emulator {host}: {advice}"),
            None => format!("{name}: {advice}"),
        }
    }
}

const ADVICE_LOGIN: &str = "no usable credentials: give the process a service account, or run `gcloud auth \
                            application-default login`";

/// What was repeated until its time was over has the reason within.
fn advice(error: &Error) -> &'static str {
    let first: &(dyn StdError + 'static) = error;
    let mut causes = iter::successors(Some(first), |&cause| cause.source());
    let code = causes.clone().find_map(|cause| Some(cause.downcast_ref::<Error>()?.status()?.code));
    if code == Some(Code::NotFound) {
        "there is no such topic: make it, or name another in INGEST_SINKS"
    } else if code == Some(Code::PermissionDenied) {
        "this process may not publish: grant its service account roles/pubsub.publisher on the topic"
    } else if code == Some(Code::Unauthenticated) || causes.any(|cause| cause.is::<CredentialsError>()) {
        ADVICE_LOGIN
    } else {
        "not acknowledged"
    }
}

impl Destination for Pubsub {
    const LINGER: Duration = Duration::from_millis(50);
    const BATCH_BYTES: usize = 256 << 10;

    async fn write(&mut self, epoch: u64, chunks: &[Arc<Chunk>]) -> anyhow::Result<Written> {
        let (messages, written) = self.messages(epoch, chunks);
        let publisher = self.take_publisher().await?;
        self.fence.require()?;
        let sent: Vec<_> = messages.into_iter().map(|message| publisher.publish(message)).collect();
        publisher.flush().await;
        for sent in sent {
            sent.await.map_err(|error| self.explained(error))?;
        }
        self.publisher = Some(publisher);
        Ok(written)
    }
}
