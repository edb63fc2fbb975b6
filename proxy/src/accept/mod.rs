//! Accepting clients: sockets, the PROXY protocol, and patience with those that do not say who they are.

mod client;

pub use client::{Client, Startup};
