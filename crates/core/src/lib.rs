//! The domain words of Windlass, shared by every program.
//!
//! Owns: typed ids, names, sizes, the instance state machine, engine descriptors and the one error type.
//! Invariant: no IO, no clock, no randomness except fresh ids; everything here is a value or a pure function.
//! Depends on no other Windlass crate.

pub mod command;
pub mod engine;
pub mod error;
pub mod event;
pub mod host;
pub mod id;
pub mod instance;
pub mod member;
pub mod name;
pub mod object;
pub mod operation;
pub mod parameter;
pub mod proxy;
pub mod replication;
pub mod role;
pub mod size;
pub mod words;

pub use error::{Error, ErrorKind, Reason, Result};
