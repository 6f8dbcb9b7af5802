//! PostgreSQL: the same tables as SQLite's, in native types, for several producers and operators on several machines.
//!
//! Connected lazily: the server may be away at the start, go, and come back. Tables are created and brought up to date
//! at the first call that reaches it, by whoever comes first. Times travel as text, which the session has in ISO form
//! and UTC; `updated_at` is the server's own clock.
//!
//! Invariant: the password is in no error and no debug output.

mod connections;
mod follow;
mod lease;

use std::fmt;
use std::sync::Arc;

use ingest_status::{Heartbeat, Status};
use secrecy::{ExposeSecret, SecretString};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::OnceCell;

use self::connections::{Connections, Lent};
use super::sql::{self, GapRow, HoldRow, PauseRow};
use super::{AssetRow, AssetStatus, AssetUpdate, Observed, QuoteDocument, StoreError, is_document_id};
use crate::control::{ControlReading, Edit, Edited};
use crate::gaps::GapRecord;
use crate::history::PauseRecord;

static MIGRATOR: Migrator = sqlx::migrate!("migrations/postgres");

/// Where triggers tell of changes, with the tenant; empty stands for all.
const CHANNEL: &str = "market_ingest_control";

/// Edits that met somebody else's on the same hold are tried again so often.
const EDIT_TRIES: u32 = 3;

/// A database, and the tenant's rows in it.
#[derive(Clone)]
pub struct PostgresStore {
    connections: Arc<Connections>,
    /// Set at the first call that found or made the tables as they should be.
    migrated: Arc<OnceCell<()>>,
    /// Empty without a tenant: part of every key, and a key cannot hold null.
    tenant: String,
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the options: they hold the password.
        f.debug_struct("PostgresStore").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

impl PostgresStore {
    /// Connects to nothing yet.
    pub(super) fn new(url: &SecretString, tenant: Option<&str>) -> Result<Self, StoreError> {
        let options: PgConnectOptions = url
            .expose_secret()
            .parse()
            .map_err(|source| StoreError::Open { place: "postgres://…".to_owned(), source })?;
        let options = options.application_name("market-ingest");
        Ok(Self {
            connections: Arc::new(Connections::new(options)),
            migrated: Arc::default(),
            tenant: tenant.unwrap_or_default().to_owned(),
        })
    }

    async fn connection(&self) -> Result<Lent<'_>, StoreError> {
        self.migrated.get_or_try_init(|| migrate(&self.connections.options)).await?;
        Ok(self.connections.lend().await?)
    }

    pub(super) async fn write_heartbeat(&self, beat: &Heartbeat) -> Result<(), StoreError> {
        let document = serde_json::to_string(beat).map_err(|e| StoreError::Refused(e.to_string()))?;
        let mut connection = self.connection().await?;
        let written = sqlx::query(
            "INSERT INTO market_ingest_heartbeat (tenant, status, ts, ingest_enabled, ingest_enabled_source,
                 last_symbol, document, updated_at)
             SELECT $1, $2, $3::timestamptz, $4, $5, $6, $7::jsonb, clock_timestamp()
             WHERE NOT EXISTS (SELECT 1 FROM market_ingest_lease WHERE tenant = $1 AND epoch > $8)
             ON CONFLICT (tenant) DO UPDATE SET status = excluded.status, ts = excluded.ts,
                 ingest_enabled = excluded.ingest_enabled, ingest_enabled_source = excluded.ingest_enabled_source,
                 last_symbol = excluded.last_symbol, document = excluded.document, updated_at = excluded.updated_at",
        )
        .bind(&self.tenant)
        .bind(match beat.status {
            Status::Running => "running",
            Status::Paused => "paused",
        })
        .bind(beat.ts.to_string())
        .bind(beat.ingest_enabled)
        .bind(beat.ingest_enabled_source.as_deref().map(without_nul))
        .bind(beat.last_symbol.as_deref().map(without_nul))
        // JSONB cannot hold U+0000, and a reason with one in it must not silence the heartbeat.
        .bind(document.replace("\\u0000", "\\ufffd"))
        .bind(beat.epoch)
        .execute(&mut *connection)
        .await?;
        connection.well();
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
        // One name that cannot be a key would have the whole batch refused, for ever.
        let usable = |quote: &QuoteDocument| is_document_id(&quote.id()) && !quote.symbol.contains('\0');
        let good: Vec<&QuoteDocument> = quotes.iter().filter(|quote| usable(quote)).collect();
        let mut connection = self.connection().await?;
        // Sorted by id, so that two producers cannot wait for each other; of two with one id the later stands.
        let written = sqlx::query(
            "INSERT INTO live_quotes (tenant, id, symbol, source, ts, bid, ask, bid_size, ask_size, price,
                 last_trade_price, updated_at)
             SELECT DISTINCT ON (id) $1, id, symbol, source, ts::timestamptz, bid, ask, bid_size, ask_size, price,
                 last_trade_price, clock_timestamp()
             FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::float8[], $7::float8[], $8::float8[],
                 $9::float8[], $10::float8[], $11::float8[])
                 WITH ORDINALITY AS quote (id, symbol, source, ts, bid, ask, bid_size, ask_size, price,
                     last_trade_price, n)
             WHERE NOT EXISTS (SELECT 1 FROM market_ingest_lease WHERE tenant = $1 AND epoch > $12)
             ORDER BY id, n DESC
             ON CONFLICT (tenant, id) DO UPDATE SET symbol = excluded.symbol, source = excluded.source,
                 ts = excluded.ts, bid = excluded.bid, ask = excluded.ask, bid_size = excluded.bid_size,
                 ask_size = excluded.ask_size, price = excluded.price,
                 last_trade_price = excluded.last_trade_price, updated_at = excluded.updated_at",
        )
        .bind(&self.tenant)
        .bind(column(&good, |quote| quote.id()))
        .bind(column(&good, |quote| quote.symbol.to_string()))
        .bind(column(&good, |quote| quote.source))
        .bind(column(&good, |quote| quote.ts.to_string()))
        .bind(column(&good, |quote| quote.bid))
        .bind(column(&good, |quote| quote.ask))
        .bind(column(&good, |quote| quote.bid_size))
        .bind(column(&good, |quote| quote.ask_size))
        .bind(column(&good, |quote| quote.price))
        .bind(column(&good, |quote| quote.last_trade_price))
        .bind(epoch)
        .execute(&mut *connection)
        .await?;
        connection.well();
        if let Some(epoch) = epoch
            && written.rows_affected() == 0
            && !good.is_empty()
        {
            return Err(StoreError::Fenced { epoch });
        }
        let unusable = || Err("its name cannot be a key".to_owned());
        Ok(quotes.iter().map(|quote| if usable(quote) { Ok(()) } else { unusable() }).collect())
    }

    pub(super) async fn read_control(&self) -> Result<Option<ControlReading>, StoreError> {
        let mut connection = self.connection().await?;
        let read = read_control(&mut connection, &self.tenant).await?;
        connection.well();
        Ok(read)
    }

    pub(super) async fn edit_control<E: Send>(
        &self,
        decide: impl Fn(&ControlReading) -> Result<Vec<Edit>, E> + Send + Sync,
    ) -> Result<Result<Edited, E>, StoreError> {
        let mut tries = 1;
        loop {
            match self.try_to_edit(&decide).await {
                Err(StoreError::Sql(error)) if tries < EDIT_TRIES && is_collision(&error) => tries += 1,
                edited => return edited,
            }
        }
    }

    async fn try_to_edit<E: Send>(
        &self,
        decide: &(impl Fn(&ControlReading) -> Result<Vec<Edit>, E> + Send + Sync),
    ) -> Result<Result<Edited, E>, StoreError> {
        let mut connection = self.connection().await?;
        let mut transaction = connection.begin().await?;
        // If we vanish in the middle, nobody shall wait for the lock longer than a call may take.
        sqlx::query("SET LOCAL idle_in_transaction_session_timeout = '5s'")
            .execute(&mut *transaction)
            .await?;
        sqlx::query("INSERT INTO market_ingest_control (tenant) VALUES ($1) ON CONFLICT (tenant) DO NOTHING")
            .bind(&self.tenant)
            .execute(&mut *transaction)
            .await?;
        // Every edit needs this row, plain SQL by its trigger: one at a time.
        sqlx::query("SELECT generation FROM market_ingest_control WHERE tenant = $1 FOR UPDATE")
            .bind(&self.tenant)
            .execute(&mut *transaction)
            .await?;
        let read = read_control(&mut transaction, &self.tenant).await?.unwrap_or_default();
        let decided = decide(&read);
        let edits = match decided {
            Ok(edits) if !edits.is_empty() => edits,
            nothing => {
                transaction.rollback().await?;
                connection.well();
                let generation = read.generation.unwrap_or(0);
                return Ok(nothing.map(|edits| Edited { generation, edits }));
            }
        };
        for edit in &edits {
            self.apply(edit, &mut transaction).await?;
        }
        let generation = sqlx::query_scalar("SELECT generation FROM market_ingest_control WHERE tenant = $1")
            .bind(&self.tenant)
            .fetch_one(&mut *transaction)
            .await?;
        transaction.commit().await?;
        connection.well();
        Ok(Ok(Edited { generation, edits }))
    }

    async fn apply(&self, edit: &Edit, connection: &mut PgConnection) -> Result<(), StoreError> {
        let query = match edit {
            Edit::Place { id, hold } => sqlx::query(
                "INSERT INTO market_ingest_hold (tenant, id, scope, reason, actor, since, until)
                 VALUES ($1, $2, $3, $4, $5, coalesce($6::timestamptz, now()), $7::timestamptz)
                 ON CONFLICT (tenant, id) DO UPDATE SET scope = excluded.scope, reason = excluded.reason,
                     actor = excluded.actor, since = excluded.since, until = excluded.until",
            )
            .bind(&self.tenant)
            .bind(without_nul(id))
            .bind(hold.scope.to_string())
            .bind(hold.reason.as_deref().map(without_nul))
            .bind(hold.actor.as_deref().map(without_nul))
            .bind(hold.since.map(|time| time.to_string()))
            .bind(hold.until.map(|time| time.to_string())),
            Edit::Release { id } => {
                sqlx::query("DELETE FROM market_ingest_hold WHERE tenant = $1 AND id = $2")
                    .bind(&self.tenant)
                    .bind(without_nul(id))
            }
        };
        query.execute(connection).await?;
        Ok(())
    }

    pub(super) async fn write_pause(&self, record: &PauseRecord) -> Result<(), StoreError> {
        let gap_ids =
            serde_json::to_string(&record.gap_ids).map_err(|e| StoreError::Refused(e.to_string()))?;
        let mut connection = self.connection().await?;
        sqlx::query(
            "INSERT INTO market_ingest_history (tenant, id, scope, source, reason, actor, paused_at, effective_at,
                 resumed_at, duration_s, messages_drained, gap_ids)
             VALUES ($1, $2, $3, $4, $5, $6, $7::timestamptz, $8::timestamptz, $9::timestamptz, $10, $11, $12::jsonb)
             ON CONFLICT (tenant, id) DO UPDATE SET scope = excluded.scope, source = excluded.source,
                 reason = excluded.reason, actor = excluded.actor, paused_at = excluded.paused_at,
                 effective_at = excluded.effective_at, resumed_at = excluded.resumed_at,
                 duration_s = excluded.duration_s, messages_drained = excluded.messages_drained,
                 gap_ids = excluded.gap_ids",
        )
        .bind(&self.tenant)
        .bind(without_nul(&record.id))
        .bind(without_nul(&record.scope))
        .bind(without_nul(&record.source))
        .bind(record.reason.as_deref().map(without_nul))
        .bind(record.actor.as_deref().map(without_nul))
        .bind(record.paused_at.to_string())
        .bind(record.effective_at.map(|time| time.to_string()))
        .bind(record.resumed_at.map(|time| time.to_string()))
        .bind(record.duration_s)
        .bind(i64::try_from(record.messages_drained).unwrap_or(i64::MAX))
        .bind(gap_ids)
        .execute(&mut *connection)
        .await?;
        connection.well();
        Ok(())
    }

    pub(super) async fn write_gap(&self, record: &GapRecord) -> Result<(), StoreError> {
        let row = GapRow::new(record)?;
        let mut connection = self.connection().await?;
        sqlx::query(
            "INSERT INTO market_ingest_gap (tenant, id, job, symbols, channels, from_ts, to_ts, cause, state, rows,
                 reason, opened_at, cursor)
             VALUES ($1, $2, $3, $4::jsonb, $5::jsonb, $6::timestamptz, $7::timestamptz, $8, $9, $10, $11,
                 $12::timestamptz, $13::jsonb)
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
        .bind(row.reason.as_deref().map(without_nul))
        .bind(row.opened_at)
        .bind(row.cursor)
        .execute(&mut *connection)
        .await?;
        connection.well();
        Ok(())
    }

    pub(super) async fn read_gaps(&self, limit: u32) -> Result<Vec<GapRecord>, StoreError> {
        let mut connection = self.connection().await?;
        let rows: Vec<GapRow> = sqlx::query_as(
            "SELECT id, job, symbols::text, channels::text, from_ts::text, to_ts::text, cause, state, rows, reason,
                 opened_at::text, cursor::text
             FROM market_ingest_gap WHERE tenant = $1 ORDER BY opened_at DESC, id COLLATE \"C\" DESC LIMIT $2",
        )
        .bind(&self.tenant)
        .bind(i64::from(limit))
        .fetch_all(&mut *connection)
        .await?;
        connection.well();
        Ok(rows.into_iter().filter_map(GapRow::record).collect())
    }

    pub(super) async fn unfinished_gaps(&self) -> Result<Vec<GapRecord>, StoreError> {
        let mut connection = self.connection().await?;
        let rows: Vec<GapRow> = sqlx::query_as(
            "SELECT id, job, symbols::text, channels::text, from_ts::text, to_ts::text, cause, state, rows, reason,
                 opened_at::text, cursor::text
             FROM market_ingest_gap WHERE tenant = $1 AND state IN ('open', 'filling')",
        )
        .bind(&self.tenant)
        .fetch_all(&mut *connection)
        .await?;
        connection.well();
        Ok(rows.into_iter().filter_map(GapRow::record).collect())
    }

    pub(super) async fn read_symbols(&self) -> Result<Option<String>, StoreError> {
        let mut connection = self.connection().await?;
        let query = sqlx::query_scalar("SELECT symbols FROM market_ingest_symbols WHERE tenant = $1");
        let symbols = query.bind(&self.tenant).fetch_optional(&mut *connection).await?;
        connection.well();
        Ok(symbols)
    }

    pub(super) async fn write_symbols(&self, symbols: &str) -> Result<(), StoreError> {
        let mut connection = self.connection().await?;
        let write = "INSERT INTO market_ingest_symbols (tenant, symbols) VALUES ($1, $2)
             ON CONFLICT (tenant) DO UPDATE SET symbols = excluded.symbols";
        let query = sqlx::query(write).bind(&self.tenant).bind(without_nul(symbols));
        query.execute(&mut *connection).await?;
        connection.well();
        Ok(())
    }

    pub(super) async fn read_pauses(&self, limit: u32) -> Result<Vec<PauseRecord>, StoreError> {
        let mut connection = self.connection().await?;
        let rows: Vec<PauseRow> = sqlx::query_as(
            "SELECT id, scope, source, reason, actor, paused_at::text, effective_at::text, resumed_at::text,
                 duration_s, messages_drained, gap_ids::text
             FROM market_ingest_history WHERE tenant = $1 ORDER BY id COLLATE \"C\" DESC LIMIT $2",
        )
        .bind(&self.tenant)
        .bind(i64::from(limit))
        .fetch_all(&mut *connection)
        .await?;
        connection.well();
        Ok(rows.into_iter().filter_map(PauseRow::record).collect())
    }

    pub(super) async fn observe(&self) -> Result<Observed, StoreError> {
        let mut connection = self.connection().await?;
        let (read_at, document, updated_at): (String, Option<String>, Option<String>) = sqlx::query_as(
            "SELECT clock_timestamp()::text, document::text, updated_at::text
             FROM (SELECT $1 AS wanted) AS own LEFT JOIN market_ingest_heartbeat ON tenant = wanted",
        )
        .bind(&self.tenant)
        .fetch_one(&mut *connection)
        .await?;
        connection.well();
        sql::observed(&self.tenant, document.zip(updated_at), &read_at)
    }

    pub(super) async fn fleet(&self) -> Result<Vec<Observed>, StoreError> {
        let mut connection = self.connection().await?;
        let rows: Vec<(String, String, String, String)> = sqlx::query_as(
            "SELECT tenant, document::text, updated_at::text, clock_timestamp()::text
             FROM market_ingest_heartbeat ORDER BY tenant COLLATE \"C\"",
        )
        .fetch_all(&mut *connection)
        .await?;
        connection.well();
        let observed = |(tenant, document, updated_at, read_at): (String, _, _, String)| {
            sql::observed(&tenant, Some((document, updated_at)), &read_at)
        };
        rows.into_iter().map(observed).collect()
    }

    pub(super) async fn read_assets(&self) -> Result<Vec<AssetRow>, StoreError> {
        type Row = (String, String, bool, Option<String>, Option<String>);
        let mut connection = self.connection().await?;
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT canonical_symbol, timeframe, pause_fetch, notes, updated_at::text FROM data_ingest_state
             WHERE pause_fetch = true ORDER BY canonical_symbol, timeframe",
        )
        .fetch_all(&mut *connection)
        .await?;
        connection.well();
        let asset =
            |(canonical_symbol, timeframe, pause_fetch, notes, updated_at): (_, _, _, _, Option<_>)| {
                let updated_at = updated_at.as_deref().and_then(sql::time);
                AssetRow { canonical_symbol, timeframe, pause_fetch, notes, updated_at }
            };
        Ok(rows.into_iter().map(asset).collect())
    }

    pub(super) async fn asset_statuses(&self) -> Result<Vec<AssetStatus>, StoreError> {
        let mut connection = self.connection().await?;
        let rows = sqlx::query_as("SELECT canonical_symbol, timeframe, status FROM data_ingest_state")
            .fetch_all(&mut *connection)
            .await?;
        connection.well();
        Ok(rows)
    }

    pub(super) async fn write_assets(&self, updates: &[AssetUpdate]) -> Result<(), StoreError> {
        let mut connection = self.connection().await?;
        // Sorted, and one a key, as with quotes.
        sqlx::query(
            "INSERT INTO data_ingest_state AS state (canonical_symbol, timeframe, status, last_bar_ts_utc)
             SELECT DISTINCT ON (symbol, timeframe) symbol, timeframe, status, ts::timestamptz
             FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
                 WITH ORDINALITY AS update (symbol, timeframe, status, ts, n)
             ORDER BY symbol, timeframe, n DESC
             ON CONFLICT (canonical_symbol, timeframe) DO UPDATE SET status = excluded.status,
                 last_bar_ts_utc = coalesce(excluded.last_bar_ts_utc, state.last_bar_ts_utc)
             WHERE state.status IS DISTINCT FROM excluded.status
                 OR state.last_bar_ts_utc
                     IS DISTINCT FROM coalesce(excluded.last_bar_ts_utc, state.last_bar_ts_utc)",
        )
        .bind(column(updates, |update| without_nul(&update.canonical_symbol)))
        .bind(column(updates, |update| without_nul(&update.timeframe)))
        .bind(column(updates, |update| update.status))
        .bind(column(updates, |update| update.last_event_ts.map(|time| time.to_string())))
        .execute(&mut *connection)
        .await?;
        connection.well();
        Ok(())
    }
}

/// Brings the tables up to date, on a connection of its own: one that is given up ends, and with it its lock.
async fn migrate(options: &PgConnectOptions) -> Result<(), StoreError> {
    let newest = MIGRATOR.iter().map(|migration| migration.version).max();
    let mut connection = options.connect().await?;
    // Where all is done no right to create tables is needed, and a newer version's tables are good for this one.
    let applied: Result<Option<i64>, sqlx::Error> =
        sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success")
            .fetch_one(&mut connection)
            .await;
    if !applied.is_ok_and(|applied| applied >= newest) {
        MIGRATOR.run_direct(None, &mut connection, false).await?;
    }
    connection.close().await?;
    Ok(())
}

async fn read_control(
    connection: &mut PgConnection,
    tenant: &str,
) -> Result<Option<ControlReading>, StoreError> {
    type Row = (
        Option<i64>,
        Option<String>,
        Option<String>,
        Option<String>,
        Option<String>,
        Option<String>,
        Option<String>,
    );
    // One statement, so that the generation is that of exactly these holds. Infinity is PostgreSQL's word for no end.
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT (SELECT generation FROM market_ingest_control WHERE tenant = wanted), id, scope, reason, actor,
             since::text, nullif(until, 'infinity')::text
         FROM (SELECT $1 AS wanted) AS own LEFT JOIN market_ingest_hold ON tenant = wanted",
    )
    .bind(tenant)
    .fetch_all(connection)
    .await?;
    let generation = rows.first().and_then(|row| row.0);
    let hold = |(_, id, scope, reason, actor, since, until): Row| {
        Some(HoldRow { id: id?, scope: scope?, reason, actor, since, until })
    };
    Ok(sql::control(generation, rows.into_iter().filter_map(hold).collect()))
}

/// Whether somebody else's transaction was in the way (deadlock, serialization), so that trying again is right.
fn is_collision(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(code.as_deref(), Some("40P01" | "40001"))
}

/// PostgreSQL's text cannot hold U+0000.
fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn column<'a, T, U>(rows: &'a [T], value: impl Fn(&'a T) -> U) -> Vec<U> {
    rows.iter().map(value).collect()
}
