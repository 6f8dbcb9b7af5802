//! Every symbol that was ever seen, in one text: a list would have an index entry for each.

use ::firestore::FirestoreDb;
use ::firestore::gcloud_sdk::google::firestore::v1 as api;
use serde::{Deserialize, Serialize};

use super::{FirestoreStore, OPS, StoreError, failed};

const SYMBOLS: &str = "market_ingest_symbols";

#[derive(Serialize, Deserialize)]
struct Seen {
    symbols: String,
}

impl FirestoreStore {
    pub(in crate::store) async fn read_symbols(&self) -> Result<Option<String>, StoreError> {
        let name = format!("{}/{OPS}/{SYMBOLS}", self.parent);
        let document = self.get(vec![name]).await?.documents.pop();
        // One that cannot be understood tells nothing, and is written anew.
        let seen = document.and_then(|document| FirestoreDb::deserialize_doc_to::<Seen>(&document).ok());
        Ok(seen.map(|seen| seen.symbols))
    }

    pub(in crate::store) async fn write_symbols(&self, symbols: &str) -> Result<(), StoreError> {
        let name = format!("{}/{OPS}/{SYMBOLS}", self.parent);
        let document = FirestoreDb::serialize_to_doc(name, &Seen { symbols: symbols.to_owned() })?;
        let operation = Some(api::write::Operation::Update(document));
        self.commit(api::Write { operation, ..Default::default() }).await.map_err(failed)
    }
}
