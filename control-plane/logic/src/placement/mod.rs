//! The scheduler: which host gets a member, and why not the others.
//!
//! Filter, then score ([`filter`], [`score`]); [`choose`] runs both over a snapshot of all hosts. Pure: the caller reads
//! the snapshot, and proves on the chosen host's locked row that it still fits before it reserves.
//! Invariants: the winner passes every rule; a host's score depends on no other host's capacity, so an added worse host
//! changes nothing; the order of hosts changes nothing; equal scores are settled by a hash, without randomness.

pub mod choose;
pub mod filter;
pub mod host;
pub mod score;
pub mod spread;

pub use choose::{Placement, PlacementRequest, Verdict, explain, place};
pub use filter::{Rejection, Rule};
pub use host::{HostView, Load, Overcommit, Ports};
pub use score::{Locality, Part, Policy};
pub use spread::{Spread, place_members};
