//! The Windlass agent: runs the databases of one host as the control plane says, and reports what it sees.
//!
//! Owns the host's side of everything: the connection (dialled by the agent, never to it), the journal of commands, the
//! engines and their processes. It decides nothing: it acts on commands and reports facts. Databases are not its
//! children in spirit: the agent may stop, crash or be upgraded and they go on.

pub mod app;
pub mod cli;
pub mod commands;
pub mod config;
pub mod engines;
pub mod ha;
pub mod host;
pub mod journal;
pub mod link;
pub mod members;
pub mod peers;
pub mod sim;
pub mod status;
