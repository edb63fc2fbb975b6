//! The driver of replication: facts of agents in, decisions of `windlass_logic::ha` stored, orders pushed.
//!
//! Owns, in memory of the node that holds the lease: the newest facts of each replicated member, when each host was
//! heard, what witnesses say, and who is parked for orders. Everything that must survive is in `ha_cluster`; a node that
//! takes the lease loads that and hears the rest within one round of reports, before which nobody is held for dead.
//!
//! Invariants:
//! 1. A decision counts once it is stored: by compare-and-set on (epoch, rev), under the lease's epoch. Orders and routes
//!    are projections of what is stored, so nothing is told that is not.
//! 2. At most one decision of a cluster is under way; thousands of clusters in which nothing happens cost no SQL.
//! 3. What is told is told again: a report's answer has all orders of its host, and a watch ends with them.
//!
//! A crash at any point leaves the row of the last decision; the next owner projects the same orders from it.

mod answer;
mod driver;
mod events;
mod facts;
mod handle;
mod hints;
mod orders;
mod peers;
mod store;
mod table;
#[cfg(test)]
mod tests;
mod view;
mod waits;

pub use handle::{Ha, HaConfig, NOT_HERE, Watch};
pub(crate) use handle::{read, write};
pub use view::{ClusterView, ReplicaView};
