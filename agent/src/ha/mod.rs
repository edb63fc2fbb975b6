//! Replication of the members of this host: what each is by its own knowledge, and what it does about its orders.
//!
//! Owns: each member's memory (`ha.state`), the machine that acts, the role's part of the configuration, and the life of
//! the server. Why apart from `members`: parameters, certificates and removal are ordered by commands, once; roles by
//! orders that always say all, and that the agent goes on obeying without a control plane.
//!
//! Invariants, by the names of the design: an order is on disk before anything follows from it, and one that is not newer
//! is refused (P10); nobody enters a server after any start before the barrier row was acknowledged by the very set that
//! its leader enforces (P6); a member streams under its epoch's name only after its history was compared and the epoch's
//! barrier replayed, or when all of it was handed over to the leader (P5, P12); a leader that is shown a higher epoch ends its server (row 14); nothing is deleted before
//! a whole copy of what takes its place is there (P13); every state has an edge for every goal (P14).
//!
//! A crash of the agent at any point leaves the server as it is. The next start reads the memory, sees the server, and
//! goes on; only a promotion that was not carried out waits until the order is heard again.

mod barrier;
mod checkpoint;
mod data;
mod decide;
mod echo;
mod effects;
mod facts;
mod fence;
mod look;
mod machine;
mod order;
mod quarantine;
mod rejoin;
mod replication;
mod restart;
mod seat;
mod sight;
pub mod simulated;
mod state;
mod table;

pub use replication::Replication;
pub use table::{Deed, EDGES, deed};

pub(crate) use state::{Record, Storage};
