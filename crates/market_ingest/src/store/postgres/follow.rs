//! The listener on holds and `pause_fetch`: told of every change, reconnected for ever.
//!
//! It says only that something may have changed; the reader reads, and polls besides.

use std::time::Duration;

use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::{CHANNEL, PostgresStore};
use crate::logging;
use crate::store::{CALL_LIMIT, StoreError};

/// Wait before a server that is away is tried again.
const AWAY_WAIT: Duration = Duration::from_millis(500);
/// After so long a silence the server is asked whether it still talks to us: nothing else tells of a peer that vanished.
const SILENCE_LIMIT: Duration = Duration::from_secs(20);

impl PostgresStore {
    pub(in crate::store) async fn follow_control(&self, changed: &Notify) {
        let mut told = false;
        loop {
            let listening = timeout(CALL_LIMIT, self.listen()).await;
            match listening.unwrap_or(Err(StoreError::Timeout(CALL_LIMIT))) {
                Ok(mut listener) => {
                    if std::mem::take(&mut told) {
                        tracing::info!("the control document is followed again");
                    }
                    // What happened before is not known.
                    changed.notify_one();
                    let error = self.tell(&mut listener, changed).await;
                    tracing::debug!(
                        error = logging::chain(&error),
                        "the listener on the control document ended"
                    );
                }
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        let error = logging::chain(&error);
                        tracing::warn!(error, "the control document cannot be followed; it is polled");
                    }
                }
            }
            sleep(AWAY_WAIT).await;
        }
    }

    async fn listen(&self) -> Result<PgListener, StoreError> {
        // A pool of its own, new each time: what becomes of the old connection is of no interest.
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(CALL_LIMIT)
            .connect_lazy_with(self.connections.options.clone());
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        Ok(listener)
    }

    /// Tells until the connection ends; why it did.
    async fn tell(&self, listener: &mut PgListener, changed: &Notify) -> StoreError {
        loop {
            match timeout(SILENCE_LIMIT, listener.try_recv()).await {
                Ok(Ok(Some(news))) => {
                    if news.payload().is_empty() || news.payload() == self.tenant {
                        changed.notify_one();
                    }
                }
                Ok(Ok(None)) => return StoreError::Sql(sqlx::Error::PoolClosed),
                Ok(Err(error)) => return error.into(),
                Err(_) => {
                    let alive = sqlx::query("SELECT 1").execute(&mut *listener);
                    match timeout(CALL_LIMIT, alive).await {
                        Ok(Ok(_)) => {}
                        Ok(Err(error)) => return error.into(),
                        Err(_) => return StoreError::Timeout(CALL_LIMIT),
                    }
                }
            }
        }
    }
}
