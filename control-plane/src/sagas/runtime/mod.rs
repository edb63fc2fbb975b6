//! The durable layer under every saga.
//!
//! Guarantees:
//! 1. A step's writes, the commands it queues, the saga's position and the operation's progress commit together, in a
//!    transaction whose first statement proves the lease: progress and effects cannot diverge, and an executor that
//!    lost its lease writes nothing.
//! 2. A step may run any number of times; only one run commits past it. A step asks for commands by key and reads
//!    their outcome; however often it runs, each key is queued once per attempt.
//! 3. Waiting for an agent holds no task and no connection: the row is parked until a command of the saga ends.
//! 4. Before the pivot a failure unwinds the undoable steps in reverse; from the pivot on steps are retried until they
//!    succeed.
//! 5. A saga whose kind or version this binary does not know is left alone (STUCK) for one that does.
//!
//! A crash at any point leaves the last committed step; the next owner goes on from there.

pub mod advance;
#[cfg(any(test, feature = "testing"))]
pub mod battery;
pub mod cancel;
pub mod command;
pub mod context;
pub mod executor;
mod policy;
pub mod registry;
pub mod saga;
pub mod start;
#[cfg(test)]
mod tests;
pub mod watch;
