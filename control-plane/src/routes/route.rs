//! A route as the control plane sees it.

use windlass_core::{
    engine::Engine,
    id::{InstanceId, MemberId},
};

/// How to reach one instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The instance.
    pub instance: InstanceId,
    /// Name of its project.
    pub project: String,
    /// Its name.
    pub name: String,
    /// What it speaks.
    pub engine: Engine,
    /// Term of the primary; 0 for an instance that is not replicated.
    pub epoch: u64,
    /// Grows with each change within the epoch.
    pub rev: u64,
    /// Whether clients go through.
    pub state: State,
    /// Where writes go.
    pub primary: Option<Backend>,
    /// Where stale reads may go.
    pub replicas: Vec<Backend>,
}

/// Whether clients go through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// They do.
    Open,
    /// They are held; the text says why.
    Paused(String),
    /// They are refused; the text says why.
    Closed(String),
}

/// A database server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// The member.
    pub member: MemberId,
    /// Name of its host.
    pub host_name: String,
    /// Address of its host for clients.
    pub address: String,
    /// Port.
    pub port: u16,
    /// Bytes behind the primary, coarse.
    pub lag_bytes: u64,
    /// It streams from the primary of this epoch.
    pub streaming: bool,
}
