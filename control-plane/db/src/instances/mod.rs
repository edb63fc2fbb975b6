//! Instances: what is wanted of each and where it stands.
//!
//! Invariants:
//! 1. A stored lifecycle is changed only by [`instance_advance_tx`], which asks the state machine of core.
//! 2. The generation grows with each change of the spec; the revision (the etag) with each change of anything but
//!    observed facts, so that a health report does not spoil a user's read-modify-write.
//! 3. A name is held by at most one instance that is not DELETED (unique index).

mod read;
mod row;
mod write;

pub use read::{
    instance_by_id_tx, instance_last_deleted_tx, instance_lock_tx, instance_named_tx, instances_by_ids_tx,
    instances_list_tx,
};
pub use row::{InstanceFilter, InstanceObservation, InstanceRow, NewInstance};
pub use write::{
    instance_advance_tx, instance_delete_tx, instance_insert_tx, instance_observed_tx, instance_set_deletion_tx,
    instance_set_labels_tx, instance_set_operation_tx, instance_set_placement_tx, instance_set_spec_tx,
};
