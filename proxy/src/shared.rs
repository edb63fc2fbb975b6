//! What a protocol needs of the rest of the proxy.

use std::sync::Arc;

use crate::{
    config::Config,
    drain::Drain,
    evidence::Evidence,
    hold::Hold,
    limits::Limits,
    metrics::Metrics,
    protocols::postgres::Postgres,
    routes::RouteTable,
    tls::{Backends, ServerTls},
};

/// Shared parts of the proxy, by `Arc`.
#[derive(Debug)]
pub struct Shared {
    /// What the operator set.
    pub config: Config,
    /// Where clients are brought.
    pub routes: RouteTable,
    /// The certificate that clients see.
    pub tls: ServerTls,
    /// Connects to databases.
    pub backends: Backends,
    /// Holds clients while their route is paused or their primary is gone.
    pub hold: Hold,
    /// Who may come in.
    pub limits: Arc<Limits>,
    /// What happened to real traffic, for the control plane.
    pub evidence: Arc<Evidence>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Whether this process is to end.
    pub drain: Arc<Drain>,
    /// What PostgreSQL sessions share.
    pub postgres: Postgres,
}
