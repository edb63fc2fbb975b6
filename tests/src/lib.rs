//! Fixtures for the suites that need more than one crate: whole installations made of the real programs.
//!
//! A [`Stack`] is one control plane and some agents, each a real process with a configuration file, in a directory of
//! its own below the temp directory, on free ports. Tests use it through the doors that users have: the gRPC API, the
//! command line, psql and mariadb. Invariant: when a stack is dropped no process of it lives on, databases included;
//! its directory is removed unless the test failed.

pub mod api;
pub mod bare;
pub mod checkers;
pub mod client;
pub mod database;
pub mod ground;
mod home;
pub mod lab;
pub mod leaks;
pub mod measure;
pub mod nemesis;
pub mod pgbouncer;
mod plan;
pub mod processes;
pub mod program;
pub mod proxy;
pub mod site;
pub mod soak;
pub mod stack;
pub mod suites;
pub mod wait;
pub mod workload;

pub use api::Api;
pub use site::Site;
pub use stack::Stack;
pub use wait::wait_until;
