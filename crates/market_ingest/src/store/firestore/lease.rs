//! The lease in Firestore: the document is read and written under a precondition on its last change, by the store's
//! clock.
//!
//! A precondition, not a transaction: who dies in the middle of one must not keep the others from taking over.

use std::collections::HashMap;
use std::time::Duration;

use ::firestore::gcloud_sdk::google::firestore::v1 as api;
use ::firestore::gcloud_sdk::google::firestore::v1::precondition::ConditionType;
use ::firestore::gcloud_sdk::google::firestore::v1::value::ValueType;
use ::firestore::timestamp_utils::to_timestamp;
use ingest_status::Timestamp;

use super::control::{FIRST_WAIT, LONGEST_WAIT, is_outrun, value};
use super::{FirestoreStore, OPS, StoreError, failed, jittered, time};
use crate::store::{Lease, Renewal, Taking};

const LEASE: &str = "market_ingest_lease";

/// What is to become of the lease: a write and the answer when it is done, or the answer alone.
enum Next<T> {
    Write(Lease, T),
    Stand(T),
}

impl FirestoreStore {
    pub(in crate::store) async fn take_lease(
        &self,
        holder: &str,
        ttl: Duration,
    ) -> Result<Taking, StoreError> {
        self.change_lease(|standing, now| {
            let epoch = match standing {
                Some(lease) if lease.holder == holder => lease.epoch,
                Some(lease) if now < lease.expires_at => return Next::Stand(Taking::Held(lease)),
                Some(lease) => lease.epoch.saturating_add(1),
                None => 1,
            };
            let lease = Lease { holder: holder.to_owned(), epoch, expires_at: later(now, ttl) };
            Next::Write(lease, Taking::Taken { epoch })
        })
        .await
    }

    pub(in crate::store) async fn renew_lease(
        &self,
        holder: &str,
        epoch: i64,
        ttl: Duration,
    ) -> Result<Renewal, StoreError> {
        self.change_lease(|standing, now| match standing {
            Some(lease) if lease.holder == holder && lease.epoch == epoch => {
                Next::Write(Lease { expires_at: later(now, ttl), ..lease }, Renewal::Renewed)
            }
            Some(other) => Next::Stand(Renewal::Lost(other)),
            None => {
                let lease = Lease { holder: holder.to_owned(), epoch, expires_at: later(now, ttl) };
                Next::Write(lease, Renewal::Renewed)
            }
        })
        .await
    }

    pub(in crate::store) async fn release_lease(&self, holder: &str) -> Result<(), StoreError> {
        self.change_lease(|standing, now| match standing {
            Some(lease) if lease.holder == holder => Next::Write(Lease { expires_at: now, ..lease }, ()),
            _ => Next::Stand(()),
        })
        .await
    }

    /// Decides by what stands and by the store's time, again whenever somebody else was faster.
    async fn change_lease<T>(
        &self,
        decide: impl Fn(Option<Lease>, Timestamp) -> Next<T>,
    ) -> Result<T, StoreError> {
        let name = format!("{}/{OPS}/{LEASE}", self.parent);
        let mut wait = FIRST_WAIT;
        loop {
            let mut read = self.get(vec![name.clone()]).await?;
            let now =
                read.read_at.ok_or_else(|| StoreError::Refused("a read without its time".to_owned()))?;
            let document = read.documents.pop();
            let update_time = document.as_ref().and_then(|document| document.update_time);
            let (lease, answer) = match decide(document.as_ref().map(lease), now) {
                Next::Stand(answer) => return Ok(answer),
                Next::Write(lease, answer) => (lease, answer),
            };
            let condition = update_time.map_or(ConditionType::Exists(false), ConditionType::UpdateTime);
            match self.commit(write(name.clone(), &lease, condition)).await {
                Ok(_) => return Ok(answer),
                Err(status) if is_outrun(&status) => {
                    tokio::time::sleep(jittered(wait)).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
                Err(status) => return Err(failed(status)),
            }
        }
    }
}

/// What a document says; what somebody's hand has spoilt in it counts as nobody's and expired.
fn lease(document: &api::Document) -> Lease {
    let mut lease = Lease { holder: String::new(), epoch: 0, expires_at: jiff::Timestamp::UNIX_EPOCH.into() };
    for (name, value) in &document.fields {
        match (name.as_str(), &value.value_type) {
            ("holder", Some(ValueType::StringValue(holder))) => lease.holder.clone_from(holder),
            ("epoch", Some(ValueType::IntegerValue(epoch))) => lease.epoch = *epoch,
            ("expires_at", Some(ValueType::TimestampValue(at))) => {
                lease.expires_at = time(*at).unwrap_or(lease.expires_at);
            }
            _ => {}
        }
    }
    lease
}

fn write(name: String, lease: &Lease, condition: ConditionType) -> api::Write {
    let fields = HashMap::from([
        ("holder".to_owned(), value(ValueType::StringValue(lease.holder.clone()))),
        ("epoch".to_owned(), value(ValueType::IntegerValue(lease.epoch))),
        ("expires_at".to_owned(), value(ValueType::TimestampValue(to_timestamp(lease.expires_at.into())))),
    ]);
    let mask = api::DocumentMask { field_paths: fields.keys().cloned().collect() };
    api::Write {
        operation: Some(api::write::Operation::Update(api::Document { name, fields, ..Default::default() })),
        update_mask: Some(mask),
        current_document: Some(api::Precondition { condition_type: Some(condition) }),
        ..Default::default()
    }
}

fn later(now: Timestamp, ttl: Duration) -> Timestamp {
    let now = jiff::Timestamp::from(now);
    now.saturating_add(ttl).unwrap_or(now).into()
}
