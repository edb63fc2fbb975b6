//! How instances are named and shown by the use cases.

use windlass_core::{
    Error, id::InstanceId, instance::InstanceSpec, member::MemberRole, role::Permission, size::Resources,
};
use windlass_db::{
    PgConnection,
    endpoints::EndpointRow,
    instances::{InstanceRow, instance_by_id_tx, instance_last_deleted_tx, instance_lock_tx, instance_named_tx},
    members::{MemberRow, members_of_tx},
};
use windlass_logic::placement::{Locality, PlacementRequest, Policy};

use crate::{app::Caller, ha::ClusterView};

/// `projects/{project}/instances/{instance}`; both parts may be uids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceName {
    /// Name or uid of the project.
    pub project: String,
    /// Name or uid of the instance.
    pub instance: String,
}

impl InstanceName {
    /// The full name.
    pub fn path(&self) -> String {
        format!("projects/{}/instances/{}", self.project, self.instance)
    }
}

/// An instance with its members.
#[derive(Debug, Clone)]
pub struct InstanceView {
    /// The instance.
    pub row: InstanceRow,
    /// Its members.
    pub members: Vec<MemberRow>,
    /// Where clients reach it.
    pub endpoints: Vec<EndpointRow>,
    /// Where it stands as a cluster; None if it is not replicated.
    pub cluster: Option<ClusterView>,
}

/// Which instance a name that several had means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::app) enum Named {
    /// The one that holds it now.
    Present,
    /// The one that was deleted last.
    LastDeleted,
}

/// Finds an instance for a use under `permission`: by its name, or by its uid, which also finds deleted ones.
pub(in crate::app) async fn find(
    tx: &mut PgConnection,
    caller: &Caller,
    name: &InstanceName,
    permission: Permission,
    named: Named,
) -> Result<InstanceRow, Error> {
    let project = caller.project_tx(tx, &name.project, permission).await?;
    let by_name = match named {
        Named::Present => instance_named_tx(tx, project.id, &name.instance).await?,
        Named::LastDeleted => instance_last_deleted_tx(tx, project.id, &name.instance).await?,
    };
    let id = by_name.or_else(|| name.instance.parse::<InstanceId>().ok());
    let row = match id {
        Some(id) => instance_by_id_tx(tx, id).await?,
        None => None,
    };
    row.filter(|row| row.project_id == project.id).ok_or_else(|| Error::not_found("instance", name.path()))
}

/// [`find`], its row locked against other changes.
pub(in crate::app) async fn find_locked(
    tx: &mut PgConnection,
    caller: &Caller,
    name: &InstanceName,
    permission: Permission,
    named: Named,
) -> Result<InstanceRow, Error> {
    let found = find(tx, caller, name, permission, named).await?;
    instance_lock_tx(tx, found.id).await?.ok_or_else(|| Error::not_found("instance", name.path()))
}

/// The member that takes writes; while nobody leads, any. None when the instance has no member.
pub(in crate::app) async fn primary_of(tx: &mut PgConnection, id: InstanceId) -> Result<Option<MemberRow>, Error> {
    let members = members_of_tx(tx, &[id]).await?;
    Ok(members.into_iter().min_by_key(|member| (member.role != MemberRole::Primary, member.id)))
}

/// What is asked of the scheduler for one more `resources` of this instance.
pub(in crate::app) fn placement_request(id: InstanceId, spec: &InstanceSpec, resources: Resources) -> PlacementRequest {
    PlacementRequest {
        instance: id,
        engine: spec.engine,
        version: spec.version.clone(),
        resources,
        rules: spec.placement.clone(),
        prefer: Locality::default(),
        policy: Policy::default(),
    }
}

/// The request for more room on the host where the instance is; rules of placement are not asked again.
pub(in crate::app) fn room_request(id: InstanceId, spec: &InstanceSpec, more: Resources) -> PlacementRequest {
    PlacementRequest { rules: windlass_core::instance::PlacementRules::default(), ..placement_request(id, spec, more) }
}

/// The member must be where its agent answers, for a change that needs the agent. A replica whose host does not answer
/// holds no change up: it gets what is wanted when it is back.
pub(in crate::app) fn require_online(member: &MemberRow) -> Result<(), Error> {
    use windlass_core::host::HostState;
    match member.host_state {
        HostState::Online => Ok(()),
        HostState::Offline | HostState::Revoked => Err(Error::unavailable(format!(
            "host {} of the instance does not answer (it is {}); nothing was changed; try again when it is back",
            member.host_name, member.host_state
        ))
        .with_metadata("host", &member.host_name)),
    }
}
