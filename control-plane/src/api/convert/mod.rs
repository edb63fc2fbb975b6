//! Between domain values and wire messages. Pure; one file per kind of resource.

pub(super) mod common;
pub(super) mod keys;
pub(super) mod projects;

pub(super) use common::{duration, resources, time};
