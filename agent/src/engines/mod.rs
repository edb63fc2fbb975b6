//! Drivers of the database engines: everything that only one engine does, behind one pair of traits.
//!
//! Why two: an [`EngineDriver`] works on directories and programs, also while nothing runs; a [`Session`] is a
//! connection of the agent's own account to a running server. Drivers decide nothing about goals and keep no state:
//! `members` does. Every method can be repeated after a crash in its middle.
//! A new engine is a folder here with the same file names and one line in [`registry()`].

mod driver;
pub mod mariadb;
pub mod object;
pub mod postgres;
mod registry;
mod server;
mod version;

pub use driver::{Change, EngineDriver, Probe, Session};
pub use registry::{Registry, registry};
pub use server::{Installation, Kinship, Network, OwnedFile, Rendered, Server, Site};
