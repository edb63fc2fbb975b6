//! Accepting clients: sockets, the PROXY protocol, and patience with those that do not say who they are.

mod client;
mod header;
mod listener;
mod starting;

pub use client::Client;
pub use listener::{Listener, Listeners};
pub use starting::Startup;

pub(crate) use listener::Accept;
