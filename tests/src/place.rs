//! A store that several producers share, of any kind, as an outsider sees it.

use std::path::PathBuf;

use serde_json::Value;

use crate::firestore::{Firestore, PROJECT, plain};
use crate::postgres::{DATABASE, Postgres};
use crate::producer::Setup;
use crate::sqlite;
use crate::venue::Venue;

/// Where Firestore has the symbols that were ever seen.
const SYMBOLS: &str = "ops/market_ingest_symbols";

/// Where the producers of one tenant meet.
#[derive(Debug)]
pub enum Place {
    /// An SQLite file.
    Sqlite(tempfile::TempDir),
    /// A PostgreSQL database.
    Postgres(Postgres),
    /// The Firestore emulator.
    Firestore(Firestore),
}

impl Place {
    /// An empty SQLite store.
    ///
    /// # Panics
    /// When there is no folder for it.
    #[must_use]
    pub fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().expect("a folder"))
    }

    /// An empty PostgreSQL store; none when the run was told to go without.
    #[must_use]
    pub fn postgres() -> Option<Self> {
        Postgres::start().map(Self::Postgres)
    }

    /// An empty Firestore; none when the run was told to go without.
    #[must_use]
    pub fn firestore() -> Option<Self> {
        Firestore::start().map(Self::Firestore)
    }

    /// The SQLite file.
    ///
    /// # Panics
    /// When it is another kind of store.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        match self {
            Self::Sqlite(folder) => folder.path().join("store.db"),
            Self::Postgres(_) | Self::Firestore(_) => panic!("no file"),
        }
    }

    /// The environment of a producer that keeps its documents here and beats every second.
    #[must_use]
    pub fn setup(&self, venue: &Venue) -> Setup {
        let setup = Setup::bare().var("ALPACA_STREAM_URL", venue.url()).var("HEARTBEAT_INTERVAL_S", 1);
        match self {
            Self::Sqlite(_) => setup.var("INGEST_STORE", format!("sqlite:{}", self.file().display())),
            Self::Postgres(cluster) => setup.var("INGEST_STORE", cluster.url(DATABASE)),
            Self::Firestore(emulator) => setup
                .var("INGEST_STORE", "firestore")
                .var("FIRESTORE_EMULATOR_HOST", emulator.host())
                .var("FIRESTORE_PROJECT_ID", PROJECT),
        }
    }

    /// The heartbeat; none before the first.
    ///
    /// # Panics
    /// When the store does not answer.
    #[must_use]
    pub fn heartbeat(&self) -> Option<Value> {
        match self {
            Self::Sqlite(_) => sqlite::heartbeat(&self.file()),
            Self::Postgres(cluster) => {
                let rows = cluster.rows(DATABASE, "SELECT document FROM market_ingest_heartbeat");
                serde_json::from_str(rows.first()?.first()?.as_deref()?).ok()
            }
            Self::Firestore(emulator) => Some(plain(&emulator.document("ops/market_ingest")?["fields"])),
        }
    }

    /// Holder and epoch of the lease.
    ///
    /// # Panics
    /// When the store does not answer, or nobody ever had it.
    #[must_use]
    pub fn lease(&self) -> (String, i64) {
        let query = "SELECT holder, epoch FROM market_ingest_lease";
        let rows = match self {
            Self::Sqlite(_) => sqlite::rows(&self.file(), query),
            Self::Postgres(cluster) => cluster.rows(DATABASE, query),
            Self::Firestore(emulator) => {
                let document = emulator.document("ops/market_ingest_lease").expect("a lease");
                let fields = plain(&document["fields"]);
                let holder = fields["holder"].as_str().expect("a holder").to_owned();
                return (holder, fields["epoch"].as_i64().expect("an epoch"));
            }
        };
        let cell = |at: usize| rows[0][at].clone().expect("not null");
        (cell(0), cell(1).parse().expect("a number"))
    }

    /// The symbols that were kept, one a line; none before the first were.
    ///
    /// # Panics
    /// When the store does not answer.
    #[must_use]
    pub fn symbols(&self) -> Option<String> {
        let query = "SELECT symbols FROM market_ingest_symbols";
        match self {
            Self::Sqlite(_) => sqlite::rows(&self.file(), query).pop()?.pop()?,
            Self::Postgres(cluster) => cluster.rows(DATABASE, query).pop()?.pop()?,
            Self::Firestore(emulator) => {
                let fields = plain(&emulator.document(SYMBOLS)?["fields"]);
                fields["symbols"].as_str().map(str::to_owned)
            }
        }
    }

    /// Keeps these instead, as somebody else would.
    ///
    /// # Panics
    /// When none were kept before, or the store does not answer.
    pub fn keep_symbols(&self, symbols: &str) {
        let statement = format!("UPDATE market_ingest_symbols SET symbols = '{symbols}'");
        match self {
            Self::Sqlite(_) => assert_eq!(sqlite::execute(&self.file(), &statement), 1),
            Self::Postgres(cluster) => drop(cluster.psql(DATABASE, &statement)),
            Self::Firestore(emulator) => emulator.patch(SYMBOLS, "symbols", symbols),
        }
    }

    /// A symbol's quote with the time of its last write; none before the first.
    ///
    /// # Panics
    /// When the store does not answer.
    #[must_use]
    pub fn quote(&self, symbol: &str) -> Option<String> {
        let query = format!("SELECT ts, updated_at FROM live_quotes WHERE symbol = '{symbol}'");
        let rows = match self {
            Self::Sqlite(_) => sqlite::rows(&self.file(), &query),
            Self::Postgres(cluster) => cluster.rows(DATABASE, &query),
            Self::Firestore(emulator) => {
                let fields = plain(&emulator.document(&format!("live_quotes/{symbol}"))?["fields"]);
                return Some(format!("{} {}", fields["ts"], fields["updated_at"]));
            }
        };
        rows.first().map(|row| format!("{row:?}"))
    }
}
