//! Gaps: one document a gap, below the heartbeat's.

use ::firestore::FirestoreDb;
use ::firestore::gcloud_sdk::google::firestore::v1 as api;
use ::firestore::gcloud_sdk::google::firestore::v1::structured_query::{
    CollectionSelector, Direction, FieldFilter, FieldReference, Filter, Order, field_filter, filter,
};

use super::{FirestoreStore, HEARTBEAT, OPS, StoreError, WithNulls, failed};
use crate::gaps::{GapRecord, GapState};
use crate::store::is_document_id;

const GAPS: &str = "gaps";

impl FirestoreStore {
    pub(in crate::store) async fn write_gap(&self, record: &GapRecord) -> Result<(), StoreError> {
        if !is_document_id(&record.id) {
            return Err(StoreError::Refused(format!("{:?} cannot be a document's name", record.id)));
        }
        let name = format!("{}/{OPS}/{HEARTBEAT}/{GAPS}/{}", self.parent, record.id);
        let document = FirestoreDb::serialize_to_doc(name, &WithNulls(record))?;
        let operation = Some(api::write::Operation::Update(document));
        self.commit(api::Write { operation, ..Default::default() }).await.map_err(failed)
    }

    pub(in crate::store) async fn read_gaps(&self, limit: u32) -> Result<Vec<GapRecord>, StoreError> {
        let newest_first = Order {
            field: Some(FieldReference { field_path: "opened_at".to_owned() }),
            direction: Direction::Descending.into(),
        };
        let limit = Some(i32::try_from(limit).unwrap_or(i32::MAX));
        self.gaps(api::StructuredQuery { order_by: vec![newest_first], limit, ..Default::default() }).await
    }

    pub(in crate::store) async fn unfinished_gaps(&self) -> Result<Vec<GapRecord>, StoreError> {
        let unfinished = GapState::ALL.into_iter().filter(|state| !state.is_final());
        let word = |state: GapState| api::Value {
            value_type: Some(api::value::ValueType::StringValue(state.as_str().to_owned())),
        };
        let words = api::ArrayValue { values: unfinished.map(word).collect() };
        let is_unfinished = FieldFilter {
            field: Some(FieldReference { field_path: "state".to_owned() }),
            op: field_filter::Operator::In.into(),
            value: Some(api::Value { value_type: Some(api::value::ValueType::ArrayValue(words)) }),
        };
        let r#where = Some(Filter { filter_type: Some(filter::FilterType::FieldFilter(is_unfinished)) });
        self.gaps(api::StructuredQuery { r#where, ..Default::default() }).await
    }

    async fn gaps(&self, query: api::StructuredQuery) -> Result<Vec<GapRecord>, StoreError> {
        let from = vec![CollectionSelector { collection_id: GAPS.to_owned(), all_descendants: false }];
        let documents = self.query(HEARTBEAT, api::StructuredQuery { from, ..query }).await?;
        let mut records = Vec::new();
        for document in documents {
            match FirestoreDb::deserialize_doc_to::<GapRecord>(&document) {
                Ok(mut record) => {
                    record.id = document.name.rsplit('/').next().unwrap_or_default().to_owned();
                    records.push(record);
                }
                // Somebody's hand was here; the others are still worth knowing.
                Err(error) => tracing::warn!(document = document.name, %error, "a gap's record is left out"),
            }
        }
        Ok(records)
    }
}
