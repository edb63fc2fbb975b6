//! Runs a MariaDB server and connects to it.

use std::{collections::BTreeMap, time::Duration};

use mysql_async::{Conn, OptsBuilder};
use rustix::process::Signal;
use windlass_core::{Error, ErrorKind, Reason};

use super::conf;
use crate::{
    engines::{Server, Session},
    host::UnitSpec,
};

/// A refused connect to a socket costs microseconds.
const POLL: Duration = Duration::from_millis(5);
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// The agent's statements reach neither the general nor the slow log (they may hold hashes).
const SESSION_SETUP: &str =
    "set session sql_log_off = 1, slow_query_log = 0, sql_mode = '', autocommit = 1, lock_wait_timeout = 30";

/// A connection of the agent's account.
pub(super) struct Connection {
    pub(super) server: Server,
    pub(super) conn: Conn,
}

pub(super) fn unit(server: &Server) -> UnitSpec {
    let mut defaults = std::ffi::OsString::from("--defaults-file=");
    defaults.push(conf::file(server));
    UnitSpec {
        name: server.unit.clone(),
        title: server.title.clone(),
        program: server.installation.server.clone(),
        arguments: vec![defaults],
        environment: BTreeMap::new(),
        directory: server.site.data.clone(),
        account: server.accounts.database.clone(),
        log: server.site.log.clone(),
        stop_signal: Signal::TERM,
        limits: server.limits,
    }
}

/// The socket of a predecessor that was killed refuses connections, so an accepted one is the new server's.
pub(super) async fn ready(server: &Server) -> Box<dyn Session> {
    loop {
        if let Ok(connection) = connect(server).await {
            return Box::new(connection);
        }
        tokio::time::sleep(POLL).await;
    }
}

pub(super) async fn connect(server: &Server) -> Result<Connection, Error> {
    let options = OptsBuilder::default()
        .socket(Some(conf::socket(server).to_string_lossy()))
        .user(Some(server.accounts.agent.name.clone()))
        .setup(vec![SESSION_SETUP])
        // Known beforehand, these two save round trips at each connect.
        .max_allowed_packet(Some(16 << 20))
        .wait_timeout(Some(28_800))
        .stmt_cache_size(Some(0));
    let connecting = tokio::time::timeout(CONNECT_LIMIT, Conn::new(options)).await;
    let conn = connecting.map_err(|_| Error::unavailable("MariaDB does not answer on its socket"))?.map_err(refused)?;
    Ok(Connection { server: server.clone(), conn })
}

/// An error of the server is the user's to read; anything else means that the connection is gone.
pub(super) fn refused(error: mysql_async::Error) -> Error {
    match &error {
        mysql_async::Error::Server(server) => {
            let message = format!("MariaDB refused: {} (error {})", without_hashes(&server.message), server.code);
            Error::new(ErrorKind::FailedPrecondition, Reason::DatabaseRefused, message)
        }
        mysql_async::Error::Driver(_)
        | mysql_async::Error::Io(_)
        | mysql_async::Error::Other(_)
        | mysql_async::Error::Url(_) => Error::unavailable("the connection to MariaDB is gone").with_source(error),
    }
}

/// Syntax errors quote the statement; a hash in it must not get into an error.
fn without_hashes(text: &str) -> String {
    let is_hash = |word: &str| word.len() >= 41 && word.contains('*');
    text.split(' ').map(|word| if is_hash(word) { "..." } else { word }).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_do_not_get_into_errors() {
        let text = "syntax to use near '*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19' at line 1";
        assert_eq!(without_hashes(text), "syntax to use near ... at line 1");
    }
}
