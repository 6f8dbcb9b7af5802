//! Where heartbeat and quotes are kept: Firestore, or SQLite for one machine.
//!
//! Every call has a time limit, so that a frozen store can delay a heartbeat but never hang a task.
//! Writes carry whole values and may be repeated; nothing here retries.

mod firestore;
mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use ingest_status::{Heartbeat, Timestamp};
use serde::Serialize;

use crate::config::{Config, StoreConfig};

/// No call to a store takes longer.
const CALL_LIMIT: Duration = Duration::from_secs(5);

/// A connected store. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Store {
    /// Google Cloud Firestore or its emulator.
    Firestore(firestore::FirestoreStore),
    /// An SQLite file.
    Sqlite(sqlite::SqliteStore),
}

/// One symbol's newest quote, as `live_quotes/{SYMBOL}` holds it. `updated_at` is the store's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QuoteDocument {
    /// As the venue writes it, such as `AAPL` or `BTC/USD`.
    pub symbol: Arc<str>,
    /// `alpaca`.
    pub source: &'static str,
    /// The quote's own time.
    pub ts: Timestamp,
    /// Best bid; null when that side has no price.
    pub bid: Option<f64>,
    /// Best ask; null when that side has no price.
    pub ask: Option<f64>,
    /// Size at the bid: shares, or units of the base currency.
    pub bid_size: f64,
    /// Size at the ask.
    pub ask_size: f64,
    /// Midpoint; null unless both sides have a price.
    pub price: Option<f64>,
    /// Price of the newest trade that was seen; null before the first.
    pub last_trade_price: Option<f64>,
}

impl QuoteDocument {
    /// The document's id: a `/` would be a path, so it is written as `-`.
    #[must_use]
    pub fn id(&self) -> String {
        self.symbol.replace('/', "-")
    }
}

/// Whether a text can name a document of Firestore: not blank, no path, none of the reserved forms.
#[must_use]
pub fn is_document_id(id: &str) -> bool {
    (1..=1500).contains(&id.len())
        && !id.contains('/')
        && id != "."
        && id != ".."
        && !(id.starts_with("__") && id.ends_with("__"))
}

/// What a store could not do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No answer in time.
    #[error("the store did not answer within {0:?}")]
    Timeout(Duration),
    /// Firestore answered with an error, or was not reached.
    #[error("Firestore")]
    Firestore(#[from] ::firestore::errors::FirestoreError),
    /// No Google credentials were found, or they are of no use.
    #[error("Google credentials")]
    Credentials(#[from] google_cloud_auth::build_errors::Error),
    /// The store was reached and did not accept the document.
    #[error("the store refused the document: {0}")]
    Refused(String),
    /// SQLite could not read or write.
    #[error("SQLite")]
    Sqlite(#[from] sqlx::Error),
    /// The tables could not be brought up to date.
    #[error("migration of the SQLite store")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// A document that is there and is not understood.
    #[error("the stored heartbeat cannot be understood: {0}")]
    Unparsable(String),
    /// The path cannot be used.
    #[error("the SQLite store {path} cannot be opened")]
    Open {
        /// As configured.
        path: String,
        /// Why.
        source: sqlx::Error,
    },
}

impl Store {
    /// Opens the store that the configuration names.
    ///
    /// Firestore is connected lazily: it may be unreachable now and come back.
    ///
    /// # Errors
    /// When an SQLite file cannot be opened or migrated, or Firestore's client cannot be built.
    pub async fn connect(config: &Config) -> Result<Self, StoreError> {
        let tenant = config.tenant.as_deref();
        match &config.store {
            StoreConfig::Firestore { project, emulator_host } => {
                firestore::FirestoreStore::new(project, emulator_host.as_deref(), tenant).map(Self::Firestore)
            }
            StoreConfig::Sqlite(path) => sqlite::SqliteStore::open(path, tenant).await.map(Self::Sqlite),
        }
    }

    /// Merges a heartbeat into its document; the store adds `updated_at`.
    ///
    /// # Errors
    /// When the store does not take it within five seconds. Cancel safe: a cut-off write is either
    /// done or not, and the next one carries everything again.
    pub async fn write_heartbeat(&self, beat: &Heartbeat) -> Result<(), StoreError> {
        limited(async {
            match self {
                Self::Firestore(store) => store.write_heartbeat(beat).await,
                Self::Sqlite(store) => store.write_heartbeat(beat).await,
            }
        })
        .await
    }

    /// The heartbeat as it stands, none when nobody ever wrote one.
    ///
    /// # Errors
    /// When the store does not answer within five seconds, or holds something else there.
    pub async fn read_heartbeat(&self) -> Result<Option<Heartbeat>, StoreError> {
        limited(async {
            match self {
                Self::Firestore(store) => store.read_heartbeat().await,
                Self::Sqlite(store) => store.read_heartbeat().await,
            }
        })
        .await
    }

    /// Writes quotes, at most 500, each on its own merit: the answer tells for every one whether it
    /// was refused, and why. A refused quote will be refused again; an outer error may pass.
    ///
    /// # Errors
    /// When the store as a whole does not take them within five seconds.
    pub async fn write_quotes(
        &self,
        quotes: &[QuoteDocument],
    ) -> Result<Vec<Result<(), String>>, StoreError> {
        limited(async {
            match self {
                Self::Firestore(store) => store.write_quotes(quotes).await,
                Self::Sqlite(store) => store.write_quotes(quotes).await,
            }
        })
        .await
    }
}

async fn limited<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match tokio::time::timeout(CALL_LIMIT, call).await {
        Ok(answer) => answer,
        Err(_) => Err(StoreError::Timeout(CALL_LIMIT)),
    }
}
