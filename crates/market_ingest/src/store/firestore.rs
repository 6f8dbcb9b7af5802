//! Firestore: one merge write a heartbeat, one `BatchWrite` a set of quotes.
//!
//! The client's plain `update` drops field transforms, so server times go through its batch writer,
//! whose own endless retry is switched off: the callers decide what to repeat.

use std::sync::Arc;
use std::time::Duration;

use ::firestore::errors::FirestoreError;
use ::firestore::{
    FirestoreBatchWriteResponse, FirestoreDb, FirestoreDbOptions, FirestoreFieldTransform,
    FirestoreFieldTransformType, FirestoreSimpleBatchWriteOptions, FirestoreSimpleBatchWriter,
    FirestoreTransformServerValue,
};
use google_cloud_auth::credentials::{Builder, Credentials};
use ingest_status::Heartbeat;
use serde::{Serialize, Serializer};
use tokio::sync::OnceCell;

use super::{CALL_LIMIT, QuoteDocument, StoreError, is_document_id};

const PRODUCTION: &str = "https://firestore.googleapis.com";
const OPS: &str = "ops";
const HEARTBEAT: &str = "market_ingest";
const QUOTES: &str = "live_quotes";

/// A Firestore database, and the tenant's place in it.
#[derive(Clone, Debug)]
pub struct FirestoreStore {
    options: FirestoreDbOptions,
    /// None for an emulator.
    credentials: Option<Credentials>,
    /// Connected at the first call that succeeds in it, so that a store which is away can come back.
    db: Arc<OnceCell<FirestoreDb>>,
    /// Path of the document (or of the root) below which the collections live.
    parent: String,
}

impl FirestoreStore {
    /// Connects to nothing yet.
    pub(super) fn new(
        project: &str,
        emulator_host: Option<&str>,
        tenant: Option<&str>,
    ) -> Result<Self, StoreError> {
        let url = match emulator_host {
            Some(host) => format!("http://{host}"),
            // Named, because the client would take a blank FIRESTORE_EMULATOR_HOST for a host.
            None => PRODUCTION.to_owned(),
        };
        let options = FirestoreDbOptions::new(project.to_owned())
            .with_firebase_api_url(url)
            .with_request_timeout(CALL_LIMIT)
            .with_max_retries(0);
        let credentials = match emulator_host {
            Some(_) => None,
            None => Some(Builder::default().build()?),
        };
        let root = format!("projects/{project}/databases/{}/documents", options.database_id);
        let parent = match tenant {
            Some(tenant) => format!("{root}/tenants/{tenant}"),
            None => root,
        };
        Ok(Self { options, credentials, db: Arc::default(), parent })
    }

    async fn db(&self) -> Result<&FirestoreDb, FirestoreError> {
        self.db
            .get_or_try_init(|| async {
                let options = self.options.clone();
                match &self.credentials {
                    Some(credentials) => FirestoreDb::with_options_auth(options, credentials.clone()).await,
                    // With FIRESTORE_EMULATOR_HOST in the environment the client sends the
                    // emulator's own token, without which it accepts no batch.
                    None => FirestoreDb::with_options(options).await,
                }
            })
            .await
    }

    pub(super) async fn write_heartbeat(&self, beat: &Heartbeat) -> Result<(), StoreError> {
        let writer = self.writer().await?;
        let mut batch = writer.new_batch();
        batch.update_object_at(
            &self.parent,
            OPS,
            HEARTBEAT,
            &WithNulls(beat),
            Some(fields_of(beat)?),
            None,
            vec![server_time("updated_at")],
        )?;
        let answer = batch.write().await?;
        match outcomes(answer).pop() {
            Some(Err(message)) => Err(StoreError::Refused(message)),
            Some(Ok(())) | None => Ok(()),
        }
    }

    pub(super) async fn read_heartbeat(&self) -> Result<Option<Heartbeat>, StoreError> {
        let db = self.db().await?;
        let found = db.fluent().select().by_id_in(OPS).parent(&self.parent).obj().one(HEARTBEAT).await;
        found.map_err(|error| {
            if let FirestoreError::DeserializeError(error) = &error {
                return StoreError::Unparsable(error.to_string());
            }
            error.into()
        })
    }

    pub(super) async fn write_quotes(
        &self,
        quotes: &[QuoteDocument],
    ) -> Result<Vec<Result<(), String>>, StoreError> {
        let writer = self.writer().await?;
        let mut batch = writer.new_batch();
        // One name that cannot be an id would have the whole batch refused, for ever.
        let usable: Vec<bool> = quotes.iter().map(|quote| is_document_id(&quote.id())).collect();
        for (quote, _) in quotes.iter().zip(&usable).filter(|(_, usable)| **usable) {
            batch.update_object_at(
                &self.parent,
                QUOTES,
                quote.id(),
                &WithNulls(quote),
                None,
                None,
                vec![server_time("updated_at")],
            )?;
        }
        let mut written =
            if usable.contains(&true) { outcomes(batch.write().await?) } else { Vec::new() }.into_iter();
        let unanswered = || Err("the store did not answer for it".to_owned());
        let unusable = || Err("its name cannot be a document's".to_owned());
        let outcome = |usable| if usable { written.next().unwrap_or_else(unanswered) } else { unusable() };
        Ok(usable.into_iter().map(outcome).collect())
    }

    async fn writer(&self) -> Result<FirestoreSimpleBatchWriter, FirestoreError> {
        let options = FirestoreSimpleBatchWriteOptions::new().with_retry_max_elapsed_time(Duration::ZERO);
        self.db().await?.create_simple_batch_writer_with_options(options).await
    }
}

/// One result a write; code 0 is gRPC's OK.
fn outcomes(answer: FirestoreBatchWriteResponse) -> Vec<Result<(), String>> {
    let outcome = |code, message| if code == 0 { Ok(()) } else { Err(message) };
    answer.statuses.into_iter().map(|s| outcome(s.code, s.message)).collect()
}

fn server_time(field: &str) -> FirestoreFieldTransform {
    let now = FirestoreTransformServerValue::RequestTime;
    FirestoreFieldTransform::new(field.to_owned(), FirestoreFieldTransformType::SetToServerValue(now))
}

/// The top-level fields that a heartbeat sends: a merge must replace exactly these.
fn fields_of(beat: &Heartbeat) -> Result<Vec<String>, StoreError> {
    let value = serde_json::to_value(beat).map_err(|e| StoreError::Refused(e.to_string()))?;
    Ok(value.as_object().map(|o| o.keys().cloned().collect()).unwrap_or_default())
}

/// Makes the client write `None` as null; by itself it would leave the field out, and a merge would
/// then keep the old value.
struct WithNulls<'a, T>(&'a T);

impl<T: Serialize> Serialize for WithNulls<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct("FirestoreNull", self.0)
    }
}
