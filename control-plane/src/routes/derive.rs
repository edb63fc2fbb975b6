//! From what is stored to a route. Pure.
//!
//! The lifecycle decides whether clients may come at all; of a replicated instance the cluster decides the rest, because
//! its (epoch, rev) orders what proxies hear.

use windlass_core::{Error, id::MemberId, instance::Lifecycle, member::MemberRole};
use windlass_db::{ha::ClusterRow, instances::InstanceRow, members::MemberRow};
use windlass_logic::ha::{Cluster, RouteState, route as of_cluster};

use super::{Backend, Follower, Route, State};

/// The route of an instance; None when it has none any more.
///
/// # Errors
/// `INTERNAL` if the stored cluster cannot be read.
pub(super) fn route(
    row: &InstanceRow,
    members: &[MemberRow],
    cluster: Option<&ClusterRow>,
    followers: impl Fn(MemberId) -> Option<Follower>,
) -> Result<Option<Route>, Error> {
    let Some(state) = by_lifecycle(row) else { return Ok(None) };
    let mut route = match cluster {
        Some(stored) => replicated(row, members, stored, state, followers)?,
        None => single(row, members, state),
    };
    if route.state == State::Open && route.primary.is_none() {
        route.state = State::Closed(format!("{} has no address", row.path()));
    }
    Ok(Some(route))
}

/// What the lifecycle says; None of an instance that is gone.
fn by_lifecycle(row: &InstanceRow) -> Option<State> {
    let path = row.path();
    let closed = match row.lifecycle {
        // One that failed may serve all the same; if it does not, connecting says so.
        Lifecycle::Running | Lifecycle::Modifying | Lifecycle::Error => return Some(State::Open),
        Lifecycle::Pending | Lifecycle::Creating => format!("{path} is being created"),
        Lifecycle::Stopping => format!("{path} is being stopped"),
        Lifecycle::Stopped => format!("{path} is stopped; start it with: windlass instance start {}", row.name),
        Lifecycle::Suspended => format!("{path} is suspended"),
        Lifecycle::Deleting => format!("{path} is being deleted"),
        Lifecycle::Deleted => return None,
    };
    Some(State::Closed(closed))
}

fn single(row: &InstanceRow, members: &[MemberRow], state: State) -> Route {
    Route {
        instance: row.id,
        project: row.project_name.clone(),
        name: row.name.clone(),
        engine: row.spec.engine,
        epoch: 0,
        rev: row.revision.unsigned_abs(),
        state,
        primary: members.iter().find(|member| member.role == MemberRole::Primary).and_then(|m| backend(m, None)),
        replicas: Vec::new(),
    }
}

fn replicated(
    row: &InstanceRow,
    members: &[MemberRow],
    stored: &ClusterRow,
    state: State,
    followers: impl Fn(MemberId) -> Option<Follower>,
) -> Result<Route, Error> {
    let cluster: Cluster = serde_json::from_value(stored.state.clone()).map_err(|error| {
        Error::internal(format!("the stored cluster of {} cannot be read", row.path())).with_source(error)
    })?;
    let projected = of_cluster(&cluster);
    let of = |id: MemberId| {
        let row = members.iter().find(|member| member.id == id)?;
        backend(row, followers(id))
    };
    let state = match (state, projected.state) {
        (State::Open, RouteState::Open) => State::Open,
        (State::Open, RouteState::Paused(why)) => State::Paused(format!("{}: {why}", row.path())),
        (State::Open, RouteState::Closed(why)) => State::Closed(format!("{}: {why}", row.path())),
        (state, _) => state,
    };
    Ok(Route {
        epoch: projected.epoch,
        rev: projected.rev,
        primary: projected.primary.and_then(of),
        replicas: projected.replicas.iter().filter_map(|id| of(*id)).collect(),
        ..single(row, &[], state)
    })
}

fn backend(member: &MemberRow, follower: Option<Follower>) -> Option<Backend> {
    Some(Backend {
        member: member.id,
        host_name: member.host_name.clone(),
        address: member.host_address.clone(),
        port: member.port?,
        lag_bytes: follower.map_or(0, |follower| follower.lag_bytes),
        streaming: follower.is_some_and(|follower| follower.streaming),
    })
}
