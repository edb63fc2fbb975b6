//! Connections to databases, shared by clients: who may open one, who waits, who gets one that is free.
//!
//! Knows no protocol: what is pooled is a type parameter. There is one pool for each member of an instance, with one
//! shelf for each user and database; the pool bounds connections over all its shelves.
//! Invariants: a pool never has more connections than its bound; those who wait are served in order; a connection that
//! is put back after the pool was cleared is closed, not reused; room is given back when a connection is dropped,
//! whatever became of it.

mod place;
#[expect(clippy::module_inception, reason = "the pool is what the module is about")]
mod pool;
mod pools;

pub use place::Place;
pub use pool::{Pool, Pooled, Taken, Waiting};
pub use pools::{PoolKey, Pools};
