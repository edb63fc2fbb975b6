//! From configuration to a connected, migrated database.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use windlass_core::{Error, ErrorKind, Reason};
use windlass_db::Db;

use super::{Embedded, binaries::OLDEST_MAJOR};
use crate::config::Config;

/// Between two attempts to reach the server.
const PAUSE: Duration = Duration::from_secs(1);

/// The metadata, ready for use.
#[derive(Debug)]
pub struct Metadata {
    /// Connected and migrated.
    pub db: Db,
    /// The private server, if there is one.
    pub embedded: Option<Embedded>,
}

/// Opens the metadata: starts or adopts the private server if no URL is configured, waits until the server can be
/// reached, checks its version and brings the schema up. The caller holds the state directory's lock.
///
/// # Errors
/// `OPERATION_CANCELLED` when `stop` was cancelled while waiting; `UNAVAILABLE` for a server that is too old or a
/// private one that does not start; `INTERNAL` when the schema cannot be brought up.
pub async fn open(config: &Config, stop: &CancellationToken) -> Result<Metadata, Error> {
    let (embedded, url) = match &config.metadata.url {
        Some(url) => (None, url.clone()),
        None => {
            let server = Embedded::locate(config)?;
            server.start().await?;
            let url = server.url().into();
            (Some(server), url)
        }
    };
    let db = reach(url.expose_secret(), config.connections(), stop).await?;
    let major = db.server_major().await?;
    if major < OLDEST_MAJOR {
        return Err(Error::precondition(
            Reason::Unavailable,
            format!("metadata.url is a PostgreSQL {major}; use PostgreSQL {OLDEST_MAJOR} or newer"),
        ));
    }
    db.migrate().await?;
    info!(major, embedded = embedded.is_some(), "the metadata is open");
    Ok(Metadata { db, embedded })
}

/// Connects, waiting for as long as the server is away.
async fn reach(url: &str, connections: u32, stop: &CancellationToken) -> Result<Db, Error> {
    let stopped = || {
        let text = "stopped while waiting for the metadata database";
        Error::new(ErrorKind::Cancelled, Reason::OperationCancelled, text)
    };
    loop {
        let connected = stop.run_until_cancelled(Db::connect(url, connections)).await.ok_or_else(stopped)?;
        let error = match connected {
            Ok(db) => return Ok(db),
            Err(error) if error.kind == ErrorKind::Unavailable => error,
            Err(error) => {
                let message = format!("cannot connect to the metadata database: {}", error.chain());
                return Err(Error { message, ..error });
            }
        };
        warn!(error = error.chain(), "the metadata database cannot be reached yet");
        stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.ok_or_else(stopped)?;
    }
}
