//! One server on this host, as a driver sees it: programs, places, network.

use std::{collections::BTreeMap, path::PathBuf};

use windlass_core::engine::Engine;

use crate::host::{Limits, account::Accounts};

/// An engine version whose programs this host has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// The engine.
    pub engine: Engine,
    /// Major version as the engine counts it.
    pub version: String,
    /// The whole version.
    pub full_version: String,
    /// The server program.
    pub server: PathBuf,
    /// The program that makes a data directory.
    pub initialiser: PathBuf,
}

/// Where a server's things are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Data directory. Belongs to the database user.
    pub data: PathBuf,
    /// Configuration. Belongs to the agent.
    pub conf: PathBuf,
    /// `server.crt`, `server.key`, `ca.crt`. Belongs to the database user.
    pub tls: PathBuf,
    /// Scratch space. Belongs to the database user.
    pub scratch: PathBuf,
    /// Log file.
    pub log: PathBuf,
    /// Directory of the socket. Belongs to the database user.
    pub socket_dir: PathBuf,
}

/// How a server can be reached beside its socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// Not at all.
    SocketOnly,
    /// By TCP with TLS.
    Tcp {
        /// IP address, or `*` for all.
        bind: String,
        /// Port.
        port: u16,
    },
}

/// Whether a server is one of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kinship {
    /// The only server of its instance.
    Single,
    /// One of an instance with replicas: what belongs to its role (`replication.conf`, who may enter) is written by
    /// replication, and its server is started and stopped by it.
    Replicated,
}

/// One server on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its programs.
    pub installation: Installation,
    /// Its places.
    pub site: Site,
    /// Its network.
    pub network: Network,
    /// Whether it is one of several.
    pub kinship: Kinship,
    /// The agent's user and the database user.
    pub accounts: Accounts,
    /// Unique name on the host.
    pub unit: String,
    /// For people.
    pub title: String,
    /// What it may use.
    pub limits: Limits,
}

/// A configuration file that the agent owns: its content follows from the goal alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedFile {
    /// Where.
    pub path: PathBuf,
    /// What.
    pub text: String,
}

/// Everything that follows from a goal's parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The files. The first is the one with the parameters.
    pub files: Vec<OwnedFile>,
    /// Every setting in the file, by name.
    pub settings: BTreeMap<String, String>,
}

impl Server {
    /// The port that names the socket, also without TCP.
    pub fn port(&self) -> u16 {
        match &self.network {
            Network::SocketOnly => 1,
            Network::Tcp { port, .. } => *port,
        }
    }
}

#[cfg(test)]
pub(crate) fn sample() -> Server {
    use crate::host::account::Account;
    let account = Account { name: "db".into(), uid: 7, gid: 7 };
    Server {
        installation: Installation {
            engine: Engine::Postgres,
            version: "15".into(),
            full_version: "15.1".into(),
            server: "/programs/server".into(),
            initialiser: "/programs/initialiser".into(),
        },
        site: Site {
            data: "/m/data".into(),
            conf: "/m/conf".into(),
            tls: "/m/tls".into(),
            scratch: "/m/scratch".into(),
            log: "/m/log/server.log".into(),
            socket_dir: "/run/m".into(),
        },
        network: Network::Tcp { bind: "127.0.0.1".into(), port: 5432 },
        kinship: Kinship::Single,
        accounts: Accounts { agent: account.clone(), database: account },
        unit: "windlass-sample".into(),
        title: "demo/sample".into(),
        limits: Limits { cpu_millis: 1000, memory_bytes: 1 << 30 },
    }
}
