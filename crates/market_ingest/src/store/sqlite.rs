//! SQLite: the embedded default, for the demo and for one machine.
//!
//! Times are RFC 3339 text in UTC, `updated_at` is the database's own clock. The five known fields of a heartbeat are
//! columns, the whole document is JSON beside them. In `data_ingest_state` times have the form of SQLite's `datetime`.
//!
//! Writes have one connection and reads another: somebody else's lock can delay a heartbeat, but not the reading of
//! the control document. Every transaction that writes says so at its beginning, because one that began to read
//! cannot wait for its turn to write.

mod lease;

use std::path::Path;
use std::time::Duration;

use ingest_status::{Heartbeat, Status};
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{QueryBuilder, Sqlite, SqliteConnection, SqlitePool, Transaction};
use tokio::time::{Instant, sleep};

use super::sql::{self, GapRow, HoldRow, PauseRow};
use super::{AssetRow, AssetStatus, AssetUpdate, Observed, QuoteDocument, StoreError};
use crate::control::{ControlReading, Edit, Edited};
use crate::gaps::GapRecord;
use crate::history::PauseRecord;

static MIGRATOR: Migrator = sqlx::migrate!("migrations/sqlite");

/// A writer waits for its turn as long as this.
const BUSY_LIMIT: Duration = Duration::from_secs(2);
/// A file that is locked while it is made is tried again after this time.
const BUSY_RETRY: Duration = Duration::from_millis(20);
/// SQLite's codes for a file that another program has locked: busy, and busy while its log is recovered.
const BUSY_CODES: [&str; 2] = ["5", "261"];

/// Each statement is handed to a thread of its own, so rows that are many go together.
const ROWS_A_STATEMENT: usize = 200;

/// An open database, and the tenant's rows in it.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    writer: SqlitePool,
    reader: SqlitePool,
    /// Empty without a tenant: part of every key, and a key cannot hold null.
    tenant: String,
}

impl SqliteStore {
    pub(super) async fn open(path: &Path, tenant: Option<&str>) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Open { place: format!("sqlite:{}", path.display()), source };
        let options = SqliteConnectOptions::new().filename(path).busy_timeout(BUSY_LIMIT);
        let writing = options
            .clone()
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal);
        let one = || SqlitePoolOptions::new().max_connections(1);
        // Two programs that make the same file at once find it locked, which no busy timeout covers: making it a
        // write-ahead log takes the whole file.
        let deadline = Instant::now() + BUSY_LIMIT;
        let writer = loop {
            match one().connect_with(writing.clone()).await {
                Err(sqlx::Error::Database(error))
                    if error.code().is_some_and(|code| BUSY_CODES.contains(&&*code))
                        && Instant::now() < deadline =>
                {
                    sleep(BUSY_RETRY).await;
                }
                opened => break opened.map_err(failed)?,
            }
        };
        migrate(&writer).await?;
        let reader = one().connect_with(options.read_only(true)).await.map_err(failed)?;
        Ok(Self { writer, reader, tenant: tenant.unwrap_or_default().to_owned() })
    }

    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    pub(super) async fn write_heartbeat(&self, beat: &Heartbeat) -> Result<(), StoreError> {
        let document = serde_json::to_string(beat).map_err(|e| StoreError::Refused(e.to_string()))?;
        let written = sqlx::query(
            "INSERT INTO market_ingest_heartbeat (tenant, status, ts, ingest_enabled,
                 ingest_enabled_source, last_symbol, document, updated_at)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
             WHERE NOT EXISTS (SELECT 1 FROM market_ingest_lease WHERE tenant = ?1 AND epoch > ?8)
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
        .bind(beat.epoch)
        .execute(&self.writer)
        .await?;
        match beat.epoch {
            Some(epoch) if written.rows_affected() == 0 => Err(StoreError::Fenced { epoch }),
            _ => Ok(()),
        }
    }

    pub(super) async fn read_heartbeat(&self) -> Result<Option<Heartbeat>, StoreError> {
        self.observe().await?.heartbeat.transpose().map_err(StoreError::Unparsable)
    }

    pub(super) async fn write_quotes(
        &self,
        quotes: &[QuoteDocument],
        epoch: Option<i64>,
    ) -> Result<Vec<Result<(), String>>, StoreError> {
        let mut transaction = self.begin().await?;
        if let Some(epoch) = epoch {
            let over: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT 1 FROM market_ingest_lease WHERE tenant = ? AND epoch > ?)",
            )
            .bind(&self.tenant)
            .bind(epoch)
            .fetch_one(&mut *transaction)
            .await?;
            if over {
                return Err(StoreError::Fenced { epoch });
            }
        }
        for quotes in quotes.chunks(ROWS_A_STATEMENT) {
            let mut insert = QueryBuilder::new(
                "INSERT INTO live_quotes (tenant, id, symbol, source, ts, bid, ask, bid_size,
                     ask_size, price, last_trade_price, updated_at) ",
            );
            insert.push_values(quotes, |mut row, quote| {
                row.push_bind(&self.tenant)
                    .push_bind(quote.id())
                    .push_bind(&*quote.symbol)
                    .push_bind(quote.source)
                    .push_bind(quote.ts.to_string())
                    .push_bind(quote.bid)
                    .push_bind(quote.ask)
                    .push_bind(quote.bid_size)
                    .push_bind(quote.ask_size)
                    .push_bind(quote.price)
                    .push_bind(quote.last_trade_price)
                    .push("strftime('%Y-%m-%dT%H:%M:%fZ', 'now')");
            });
            insert.push(
                " ON CONFLICT (tenant, id) DO UPDATE SET symbol = excluded.symbol,
                     source = excluded.source, ts = excluded.ts, bid = excluded.bid,
                     ask = excluded.ask, bid_size = excluded.bid_size,
                     ask_size = excluded.ask_size, price = excluded.price,
                     last_trade_price = excluded.last_trade_price,
                     updated_at = excluded.updated_at",
            );
            insert.build().persistent(quotes.len() == ROWS_A_STATEMENT).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(vec![Ok(()); quotes.len()])
    }

    pub(super) async fn read_control(&self) -> Result<Option<ControlReading>, StoreError> {
        read_control(&mut *self.reader.acquire().await?, &self.tenant).await
    }

    pub(super) async fn edit_control<E: Send>(
        &self,
        decide: impl Fn(&ControlReading) -> Result<Vec<Edit>, E> + Send + Sync,
    ) -> Result<Result<Edited, E>, StoreError> {
        let mut transaction = self.begin().await?;
        let read = read_control(&mut transaction, &self.tenant).await?.unwrap_or_default();
        let edits = match decide(&read) {
            Ok(edits) => edits,
            Err(refusal) => return Ok(Err(refusal)),
        };
        for edit in &edits {
            let query = match edit {
                Edit::Place { id, hold } => sqlx::query(
                    "INSERT INTO market_ingest_hold (tenant, id, scope, reason, actor, since, until)
                     VALUES (?, ?, ?, ?, ?, coalesce(?, strftime('%Y-%m-%dT%H:%M:%fZ', 'now')), ?)
                     ON CONFLICT (tenant, id) DO UPDATE SET scope = excluded.scope, reason = excluded.reason,
                         actor = excluded.actor, since = excluded.since, until = excluded.until",
                )
                .bind(&self.tenant)
                .bind(id)
                .bind(hold.scope.to_string())
                .bind(&hold.reason)
                .bind(&hold.actor)
                .bind(hold.since.map(|time| time.to_string()))
                .bind(hold.until.map(|time| time.to_string())),
                Edit::Release { id } => {
                    sqlx::query("DELETE FROM market_ingest_hold WHERE tenant = ? AND id = ?")
                        .bind(&self.tenant)
                        .bind(id)
                }
            };
            query.execute(&mut *transaction).await?;
        }
        let generation: Option<i64> =
            sqlx::query_scalar("SELECT generation FROM market_ingest_control WHERE tenant = ?")
                .bind(&self.tenant)
                .fetch_optional(&mut *transaction)
                .await?;
        transaction.commit().await?;
        Ok(Ok(Edited { generation: generation.unwrap_or(0), edits }))
    }

    pub(super) async fn write_pause(&self, record: &PauseRecord) -> Result<(), StoreError> {
        let gap_ids =
            serde_json::to_string(&record.gap_ids).map_err(|e| StoreError::Refused(e.to_string()))?;
        sqlx::query(
            "INSERT INTO market_ingest_history (tenant, id, scope, source, reason, actor, paused_at, effective_at,
                 resumed_at, duration_s, messages_drained, gap_ids)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (tenant, id) DO UPDATE SET scope = excluded.scope, source = excluded.source,
                 reason = excluded.reason, actor = excluded.actor, paused_at = excluded.paused_at,
                 effective_at = excluded.effective_at, resumed_at = excluded.resumed_at,
                 duration_s = excluded.duration_s, messages_drained = excluded.messages_drained,
                 gap_ids = excluded.gap_ids",
        )
        .bind(&self.tenant)
        .bind(&record.id)
        .bind(&record.scope)
        .bind(&record.source)
        .bind(&record.reason)
        .bind(&record.actor)
        .bind(record.paused_at.to_string())
        .bind(record.effective_at.map(|time| time.to_string()))
        .bind(record.resumed_at.map(|time| time.to_string()))
        .bind(record.duration_s)
        .bind(i64::try_from(record.messages_drained).unwrap_or(i64::MAX))
        .bind(gap_ids)
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    pub(super) async fn write_gap(&self, record: &GapRecord) -> Result<(), StoreError> {
        let row = GapRow::new(record)?;
        sqlx::query(
            "INSERT INTO market_ingest_gap (tenant, id, job, symbols, channels, from_ts, to_ts, cause, state, rows,
                 reason, opened_at, cursor)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (tenant, id) DO UPDATE SET symbols = excluded.symbols, channels = excluded.channels,
                 from_ts = excluded.from_ts, to_ts = excluded.to_ts, state = excluded.state, rows = excluded.rows,
                 reason = excluded.reason, cursor = excluded.cursor",
        )
        .bind(&self.tenant)
        .bind(row.id)
        .bind(row.job)
        .bind(row.symbols)
        .bind(row.channels)
        .bind(row.from_ts)
        .bind(row.to_ts)
        .bind(row.cause)
        .bind(row.state)
        .bind(row.rows)
        .bind(row.reason)
        .bind(row.opened_at)
        .bind(row.cursor)
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    pub(super) async fn read_gaps(&self, limit: u32) -> Result<Vec<GapRecord>, StoreError> {
        let rows: Vec<GapRow> = sqlx::query_as(
            "SELECT id, job, symbols, channels, from_ts, to_ts, cause, state, rows, reason, opened_at, cursor
             FROM market_ingest_gap WHERE tenant = ? ORDER BY opened_at DESC, id DESC LIMIT ?",
        )
        .bind(&self.tenant)
        .bind(limit)
        .fetch_all(&self.reader)
        .await?;
        Ok(rows.into_iter().filter_map(GapRow::record).collect())
    }

    pub(super) async fn unfinished_gaps(&self) -> Result<Vec<GapRecord>, StoreError> {
        let rows: Vec<GapRow> = sqlx::query_as(
            "SELECT id, job, symbols, channels, from_ts, to_ts, cause, state, rows, reason, opened_at, cursor
             FROM market_ingest_gap WHERE tenant = ? AND state IN ('open', 'filling')",
        )
        .bind(&self.tenant)
        .fetch_all(&self.reader)
        .await?;
        Ok(rows.into_iter().filter_map(GapRow::record).collect())
    }

    pub(super) async fn read_symbols(&self) -> Result<Option<String>, StoreError> {
        let query = sqlx::query_scalar("SELECT symbols FROM market_ingest_symbols WHERE tenant = ?");
        Ok(query.bind(&self.tenant).fetch_optional(&self.reader).await?)
    }

    pub(super) async fn write_symbols(&self, symbols: &str) -> Result<(), StoreError> {
        let write = "INSERT INTO market_ingest_symbols (tenant, symbols) VALUES (?, ?)
             ON CONFLICT (tenant) DO UPDATE SET symbols = excluded.symbols";
        sqlx::query(write).bind(&self.tenant).bind(symbols).execute(&self.writer).await?;
        Ok(())
    }

    pub(super) async fn read_pauses(&self, limit: u32) -> Result<Vec<PauseRecord>, StoreError> {
        let rows: Vec<PauseRow> = sqlx::query_as(
            "SELECT id, scope, source, reason, actor, paused_at, effective_at, resumed_at, duration_s,
                 messages_drained, gap_ids
             FROM market_ingest_history WHERE tenant = ? ORDER BY id DESC LIMIT ?",
        )
        .bind(&self.tenant)
        .bind(limit)
        .fetch_all(&self.reader)
        .await?;
        Ok(rows.into_iter().filter_map(PauseRow::record).collect())
    }

    pub(super) async fn observe(&self) -> Result<Observed, StoreError> {
        let (read_at, document, updated_at): (String, Option<Vec<u8>>, Option<Vec<u8>>) = sqlx::query_as(
            "SELECT strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), CAST(document AS BLOB), CAST(updated_at AS BLOB)
             FROM (SELECT ? AS wanted) LEFT JOIN market_ingest_heartbeat ON tenant = wanted",
        )
        .bind(&self.tenant)
        .fetch_one(&self.reader)
        .await?;
        sql::observed(&self.tenant, document.map(text).zip(updated_at.map(text)), &read_at)
    }

    pub(super) async fn fleet(&self) -> Result<Vec<Observed>, StoreError> {
        type Row = (Vec<u8>, Vec<u8>, Vec<u8>, String);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT CAST(tenant AS BLOB), CAST(document AS BLOB), CAST(updated_at AS BLOB),
                 strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
             FROM market_ingest_heartbeat ORDER BY tenant",
        )
        .fetch_all(&self.reader)
        .await?;
        let observed = |(tenant, document, updated_at, read_at): Row| {
            sql::observed(&text(tenant), Some((text(document), text(updated_at))), &read_at)
        };
        rows.into_iter().map(observed).collect()
    }

    pub(super) async fn read_assets(&self) -> Result<Vec<AssetRow>, StoreError> {
        type Row = (Vec<u8>, Vec<u8>, bool, Option<Vec<u8>>, Option<Vec<u8>>);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT CAST(canonical_symbol AS BLOB), CAST(timeframe AS BLOB), pause_fetch, CAST(notes AS BLOB),
                 CAST(updated_at AS BLOB)
             FROM data_ingest_state WHERE pause_fetch = true ORDER BY canonical_symbol, timeframe",
        )
        .fetch_all(&self.reader)
        .await?;
        let asset = |(symbol, timeframe, pause_fetch, notes, updated_at): Row| AssetRow {
            canonical_symbol: text(symbol),
            timeframe: text(timeframe),
            pause_fetch,
            notes: notes.map(text),
            updated_at: updated_at.map(text).as_deref().and_then(sql::time),
        };
        Ok(rows.into_iter().map(asset).collect())
    }

    pub(super) async fn asset_statuses(&self) -> Result<Vec<AssetStatus>, StoreError> {
        type Row = (Vec<u8>, Vec<u8>, Option<Vec<u8>>);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT CAST(canonical_symbol AS BLOB), CAST(timeframe AS BLOB), CAST(status AS BLOB)
             FROM data_ingest_state",
        )
        .fetch_all(&self.reader)
        .await?;
        let asset = |(symbol, timeframe, status): Row| (text(symbol), text(timeframe), status.map(text));
        Ok(rows.into_iter().map(asset).collect())
    }

    pub(super) async fn write_assets(&self, updates: &[AssetUpdate]) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        for updates in updates.chunks(ROWS_A_STATEMENT) {
            let mut insert = QueryBuilder::new(
                "INSERT INTO data_ingest_state (canonical_symbol, timeframe, status, last_bar_ts_utc) ",
            );
            insert.push_values(updates, |mut row, update| {
                let time = update.last_event_ts.map(jiff::Timestamp::from);
                row.push_bind(&update.canonical_symbol)
                    .push_bind(&update.timeframe)
                    .push_bind(update.status)
                    .push_bind(time.map(|time| time.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string()));
            });
            insert.push(
                " ON CONFLICT (canonical_symbol, timeframe) DO UPDATE SET status = excluded.status,
                     last_bar_ts_utc = coalesce(excluded.last_bar_ts_utc, last_bar_ts_utc)
                 WHERE status IS NOT excluded.status
                     OR last_bar_ts_utc IS NOT coalesce(excluded.last_bar_ts_utc, last_bar_ts_utc)",
            );
            insert.build().persistent(updates.len() == ROWS_A_STATEMENT).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

/// Brings the tables up to date. Of several programs that open a new file at once, one does and the others find it done.
async fn migrate(writer: &SqlitePool) -> Result<(), StoreError> {
    let newest = MIGRATOR.iter().map(|migration| migration.version).max();
    // No turn to write is needed where all is done, and a newer version's tables are good for this one.
    let applied: Result<Option<i64>, _> =
        sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success").fetch_one(writer).await;
    if applied.is_ok_and(|applied| applied >= newest) {
        return Ok(());
    }
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
    // Not `run`, whose bounds no spawned task can meet.
    MIGRATOR.run_direct(None, &mut *transaction, false).await?;
    transaction.commit().await?;
    Ok(())
}

async fn read_control(
    connection: &mut SqliteConnection,
    tenant: &str,
) -> Result<Option<ControlReading>, StoreError> {
    type Row = (
        Option<i64>,
        Option<Vec<u8>>,
        Option<Vec<u8>>,
        Option<Vec<u8>>,
        Option<Vec<u8>>,
        Option<Vec<u8>>,
        Option<Vec<u8>>,
    );
    // One statement, so that the generation is that of exactly these holds.
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT (SELECT generation FROM market_ingest_control WHERE tenant = wanted), CAST(id AS BLOB),
             CAST(scope AS BLOB), CAST(reason AS BLOB), CAST(actor AS BLOB), CAST(since AS BLOB), CAST(until AS BLOB)
         FROM (SELECT ? AS wanted) LEFT JOIN market_ingest_hold ON tenant = wanted",
    )
    .bind(tenant)
    .fetch_all(connection)
    .await?;
    let generation = rows.first().and_then(|row| row.0);
    let hold = |(_, id, scope, reason, actor, since, until): Row| {
        Some(HoldRow {
            id: text(id?),
            scope: text(scope?),
            reason: reason.map(text),
            actor: actor.map(text),
            since: since.map(text),
            until: until.map(text),
        })
    };
    Ok(sql::control(generation, rows.into_iter().filter_map(hold).collect()))
}

/// Text that any program may have written, in whatever encoding: read as bytes, so that one cell cannot fail the query.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
