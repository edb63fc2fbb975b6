//! The interface of an engine's driver.

use std::{collections::BTreeMap, path::PathBuf};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use windlass_core::{Error, engine::Engine, parameter::Catalogue};

use super::{Installation, Rendered, Server, object::Object};
use crate::host::{Process, UnitSpec, account::Account, helper::Priority};

/// What one engine needs on a host.
#[async_trait]
pub trait EngineDriver: Send + Sync + 'static {
    /// Which engine it is.
    fn engine(&self) -> Engine;

    /// Versions found in these directories and in the usual ones, each once; the first directory wins.
    async fn discover(&self, directories: &[PathBuf], account: &Account) -> Vec<Installation>;

    /// Fills an empty data directory, which belongs to the database user, by the engine's own program.
    ///
    /// # Errors
    /// `INIT_FAILED` with the last lines of its output, `DISK_FULL`, `OPERATION_CANCELLED`.
    async fn initialise(&self, server: &Server, priority: Priority, cancel: &CancellationToken) -> Result<(), Error>;

    /// Checks that the data directory is one of this engine and version.
    ///
    /// # Errors
    /// `DATA_DIRECTORY_INVALID` saying what was found.
    fn check_data(&self, server: &Server) -> Result<(), Error>;

    /// The files that the agent owns, for these parameters. Pure.
    ///
    /// # Errors
    /// `PARAMETER_INVALID` for what cannot stand in a configuration file.
    fn render(&self, server: &Server, parameters: &BTreeMap<String, String>) -> Result<Rendered, Error>;

    /// Lets the engine itself read the files, without touching the running server.
    ///
    /// # Errors
    /// `PARAMETER_INVALID` with what the engine said.
    async fn check(&self, server: &Server, rendered: &Rendered, cancel: &CancellationToken) -> Result<(), Error>;

    /// The process to run.
    fn unit(&self, server: &Server) -> UnitSpec;

    /// Waits until the process accepts connections and gives one. Waits for ever if it never does: the caller bounds
    /// it and watches the process.
    async fn ready(&self, server: &Server, process: Process) -> Box<dyn Session>;

    /// Connects to a server that runs.
    ///
    /// # Errors
    /// `UNAVAILABLE` if it does not accept the connection.
    async fn connect(&self, server: &Server) -> Result<Box<dyn Session>, Error>;
}

/// A connection of the agent's own account to a running server.
#[async_trait]
pub trait Session: Send {
    /// Facts of the server.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the connection is gone.
    async fn probe(&mut self) -> Result<Probe, Error>;

    /// Creates, changes or drops an object. Idempotent. Verifiers reach no log and no statistics.
    ///
    /// # Errors
    /// `DATABASE_REFUSED` with what the engine said, `NOT_FOUND` for what the object refers to.
    async fn apply(&mut self, object: &Object) -> Result<(), Error>;

    /// Makes the server take the files that were just written, as far as it can without a restart.
    ///
    /// # Errors
    /// `PARAMETER_INVALID` when it refuses a value.
    async fn reload(&mut self, change: &Change<'_>) -> Result<(), Error>;

    /// Parameters whose change waits for a restart, out of what changed since the start.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the connection is gone.
    async fn pending_restart(&mut self, since_start: &Change<'_>) -> Result<Vec<String>, Error>;

    /// The parameters that the engine knows.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the connection is gone.
    async fn catalogue(&mut self) -> Result<Catalogue, Error>;
}

/// Facts of a running server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probe {
    /// System identifier, or server identity.
    pub identity: String,
    /// Connections of clients, without the agent's own.
    pub connections: u64,
    /// LSN or GTID position.
    pub position: String,
    /// Whether it follows another server or recovers.
    pub in_recovery: bool,
}

/// Settings in effect before and after a change.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// Before.
    pub before: &'a BTreeMap<String, String>,
    /// After.
    pub after: &'a BTreeMap<String, String>,
}

impl<'a> Change<'a> {
    /// Names whose values differ, with the new value (None: back to the engine's default).
    pub fn differing(&self) -> Vec<(&'a str, Option<&'a str>)> {
        let gone = self.before.keys().filter(|name| !self.after.contains_key(*name)).map(|name| (name.as_str(), None));
        let changed = self.after.iter().filter(|(name, value)| self.before.get(*name) != Some(*value));
        gone.chain(changed.map(|(name, value)| (name.as_str(), Some(value.as_str())))).collect()
    }
}
