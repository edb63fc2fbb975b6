//! High availability of a replicated instance, decided: who leads, who acknowledges, when to fail over.
//!
//! One stored value ([`Cluster`]) and what a node knows ([`Observed`]) go into [`decide`]; the next value to store comes
//! out. [`orders`] to agents and the [`route`] of clients are projections of the stored value alone. Operations change
//! it by the methods of [`change`]. Nothing here does anything: a crash anywhere loses at most a decision, which the
//! next node takes again from the same row.
//!
//! Invariants: P2, what an election assumes is never stricter than what the leader may be enforcing ([`cluster`]); P3,
//! only sealed members' positions count ([`election`]); P4, epochs only grow and get one leader each; P14, every order
//! is in [`table`].

mod acks;
mod adopt;
pub mod change;
pub mod cluster;
pub mod decide;
mod election;
pub mod facts;
pub mod happened;
pub mod observed;
pub mod order;
pub mod phase;
mod promoting;
pub mod quorum;
mod resting;
pub mod route;
mod steady;
mod switchover;
pub mod table;
pub mod tracker;
pub mod verdict;

pub use cluster::{AckSet, Cluster, Kind, Member, Mode, Reign, Stay};
pub use decide::{Decision, decide};
pub use facts::{Barrier, Downstream, Enforced, Facts, Lineage, Upstream};
pub use happened::{Happened, Timeline};
pub use observed::{HostSeen, Link, Node, Observed, ProxySeen, Seen, Witness, is_mass_silence};
pub use order::{Address, Goal, Order, orders};
pub use phase::{Election, Intent, Loss, Outcome, Patience, Phase, Promotion, RestStep, Switch, SwitchStep};
pub use route::{Route, RouteState, route};
pub use tracker::Tracker;
