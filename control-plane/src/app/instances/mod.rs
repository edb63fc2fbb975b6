//! Use cases of instances: each verb of the API in a file of its own.
//!
//! Changes follow one order: find and lock the instance, begin the operation (which refuses a busy instance), move the
//! lifecycle, take locks of project and host, reserve, store the wish. Everything that can be refused is refused here;
//! what is left to the saga is asking hosts.

mod connection;
mod create;
mod delete;
mod explain;
pub(super) mod model;
mod parameters;
mod placing;
mod power;
mod read;
mod replicas;
pub(crate) mod secret;
#[cfg(test)]
mod tests;
mod update;
mod validate;

pub use connection::{Connection, Via, Wanted, connection};
pub use create::{CreateInstance, create};
pub use delete::{delete, undelete};
pub use explain::{Explanation, explain};
pub use model::{InstanceName, InstanceView};
pub use parameters::{Listed, Origin, ParameterView, parameters};
pub use power::{restart, start, stop};
pub use read::{engine_versions, get, list, view_tx};
pub use replicas::{NewReplica, add_replica, failover, remove_replica, switchover};
pub use update::{ReplicationChange, UpdateInstance, update};
