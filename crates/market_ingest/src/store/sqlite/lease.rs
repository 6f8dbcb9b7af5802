//! The lease in SQLite: each question is one write transaction, by the clock of the machine that the file is on.

use std::time::Duration;

use sqlx::SqliteConnection;

use super::{SqliteStore, StoreError, sql, text};
use crate::store::{Lease, Renewal, Taking};

impl SqliteStore {
    pub(in crate::store) async fn take_lease(
        &self,
        holder: &str,
        ttl: Duration,
    ) -> Result<Taking, StoreError> {
        let mut transaction = self.begin().await?;
        let taken: Option<i64> = sqlx::query_scalar(
            "INSERT INTO market_ingest_lease (tenant, holder, epoch, expires_at)
             VALUES (?, ?, 1, strftime('%Y-%m-%dT%H:%M:%fZ', 'now', ?))
             ON CONFLICT (tenant) DO UPDATE SET epoch = epoch + (holder <> excluded.holder),
                 holder = excluded.holder, expires_at = excluded.expires_at
             WHERE holder = excluded.holder OR expires_at <= strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
             RETURNING epoch",
        )
        .bind(&self.tenant)
        .bind(holder)
        .bind(ahead(ttl))
        .fetch_optional(&mut *transaction)
        .await?;
        let taking = match taken {
            Some(epoch) => Taking::Taken { epoch },
            None => Taking::Held(standing(&mut transaction, &self.tenant).await?),
        };
        transaction.commit().await?;
        Ok(taking)
    }

    pub(in crate::store) async fn renew_lease(
        &self,
        holder: &str,
        epoch: i64,
        ttl: Duration,
    ) -> Result<Renewal, StoreError> {
        let mut transaction = self.begin().await?;
        let renewed = sqlx::query(
            "INSERT INTO market_ingest_lease (tenant, holder, epoch, expires_at)
             VALUES (?, ?, ?, strftime('%Y-%m-%dT%H:%M:%fZ', 'now', ?))
             ON CONFLICT (tenant) DO UPDATE SET expires_at = excluded.expires_at
             WHERE holder = excluded.holder AND epoch = excluded.epoch",
        )
        .bind(&self.tenant)
        .bind(holder)
        .bind(epoch)
        .bind(ahead(ttl))
        .execute(&mut *transaction)
        .await?;
        let renewal = match renewed.rows_affected() {
            0 => Renewal::Lost(standing(&mut transaction, &self.tenant).await?),
            _ => Renewal::Renewed,
        };
        transaction.commit().await?;
        Ok(renewal)
    }

    pub(in crate::store) async fn release_lease(&self, holder: &str) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE market_ingest_lease SET expires_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
             WHERE tenant = ? AND holder = ?",
        )
        .bind(&self.tenant)
        .bind(holder)
        .execute(&self.writer)
        .await?;
        Ok(())
    }
}

/// What is in the way.
async fn standing(connection: &mut SqliteConnection, tenant: &str) -> Result<Lease, StoreError> {
    let (holder, epoch, expires_at): (Vec<u8>, i64, Vec<u8>) = sqlx::query_as(
        "SELECT CAST(holder AS BLOB), epoch, CAST(expires_at AS BLOB) FROM market_ingest_lease WHERE tenant = ?",
    )
    .bind(tenant)
    .fetch_one(connection)
    .await?;
    sql::lease(text(holder), epoch, &text(expires_at))
}

/// SQLite's modifier of a time.
fn ahead(ttl: Duration) -> String {
    format!("+{:.3} seconds", ttl.as_secs_f64())
}
