//! The decisions of the control plane as pure functions: a snapshot goes in, a plan or an error comes out.
//!
//! Why: placement, quotas and reconciling must be right in cases that no test bench reproduces, so they are kept where
//! property tests reach them. Invariants: nothing here awaits, reads a clock or draws a random number.

pub mod ha;
pub mod health;
pub mod placement;
pub mod quota;
pub mod reconcile;
