//! Several hosts on one machine: network namespaces joined by a switch, with faults that can be put between and into
//! them.
//!
//! A host is a network namespace with one address, and a control group where the machine has them; whatever process lives
//! in it belongs to the host, so that a host can be frozen, killed or cut off as a whole. The switch is a namespace too: nothing of the machine's own network is touched,
//! and all labs use the same addresses. Invariants: every namespace has the id of its test's process in its name; a lab
//! takes its own down however the test ends, and a new lab first removes what a killed one left. A fault lasts as long
//! as the value that stands for it.
//!
//! It needs root, `ip` and `nft`, and `/dev/net/tun` for cables that are long.

pub mod auto_failover;
pub mod faults;
mod group;
mod network;
mod node;
pub mod plain;
mod tool;

pub use network::{Network, run};
pub use node::{Node, Task};
