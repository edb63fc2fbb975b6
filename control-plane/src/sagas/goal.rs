//! What a member shall be, as its agent is told. Pure.
//!
//! A goal is complete: the agent needs nothing else to hold the member to it, and a repeat of it changes nothing.

use std::collections::BTreeMap;

use windlass_core::{instance::Power, object::ObjectKind};
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
        parameters: parameters(instance),
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
fn parameters(instance: &InstanceRow) -> BTreeMap<String, String> {
    let mut all = (instance.spec.engine.descriptor().defaults)(&instance.spec.resources);
    all.extend(instance.spec.parameters.iter().map(|(name, value)| (name.clone(), value.clone())));
    all
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
