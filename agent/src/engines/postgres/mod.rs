//! PostgreSQL.
//!
//! The agent owns the whole configuration: `postgresql.conf` in the data directory is one include line, so that nothing
//! of it is in the data. The superuser `windlass` exists on the unix socket only, by peer authentication; clients come
//! by TCP with TLS and SCRAM.

pub mod access;
mod catalogue;
mod conf;
mod discover;
mod driver;
mod init;
mod objects;
mod probe;
pub mod replication;
mod run;

pub use driver::Postgres;

/// The superuser, reached only through the socket.
const SUPERUSER: &str = "windlass";
/// The database of the agent's own connection.
const HOME_DATABASE: &str = "postgres";
