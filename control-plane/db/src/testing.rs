//! A database of one's own for each test, on the server that `DATABASE_URL` names (or a `.env` file above).

use std::{str::FromStr as _, thread, time::Duration};

use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection, postgres::PgConnectOptions,
};
use uuid::Uuid;
use windlass_core::id::OperationId;

use crate::Db;

/// A fresh, migrated database; dropped with this value, also when the test panics.
#[derive(Debug)]
pub struct TestDb {
    /// Ready to use.
    pub db: Db,
    server: PgConnectOptions,
    name: String,
    url: String,
}

impl TestDb {
    /// Creates and migrates it.
    ///
    /// # Panics
    /// When the server cannot be reached: a test without it has nothing to say.
    pub async fn create() -> Self {
        let server = server();
        let name = format!("wl_test_{}", Uuid::now_v7().simple());
        let mut connection = server.connect().await.expect("DATABASE_URL names a running PostgreSQL");
        connection
            .execute(AssertSqlSafe(format!("create database {name} strategy file_copy")))
            .await
            .expect("may create databases");
        let _ = connection.close().await;
        let url = server.clone().database(&name).to_url_lossy().to_string();
        let db = Db::connect(&url, 10).await.expect("connect to the new database");
        db.migrate().await.expect("migrate the new database");
        Self { db, server, name, url }
    }

    /// Empties every table, so that the next run finds a database like a fresh one, in a fraction of the time.
    ///
    /// # Panics
    /// When the database refuses.
    pub async fn reset(&self) {
        let tables: Vec<String> = sqlx::query_scalar(
            "select format('delete from %I', tablename) from pg_tables
              where schemaname = 'public' and tablename <> '_sqlx_migrations'",
        )
        .fetch_all(self.db.pool())
        .await
        .expect("tables");
        // As a replica the server does not check foreign keys, so the order does not matter.
        let all = format!("begin; set local session_replication_role = replica; {}; commit", tables.join("; "));
        self.db.pool().execute(AssertSqlSafe(all)).await.expect("delete");
    }

    /// Makes a saga that waits for a time due now, and says whether it did.
    ///
    /// # Panics
    /// When the database refuses.
    pub async fn hurry(&self, saga: OperationId) -> bool {
        sqlx::query("update saga set wake_at = now() where id = $1 and wake_at is not null and not done")
            .bind(saga.0)
            .execute(self.db.pool())
            .await
            .expect("update")
            .rows_affected()
            == 1
    }

    /// Lets a lease expire at once.
    ///
    /// # Panics
    /// When the database refuses.
    pub async fn expire_lease(&self, name: &str) {
        sqlx::query("update lease set expires_at = '-infinity' where name = $1")
            .bind(name)
            .execute(self.db.pool())
            .await
            .expect("update");
    }

    /// A whole number that a query gives, for assertions on what is stored.
    ///
    /// # Panics
    /// When the query is wrong.
    pub async fn count(&self, query: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(self.db.pool()).await.expect(query)
    }

    /// Runs a statement that sets a test up.
    ///
    /// # Panics
    /// When the statement is wrong.
    pub async fn execute(&self, statement: &str) {
        self.db.pool().execute(AssertSqlSafe(statement.to_owned())).await.expect(statement);
    }

    /// Runs a statement in a transaction that the test may roll back.
    ///
    /// # Panics
    /// When the statement is wrong.
    pub async fn execute_tx(&self, tx: &mut PgConnection, statement: &str) {
        tx.execute(AssertSqlSafe(statement.to_owned())).await.expect(statement);
    }

    /// URL of the database, for a second pool or another program.
    pub fn url(&self) -> &str {
        &self.url
    }
}

fn server() -> PgConnectOptions {
    let url = std::env::var("DATABASE_URL").ok().or_else(from_env_file).expect("DATABASE_URL is set");
    PgConnectOptions::from_str(&url).expect("DATABASE_URL is a PostgreSQL URL").disable_statement_logging()
}

/// `DATABASE_URL` of the nearest `.env` file, as the build-time checks read it.
fn from_env_file() -> Option<String> {
    let here = std::env::current_dir().ok()?;
    let text = here.ancestors().find_map(|dir| std::fs::read_to_string(dir.join(".env")).ok())?;
    text.lines().find_map(|line| line.strip_prefix("DATABASE_URL=")).map(|url| url.trim().to_owned())
}

impl Drop for TestDb {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // The test's own runtime may be ending: the drop needs one of its own.
        let _ = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            runtime.block_on(drop_database(&server, &name)).ok()
        })
        .join();
    }
}

/// Ends the connections first and looks every few milliseconds: `with (force)` alone looks every tenth of a second.
async fn drop_database(server: &PgConnectOptions, name: &str) -> Result<(), sqlx::Error> {
    let mut connection: PgConnection = server.connect().await?;
    for _ in 0..100 {
        let left = sqlx::query("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1")
            .bind(name)
            .execute(&mut connection)
            .await?
            .rows_affected();
        if left == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    connection.execute(AssertSqlSafe(format!("drop database if exists {name} with (force)"))).await?;
    connection.close().await
}
