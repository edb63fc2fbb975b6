//! Settings of the members of a host.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::host::HostKind;

/// Settings of the members of a host.
#[derive(Debug, Clone)]
pub struct MembersConfig {
    /// Where data, configuration and records live. The database user must be able to enter it.
    pub state_dir: PathBuf,
    /// Where sockets live. Short: a socket's path may have 107 bytes.
    pub run_dir: PathBuf,
    /// System user of the database processes; needed when the agent is root, else the agent's own user.
    pub run_as: Option<String>,
    /// Directories with engine programs, searched before the usual ones.
    pub engine_dirs: Vec<PathBuf>,
    /// Who runs the processes.
    pub process_host: HostKind,
    /// Address on which databases listen: an IP address, or `*` for all.
    pub bind_address: String,
    /// How long a server may take to stop by itself before it is killed.
    pub stop_grace: Duration,
    /// How long a server may take to accept connections when an order starts it.
    pub start_timeout: Duration,
    /// How often files are compared with the goal and facts are taken.
    pub check_every: Duration,
    /// No member is made while less than this is free, in bytes.
    pub disk_floor_bytes: u64,
    /// Whether to keep one initialised directory ready for each engine version.
    pub warm_pool: WarmPool,
}

/// Whether directories are initialised ahead of need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WarmPool {
    /// One for each engine version.
    On,
    /// None: each create initialises its own.
    Off,
}

impl Default for MembersConfig {
    fn default() -> Self {
        Self {
            state_dir: PathBuf::from("/var/lib/windlass-agent"),
            run_dir: PathBuf::from("/run/windlass-agent"),
            run_as: None,
            engine_dirs: Vec::new(),
            process_host: HostKind::Auto,
            bind_address: "*".to_owned(),
            stop_grace: Duration::from_secs(30),
            start_timeout: Duration::from_secs(300),
            check_every: Duration::from_secs(10),
            disk_floor_bytes: 256 << 20,
            warm_pool: WarmPool::On,
        }
    }
}
