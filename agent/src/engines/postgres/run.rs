//! Runs a PostgreSQL server and connects to it.

use std::{collections::BTreeMap, time::Duration};

use rustix::process::Signal;
use tokio_postgres::{Client, NoTls};
use windlass_core::{Error, ErrorKind, Reason};

use super::{HOME_DATABASE, SUPERUSER};
use crate::{
    engines::{Server, Session},
    host::{Process, UnitSpec, files},
};

/// The postmaster writes its state into `postmaster.pid`; reading eight lines costs microseconds.
const POLL: Duration = Duration::from_millis(2);
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// The agent's statements show up nowhere (they may hold verifiers), are not caught by a user's settings, and find
/// only the system's functions.
const SESSION_OPTIONS: &str = "-c log_statement=none -c log_min_duration_statement=-1 -c log_duration=off \
    -c log_min_error_statement=panic -c track_activities=off -c pg_stat_statements.track=none \
    -c search_path=pg_catalog -c default_transaction_read_only=off -c statement_timeout=300s -c lock_timeout=30s \
    -c synchronous_commit=on";

/// A connection as the superuser.
pub(super) struct Connection {
    pub(super) server: Server,
    pub(super) client: Client,
}

pub(super) fn unit(server: &Server) -> UnitSpec {
    UnitSpec {
        name: server.unit.clone(),
        title: server.title.clone(),
        program: server.installation.server.clone(),
        arguments: vec!["-D".into(), server.site.data.clone().into_os_string()],
        // Only the postmaster is spared by the out-of-memory killer; its children are not (manual, section 19.4.4).
        environment: BTreeMap::from([
            ("PG_OOM_ADJUST_FILE".to_owned(), "/proc/self/oom_score_adj".to_owned()),
            ("PG_OOM_ADJUST_VALUE".to_owned(), "0".to_owned()),
        ]),
        directory: server.site.data.clone(),
        account: server.accounts.database.clone(),
        log: server.site.log.clone(),
        // "Fast": sessions are ended and a checkpoint is written.
        stop_signal: Signal::INT,
        limits: server.limits,
    }
}

pub(super) async fn ready(server: &Server, process: Process) -> Box<dyn Session> {
    loop {
        if accepts(server, process.pid)
            && let Ok(connection) = connect(server).await
        {
            return Box::new(connection);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Whether the postmaster of this pid says that it accepts connections. Asking a file costs the server nothing.
pub(super) fn accepts(server: &Server, pid: i32) -> bool {
    let text = files::read_text(&server.site.data.join("postmaster.pid")).ok().flatten().unwrap_or_default();
    says_ready(&text, pid)
}

/// Whether the postmaster waits for its clients to leave, the agent's own connection among them.
pub(super) fn stopping(server: &Server) -> bool {
    let text = files::read_text(&server.site.data.join("postmaster.pid")).ok().flatten().unwrap_or_default();
    text.lines().nth(7).map(str::trim) == Some("stopping")
}

/// Line 1 is the pid, line 8 the state. A file that a killed predecessor left says "ready" with another pid.
fn says_ready(text: &str, pid: i32) -> bool {
    let mut lines = text.lines().map(str::trim);
    lines.next() == Some(pid.to_string().as_str()) && matches!(lines.nth(6), Some("ready" | "standby"))
}

pub(super) async fn connect(server: &Server) -> Result<Connection, Error> {
    let client = open(server, HOME_DATABASE).await?;
    Ok(Connection { server: server.clone(), client })
}

/// Connects to one database as the superuser.
pub(super) async fn open(server: &Server, database: &str) -> Result<Client, Error> {
    let mut config = tokio_postgres::Config::new();
    config
        .host_path(&server.site.socket_dir)
        .port(server.port())
        .user(SUPERUSER)
        .dbname(database)
        .application_name("windlass-agent")
        .options(SESSION_OPTIONS)
        .connect_timeout(CONNECT_LIMIT);
    let (client, connection) = config.connect(NoTls).await.map_err(refused)?;
    // Ends when the client is dropped or the server goes away; the client's next call says so.
    tokio::spawn(connection);
    Ok(client)
}

/// An error of the server is the user's to read; anything else means that the connection is gone.
pub(super) fn refused(error: tokio_postgres::Error) -> Error {
    let message = error.as_db_error().map(|db| {
        let detail =
            [db.detail(), db.hint()].into_iter().flatten().map(|text| format!(" ({text})")).collect::<String>();
        format!("PostgreSQL refused: {}{detail}", db.message())
    });
    match message {
        Some(message) => Error::new(ErrorKind::FailedPrecondition, Reason::DatabaseRefused, message).with_source(error),
        None => Error::unavailable("the connection to PostgreSQL is gone").with_source(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_process_can_say_that_it_is_ready() {
        let text = "42\n/data\n1700000000\n5432\n/run/x\n*\n  123 456\nready   \n";
        assert!(says_ready(text, 42));
        assert!(!says_ready(text, 43));
        assert!(!says_ready(&text.replace("ready", "starting"), 42));
        assert!(!says_ready("42\n", 42));
    }
}
