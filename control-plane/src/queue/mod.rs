//! From the command table to parked polls and back.
//!
//! Owns: the parked polls of this node, what it believes each host to have, the dispatcher that claims for all woken
//! hosts in one statement, the group commit of results, and the sweep of deadlines and leases.
//!
//! Invariants:
//! 1. The table is the truth. Everything here may be lost; then leases pass, the next poll loads what its host has,
//!    and a safety poll finds what is queued.
//! 2. A host has at most one parked poll; a newer one takes its place.
//! 3. A claimed command that could not be handed to a poll goes back at once; one that a host turns out not to have
//!    goes back after a short grace.
//! 4. NOTIFY is a hint to other nodes, coalesced and outside every writing transaction.
//!
//! Latency: a wake-up goes straight to the dispatcher; while it claims, further wake-ups gather for the next claim, so
//! batches grow with the load and cost nothing without it.

mod dispatch;
mod hints;
mod hosts;
mod poll;
mod report;
mod sweep;
#[cfg(test)]
mod tests;
mod waker;

pub use poll::{Answer, Engine, Poll, Queue, QueueConfig};
pub use waker::{HostWaker, Wakeups};
