//! Replicas: adding and removing them, and moving the primary.
//!
//! Everything that can be refused is refused here; the sagas store the wish and wait for the state machine.

use std::collections::BTreeSet;

use windlass_core::{
    Error, Reason,
    id::{HostId, MemberId, OperationId},
    instance::{InstanceSpec, Lifecycle, LifecycleEvent},
    member::MemberRole,
    replication::Replication,
    role::Permission,
};
use windlass_db::{
    PgConnection, Tx,
    events::{NewEvent, event_add_tx},
    ha::clusters_of_tx,
    hosts::host_by_name_tx,
    instances::{self, InstanceRow},
    members::{MemberRow, members_of_tx},
    projects::project_lock_tx,
};
use windlass_logic::{
    ha::{Cluster, Loss, Patience, Phase},
    quota,
};

use super::{
    create::{amount, sum},
    model::{InstanceName, Named, find_locked, placement_request},
    placing::{self, Seat},
    power::{forbidden, request},
    validate,
};
use crate::{
    app::{Caller, validate as shared},
    ha,
    sagas::{
        self,
        instance_failover::{self, InstanceFailover},
        instance_switchover::{self, InstanceSwitchover},
        replica_add::{self, ReplicaAdd},
        replica_remove::{self, ReplicaRemove},
    },
};

/// A replica to add.
#[derive(Debug, Clone, Default)]
pub struct NewReplica {
    /// It never acknowledges commits and is never promoted by itself.
    pub asynchronous: bool,
    /// Name or uid of the host; empty: the scheduler chooses.
    pub host: String,
}

/// Moves the primary to a replica in order. `to` is a host's name or a uid of host or member; empty: the best.
///
/// # Errors
/// `STATE_FORBIDS`, `INSTANCE_BUSY`, `ETAG_MISMATCH`, `INVALID_FIELD` on `to`, `NOT_FOUND`, `PERMISSION_MISSING`.
pub async fn switchover(
    tx: &mut Tx,
    caller: &Caller,
    name: &InstanceName,
    etag: &str,
    to: &str,
    patience: Patience,
) -> Result<OperationId, Error> {
    let row = in_service(tx, caller, name, etag).await?;
    let cluster = cluster_of(tx, &row).await?;
    let to = chosen(tx, &row, "to", to).await?;
    if cluster.phase == Phase::Steady {
        cluster.switchover(OperationId::new(), to, patience)?;
    }
    let data = instance_switchover::Data { instance: row.id, to, patience, until: None };
    let operation = sagas::start::<InstanceSwitchover>(tx, request(&row, caller), &data).await?;
    instances::instance_set_operation_tx(tx, row.id, operation).await?;
    Ok(operation)
}

/// Promotes a replica without the old primary. With [`Loss::Allowed`] the caller vouches that the old one is dead.
///
/// # Errors
/// As [`switchover`].
pub async fn failover(
    tx: &mut Tx,
    caller: &Caller,
    name: &InstanceName,
    etag: &str,
    to: &str,
    loss: Loss,
) -> Result<OperationId, Error> {
    let row = in_service(tx, caller, name, etag).await?;
    cluster_of(tx, &row).await?;
    let to = chosen(tx, &row, "to", to).await?;
    let data = instance_failover::Data { instance: row.id, to, loss, until: None };
    let operation = sagas::start::<InstanceFailover>(tx, request(&row, caller), &data).await?;
    instances::instance_set_operation_tx(tx, row.id, operation).await?;
    if loss == Loss::Allowed {
        let message = "a failover was ordered that may give up acknowledged commits; whoever ordered it vouches that the \
                       old primary is dead";
        let event = NewEvent::warning("failover.data_loss_allowed", row.path(), message);
        let (project, instance) = (Some(row.project_id), Some(row.id));
        let event = NewEvent { actor: caller.actor(), project, instance, operation: Some(operation), ..event };
        event_add_tx(tx, event).await?;
    }
    Ok(operation)
}

/// Adds one replica.
///
/// # Errors
/// `INVALID_FIELD`, `NOT_SUPPORTED`, `QUOTA_EXCEEDED`, `NO_HOST_FITS`, `STATE_FORBIDS`, `INSTANCE_BUSY`,
/// `ETAG_MISMATCH`, `NOT_FOUND`, `PERMISSION_MISSING`.
pub async fn add_replica(
    tx: &mut Tx,
    caller: &Caller,
    name: &InstanceName,
    etag: &str,
    ask: &NewReplica,
) -> Result<OperationId, Error> {
    let row = in_service(tx, caller, name, etag).await?;
    let old = &row.spec.replication;
    let asynchronous = old.asynchronous + u32::from(ask.asynchronous);
    let wanted = Replication { replicas: old.replicas + 1, asynchronous, ..old.clone() };
    let host = if ask.host.is_empty() { None } else { Some(host(tx, &ask.host).await?) };
    let seat = Seat { role: MemberRole::Replica, asynchronous: ask.asynchronous, host };
    add(tx, caller, &row, wanted, &[seat]).await
}

/// Removes one replica: the one of this uid or on this host; empty: the one that is missed least.
///
/// # Errors
/// As [`switchover`]; `INVALID_FIELD` on `member`.
pub async fn remove_replica(
    tx: &mut Tx,
    caller: &Caller,
    name: &InstanceName,
    etag: &str,
    member: &str,
) -> Result<OperationId, Error> {
    let row = in_service(tx, caller, name, etag).await?;
    let members = members_of_tx(tx, &[row.id]).await?;
    let going = match chosen(tx, &row, "member", member).await? {
        Some(id) => members.into_iter().filter(|known| known.id == id).collect(),
        None => missed_least(&members, 1, Any::Kind),
    };
    let [one] = &going[..] else {
        return Err(Error::precondition(Reason::StateForbids, "the instance has no replica"));
    };
    let old = &row.spec.replication;
    let asynchronous = old.asynchronous.saturating_sub(u32::from(one.asynchronous));
    let replicas = old.replicas.saturating_sub(1);
    // Fewer receipts can be had from fewer replicas.
    let acknowledgements = old.acknowledgements.min(replicas.saturating_sub(asynchronous));
    let wanted = Replication { replicas, asynchronous, acknowledgements, ..old.clone() };
    remove(tx, caller, &row, wanted, &going).await
}

/// Brings the instance to another number of replicas.
///
/// # Errors
/// As [`add_replica`] and [`remove_replica`].
pub(super) async fn scale(
    tx: &mut Tx,
    caller: &Caller,
    row: &InstanceRow,
    wanted: Replication,
) -> Result<OperationId, Error> {
    if row.lifecycle != Lifecycle::Running {
        return Err(forbidden(row, "start it before its replicas are changed"));
    }
    wanted.check("instance.replication")?;
    let members = members_of_tx(tx, &[row.id]).await?;
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let asynchronous = count(members.iter().filter(|member| member.asynchronous).count());
    let synchronous = count(members.len()).saturating_sub(1 + asynchronous);
    let more = (wanted.synchronous().saturating_sub(synchronous), wanted.asynchronous.saturating_sub(asynchronous));
    let fewer = (synchronous.saturating_sub(wanted.synchronous()), asynchronous.saturating_sub(wanted.asynchronous));
    match (more, fewer) {
        ((0, 0), (synchronous, asynchronous)) => {
            let mut going = missed_least(&members, asynchronous, Any::Asynchronous);
            going.extend(missed_least(&members, synchronous, Any::Synchronous));
            remove(tx, caller, row, wanted, &going).await
        }
        ((synchronous, asynchronous), (0, 0)) => {
            let seat = |asynchronous| Seat { role: MemberRole::Replica, asynchronous, host: None };
            let seats: Vec<_> =
                (0..synchronous).map(|_| seat(false)).chain((0..asynchronous).map(|_| seat(true))).collect();
            add(tx, caller, row, wanted, &seats).await
        }
        _ => Err(Error::invalid(
            "instance.replication.asynchronous",
            "a replica cannot become asynchronous or synchronous; add one of the kind wanted, then remove the other",
        )),
    }
}

async fn add(
    tx: &mut Tx,
    caller: &Caller,
    row: &InstanceRow,
    wanted: Replication,
    seats: &[Seat],
) -> Result<OperationId, Error> {
    wanted.check("instance.replication")?;
    validate::replicable(row.spec.engine, &wanted)?;
    let size = row.spec.resources;
    let project =
        project_lock_tx(tx, row.project_id).await?.ok_or_else(|| Error::not_found("project", row.project_id))?;
    let asked = quota::Amount { instances: 0, resources: sum(seats.iter().map(|_| size)) };
    quota::check(&project.name, &amount(&project.quota), &amount(&project.used), &asked)?;
    let place = placement_request(row.id, &row.spec, size);
    let (fresh, verdicts) = placing::place_tx(tx, row.project_id, &place, seats).await?;
    let verdicts = serde_json::to_value(&verdicts)
        .map_err(|error| Error::internal("the scheduler's verdicts cannot be written").with_source(error))?;
    let before = row.spec.replication.clone();
    let data = replica_add::Data { instance: row.id, members: fresh.into_iter().collect(), before, until: None };
    let operation = sagas::start::<ReplicaAdd>(tx, request(row, caller), &data).await?;
    instances::instance_advance_tx(tx, row.id, LifecycleEvent::ModifyBegun, None).await?;
    let spec = InstanceSpec { replication: wanted, ..row.spec.clone() };
    instances::instance_set_spec_tx(tx, row.id, &spec).await?;
    instances::instance_set_placement_tx(tx, row.id, &verdicts).await?;
    instances::instance_set_operation_tx(tx, row.id, operation).await?;
    Ok(operation)
}

async fn remove(
    tx: &mut Tx,
    caller: &Caller,
    row: &InstanceRow,
    wanted: Replication,
    going: &[MemberRow],
) -> Result<OperationId, Error> {
    wanted.check("instance.replication")?;
    let cluster = cluster_of(tx, row).await?;
    let members: BTreeSet<MemberId> = going.iter().map(|member| member.id).collect();
    for member in &members {
        cluster.remove(*member)?;
    }
    let before = row.spec.replication.clone();
    let data = replica_remove::Data { instance: row.id, members, before, until: None };
    let operation = sagas::start::<ReplicaRemove>(tx, request(row, caller), &data).await?;
    instances::instance_advance_tx(tx, row.id, LifecycleEvent::ModifyBegun, None).await?;
    let spec = InstanceSpec { replication: wanted, ..row.spec.clone() };
    instances::instance_set_spec_tx(tx, row.id, &spec).await?;
    instances::instance_set_operation_tx(tx, row.id, operation).await?;
    Ok(operation)
}

/// Which replicas may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Any {
    /// All.
    Kind,
    /// Those that acknowledge commits.
    Synchronous,
    /// The others.
    Asynchronous,
}

/// The replicas that are missed least: on a host that does not answer, asynchronous, placed last.
fn missed_least(members: &[MemberRow], count: u32, any: Any) -> Vec<MemberRow> {
    let fits = |member: &&MemberRow| match any {
        Any::Kind => true,
        Any::Synchronous => !member.asynchronous,
        Any::Asynchronous => member.asynchronous,
    };
    let online = |member: &MemberRow| member.host_state == windlass_core::host::HostState::Online;
    let mut replicas: Vec<_> =
        members.iter().filter(|member| member.role == MemberRole::Replica).filter(fits).cloned().collect();
    replicas.sort_by_key(|member| (online(member), !member.asynchronous, std::cmp::Reverse(member.create_time)));
    replicas.truncate(count as usize);
    replicas
}

/// The instance, locked, if it is in service.
async fn in_service(tx: &mut Tx, caller: &Caller, name: &InstanceName, etag: &str) -> Result<InstanceRow, Error> {
    let row = find_locked(tx, caller, name, Permission::ProjectWrite, Named::Present).await?;
    shared::etag(etag, row.revision)?;
    match row.lifecycle {
        Lifecycle::Running => Ok(row),
        Lifecycle::Pending
        | Lifecycle::Creating
        | Lifecycle::Modifying
        | Lifecycle::Stopping
        | Lifecycle::Stopped
        | Lifecycle::Suspended
        | Lifecycle::Deleting
        | Lifecycle::Deleted
        | Lifecycle::Error => Err(forbidden(&row, "it must be RUNNING for this")),
    }
}

async fn cluster_of(tx: &mut PgConnection, row: &InstanceRow) -> Result<Cluster, Error> {
    let found = clusters_of_tx(tx, &[row.id]).await?;
    let stored = found.first().ok_or_else(|| {
        Error::precondition(
            Reason::StateForbids,
            format!("{} has no replicas; add one first with: windlass replica add {}", row.path(), row.name),
        )
    })?;
    ha::read(stored)
}

/// The member that a host's name, a host's uid or a member's uid means; None if `given` is empty.
async fn chosen(tx: &mut PgConnection, row: &InstanceRow, field: &str, given: &str) -> Result<Option<MemberId>, Error> {
    if given.is_empty() {
        return Ok(None);
    }
    let name = given.strip_prefix("hosts/").unwrap_or(given);
    let members = members_of_tx(tx, &[row.id]).await?;
    let means = |member: &&MemberRow| {
        member.host_name == name || member.host_id.to_string() == name || member.id.to_string() == name
    };
    let found = members.iter().find(means);
    found.map(|member| Some(member.id)).ok_or_else(|| {
        let hosts: Vec<_> = members.iter().map(|member| member.host_name.as_str()).collect();
        Error::invalid(field, format!("{given:?} has no member of it; its members are on {}", hosts.join(", ")))
    })
}

async fn host(tx: &mut PgConnection, given: &str) -> Result<HostId, Error> {
    let name = given.strip_prefix("hosts/").unwrap_or(given);
    let found = host_by_name_tx(tx, name).await?;
    found.map(|host| host.id).ok_or_else(|| Error::not_found("host", given))
}
