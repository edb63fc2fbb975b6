//! Which hosts are there, and what they say of their members.
//!
//! Owns: the liveness table of this node (memory), the admission of certificates, and the writing of facts.
//!
//! Invariants:
//! 1. Only changes reach SQL: a host coming or going, a member's facts that differ from the last ones, and one rare
//!    batch of signs of life. An idle fleet writes nothing but that batch, and of each node that does not judge
//!    silence one unlogged row with whom it hears: the judge goes by what any node hears.
//! 2. Silence makes a host OFFLINE only after a grace, never soon after this node began to listen or stood still, and
//!    not when a large part of the fleet falls silent at once (then the fault is more likely on our side).
//! 3. A happening becomes an event once: stored by session and sequence in one transaction with the event.
//!
//! A crash loses the table; at the next start every host that was ONLINE has the start's grace to come back, and the
//! first heartbeat of each writes its facts anew.

mod admission;
mod ingest;
mod liveness;
mod service;
mod sight;
#[cfg(test)]
mod tests;
mod watchdog;

pub use service::{Health, HealthConfig};
