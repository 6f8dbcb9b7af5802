//! Heartbeats as a watcher sees them: of this tenant, or of all.
//!
//! Tenants are found by listing `tenants`, with those that have no document of their own and exist only as the place
//! of their collections. That needs no index, and reads nothing of the other documents in `ops`.

use ::firestore::FirestoreDb;
use ::firestore::gcloud_sdk::google::firestore::v1 as api;

use super::{FirestoreStore, HEARTBEAT, OPS, StoreError, TENANTS, failed};
use crate::store::Observed;
use ingest_status::{Heartbeat, Timestamp};

/// Tenants looked at in one request; the service gives no more.
const PAGE: i32 = 300;

impl FirestoreStore {
    pub(in crate::store) async fn read_heartbeat(&self) -> Result<Option<Heartbeat>, StoreError> {
        self.observe().await?.heartbeat.transpose().map_err(StoreError::Unparsable)
    }

    pub(in crate::store) async fn observe(&self) -> Result<Observed, StoreError> {
        let name = format!("{}/{OPS}/{HEARTBEAT}", self.parent);
        let tenant = self.tenant_of(&name);
        let snapshot = self.get(vec![name]).await?;
        Ok(Observed {
            tenant,
            heartbeat: snapshot.documents.first().map(heartbeat),
            read_at: snapshot.read_at.unwrap_or_else(now),
        })
    }

    pub(in crate::store) async fn fleet(&self) -> Result<Vec<Observed>, StoreError> {
        let root = format!("{}/documents", self.database);
        let mut places = vec![root.clone()];
        let mut page_token = String::new();
        let mut fleet = Vec::new();
        loop {
            let request = api::ListDocumentsRequest {
                parent: root.clone(),
                collection_id: TENANTS.to_owned(),
                page_size: PAGE,
                page_token,
                show_missing: true,
                // The name is all that is wanted.
                mask: Some(api::DocumentMask::default()),
                ..Default::default()
            };
            let page = self.api().await?.list_documents(request).await.map_err(failed)?.into_inner();
            places.extend(page.documents.into_iter().map(|tenant| tenant.name));
            let names = places.drain(..).map(|place| format!("{place}/{OPS}/{HEARTBEAT}")).collect();
            let snapshot = self.get(names).await?;
            let read_at = snapshot.read_at.unwrap_or_else(now);
            fleet.extend(snapshot.documents.iter().map(|document| Observed {
                tenant: self.tenant_of(&document.name),
                heartbeat: Some(heartbeat(document)),
                read_at,
            }));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        fleet.sort_by(|a, b| a.tenant.cmp(&b.tenant));
        Ok(fleet)
    }

    /// Whose a document is, by its full name.
    fn tenant_of(&self, name: &str) -> Option<String> {
        let path = name.strip_prefix(&self.database)?.strip_prefix("/documents/")?;
        let (tenant, _) = path.strip_prefix(TENANTS)?.strip_prefix('/')?.split_once('/')?;
        Some(tenant.to_owned())
    }
}

fn heartbeat(document: &api::Document) -> Result<Heartbeat, String> {
    FirestoreDb::deserialize_doc_to(document).map_err(|error| error.to_string())
}

fn now() -> Timestamp {
    jiff::Timestamp::now().into()
}
