//! What a member shall be, as its agent is told. Pure.
//!
//! A goal is complete: the agent needs nothing else to hold the member to it, and a repeat of it changes nothing.

use std::collections::BTreeMap;

use windlass_core::{
    instance::{InstanceSpec, Power},
    object::ObjectKind,
};
use windlass_db::{instances::InstanceRow, members::MemberRow, objects::ObjectRow};
use windlass_proto::agent::v1 as pb;

pub(crate) use pb::member_goal::DataSource;

/// How the members of an instance belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bond {
    /// It has one member, which its agent runs by itself.
    Single,
    /// It has several, or once had: which one leads, and whether servers run, follows replication orders.
    Replicated,
}

impl Bond {
    /// Of an instance with these members. One that has a cluster keeps it when its last replica goes, so that epochs
    /// only grow whatever becomes of it.
    pub(crate) fn of(members: &[MemberRow]) -> Self {
        let replicated = members.len() > 1 || members.iter().any(|member| member.clustered);
        if replicated { Self::Replicated } else { Self::Single }
    }
}

/// The goal of a member of this instance.
pub(crate) fn member_goal(
    instance: &InstanceRow,
    member: &MemberRow,
    bond: Bond,
    data: DataSource,
    admin: Option<pb::ApplyObject>,
) -> pb::MemberGoal {
    let spec = &instance.spec;
    pb::MemberGoal {
        instance_id: instance.id.to_string(),
        member_id: member.id.to_string(),
        title: format!("{}/{}", instance.project_name, instance.name),
        generation: instance.generation.unsigned_abs(),
        engine: spec.engine.to_string(),
        version: spec.version.clone(),
        port: member.port.map_or(0, u32::from),
        cpu_millis: spec.resources.cpu_millis,
        memory_bytes: spec.resources.memory_bytes,
        disk_bytes: spec.resources.disk_bytes,
        parameters: parameters(spec),
        power: match spec.power {
            Power::On => pb::member_goal::Power::On,
            Power::Off => pb::member_goal::Power::Off,
        }
        .into(),
        restarts: spec.restarts,
        data: data.into(),
        admin,
        replicated: bond == Bond::Replicated,
    }
}

/// The defaults for the size, with the user's own values over them.
fn parameters(spec: &InstanceSpec) -> BTreeMap<String, String> {
    let mut all = (spec.engine.descriptor().defaults)(&spec.resources);
    all.extend(spec.parameters.iter().map(|(name, value)| (name.clone(), value.clone())));
    all
}

/// Whether the change lowers a number of which replicas must not have less than their primary: then the primary is first.
pub(crate) fn primary_first(before: &InstanceSpec, after: &InstanceSpec) -> bool {
    let (old, new) = (parameters(before), parameters(after));
    let number = |of: &BTreeMap<String, String>, name: &str| of.get(name).and_then(|value| value.parse::<u64>().ok());
    let lowered = |name: &&str| match (number(&old, name), number(&new, name)) {
        (Some(old), Some(new)) => new < old,
        // Back to the engine's own default, which is lower than what anybody sets.
        (Some(_), None) => true,
        (None, _) => false,
    };
    after.engine.descriptor().replica_minimums.iter().any(lowered)
}

/// The order to create or drop an object.
pub(crate) fn object_order(object: &ObjectRow, drop: bool) -> pb::ApplyObject {
    pb::ApplyObject {
        kind: match object.key.kind {
            ObjectKind::Database => pb::apply_object::Kind::Database,
            ObjectKind::User => pb::apply_object::Kind::User,
            ObjectKind::Extension => pb::apply_object::Kind::Extension,
        }
        .into(),
        name: object.key.name.clone(),
        drop,
        verifier: object.verifier.clone(),
        owner: object.owner.clone(),
        database: object.key.database.clone(),
        databases: object.databases.clone(),
        administrator: object.administrator,
    }
}

#[cfg(test)]
mod tests {
    use windlass_core::{engine::Engine, instance::PlacementRules, replication::Replication, size::Resources};

    use super::*;

    #[test]
    fn the_primary_is_first_only_when_a_number_shrinks_that_replicas_need() {
        let spec = |parameters: &[(&str, &str)]| InstanceSpec {
            engine: Engine::Postgres,
            version: "15".into(),
            resources: Resources::DEFAULT,
            power: Power::On,
            parameters: parameters.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            placement: PlacementRules::default(),
            deletion_protection: false,
            restarts: 0,
            replication: Replication::default(),
        };
        let (less, more) = (spec(&[("max_connections", "50")]), spec(&[("max_connections", "400")]));
        assert!(primary_first(&more, &less));
        assert!(!primary_first(&less, &more));
        assert!(!primary_first(&spec(&[("work_mem", "9MB")]), &spec(&[("work_mem", "8MB")])));
        assert!(primary_first(&spec(&[("max_prepared_transactions", "10")]), &spec(&[])));
    }
}
