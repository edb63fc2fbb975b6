//! Members: the database servers of this host, held to their goals.
//!
//! Owns: each member's directory, process, configuration and local account, the warm pool, and the retained data. Why:
//! the rest of the agent speaks in goals and facts and knows no engine. Invariants: one change of a member at a time
//! (a lock per member); a goal is on disk before its first effect; every step can be repeated after a crash at any
//! point; a data directory is deleted only by `remove` with [`Disposal::Purge`], by `purge`, or when the create that
//! made it failed. A crash of the agent leaves the servers running; the next start finds them again.

mod certificate;
mod config;
mod converge;
mod facade;
mod goal;
mod installed;
mod layout;
mod news;
mod objects;
mod observe;
mod process;
mod remove;
mod replicated;
mod running;
mod settle;
mod slot;
mod supervise;
mod warm;

pub use certificate::{IssuedCertificate, MemberCertificates};
pub use config::{MembersConfig, WarmPool};
pub use facade::{Disposal, Members};
pub use installed::InstalledEngine;
pub(crate) use process::check_port;
pub(crate) use replicated::Replica;
pub(crate) use slot::Keeper;
