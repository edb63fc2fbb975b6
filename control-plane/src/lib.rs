//! The Windlass control plane: decides what each host shall do, queues it as commands, and serves the API.
//!
//! Layers, top down: `api` (gRPC: names, messages, errors of the wire) → `app` (use cases: permissions, transactions)
//! → `windlass-db` (SQL) and `windlass-logic` (pure decisions). Every layer knows only those below it.

pub mod api;
pub mod app;
mod background;
pub mod config;
pub mod gc;
pub mod ha;
pub mod health;
pub mod installation;
pub mod lease;
mod listener;
pub mod local;
pub mod metadata;
pub mod pki;
pub mod plane;
pub mod queue;
pub mod reconcile;
pub mod routes;
pub mod sagas;
pub mod secrets;
pub mod state_dir;
#[cfg(test)]
mod testbed;
