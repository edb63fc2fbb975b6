//! A database of one's own for each test, on the server that `DATABASE_URL` names (or a `.env` file above).

use std::{str::FromStr as _, thread};

use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection, postgres::PgConnectOptions,
};
use uuid::Uuid;

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
        connection.execute(AssertSqlSafe(format!("create database {name}"))).await.expect("may create databases");
        let _ = connection.close().await;
        let url = server.clone().database(&name).to_url_lossy().to_string();
        let db = Db::connect(&url, 10).await.expect("connect to the new database");
        db.migrate().await.expect("migrate the new database");
        Self { db, server, name, url }
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
            runtime.block_on(async {
                let mut connection: PgConnection = server.connect().await.ok()?;
                connection.execute(AssertSqlSafe(format!("drop database if exists {name} with (force)"))).await.ok()
            })
        })
        .join();
    }
}
