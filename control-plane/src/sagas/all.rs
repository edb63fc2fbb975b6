//! The list of all sagas that this binary carries out.

use super::{
    Registry, instance_create::InstanceCreate, instance_delete::InstanceDelete, instance_failover::InstanceFailover,
    instance_purge::InstancePurge, instance_restart::InstanceRestart, instance_start::InstanceStart,
    instance_stop::InstanceStop, instance_switchover::InstanceSwitchover, instance_undelete::InstanceUndelete,
    instance_update::InstanceUpdate, object_apply::ObjectApply, replica_add::ReplicaAdd, replica_remove::ReplicaRemove,
};

/// Every saga.
pub fn registry() -> Registry {
    Registry::new()
        .with::<InstanceCreate>()
        .with::<InstanceDelete>()
        .with::<InstanceFailover>()
        .with::<InstancePurge>()
        .with::<InstanceRestart>()
        .with::<InstanceStart>()
        .with::<InstanceStop>()
        .with::<InstanceSwitchover>()
        .with::<InstanceUndelete>()
        .with::<InstanceUpdate>()
        .with::<ObjectApply>()
        .with::<ReplicaAdd>()
        .with::<ReplicaRemove>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_core::operation::OperationKind;

    #[test]
    fn every_kind_of_operation_has_a_saga_of_a_known_version() {
        let registry = registry();
        for kind in OperationKind::ALL {
            assert!(registry.steps(kind.as_str(), 1).is_some_and(|steps| !steps.is_empty()), "{kind}");
        }
    }
}
