//! Simulated agents: the real link, executor and journal on the real proto, with members that exist in memory only.
//!
//! Why: the control plane is tested and measured against what agents really do, a thousand at a time, without a database.
//! They live here so that both sides of the proto change together. What tests can do to one: slow it down, make commands
//! fail, pause, kill and restart it with its journal kept, give it a full disk, and set the agent's failpoints (for
//! example `report.after_ack=error(once)`: the report is sent a second time).
//!
//! Replicated members live in a [`SimCluster`] that all agents of a test share.
//!
//! Invariant: an idle one costs one task that is parked in its poll; any number may share one HTTP/2 connection.

mod agent;
mod fake;
mod member;
mod replication;

pub use agent::{SimAgent, SimConnection, SimPeers, SimPlan};
pub use fake::{FakeTarget, Times};
pub use replication::{Repair, SimCluster, SimReplication};
