//! Changing an instance: size, parameters, labels, protection.
//!
//! The larger of old and new is reserved here, so that both going forward and going back find room; the saga's end
//! settles it. What only the record holds (labels, protection) needs no host.

use std::collections::BTreeMap;

use windlass_core::{
    Error,
    error::FieldViolation,
    id::OperationId,
    instance::{InstanceSpec, Lifecycle, LifecycleEvent},
    replication::{Durability, Replication, Timings},
    role::Permission,
    size::{Resources, format_bytes},
};
use windlass_db::{
    Tx,
    instances::{self, InstanceRow},
    members::{MemberRow, members_of_tx},
    projects::project_lock_tx,
    reservations,
};
use windlass_logic::quota;

use super::{
    create::{amount, check_parameters, sum},
    model::{InstanceName, Named, find_locked, primary_of, require_online, room_request},
    placing,
    power::{forbidden, request},
    replicas,
};
use crate::{
    app::{Caller, validate},
    sagas::{
        self, change,
        instance_update::{self, InstanceUpdate, Reach, RestartPolicy},
        observe,
    },
};

/// What an update sets; None leaves a field.
#[derive(Debug, Clone, Default)]
pub struct UpdateInstance {
    /// Processor of each member.
    pub cpu_millis: Option<u64>,
    /// Memory of each member.
    pub memory_bytes: Option<u64>,
    /// Disk quota of each member.
    pub disk_bytes: Option<u64>,
    /// All of the user's parameters.
    pub all_parameters: Option<BTreeMap<String, String>>,
    /// Single parameters: a value sets, None resets to the default. Applied after `all_parameters`.
    pub parameters: BTreeMap<String, Option<String>>,
    /// All labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Refuse to delete it.
    pub deletion_protection: Option<bool>,
    /// Members beside the primary, and what is promised.
    pub replication: ReplicationChange,
}

/// What an update sets of replication; None leaves a field.
#[derive(Debug, Clone, Default)]
pub struct ReplicationChange {
    /// Members beside the primary.
    pub replicas: Option<u32>,
    /// How many of them never acknowledge.
    pub asynchronous: Option<u32>,
    /// When no synchronous replica is left.
    pub durability: Option<Durability>,
    /// How many must have a commit; 0 for the default of the size.
    pub acknowledgements: Option<u32>,
    /// See [`Timings`].
    pub detect_ms: Option<u32>,
    /// See [`Timings`].
    pub shrink_ms: Option<u32>,
    /// See [`Timings`].
    pub fence_ms: Option<u32>,
    /// See [`Timings`].
    pub switchover_ms: Option<u32>,
}

impl ReplicationChange {
    fn apply(&self, old: &Replication) -> Replication {
        Replication {
            replicas: self.replicas.unwrap_or(old.replicas),
            asynchronous: self.asynchronous.unwrap_or(old.asynchronous),
            durability: self.durability.unwrap_or(old.durability),
            acknowledgements: self.acknowledgements.unwrap_or(old.acknowledgements),
            timings: Timings {
                detect_ms: self.detect_ms.unwrap_or(old.timings.detect_ms),
                shrink_ms: self.shrink_ms.unwrap_or(old.timings.shrink_ms),
                fence_ms: self.fence_ms.unwrap_or(old.timings.fence_ms),
                switchover_ms: self.switchover_ms.unwrap_or(old.timings.switchover_ms),
            },
        }
    }
}

impl UpdateInstance {
    fn apply(&self, spec: &InstanceSpec) -> InstanceSpec {
        let old = spec.resources;
        let mut parameters = self.all_parameters.clone().unwrap_or_else(|| spec.parameters.clone());
        for (name, value) in &self.parameters {
            match value {
                Some(value) => parameters.insert(name.clone(), value.clone()),
                None => parameters.remove(name),
            };
        }
        InstanceSpec {
            resources: Resources {
                cpu_millis: self.cpu_millis.unwrap_or(old.cpu_millis),
                memory_bytes: self.memory_bytes.unwrap_or(old.memory_bytes),
                disk_bytes: self.disk_bytes.unwrap_or(old.disk_bytes),
            },
            parameters,
            deletion_protection: self.deletion_protection.unwrap_or(spec.deletion_protection),
            replication: self.replication.apply(&spec.replication),
            ..spec.clone()
        }
    }
}

/// Stores the change and begins to carry it out.
///
/// # Errors
/// `INVALID_FIELD`, `PARAMETER_INVALID`, `QUOTA_EXCEEDED`, `NO_HOST_FITS` when its host has no room, `STATE_FORBIDS`,
/// `INSTANCE_BUSY`, `ETAG_MISMATCH`, `UNAVAILABLE` when its host does not answer, `NOT_FOUND`, `PERMISSION_MISSING`.
pub async fn update(
    tx: &mut Tx,
    caller: &Caller,
    name: &InstanceName,
    etag: &str,
    ask: UpdateInstance,
    restart: RestartPolicy,
) -> Result<OperationId, Error> {
    let row = find_locked(tx, caller, name, Permission::ProjectWrite, Named::Present).await?;
    validate::etag(etag, row.revision)?;
    if row.lifecycle == Lifecycle::Deleted {
        return Err(forbidden(&row, "undelete it first"));
    }
    let spec = ask.apply(&row.spec);
    spec.resources.check().map_err(|error| error.under("instance.resources"))?;
    let labels = ask.labels.unwrap_or_else(|| row.labels.clone());
    validate::labels("instance.labels", &labels)?;
    spec.replication.check("instance.replication")?;
    let counts = |replication: &Replication| (replication.replicas, replication.asynchronous);
    if counts(&spec.replication) != counts(&row.spec.replication) {
        let others = InstanceSpec { replication: row.spec.replication.clone(), ..spec.clone() };
        if others != row.spec || labels != row.labels {
            return Err(Error::invalid(
                "instance.replication.replicas",
                "is changed by a request of its own; send the other changes in another one",
            ));
        }
        return replicas::scale(tx, caller, &row, spec.replication).await;
    }
    if spec.parameters != row.spec.parameters {
        check_parameters(tx, spec.engine, &spec.version, &spec.parameters).await?;
    }

    let reach = reach(&row.spec, &spec);
    let data = instance_update::Data {
        change: change::Data::new(&row),
        reach,
        labels_before: row.labels.clone(),
        restart,
        restarted: false,
    };
    let operation = sagas::start::<InstanceUpdate>(tx, request(&row, caller), &data).await?;
    if reach == Reach::Members {
        instances::instance_advance_tx(tx, row.id, LifecycleEvent::ModifyBegun, None).await?;
        if let Some(member) = primary_of(tx, row.id).await? {
            require_online(&member)?;
        }
        reserve(tx, &row, &spec).await?;
    }
    if spec != row.spec {
        instances::instance_set_spec_tx(tx, row.id, &spec).await?;
    }
    if labels != row.labels {
        instances::instance_set_labels_tx(tx, row.id, &labels).await?;
    }
    instances::instance_set_operation_tx(tx, row.id, operation).await?;
    Ok(operation)
}

/// What of the change the members must know.
fn reach(old: &InstanceSpec, new: &InstanceSpec) -> Reach {
    let known_to_members = |spec: &InstanceSpec| (spec.resources, spec.parameters.clone());
    if known_to_members(old) == known_to_members(new) { Reach::Record } else { Reach::Members }
}

/// Reserves the larger of old and new for each member.
async fn reserve(tx: &mut Tx, row: &InstanceRow, spec: &InstanceSpec) -> Result<(), Error> {
    let mut members = members_of_tx(tx, &[row.id]).await?;
    for member in &members {
        check_shrink(row, spec, member)?;
    }
    let more = |member: &MemberRow| less(larger(member.reserved, spec.resources), member.reserved);
    let asked = quota::Amount { instances: 0, resources: sum(members.iter().map(more)) };
    if asked.resources == Resources::default() {
        return Ok(());
    }
    let project =
        project_lock_tx(tx, row.project_id).await?.ok_or_else(|| Error::not_found("project", row.project_id))?;
    quota::check(&project.name, &amount(&project.quota), &amount(&project.used), &asked)?;
    // In the order in which everybody locks hosts.
    members.sort_by_key(|member| member.host_id);
    for member in &members {
        placing::fits_on_tx(tx, row.project_id, &room_request(row.id, spec, more(member)), member.host_id).await?;
        reservations::member_resize_tx(tx, member.id, larger(member.reserved, spec.resources)).await?;
    }
    Ok(())
}

/// A disk cannot become smaller than what is on it.
fn check_shrink(row: &InstanceRow, spec: &InstanceSpec, member: &MemberRow) -> Result<(), Error> {
    let wanted = spec.resources.disk_bytes;
    let used = observe::stored_facts(member).disk_used_bytes;
    if wanted >= row.spec.resources.disk_bytes || wanted >= used {
        return Ok(());
    }
    Err(Error::violations(vec![FieldViolation {
        field: "instance.resources.disk_bytes".to_owned(),
        description: format!(
            "{} is less than the {} that are used; delete data first or ask for more",
            format_bytes(wanted),
            format_bytes(used)
        ),
    }]))
}

fn larger(a: Resources, b: Resources) -> Resources {
    Resources {
        cpu_millis: a.cpu_millis.max(b.cpu_millis),
        memory_bytes: a.memory_bytes.max(b.memory_bytes),
        disk_bytes: a.disk_bytes.max(b.disk_bytes),
    }
}

fn less(a: Resources, b: Resources) -> Resources {
    Resources {
        cpu_millis: a.cpu_millis.saturating_sub(b.cpu_millis),
        memory_bytes: a.memory_bytes.saturating_sub(b.memory_bytes),
        disk_bytes: a.disk_bytes.saturating_sub(b.disk_bytes),
    }
}

#[cfg(test)]
mod tests {
    use windlass_core::{engine::Engine, instance::Power, size::GIB};

    use super::*;

    fn spec() -> InstanceSpec {
        InstanceSpec {
            engine: Engine::Postgres,
            version: "15".into(),
            resources: Resources::DEFAULT,
            power: Power::On,
            parameters: BTreeMap::from([("work_mem".into(), "8MB".into()), ("jit".into(), "off".into())]),
            placement: Default::default(),
            deletion_protection: false,
            restarts: 3,
            replication: windlass_core::replication::Replication::default(),
        }
    }

    #[test]
    fn what_is_not_named_stays() {
        assert_eq!(UpdateInstance::default().apply(&spec()), spec());
        let bigger = UpdateInstance { memory_bytes: Some(GIB), ..Default::default() }.apply(&spec());
        assert_eq!(bigger.resources, Resources { memory_bytes: GIB, ..Resources::DEFAULT });
        assert_eq!(bigger.restarts, 3);
    }

    #[test]
    fn single_parameters_are_set_and_reset() {
        let ask = UpdateInstance {
            parameters: BTreeMap::from([("jit".into(), None), ("work_mem".into(), Some("16MB".into()))]),
            ..Default::default()
        };
        assert_eq!(ask.apply(&spec()).parameters, BTreeMap::from([("work_mem".into(), "16MB".into())]));
        let all = UpdateInstance { all_parameters: Some(BTreeMap::new()), ..Default::default() };
        assert!(all.apply(&spec()).parameters.is_empty());
    }

    #[test]
    fn only_size_and_parameters_reach_the_members() {
        let protect = UpdateInstance { deletion_protection: Some(true), ..Default::default() }.apply(&spec());
        assert_eq!(reach(&spec(), &protect), Reach::Record);
        let tuned = UpdateInstance { all_parameters: Some(BTreeMap::new()), ..Default::default() }.apply(&spec());
        assert_eq!(reach(&spec(), &tuned), Reach::Members);
    }
}
