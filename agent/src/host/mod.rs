//! The operating system below the agent: processes, users, files, facts of the machine.
//!
//! Why: everything else of the agent is portable and testable; only this folder makes system calls. Database processes
//! are run by a [`ProcessHost`]; they are not the agent's children in spirit and survive it in both kinds of host.

pub mod account;
mod cgroup;
mod direct;
pub mod facts;
pub mod files;
pub mod helper;
pub mod proc;
mod systemd;
mod unit;

pub use direct::DirectHost;
pub use systemd::SystemdHost;
pub use unit::{HostKind, Limits, Process, ProcessHost, UnitSpec, UnitStatus, open};
