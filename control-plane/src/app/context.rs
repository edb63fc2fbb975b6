//! What every use case needs, made once at start and shared.

use std::sync::Arc;

use windlass_db::Db;

use crate::{
    config::Config,
    ha::Ha,
    health::Health,
    pki::Authority,
    queue::HostWaker,
    routes::Routes,
    sagas::{OperationWatch, Registry, Waker},
    secrets::Sealer,
};

/// Shared parts of the control plane, by `Arc`.
#[derive(Debug)]
pub struct Context {
    /// The metadata.
    pub db: Db,
    /// What the operator set.
    pub config: Config,
    /// Seals secrets before they are stored.
    pub sealer: Sealer,
    /// Signs certificates.
    pub authority: Arc<Authority>,
    /// The sagas that this binary knows.
    pub registry: Arc<Registry>,
    /// Wakes the executor after a commit that started an operation.
    pub sagas: Waker,
    /// Wakes the queue after a commit that queued commands.
    pub hosts: HostWaker,
    /// Which hosts are there and which may speak.
    pub health: Health,
    /// What is heard of replicated instances, and who decides on it.
    pub ha: Ha,
    /// Where proxies bring clients, and what they report.
    pub routes: Routes,
    /// Waits for operations.
    pub watch: OperationWatch,
}
