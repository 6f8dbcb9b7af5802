//! Firestore: one merge write a heartbeat, one `BatchWrite` a set of quotes, control document and lease by masks and
//! preconditions.
//!
//! The client's plain `update` drops field transforms, so server times go through its batch writer,
//! whose own endless retry is switched off: the callers decide what to repeat. What the client's typed interface
//! cannot say (raw values, the time of a read, a mask within a map) is said to the API itself.

mod control;
mod emulator;
mod fleet;
mod follow;
mod gaps;
mod heartbeat;
mod history;
mod lease;
mod reading;
mod symbols;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use ::firestore::errors::FirestoreError;
use ::firestore::gcloud_sdk::google::firestore::v1 as api;
use ::firestore::gcloud_sdk::google::firestore::v1::firestore_client::FirestoreClient;
use ::firestore::gcloud_sdk::tonic::Status;
use ::firestore::gcloud_sdk::{GoogleAuthMiddleware, prost_types};
use ::firestore::{
    FirestoreBatchWriteResponse, FirestoreDb, FirestoreDbOptions, FirestoreFieldTransform,
    FirestoreFieldTransformType, FirestoreSimpleBatchWriteOptions, FirestoreSimpleBatchWriter,
    FirestoreTransformServerValue,
};
use google_cloud_auth::credentials::{Builder, Credentials};
use ingest_status::Timestamp;
use serde::{Serialize, Serializer};
use tokio::sync::OnceCell;

use self::emulator::Owner;
use super::{CALL_LIMIT, QuoteDocument, StoreError, is_document_id};

const PRODUCTION: &str = "https://firestore.googleapis.com";
const TENANTS: &str = "tenants";
const OPS: &str = "ops";
const HEARTBEAT: &str = "market_ingest";
const QUOTES: &str = "live_quotes";

/// A Firestore database, and the tenant's place in it.
#[derive(Clone, Debug)]
pub struct FirestoreStore {
    options: FirestoreDbOptions,
    credentials: Credentials,
    /// Connected at the first call that succeeds in it, so that a store which is away can come back.
    db: Arc<OnceCell<FirestoreDb>>,
    /// `projects/…/databases/…`
    database: String,
    /// Path of the document (or of the root) below which the collections live.
    parent: String,
}

/// Documents as they stood at one time of the store's.
struct Snapshot {
    /// Those that exist.
    documents: Vec<api::Document>,
    read_at: Option<Timestamp>,
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
            Some(_) => Credentials::from(Owner::default()),
            None => Builder::default().build()?,
        };
        let database = format!("projects/{project}/databases/{}", options.database_id);
        let parent = match tenant {
            Some(tenant) => format!("{database}/documents/{TENANTS}/{tenant}"),
            None => format!("{database}/documents"),
        };
        Ok(Self { options, credentials, db: Arc::default(), database, parent })
    }

    async fn db(&self) -> Result<&FirestoreDb, FirestoreError> {
        self.db
            .get_or_try_init(|| {
                FirestoreDb::with_options_auth(self.options.clone(), self.credentials.clone())
            })
            .await
    }

    /// The API itself, on the client's connection.
    async fn api(&self) -> Result<FirestoreClient<GoogleAuthMiddleware>, FirestoreError> {
        Ok(self.db().await?.client().get())
    }

    /// The documents that a query finds below a document of `ops`.
    async fn query(
        &self,
        document: &str,
        query: api::StructuredQuery,
    ) -> Result<Vec<api::Document>, StoreError> {
        let request = api::RunQueryRequest {
            parent: format!("{}/{OPS}/{document}", self.parent),
            query_type: Some(api::run_query_request::QueryType::StructuredQuery(query)),
            ..Default::default()
        };
        let mut answers = self.api().await?.run_query(request).await.map_err(failed)?.into_inner();
        let mut documents = Vec::new();
        while let Some(answer) = answers.message().await.map_err(failed)? {
            documents.extend(answer.document);
        }
        Ok(documents)
    }

    /// Documents by their full names; one that does not exist is left out.
    async fn get(&self, documents: Vec<String>) -> Result<Snapshot, StoreError> {
        let request = api::BatchGetDocumentsRequest {
            database: self.database.clone(),
            documents,
            ..Default::default()
        };
        let mut answers = self.api().await?.batch_get_documents(request).await.map_err(failed)?.into_inner();
        let mut snapshot = Snapshot { documents: Vec::new(), read_at: None };
        while let Some(answer) = answers.message().await.map_err(failed)? {
            snapshot.read_at = answer.read_time.and_then(time).or(snapshot.read_at);
            if let Some(api::batch_get_documents_response::Result::Found(document)) = answer.result {
                snapshot.documents.push(document);
            }
        }
        Ok(snapshot)
    }

    /// Writes one document.
    async fn commit(&self, write: api::Write) -> Result<(), Status> {
        let request =
            api::CommitRequest { database: self.database.clone(), writes: vec![write], ..Default::default() };
        let mut api = self.api().await.map_err(|e| Status::unavailable(e.to_string()))?;
        api.commit(request).await.map(|_| ())
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

fn failed(status: Status) -> StoreError {
    FirestoreError::from(status).into()
}

fn time(ts: prost_types::Timestamp) -> Option<Timestamp> {
    jiff::Timestamp::new(ts.seconds, ts.nanos).ok().map(Timestamp::from)
}

/// Between half of a wait and all of it: who was refused together must not come back together.
fn jittered(wait: Duration) -> Duration {
    let share = RandomState::new().hash_one(wait) % 1024;
    wait.mul_f64(0.5 + share as f64 / 2048.0)
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

/// Makes the client write `None` as null; by itself it would leave the field out, and a merge would
/// then keep the old value.
struct WithNulls<'a, T>(&'a T);

impl<T: Serialize> Serialize for WithNulls<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct("FirestoreNull", self.0)
    }
}
