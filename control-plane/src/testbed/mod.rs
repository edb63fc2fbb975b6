//! A control plane without a network, for this crate's tests: a real database, the use cases, the sagas advanced by
//! hand, and stand-ins for agents that keep what a host would keep.
//!
//! Nothing runs in the background, so a test sees every state it wants to see; time that sagas wait for is skipped.

mod agents;
mod bed;
mod fleet;
mod replicas;

pub(crate) use agents::Agents;
pub(crate) use bed::{Bed, PROJECT, admin, ask, by_uid, context, name};
pub(crate) use fleet::{ROOM, add_host, add_project, catalogue};
pub(crate) use replicas::Replicas;
