//! SQLite: the embedded default, for the demo and for one machine.
//!
//! One writer connection; times are RFC 3339 text in UTC, `updated_at` is the database's own clock.
//! The five known fields of a heartbeat are columns, the whole document is JSON beside them.

use std::path::Path;
use std::time::Duration;

use ingest_status::{Heartbeat, Status, Timestamp};
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::{QuoteDocument, StoreError};

/// An open database, and the tenant's rows in it.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    pool: SqlitePool,
    /// Empty without a tenant: part of every key, and a key cannot hold null.
    tenant: String,
}

impl SqliteStore {
    pub(super) async fn open(path: &Path, tenant: Option<&str>) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(Duration::from_secs(2));
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options)
            .await
            .map_err(|source| StoreError::Open { path: path.display().to_string(), source })?;
        sqlx::migrate!("migrations/sqlite").run(&pool).await?;
        Ok(Self { pool, tenant: tenant.unwrap_or_default().to_owned() })
    }

    pub(super) async fn write_heartbeat(&self, beat: &Heartbeat) -> Result<(), StoreError> {
        let document = serde_json::to_string(beat).map_err(|e| StoreError::Refused(e.to_string()))?;
        sqlx::query(
            "INSERT INTO market_ingest_heartbeat (tenant, status, ts, ingest_enabled,
                 ingest_enabled_source, last_symbol, document, updated_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
             ON CONFLICT (tenant) DO UPDATE SET status = excluded.status, ts = excluded.ts,
                 ingest_enabled = excluded.ingest_enabled,
                 ingest_enabled_source = excluded.ingest_enabled_source,
                 last_symbol = excluded.last_symbol, document = excluded.document,
                 updated_at = excluded.updated_at",
        )
        .bind(&self.tenant)
        .bind(match beat.status {
            Status::Running => "running",
            Status::Paused => "paused",
        })
        .bind(beat.ts.to_string())
        .bind(beat.ingest_enabled)
        .bind(&beat.ingest_enabled_source)
        .bind(&beat.last_symbol)
        .bind(document)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    pub(super) async fn read_heartbeat(&self) -> Result<Option<Heartbeat>, StoreError> {
        let row: Option<(String, String)> =
            sqlx::query_as("SELECT document, updated_at FROM market_ingest_heartbeat WHERE tenant = ?")
                .bind(&self.tenant)
                .fetch_optional(&self.pool)
                .await?;
        let Some((document, updated_at)) = row else { return Ok(None) };
        let mut beat: Heartbeat =
            serde_json::from_str(&document).map_err(|e| StoreError::Unparsable(e.to_string()))?;
        beat.updated_at = updated_at.parse::<jiff::Timestamp>().ok().map(Timestamp::from);
        Ok(Some(beat))
    }

    pub(super) async fn write_quotes(
        &self,
        quotes: &[QuoteDocument],
    ) -> Result<Vec<Result<(), String>>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        for quote in quotes {
            sqlx::query(
                "INSERT INTO live_quotes (tenant, id, symbol, source, ts, bid, ask, bid_size,
                     ask_size, price, last_trade_price, updated_at)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
                 ON CONFLICT (tenant, id) DO UPDATE SET symbol = excluded.symbol,
                     source = excluded.source, ts = excluded.ts, bid = excluded.bid,
                     ask = excluded.ask, bid_size = excluded.bid_size,
                     ask_size = excluded.ask_size, price = excluded.price,
                     last_trade_price = excluded.last_trade_price,
                     updated_at = excluded.updated_at",
            )
            .bind(&self.tenant)
            .bind(quote.id())
            .bind(&*quote.symbol)
            .bind(quote.source)
            .bind(quote.ts.to_string())
            .bind(quote.bid)
            .bind(quote.ask)
            .bind(quote.bid_size)
            .bind(quote.ask_size)
            .bind(quote.price)
            .bind(quote.last_trade_price)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(vec![Ok(()); quotes.len()])
    }
}
