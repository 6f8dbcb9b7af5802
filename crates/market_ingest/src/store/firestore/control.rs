//! The control document: read as it is, edited by field masks under a precondition.
//!
//! Operators write it too, by hand, so an edit names exactly the fields that it sets and nothing else is touched.
//! A precondition on the time of the last change, not a transaction: a transaction locks the document, and an
//! operator's program that dies in the middle of one would keep every other from pausing.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use ::firestore::gcloud_sdk::google::firestore::v1 as api;
use ::firestore::gcloud_sdk::google::firestore::v1::precondition::ConditionType;
use ::firestore::gcloud_sdk::google::firestore::v1::value::ValueType;
use ::firestore::gcloud_sdk::tonic::{Code, Status};
use ::firestore::timestamp_utils::to_timestamp;
use ingest_status::Timestamp;

use super::{FirestoreStore, OPS, StoreError, failed, jittered, reading};
use crate::control::{ControlHold, ControlReading, Edit, Edited};

const CONTROL: &str = "market_ingest_control";

/// Waits between two tries to edit, while others edit too; the call's own limit ends them.
pub(super) const FIRST_WAIT: Duration = Duration::from_millis(10);
pub(super) const LONGEST_WAIT: Duration = Duration::from_millis(200);

impl FirestoreStore {
    /// Full name of the control document.
    pub(super) fn control_name(&self) -> String {
        format!("{}/{OPS}/{CONTROL}", self.parent)
    }

    pub(in crate::store) async fn read_control(&self) -> Result<Option<ControlReading>, StoreError> {
        let found = self.get(vec![self.control_name()]).await?.documents.pop();
        Ok(found.as_ref().map(reading::control))
    }

    pub(in crate::store) async fn edit_control<E: Send>(
        &self,
        decide: impl Fn(&ControlReading) -> Result<Vec<Edit>, E> + Send + Sync,
    ) -> Result<Result<Edited, E>, StoreError> {
        let mut wait = FIRST_WAIT;
        loop {
            let standing = self.get(vec![self.control_name()]).await?.documents.pop();
            let read = standing.as_ref().map(reading::control).unwrap_or_default();
            let edits = match decide(&read) {
                Ok(edits) => edits,
                Err(refusal) => return Ok(Err(refusal)),
            };
            let generation = read.generation.unwrap_or(0);
            if edits.is_empty() {
                return Ok(Ok(Edited { generation, edits }));
            }
            let generation = generation.saturating_add(i64::try_from(edits.len()).unwrap_or(i64::MAX));
            let write = edit(self.control_name(), standing, generation, &edits);
            match self.commit(write).await {
                Ok(()) => return Ok(Ok(Edited { generation, edits })),
                Err(status) if is_outrun(&status) => {
                    tokio::time::sleep(jittered(wait)).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
                Err(status) => return Err(failed(status)),
            }
        }
    }
}

/// Whether somebody else was faster: nothing was written.
pub(super) fn is_outrun(status: &Status) -> bool {
    matches!(status.code(), Code::FailedPrecondition | Code::AlreadyExists | Code::NotFound | Code::Aborted)
}

/// The write that makes these edits to the document as it stands, and fails if it stands no more.
fn edit(name: String, standing: Option<api::Document>, generation: i64, edits: &[Edit]) -> api::Write {
    let mut wanted: BTreeMap<&str, Option<&ControlHold>> = BTreeMap::new();
    for edit in edits {
        match edit {
            Edit::Place { id, hold } => wanted.insert(id, Some(hold)),
            Edit::Release { id } => wanted.insert(id, None),
        };
    }
    let update_time = standing.as_ref().and_then(|document| document.update_time);
    let condition = update_time.map_or(ConditionType::Exists(false), ConditionType::UpdateTime);
    let held = standing.and_then(|mut document| match document.fields.remove("holds")?.value_type {
        Some(ValueType::MapValue(map)) => Some(map.fields),
        _ => None,
    });

    let mut mask = vec!["generation".to_owned()];
    let mut holds = HashMap::new();
    for (id, hold) in &wanted {
        let path = format!("holds.{}", quoted(id));
        let Some(hold) = hold else {
            mask.push(path);
            continue;
        };
        let fields = fields(hold);
        match held.as_ref().and_then(|held| held.get(*id)?.value_type.as_ref()) {
            // What operators wrote beside our fields stays.
            Some(ValueType::MapValue(_)) => mask.extend(fields.keys().map(|name| format!("{path}.{name}"))),
            _ => mask.push(path),
        }
        holds.insert((*id).to_owned(), value(ValueType::MapValue(api::MapValue { fields })));
    }
    // A map stays a map: with its last hold gone it is written as an empty one, and so is what was none.
    if held.is_none_or(|held| holds.is_empty() && held.keys().all(|id| wanted.contains_key(id.as_str()))) {
        mask.retain(|path| !path.starts_with("holds."));
        mask.push("holds".to_owned());
    }
    let fields = HashMap::from([
        ("generation".to_owned(), value(ValueType::IntegerValue(generation))),
        ("holds".to_owned(), value(ValueType::MapValue(api::MapValue { fields: holds }))),
    ]);
    api::Write {
        operation: Some(api::write::Operation::Update(api::Document { name, fields, ..Default::default() })),
        update_mask: Some(api::DocumentMask { field_paths: mask }),
        current_document: Some(api::Precondition { condition_type: Some(condition) }),
        ..Default::default()
    }
}

/// A hold's five fields; nulls are written, so that nothing of an earlier one shows through.
fn fields(hold: &ControlHold) -> HashMap<String, api::Value> {
    let text = |text: &Option<String>| text.clone().map_or(ValueType::NullValue(0), ValueType::StringValue);
    let time = |ts: Option<Timestamp>| {
        ts.map_or(ValueType::NullValue(0), |ts| ValueType::TimestampValue(to_timestamp(ts.into())))
    };
    let fields = [
        ("scope", ValueType::StringValue(hold.scope.to_string())),
        ("reason", text(&hold.reason)),
        ("actor", text(&hold.actor)),
        ("since", time(hold.since)),
        ("until", time(hold.until)),
    ];
    fields.into_iter().map(|(name, field)| (name.to_owned(), value(field))).collect()
}

pub(super) fn value(value: ValueType) -> api::Value {
    api::Value { value_type: Some(value) }
}

/// A map's key as a segment of a field path. Whoever writes by hand may use any text.
fn quoted(key: &str) -> String {
    format!("`{}`", key.replace('\\', "\\\\").replace('`', "\\`"))
}
