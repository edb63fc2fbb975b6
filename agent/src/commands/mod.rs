//! Commands: from a delivery to a result, with one effect each.
//!
//! Owns: accepting through the journal, the order in which commands run, their timeouts and cancels, and the results that
//! wait to be reported. One file for each kind of command; a new kind is a proto arm, a file and a line in `dispatch`.
//!
//! Invariants: commands of one member run one after the other in the order of their acceptance, those of different members
//! side by side; whatever happens to a command, there is exactly one result for it.
//!
//! A crash in the middle: the next start carries out again what was accepted and not finished (see `journal`).

mod apply_member;
mod apply_object;
mod dispatch;
mod executor;
mod order;
mod outbox;
mod outcome;
mod purge_member;
mod remove_member;
mod target;

pub use executor::Executor;
pub use order::Order;
pub use outbox::Outbox;
pub use target::CommandTarget;
