//! A store under test, and the other programs that speak SQL to its database.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};

use e2e::postgres::Postgres;
use market_ingest::config::StoreConfig;
use market_ingest::control::{ControlReading, Edit};
use market_ingest::store::Store;
use tokio::runtime::Runtime;

/// One store with its database.
pub(super) struct Bench {
    pub(super) runtime: Runtime,
    pub(super) config: StoreConfig,
    pub(super) database: Database,
}

/// Where the store keeps its tables.
pub(super) enum Database {
    Sqlite { path: PathBuf, _folder: tempfile::TempDir },
    Postgres { cluster: Arc<Postgres>, name: String },
}

/// The cluster of the tests that do it no harm; it ends with the last of them that runs.
static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
static DATABASES: AtomicU32 = AtomicU32::new(0);

impl Bench {
    pub(super) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        Self {
            runtime: Runtime::new().unwrap(),
            config: StoreConfig::Sqlite(path.clone()),
            database: Database::Sqlite { path, _folder: folder },
        }
    }

    /// A database of its own; none where PostgreSQL is left out.
    pub(super) fn postgres() -> Option<Self> {
        let cluster = {
            let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            match shared.upgrade() {
                Some(cluster) => cluster,
                None => {
                    let cluster = Arc::new(Postgres::start()?);
                    *shared = Arc::downgrade(&cluster);
                    cluster
                }
            }
        };
        let name = format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        cluster.create(&name);
        Some(Self {
            runtime: Runtime::new().unwrap(),
            config: StoreConfig::Postgres(cluster.url(&name).into()),
            database: Database::Postgres { cluster, name },
        })
    }

    pub(super) fn store(&self) -> Store {
        self.tenant(None)
    }

    pub(super) fn tenant(&self, tenant: Option<&str>) -> Store {
        self.run(Store::connect(&self.config, tenant)).unwrap()
    }

    pub(super) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Runs somebody else's SQL.
    pub(super) fn sql(&self, statement: &str) -> Vec<Vec<Option<String>>> {
        match &self.database {
            Database::Sqlite { path, .. } => e2e::sqlite::rows(path, statement),
            Database::Postgres { cluster, name } => cluster.rows(name, statement),
        }
    }

    pub(super) fn control(&self, store: &Store) -> ControlReading {
        self.run(store.read_control()).unwrap().unwrap_or_default()
    }

    pub(super) fn edit(&self, store: &Store, edits: Vec<Edit>) -> i64 {
        let decide = |_: &ControlReading| Ok::<_, std::convert::Infallible>(edits.clone());
        self.run(store.edit_control(decide)).unwrap().unwrap().generation
    }
}
