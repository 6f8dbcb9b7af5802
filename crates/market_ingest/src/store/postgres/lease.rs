//! The lease in PostgreSQL: each question is one statement that decides, by the server's clock.

use std::time::Duration;

use super::{PostgresStore, StoreError, sql};
use crate::store::{Lease, Renewal, Taking};

impl PostgresStore {
    pub(in crate::store) async fn take_lease(
        &self,
        holder: &str,
        ttl: Duration,
    ) -> Result<Taking, StoreError> {
        let mut connection = self.connection().await?;
        let taken: Option<i64> = sqlx::query_scalar(
            "INSERT INTO market_ingest_lease AS lease (tenant, holder, epoch, expires_at)
             VALUES ($1, $2, 1, clock_timestamp() + make_interval(secs => $3))
             ON CONFLICT (tenant) DO UPDATE SET epoch = lease.epoch + (lease.holder <> excluded.holder)::int,
                 holder = excluded.holder, expires_at = excluded.expires_at
             WHERE lease.holder = excluded.holder OR lease.expires_at <= clock_timestamp()
             RETURNING epoch",
        )
        .bind(&self.tenant)
        .bind(holder)
        .bind(ttl.as_secs_f64())
        .fetch_optional(&mut *connection)
        .await?;
        connection.well();
        if let Some(epoch) = taken {
            return Ok(Taking::Taken { epoch });
        }
        Ok(Taking::Held(self.standing_lease().await?))
    }

    pub(in crate::store) async fn renew_lease(
        &self,
        holder: &str,
        epoch: i64,
        ttl: Duration,
    ) -> Result<Renewal, StoreError> {
        let mut connection = self.connection().await?;
        let renewed = sqlx::query(
            "INSERT INTO market_ingest_lease AS lease (tenant, holder, epoch, expires_at)
             VALUES ($1, $2, $3, clock_timestamp() + make_interval(secs => $4))
             ON CONFLICT (tenant) DO UPDATE SET expires_at = excluded.expires_at
             WHERE lease.holder = excluded.holder AND lease.epoch = excluded.epoch",
        )
        .bind(&self.tenant)
        .bind(holder)
        .bind(epoch)
        .bind(ttl.as_secs_f64())
        .execute(&mut *connection)
        .await?;
        connection.well();
        match renewed.rows_affected() {
            0 => Ok(Renewal::Lost(self.standing_lease().await?)),
            _ => Ok(Renewal::Renewed),
        }
    }

    pub(in crate::store) async fn release_lease(&self, holder: &str) -> Result<(), StoreError> {
        let mut connection = self.connection().await?;
        sqlx::query(
            "UPDATE market_ingest_lease SET expires_at = clock_timestamp() WHERE tenant = $1 AND holder = $2",
        )
        .bind(&self.tenant)
        .bind(holder)
        .execute(&mut *connection)
        .await?;
        connection.well();
        Ok(())
    }

    /// What was in the way a moment ago.
    async fn standing_lease(&self) -> Result<Lease, StoreError> {
        let mut connection = self.connection().await?;
        let (holder, epoch, expires_at): (_, _, String) = sqlx::query_as(
            "SELECT holder, epoch, expires_at::text FROM market_ingest_lease WHERE tenant = $1",
        )
        .bind(&self.tenant)
        .fetch_one(&mut *connection)
        .await?;
        connection.well();
        sql::lease(holder, epoch, &expires_at)
    }
}
