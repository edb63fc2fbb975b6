//! MariaDB.
//!
//! The server reads one file, which the agent owns. The agent's account has the name of the agent's system user and
//! logs in by `unix_socket`, on the socket only; clients come by TCP with TLS and `mysql_native_password`. Only InnoDB
//! may hold application data.

mod catalogue;
mod conf;
mod discover;
mod driver;
mod init;
mod objects;
mod probe;
mod run;

pub use driver::Mariadb;
