//! The heartbeat: one merge write, and never over that of a later holder of the lease.
//!
//! One that carries an epoch is written on the condition that the document has not changed since it was seen to be of
//! no later epoch. That costs a read; whoever fills in fields by hand costs a further try.

use std::time::Duration;

use ::firestore::FirestoreDb;
use ::firestore::gcloud_sdk::google::firestore::v1 as api;
use ::firestore::gcloud_sdk::google::firestore::v1::document_transform::FieldTransform;
use ::firestore::gcloud_sdk::google::firestore::v1::document_transform::field_transform::{
    ServerValue, TransformType,
};
use ::firestore::gcloud_sdk::google::firestore::v1::precondition::ConditionType;
use ::firestore::gcloud_sdk::google::firestore::v1::value::ValueType;
use ingest_status::Heartbeat;

use super::control::is_outrun;
use super::{FirestoreStore, HEARTBEAT, OPS, StoreError, WithNulls, failed, jittered};

/// Wait before a further try; the call's own limit ends them.
const RETRY_AFTER: Duration = Duration::from_millis(20);

impl FirestoreStore {
    pub(in crate::store) async fn write_heartbeat(&self, beat: &Heartbeat) -> Result<(), StoreError> {
        let name = format!("{}/{OPS}/{HEARTBEAT}", self.parent);
        let document = FirestoreDb::serialize_to_doc(name.clone(), &WithNulls(beat))?;
        let update_time = FieldTransform {
            field_path: "updated_at".to_owned(),
            transform_type: Some(TransformType::SetToServerValue(ServerValue::RequestTime.into())),
        };
        // A merge must replace exactly what a heartbeat sends.
        let mask = api::DocumentMask { field_paths: document.fields.keys().cloned().collect() };
        let mut write = api::Write {
            operation: Some(api::write::Operation::Update(document)),
            update_mask: Some(mask),
            update_transforms: vec![update_time],
            ..Default::default()
        };
        loop {
            if let Some(epoch) = beat.epoch {
                let standing = self.get(vec![name.clone()]).await?.documents.pop();
                if standing.as_ref().and_then(epoch_of).is_some_and(|standing| standing > epoch) {
                    return Err(StoreError::Fenced { epoch });
                }
                let update_time = standing.and_then(|document| document.update_time);
                let condition = update_time.map_or(ConditionType::Exists(false), ConditionType::UpdateTime);
                write.current_document = Some(api::Precondition { condition_type: Some(condition) });
            }
            match self.commit(write.clone()).await {
                Ok(()) => return Ok(()),
                Err(status) if beat.epoch.is_some() && is_outrun(&status) => {
                    tokio::time::sleep(jittered(RETRY_AFTER)).await;
                }
                Err(status) => return Err(failed(status)),
            }
        }
    }
}

fn epoch_of(document: &api::Document) -> Option<i64> {
    let value = document.fields.get("epoch")?.value_type.as_ref()?;
    if let ValueType::IntegerValue(epoch) = value { Some(*epoch) } else { None }
}
