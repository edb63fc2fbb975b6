//! The Windlass agent: runs the databases of one host and reports what it sees.

pub mod engines;
pub mod host;
pub mod members;
