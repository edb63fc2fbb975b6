//! Units: one supervised server process each, and the interface of those who run them.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use jiff::Timestamp;
use nix::unistd::Uid;
use rustix::process::Signal;
use serde::Deserialize;
use windlass_core::Error;
use windlass_kit::failpoint::Failpoints;

use super::{account::Account, direct::DirectHost, systemd::SystemdHost};

/// Who runs the database processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostKind {
    /// systemd if this machine runs it and the agent is root, else direct.
    #[default]
    Auto,
    /// Transient units of systemd.
    Systemd,
    /// Processes of their own session, started by the agent.
    Direct,
}

/// A process to run.
#[derive(Debug, Clone)]
pub struct UnitSpec {
    /// Its name: unique on the host, and a legal file name.
    pub name: String,
    /// For people.
    pub title: String,
    /// Path of the program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Its environment beside the search path and the locale.
    pub environment: BTreeMap<String, String>,
    /// Where it works: no other unit works there.
    pub directory: PathBuf,
    /// As whom it runs.
    pub account: Account,
    /// Where its output goes.
    pub log: PathBuf,
    /// The signal that asks it to stop, also when the machine goes down.
    pub stop_signal: Signal,
    /// What it may use.
    pub limits: Limits,
}

/// What a unit may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Thousandths of a processor core.
    pub cpu_millis: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
}

/// A running process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// When it started, by the wall clock.
    pub started: Timestamp,
}

/// Where a unit stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitStatus {
    /// Nothing is known of it.
    Absent,
    /// It runs.
    Running(Process),
    /// It ran and ended; how, for people.
    Ended(String),
}

/// Runs processes that outlive the agent.
///
/// Contract: `start` gives at most one living process per name, also across a crash of the agent at any point.
#[async_trait]
pub trait ProcessHost: Send + Sync + 'static {
    /// Starts the unit, or gives the process that runs already.
    ///
    /// # Errors
    /// `START_FAILED` or `INTERNAL` if there is no process afterwards.
    async fn start(&self, unit: &UnitSpec) -> Result<Process, Error>;

    /// Where the unit stands.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the host's manager cannot be asked.
    async fn status(&self, unit: &str) -> Result<UnitStatus, Error>;

    /// Sends a signal to the main process; none is fine.
    ///
    /// # Errors
    /// `INTERNAL` if it was not allowed.
    async fn signal(&self, unit: &str, signal: Signal) -> Result<(), Error>;

    /// Waits until the unit has no process and says how it ended. At once if there is none.
    ///
    /// # Errors
    /// `UNAVAILABLE` if the host's manager cannot be asked.
    async fn ended(&self, unit: &str) -> Result<String, Error>;

    /// Changes the limits of a unit that runs; as far as this host can limit at all.
    ///
    /// # Errors
    /// `INTERNAL` when a limit was refused.
    async fn limit(&self, unit: &str, limits: Limits) -> Result<(), Error>;

    /// Forgets a unit that has no process.
    ///
    /// # Errors
    /// `INTERNAL` when its record cannot be removed.
    async fn forget(&self, unit: &str) -> Result<(), Error>;

    /// Memory of the unit in bytes, if the host accounts for it.
    async fn memory(&self, unit: &str) -> Option<u64>;
}

/// Opens the host of this kind. `records` is a directory for what it keeps.
///
/// # Errors
/// `UNAVAILABLE` if systemd is asked for and does not answer; `INTERNAL` if records cannot be read.
pub async fn open(kind: HostKind, records: &Path, failpoints: Failpoints) -> Result<Arc<dyn ProcessHost>, Error> {
    let has_systemd = Path::new("/run/systemd/system").exists() && Uid::effective().is_root();
    match kind {
        HostKind::Auto if !has_systemd => Ok(Arc::new(DirectHost::open(records, failpoints).await?)),
        HostKind::Direct => Ok(Arc::new(DirectHost::open(records, failpoints).await?)),
        HostKind::Auto | HostKind::Systemd => Ok(Arc::new(SystemdHost::connect().await?)),
    }
}
