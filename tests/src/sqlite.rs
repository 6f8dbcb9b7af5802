//! An SQLite store as any other program sees it.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use sqlx::{Connection, Row, SqliteConnection};

use crate::wait_for;

/// Rows of a query, each column as text (null as none).
///
/// # Panics
/// When the database cannot be read.
pub fn rows(path: &Path, query: &str) -> Vec<Vec<Option<String>>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let url = format!("sqlite:{}", path.display());
        let mut connection = SqliteConnection::connect(&url).await.expect("the store opens");
        let rows = sqlx::query(sqlx::AssertSqlSafe(query.to_owned()))
            .fetch_all(&mut connection)
            .await
            .expect("the query runs");
        rows.iter()
            .map(|row| (0..row.len()).map(|i| row.get_unchecked::<Option<String>, _>(i)).collect())
            .collect()
    })
}

/// Runs a statement, as an operator does; says how many rows it changed.
///
/// # Panics
/// When the database does not take it.
pub fn execute(path: &Path, statement: &str) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let url = format!("sqlite:{}", path.display());
        let mut connection = SqliteConnection::connect(&url).await.expect("the store opens");
        let statement = sqlx::query(sqlx::AssertSqlSafe(statement.to_owned()));
        statement.execute(&mut connection).await.expect("the statement runs").rows_affected()
    })
}

/// The heartbeat's document; none before the first.
#[must_use]
pub fn heartbeat(path: &Path) -> Option<Value> {
    if !path.exists() {
        return None;
    }
    let rows = rows(path, "SELECT document FROM market_ingest_heartbeat");
    let document = rows.into_iter().next()?.into_iter().next()??;
    serde_json::from_str(&document).ok()
}

/// Waits until the producer wrote so many more heartbeats: that much of its time went by.
///
/// # Panics
/// When it does not within three seconds for each.
pub fn wait_beats(path: &Path, count: u32) {
    let seq = || heartbeat(path)?["seq"].as_u64();
    let limit = Duration::from_secs(3) * count;
    let first = wait_for("a heartbeat", limit, seq);
    wait_for("more heartbeats", limit, || (seq()? >= first + u64::from(count)).then_some(()));
}

/// Somebody else's write transaction, which keeps everybody else from writing.
#[derive(Debug)]
pub struct Lock {
    runtime: tokio::runtime::Runtime,
    connection: Option<SqliteConnection>,
}

impl Lock {
    /// Begins it.
    ///
    /// # Panics
    /// When the database does not allow it within a few seconds.
    #[must_use]
    pub fn hold(path: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let connection = runtime.block_on(async {
            let url = format!("sqlite:{}", path.display());
            let mut connection = SqliteConnection::connect(&url).await.expect("the store opens");
            sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await.expect("the lock");
            connection
        });
        Self { runtime, connection: Some(connection) }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            // Closing rolls the transaction back.
            let _ = self.runtime.block_on(connection.close());
        }
    }
}
