//! Native clients: how psql and mariadb are told where to connect and with which secret.
//!
//! Invariant: the password is never an argument of a process, and never in a file that has a name. A new engine's client
//! is one file here and one line in [`client::CLIENTS`].

mod client;
mod inherited;
mod mariadb;
mod psql;
pub(crate) mod text;

pub(crate) use client::{CLIENTS, exec, native_client};
