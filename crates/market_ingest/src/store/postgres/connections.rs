//! A few connections to one server, each opened when it is first needed.
//!
//! Why not the driver's pool: it asks a connection that comes back whether it is well, without a limit, so one whose
//! call was given up on a frozen network keeps its place for as long as TCP does; and of a server that refuses
//! connections it says only that time ran out.
//!
//! Invariants: a connection serves one call at a time, and another only after a call that ended well. One that did
//! not end well takes the idle ones with it: they lead to the same server, so an outage costs one failed call.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Error};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Calls beyond these wait for their turn.
const MAX: usize = 4;

/// Where they lead, and those that nobody uses.
pub(super) struct Connections {
    pub(super) options: PgConnectOptions,
    turns: Semaphore,
    // Never locked across an await.
    idle: Mutex<Vec<PgConnection>>,
}

/// A connection for one call: dropped without [`Self::well`], it is closed.
pub(super) struct Lent<'a> {
    connection: PgConnection,
    call: Call<'a>,
}

struct Call<'a> {
    from: &'a Connections,
    went_well: bool,
    _turn: SemaphorePermit<'a>,
}

impl Connections {
    pub(super) fn new(options: PgConnectOptions) -> Self {
        Self { options, turns: Semaphore::new(MAX), idle: Mutex::default() }
    }

    pub(super) async fn lend(&self) -> Result<Lent<'_>, Error> {
        let turn = self.turns.acquire().await.map_err(|_| Error::PoolClosed)?;
        let call = Call { from: self, went_well: false, _turn: turn };
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        Ok(Lent { connection, call })
    }

    /// A panic elsewhere leaves the list whole.
    fn idle(&self) -> MutexGuard<'_, Vec<PgConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lent<'_> {
    /// The call ended well: the next one may have the connection.
    pub(super) fn well(mut self) {
        self.call.went_well = true;
        self.call.from.idle().push(self.connection);
    }
}

impl Deref for Lent<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Lent<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if !self.went_well {
            self.from.idle().clear();
        }
    }
}
