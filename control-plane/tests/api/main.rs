//! The API as a client sees it: a control plane in this process, over real TLS and gRPC, on a real PostgreSQL.

mod access;
mod auth;
mod changes;
mod harness;
mod lists;
mod services;
mod wire;
