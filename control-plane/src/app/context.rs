//! What every use case needs, made once at start and shared.

use windlass_db::Db;

use crate::config::Config;

/// Shared parts of the control plane, by `Arc`.
#[derive(Debug)]
pub struct Context {
    /// The metadata.
    pub db: Db,
    /// What the operator set.
    pub config: Config,
}
