//! What an operator can do on the control plane's machine without an API key: make one.

use tokio_util::sync::CancellationToken;
use windlass_core::{Error, Reason};
use windlass_db::{Db, api_keys::ApiKeyRow};
use windlass_kit::token::ApiKey;

use crate::{
    app::keys::{self, KeyRequest},
    config::Config,
    metadata::{self, Embedded},
    state_dir::StateDir,
};

/// A key that was made.
#[derive(Debug)]
pub struct LocalKey {
    /// As stored.
    pub row: ApiKeyRow,
    /// The key itself.
    pub key: ApiKey,
}

/// Makes a key in the metadata that `config` names. An embedded database that does not run is started for it and
/// stopped again.
///
/// # Errors
/// `INVALID_FIELD`, `NOT_FOUND` for the project; `UNAVAILABLE` when the metadata cannot be reached.
pub async fn create_key(config: &Config, request: KeyRequest) -> Result<LocalKey, Error> {
    if config.metadata.url.is_none() {
        let server = Embedded::locate(config)?;
        if server.running().is_some() {
            return with(Db::connect(&server.url(), 1).await?, request).await;
        }
    }
    // Whoever starts the database holds the directory: a control plane that is just starting must not meet us.
    let state = match config.metadata.url {
        Some(_) => None,
        None => Some(StateDir::lock(&config.state_dir).map_err(starting)?),
    };
    let opened = metadata::open(config, &CancellationToken::new()).await?;
    let made = with(opened.db, request).await;
    if let Some(server) = &opened.embedded {
        server.stop().await?;
    }
    drop(state);
    made
}

async fn with(db: Db, request: KeyRequest) -> Result<LocalKey, Error> {
    let made = async {
        let mut tx = db.begin().await?;
        let (row, key) = keys::create_on_host(&mut tx, request).await?;
        tx.commit().await?;
        Ok(LocalKey { row, key })
    }
    .await;
    db.close().await;
    made
}

fn starting(error: Error) -> Error {
    if error.reason != Reason::StateForbids {
        return error;
    }
    Error::unavailable("the control plane is just starting or stopping; try again in a moment").with_source(error)
}
