//! The history of pauses: one document a pause, below the heartbeat's.

use ::firestore::FirestoreDb;
use ::firestore::gcloud_sdk::google::firestore::v1 as api;
use ::firestore::gcloud_sdk::google::firestore::v1::structured_query::{
    CollectionSelector, Direction, FieldReference, Order,
};

use super::{FirestoreStore, HEARTBEAT, OPS, StoreError, WithNulls, failed};
use crate::history::PauseRecord;
use crate::store::is_document_id;

const HISTORY: &str = "history";

impl FirestoreStore {
    pub(in crate::store) async fn write_pause(&self, record: &PauseRecord) -> Result<(), StoreError> {
        if !is_document_id(&record.id) {
            return Err(StoreError::Refused(format!("{:?} cannot be a document's name", record.id)));
        }
        let name = format!("{}/{OPS}/{HEARTBEAT}/{HISTORY}/{}", self.parent, record.id);
        let document = FirestoreDb::serialize_to_doc(name, &WithNulls(record))?;
        let operation = Some(api::write::Operation::Update(document));
        self.commit(api::Write { operation, ..Default::default() }).await.map_err(failed)
    }

    pub(in crate::store) async fn read_pauses(&self, limit: u32) -> Result<Vec<PauseRecord>, StoreError> {
        let newest_first = Order {
            field: Some(FieldReference { field_path: "paused_at".to_owned() }),
            direction: Direction::Descending.into(),
        };
        let query = api::StructuredQuery {
            from: vec![CollectionSelector { collection_id: HISTORY.to_owned(), all_descendants: false }],
            order_by: vec![newest_first],
            limit: Some(i32::try_from(limit).unwrap_or(i32::MAX)),
            ..Default::default()
        };
        let mut records = Vec::new();
        for document in self.query(HEARTBEAT, query).await? {
            match FirestoreDb::deserialize_doc_to::<PauseRecord>(&document) {
                Ok(mut record) => {
                    record.id = document.name.rsplit('/').next().unwrap_or_default().to_owned();
                    records.push(record);
                }
                // Somebody's hand was here; the others are still worth telling.
                Err(error) => {
                    tracing::warn!(document = document.name, %error, "a pause's record is left out")
                }
            }
        }
        Ok(records)
    }
}
