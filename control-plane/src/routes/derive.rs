//! From what is stored to a route. Pure.

use windlass_core::{instance::Lifecycle, member::MemberRole};
use windlass_db::{instances::InstanceRow, members::MemberRow};

use super::{Backend, Route, State};

/// The route of an instance; None when it has none any more.
pub(super) fn route(row: &InstanceRow, members: &[MemberRow]) -> Option<Route> {
    let primary = members.iter().find(|member| member.role == MemberRole::Primary).and_then(backend);
    let state = match row.lifecycle {
        // One that failed may serve all the same; if it does not, connecting says so.
        Lifecycle::Running | Lifecycle::Modifying | Lifecycle::Error => State::Open,
        Lifecycle::Pending | Lifecycle::Creating => State::Closed(format!("{} is being created", row.path())),
        Lifecycle::Stopping => State::Closed(format!("{} is being stopped", row.path())),
        Lifecycle::Stopped => {
            State::Closed(format!("{} is stopped; start it with: windlass instance start {}", row.path(), row.name))
        }
        Lifecycle::Suspended => State::Closed(format!("{} is suspended", row.path())),
        Lifecycle::Deleting => State::Closed(format!("{} is being deleted", row.path())),
        Lifecycle::Deleted => return None,
    };
    let state = match (state, &primary) {
        (State::Open, None) => State::Closed(format!("{} has no address", row.path())),
        (state, _) => state,
    };
    Some(Route {
        instance: row.id,
        project: row.project_name.clone(),
        name: row.name.clone(),
        engine: row.spec.engine,
        epoch: 0,
        rev: row.revision.unsigned_abs(),
        state,
        primary,
        replicas: Vec::new(),
    })
}

fn backend(member: &MemberRow) -> Option<Backend> {
    Some(Backend {
        member: member.id,
        host_name: member.host_name.clone(),
        address: member.host_address.clone(),
        port: member.port?,
        lag_bytes: 0,
        streaming: false,
    })
}
