//! Where heartbeat, control document, history and quotes are kept: Firestore, PostgreSQL, or SQLite for one machine.
//!
//! Every call has a time limit, so that a frozen store can delay a heartbeat but never hang a task.
//! Writes carry whole values and may be repeated; nothing here retries.

mod firestore;
mod postgres;
mod sql;
mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use ingest_status::{Heartbeat, Timestamp};
use serde::Serialize;
use tokio::sync::Notify;

use crate::config::StoreConfig;
use crate::control::{ControlReading, Edit, Edited};
use crate::gaps::GapRecord;
use crate::history::PauseRecord;

/// No call to a store takes longer.
const CALL_LIMIT: Duration = Duration::from_secs(5);

/// A connected store. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Store {
    /// Google Cloud Firestore or its emulator.
    Firestore(firestore::FirestoreStore),
    /// A PostgreSQL database.
    Postgres(postgres::PostgresStore),
    /// An SQLite file.
    Sqlite(sqlite::SqliteStore),
}

/// The heartbeat of one tenant, as the store holds it at a time of its own clock.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The tenant; none at the root.
    pub tenant: Option<String>,
    /// The heartbeat; none if there is no document, an error where it cannot be understood.
    pub heartbeat: Option<Result<Heartbeat, String>>,
    /// The store's time of the read where the store has a clock, else ours.
    pub read_at: Timestamp,
}

/// Who may ingest, as the store holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The process that has it, by its instance id.
    pub holder: String,
    /// Counts changes of the holder, from 1.
    pub epoch: i64,
    /// When anybody may take it, by the store's clock.
    pub expires_at: Timestamp,
}

/// What became of an attempt to take the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taking {
    /// It is ours: it was free, had expired, or was ours already.
    Taken {
        /// One more than before exactly when the holder changed.
        epoch: i64,
    },
    /// Somebody else has it.
    Held(Lease),
}

/// What became of an attempt to renew the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It is ours still, with the same epoch, for another term.
    Renewed,
    /// It is not ours any more: who has taken it.
    Lost(Lease),
}

/// One row of `data_ingest_state`: an asset's channel, and whether its fetching is paused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssetRow {
    /// The asset, such as `AAPL`; a crypto pair quoted in USD by its base alone, `BTC`.
    pub canonical_symbol: String,
    /// A channel, `1m` for minute bars.
    pub timeframe: String,
    /// Whether it is held, as all rows are that a store returns.
    pub pause_fetch: bool,
    /// Free text of whoever wrote last.
    pub notes: Option<String>,
    /// When the row was last changed by an operator or by us.
    pub updated_at: Option<Timestamp>,
}

/// What the service keeps up in one row of `data_ingest_state`; operators' columns are not touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssetUpdate {
    /// The asset.
    pub canonical_symbol: String,
    /// A channel, `1m` for minute bars.
    pub timeframe: String,
    /// `running` or `paused`: what is, not what was asked.
    pub status: &'static str,
    /// Time of the newest event that was delivered; none leaves what is there.
    pub last_event_ts: Option<Timestamp>,
}

/// Name, timeframe and status of a row of `data_ingest_state`.
pub type AssetStatus = (String, String, Option<String>);

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
    /// A later holder of the lease writes here: nothing was written.
    #[error("the lease of epoch {epoch} is over, somebody else has taken it")]
    Fenced {
        /// Ours.
        epoch: i64,
    },
    /// SQLite or PostgreSQL could not read or write.
    #[error("the database")]
    Sql(#[from] sqlx::Error),
    /// The tables could not be brought up to date.
    #[error("migration of the store's tables")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// A document that is there and is not understood.
    #[error("the stored heartbeat cannot be understood: {0}")]
    Unparsable(String),
    /// The database cannot be used.
    #[error("the store {place} cannot be opened")]
    Open {
        /// As configured, without a password.
        place: String,
        /// Why.
        source: sqlx::Error,
    },
}

/// One call of whichever store it is, within [`CALL_LIMIT`].
macro_rules! ask {
    ($store:ident.$call:ident($($argument:expr),*)) => {
        limited(async {
            match $store {
                Self::Firestore(store) => store.$call($($argument),*).await,
                Self::Postgres(store) => store.$call($($argument),*).await,
                Self::Sqlite(store) => store.$call($($argument),*).await,
            }
        })
        .await
    };
}

impl Store {
    /// Opens the store that the configuration names, for the service: tables are created and brought up to date.
    ///
    /// Firestore and PostgreSQL are connected lazily: they may be unreachable now and come back.
    ///
    /// # Errors
    /// When an SQLite file cannot be opened or migrated, PostgreSQL's URL cannot be read, or Firestore's client cannot
    /// be built.
    pub async fn connect(store: &StoreConfig, tenant: Option<&str>) -> Result<Self, StoreError> {
        match store {
            StoreConfig::Firestore { project, emulator_host } => {
                firestore::FirestoreStore::new(project, emulator_host.as_deref(), tenant).map(Self::Firestore)
            }
            StoreConfig::Postgres(url) => postgres::PostgresStore::new(url, tenant).map(Self::Postgres),
            StoreConfig::Sqlite(path) => sqlite::SqliteStore::open(path, tenant).await.map(Self::Sqlite),
        }
    }

    /// Opens the store as an operator's program does: what is not there is not created.
    ///
    /// # Errors
    /// As [`Self::connect`], and when an SQLite file does not exist.
    pub async fn attach(store: &StoreConfig, tenant: Option<&str>) -> Result<Self, StoreError> {
        if let StoreConfig::Sqlite(path) = store
            && !path.exists()
        {
            let source = sqlx::Error::Io(std::io::ErrorKind::NotFound.into());
            return Err(StoreError::Open { place: format!("sqlite:{}", path.display()), source });
        }
        Self::connect(store, tenant).await
    }

    /// Merges a heartbeat into its document; the store adds `updated_at`. One that carries the epoch of its writer's
    /// lease is not written over that of a later holder.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when the lease has a later holder; when the store does not take it within five seconds. Cancel safe: a cut-off write is either
    /// done or not, and the next one carries everything again.
    pub async fn write_heartbeat(&self, beat: &Heartbeat) -> Result<(), StoreError> {
        ask!(self.write_heartbeat(beat))
    }

    /// The heartbeat as it stands, none when nobody ever wrote one.
    ///
    /// # Errors
    /// When the store does not answer within five seconds, or holds something else there.
    pub async fn read_heartbeat(&self) -> Result<Option<Heartbeat>, StoreError> {
        ask!(self.read_heartbeat())
    }

    /// Writes quotes, at most 500, each on its own merit: the answer tells for every one whether it
    /// was refused, and why. A refused quote will be refused again; an outer error may pass.
    ///
    /// With the epoch of the writer's lease, SQL stores take none when there is a later holder; Firestore's batch of
    /// independent writes cannot ask that, so there the writer's own validity must do.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] when the lease has a later holder; when the store as a whole does not take them within
    /// five seconds.
    pub async fn write_quotes(
        &self,
        quotes: &[QuoteDocument],
        epoch: Option<i64>,
    ) -> Result<Vec<Result<(), String>>, StoreError> {
        limited(async {
            match self {
                Self::Firestore(store) => store.write_quotes(quotes).await,
                Self::Postgres(store) => store.write_quotes(quotes, epoch).await,
                Self::Sqlite(store) => store.write_quotes(quotes, epoch).await,
            }
        })
        .await
    }

    /// Takes the lease for `holder` if it is free, has expired, or is the holder's already; else tells who has it.
    ///
    /// # Errors
    /// When the store does not answer within five seconds; whether it was taken is then not known. Asking again is
    /// safe, and so is [`Self::release_lease`].
    pub async fn take_lease(&self, holder: &str, ttl: Duration) -> Result<Taking, StoreError> {
        ask!(self.take_lease(holder, ttl))
    }

    /// Moves the lease's end to `ttl` from now, if nobody has taken it since `holder` did with that epoch. A store that
    /// has forgotten the lease is told of it anew.
    ///
    /// # Errors
    /// When the store does not answer within five seconds.
    pub async fn renew_lease(&self, holder: &str, epoch: i64, ttl: Duration) -> Result<Renewal, StoreError> {
        ask!(self.renew_lease(holder, epoch, ttl))
    }

    /// Ends the lease at once if `holder` has it; holder and epoch stay, for the next one to count on.
    ///
    /// # Errors
    /// When the store does not answer within five seconds; the lease then ends by itself.
    pub async fn release_lease(&self, holder: &str) -> Result<(), StoreError> {
        ask!(self.release_lease(holder))
    }

    /// How often to ask for a lease that somebody else has.
    #[must_use]
    pub fn lease_poll(&self) -> Duration {
        match self {
            // Each question is a read, and 50,000 a day are free.
            Self::Firestore(_) => Duration::from_secs(1),
            Self::Postgres(_) | Self::Sqlite(_) => Duration::from_millis(500),
        }
    }

    /// The control document as it stands, none when nobody ever wrote one. What cannot be understood in it is told
    /// in its place and is no error.
    ///
    /// # Errors
    /// When the store does not answer within five seconds.
    pub async fn read_control(&self) -> Result<Option<ControlReading>, StoreError> {
        ask!(self.read_control())
    }

    /// Reads the control document and changes it in one transaction; nobody's change in between is lost.
    ///
    /// `decide` may be called several times. Its own error is the inner one, and then nothing is written; so is
    /// nothing when it returns no edits.
    ///
    /// # Errors
    /// When the store does not take it within five seconds; whether it was done is then not known. Asking again for
    /// the same is safe.
    pub async fn edit_control<E: Send>(
        &self,
        decide: impl Fn(&ControlReading) -> Result<Vec<Edit>, E> + Send + Sync,
    ) -> Result<Result<Edited, E>, StoreError> {
        ask!(self.edit_control(decide))
    }

    /// Tells `changed` whenever the control document or `data_ingest_state` may have changed; never returns. A store
    /// that cannot tell waits for ever: the poll remains. Reconnects by itself.
    ///
    /// Cancel safe.
    pub async fn follow_control(&self, changed: &Notify) {
        match self {
            Self::Firestore(store) => store.follow_control(changed).await,
            Self::Postgres(store) => store.follow_control(changed).await,
            Self::Sqlite(_) => std::future::pending().await,
        }
    }

    /// How often to read the control document when nothing is told.
    #[must_use]
    pub fn control_poll(&self) -> Duration {
        match self {
            // Reads cost money there, and the listener is the way that counts.
            Self::Firestore(_) => Duration::from_secs(10),
            Self::Postgres(_) | Self::Sqlite(_) => Duration::from_millis(250),
        }
    }

    /// Writes a pause's record whole, by its id.
    ///
    /// # Errors
    /// When the store does not take it within five seconds.
    pub async fn write_pause(&self, record: &PauseRecord) -> Result<(), StoreError> {
        ask!(self.write_pause(record))
    }

    /// The newest pauses, newest first, at most `limit`.
    ///
    /// # Errors
    /// When the store does not answer within five seconds.
    pub async fn read_pauses(&self, limit: u32) -> Result<Vec<PauseRecord>, StoreError> {
        ask!(self.read_pauses(limit))
    }

    /// Writes a gap whole, by its id.
    ///
    /// # Errors
    /// When the store does not take it within five seconds.
    pub async fn write_gap(&self, record: &GapRecord) -> Result<(), StoreError> {
        ask!(self.write_gap(record))
    }

    /// The gaps that were opened last, newest first, at most `limit`.
    ///
    /// # Errors
    /// When the store does not answer within five seconds.
    pub async fn read_gaps(&self, limit: u32) -> Result<Vec<GapRecord>, StoreError> {
        ask!(self.read_gaps(limit))
    }

    /// The gaps that are not at their end.
    ///
    /// # Errors
    /// When the store does not answer within five seconds.
    pub async fn unfinished_gaps(&self) -> Result<Vec<GapRecord>, StoreError> {
        ask!(self.unfinished_gaps())
    }

    /// The symbols that were kept, one a line; none before the first were.
    ///
    /// # Errors
    /// When the store does not answer within five seconds.
    pub async fn read_symbols(&self) -> Result<Option<String>, StoreError> {
        ask!(self.read_symbols())
    }

    /// Keeps these symbols, one a line, instead of those before.
    ///
    /// # Errors
    /// When the store does not answer within five seconds.
    pub async fn write_symbols(&self, symbols: &str) -> Result<(), StoreError> {
        ask!(self.write_symbols(symbols))
    }

    /// The heartbeat of this store's tenant, with the time of the read.
    ///
    /// # Errors
    /// When the store does not answer within five seconds.
    pub async fn observe(&self) -> Result<Observed, StoreError> {
        ask!(self.observe())
    }

    /// The heartbeats of all tenants in this store, by tenant.
    ///
    /// # Errors
    /// When the store does not answer within five seconds.
    pub async fn fleet(&self) -> Result<Vec<Observed>, StoreError> {
        ask!(self.fleet())
    }

    /// Whether there is a table `data_ingest_state`.
    #[must_use]
    pub fn keeps_assets(&self) -> bool {
        match self {
            Self::Firestore(_) => false,
            Self::Postgres(_) | Self::Sqlite(_) => true,
        }
    }

    /// The paused rows of `data_ingest_state`; Firestore has no such table.
    ///
    /// # Errors
    /// When the store does not answer within five seconds.
    pub async fn read_assets(&self) -> Result<Vec<AssetRow>, StoreError> {
        limited(async {
            match self {
                Self::Firestore(_) => Ok(Vec::new()),
                Self::Postgres(store) => store.read_assets().await,
                Self::Sqlite(store) => store.read_assets().await,
            }
        })
        .await
    }

    /// What the rows of `data_ingest_state` say, all of them.
    ///
    /// # Errors
    /// When the store does not answer within five seconds.
    pub async fn asset_statuses(&self) -> Result<Vec<AssetStatus>, StoreError> {
        limited(async {
            match self {
                Self::Firestore(_) => Ok(Vec::new()),
                Self::Postgres(store) => store.asset_statuses().await,
                Self::Sqlite(store) => store.asset_statuses().await,
            }
        })
        .await
    }

    /// Keeps up the rows of `data_ingest_state`, inserting those that are not there; at most 1,000 at a time.
    ///
    /// # Errors
    /// When the store does not take them within five seconds.
    pub async fn write_assets(&self, updates: &[AssetUpdate]) -> Result<(), StoreError> {
        limited(async {
            match self {
                Self::Firestore(_) => Ok(()),
                Self::Postgres(store) => store.write_assets(updates).await,
                Self::Sqlite(store) => store.write_assets(updates).await,
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
