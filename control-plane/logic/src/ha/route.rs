//! Where clients go: a pure projection of the stored cluster, read by proxies.
//!
//! Invariant (P11): (epoch, rev) of routes only grow, because those of the cluster do.

use serde::{Deserialize, Serialize};
use windlass_core::id::MemberId;

use super::{
    cluster::{Cluster, Stay},
    phase::{Phase, Promotion, SwitchStep},
};

/// Whether clients go through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RouteState {
    /// They do.
    Open,
    /// They are held: the leader changes.
    Paused(String),
    /// They are refused.
    Closed(String),
}

/// Where clients of an instance go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Epoch.
    pub epoch: u64,
    /// rev; a pause is acknowledged by it.
    pub rev: u64,
    /// Whether clients go through.
    pub state: RouteState,
    /// Who takes writes; none while nobody leads.
    pub primary: Option<MemberId>,
    /// Who may take reads.
    pub replicas: Vec<MemberId>,
}

/// Where clients go.
pub fn route(cluster: &Cluster) -> Route {
    let state = match &cluster.phase {
        Phase::Steady | Phase::Reconciling => RouteState::Open,
        Phase::Switchover(switch) if switch.step == SwitchStep::Preparing => RouteState::Open,
        Phase::Electing(election) => RouteState::Paused(format!("a new primary is being elected: {}", election.cause)),
        Phase::Promoting(Promotion::Founding) => RouteState::Paused("it is being made".to_owned()),
        Phase::Promoting(Promotion::Failover) => RouteState::Paused("a new primary is being promoted".to_owned()),
        Phase::Promoting(Promotion::Switchover) | Phase::Switchover(_) => {
            RouteState::Paused("a switchover is under way".to_owned())
        }
        Phase::Promoting(Promotion::Reopening | Promotion::Adoption) => {
            RouteState::Paused("its primary is opening".to_owned())
        }
        Phase::Resting(_) => RouteState::Closed("it is stopped; start it to use it".to_owned()),
    };
    let primary = cluster.primary();
    let replicas = cluster.members.iter().filter(|(id, member)| Some(**id) != primary && member.stay == Stay::Staying);
    Route { epoch: cluster.epoch, rev: cluster.rev, state, primary, replicas: replicas.map(|(id, _)| *id).collect() }
}
