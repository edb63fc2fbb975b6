//! The pool and its transactions.

use std::{
    ops::{Deref, DerefMut},
    str::FromStr,
    time::Duration,
};

use sqlx::{
    Connection as _, PgConnection, PgPool, Postgres, Transaction,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgListener, PgPoolOptions},
};
use windlass_core::Error;

use crate::{Guard, error::DbResult as _, lease};

/// Connections for what must not wait.
const VITAL: u32 = 3;

/// A pooled connection that was idle for longer is tried before it is used.
const RESTED: Duration = Duration::from_secs(1);

static MIGRATOR: Migrator = sqlx::migrate!();

/// The metadata database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Db {
    pool: PgPool,
    /// See [`Db::vital`].
    vital: PgPool,
}

/// A transaction; dropped without [`Tx::commit`] it is rolled back.
#[derive(Debug)]
pub struct Tx {
    inner: Transaction<'static, Postgres>,
}

impl Db {
    /// Connects with at most `connections` connections. Does not touch the schema.
    ///
    /// # Errors
    /// `INVALID_FIELD` when the URL is malformed, `UNAVAILABLE` when the server cannot be reached.
    pub async fn connect(url: &str, connections: u32) -> Result<Self, Error> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|error| {
                Error::invalid("metadata.url", format!("not a PostgreSQL URL: {error}; use postgres://user@host/name"))
            })?
            .application_name("windlass")
            // A node that hangs in a transaction must not hold its locks for ever.
            .options([("idle_in_transaction_session_timeout", "60s"), ("lock_timeout", "15s"), ("timezone", "UTC")]);
        let vital = pool_of(VITAL).connect_lazy_with(options.clone());
        let pool = pool_of(connections).connect_with(options).await.db()?;
        Ok(Self { pool, vital })
    }

    /// Brings the schema up to this binary's. Safe to run by several nodes at once.
    ///
    /// # Errors
    /// `INTERNAL` when a migration fails or the schema is newer than this binary.
    pub async fn migrate(&self) -> Result<(), Error> {
        MIGRATOR.run(&self.pool).await.db()
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the server cannot be reached.
    pub async fn begin(&self) -> Result<Tx, Error> {
        Ok(Tx { inner: self.pool.begin().await.db()? })
    }

    /// Begins a transaction of the lease's owner; until it ends nobody else can take the lease over.
    ///
    /// # Errors
    /// `FENCED` when the lease is no longer held under this epoch.
    pub async fn guarded(&self, guard: &Guard) -> Result<Tx, Error> {
        let mut tx = self.begin().await?;
        lease::guard_tx(&mut tx, guard).await?;
        Ok(tx)
    }

    /// Whether the server answers.
    ///
    /// # Errors
    /// `UNAVAILABLE` when it does not.
    pub async fn ping(&self) -> Result<(), Error> {
        sqlx::query("select 1").execute(&self.pool).await.db().map(drop)
    }

    /// Major version of the server.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the server cannot be reached.
    pub async fn server_major(&self) -> Result<u32, Error> {
        let number = sqlx::query_scalar!(r#"select current_setting('server_version_num')::int as "number!""#)
            .fetch_one(&self.pool)
            .await
            .db()?;
        Ok(number.unsigned_abs() / 10_000)
    }

    /// The same database by connections of its own: for the lease and for failovers, which must not wait behind a crowd
    /// of callers.
    pub fn vital(&self) -> Self {
        Self { pool: self.vital.clone(), vital: self.vital.clone() }
    }

    /// Closes every connection; waits for those in use.
    pub async fn close(&self) {
        self.pool.close().await;
        self.vital.close().await;
    }

    /// A connection that hears NOTIFY on `channel`, outside the pool's transactions.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the server cannot be reached.
    pub async fn listen(&self, channel: &str) -> Result<Hints, Error> {
        let mut listener = PgListener::connect_with(&self.pool).await.db()?;
        listener.listen(channel).await.db()?;
        Ok(Hints { listener })
    }

    /// Sends NOTIFY in a transaction of its own, as a hint only: who misses it must find the rows by a poll.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the server cannot be reached.
    pub async fn notify(&self, channel: &str, payload: &str) -> Result<(), Error> {
        sqlx::query("select pg_notify($1, $2)").bind(channel).bind(payload).execute(&self.pool).await.db().map(drop)
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }
}

fn pool_of(connections: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(10))
        .test_before_acquire(false)
        // One that rested may be dead since the server restarted; a busy one shows it by itself.
        .before_acquire(|connection, meta| {
            Box::pin(async move { Ok(meta.idle_for < RESTED || connection.ping().await.is_ok()) })
        })
}

/// Notifications of one channel.
#[derive(Debug)]
pub struct Hints {
    listener: PgListener,
}

impl Hints {
    /// The next payload. None after a lost connection: whatever was sent meanwhile is lost, so look at everything.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the connection cannot be made again.
    pub async fn next(&mut self) -> Result<Option<String>, Error> {
        Ok(self.listener.try_recv().await.db()?.map(|notification| notification.payload().to_owned()))
    }
}

impl Tx {
    /// Makes the transaction's effects durable and visible.
    ///
    /// # Errors
    /// Those of the database; after one the effects may or may not have happened.
    pub async fn commit(self) -> Result<(), Error> {
        self.inner.commit().await.db()
    }

    /// Drops the transaction's effects.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the connection broke; the effects are dropped then too.
    pub async fn rollback(self) -> Result<(), Error> {
        self.inner.rollback().await.db()
    }
}

impl Deref for Tx {
    type Target = PgConnection;
    fn deref(&self) -> &PgConnection {
        &self.inner
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.inner
    }
}
