//! Ownership of the right to orchestrate: one lease row, kept by one node at a time.
//!
//! Safety rests on the epoch alone: every write by the owner proves it (`Db::guarded`). Time is only for liveness, and
//! for stopping side effects early: a node trusts its lease until the time it *sent* the last successful renewal, on
//! its monotonic clock, plus the TTL minus a margin.
//!
//! A crash leaves the row; the same node (stable id in its state directory) takes it over at once when it is back,
//! another node once it has expired.

pub mod keeper;
pub mod ownership;

#[cfg(test)]
mod tests;

pub use keeper::{Keeper, LeaseConfig};
pub use ownership::Ownership;
