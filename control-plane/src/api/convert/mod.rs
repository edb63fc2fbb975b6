//! Between domain values and wire messages. Pure; one file per kind of resource.

pub(super) mod common;
pub(super) mod events;
pub(super) mod hosts;
pub(super) mod instances;
pub(super) mod keys;
pub(super) mod objects;
pub(super) mod operations;
pub(super) mod projects;
pub(super) mod proxies;
pub(super) mod replication;

pub(super) use common::{duration, resources, size, time, to_duration};
