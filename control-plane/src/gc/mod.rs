//! Forgetting what nobody needs any more: stored answers, operations, events, join tokens, certificates, blocked ports.
//!
//! Runs on every node; nothing here needs an owner, because deleting twice is deleting once. Each statement takes at
//! most [`collector::BATCH`] rows, so that no transaction is long. A crash in the middle leaves the rest for the next
//! round.

pub mod collector;

pub use collector::Collector;
