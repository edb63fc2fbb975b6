//! Where proxies bring clients: one route for each instance, kept in memory, told to parked proxies as it changes.
//!
//! Owns: the route book of this node, the keeper that reads it anew from SQL, and what proxies report. Invariants:
//! 1. A route is a pure function of what is stored (instance, members, cluster); the book may be lost at any time.
//! 2. A proxy that shows a cursor gets everything that changed since, or everything.
//! 3. A route never goes back in (epoch, rev): rows are read in one transaction, and an older reading is dropped.
//!
//! A crash in the middle loses the book; proxies notice by the cursor and get everything again.

mod address;
mod book;
mod derive;
pub(crate) mod endpoints;
mod followers;
mod keeper;
mod reports;
mod route;

pub use address::{ProxyAddress, through};
pub use book::{Answer, Routes, Wakes};
pub use followers::Follower;
pub use reports::{EvidenceSeen, PauseSeen, Reports};
pub use route::{Backend, Route, State};

pub(crate) use keeper::Keeper;
