//! Commands: the queue from which agents fetch their orders.
//!
//! Invariants:
//! 1. A uid is queued once; queueing it again changes nothing.
//! 2. Of one member at most one command is leased (`command_in_flight`); they are fetched in the order of queueing.
//! 3. A result counts only for the attempt under which the command is leased; a terminal state is never left.
//! 4. Every end of a command makes its saga due, in the same transaction; sagas are locked before their commands.
//!
//! A crash after a claim leaves the command leased: it is queued again when its lease is past or its host's agent says
//! that it does not have it.

mod claim;
mod end;
mod enqueue;
#[cfg(test)]
mod tests;

pub use claim::{ClaimedCommand, LeasedCommand, Parked};
pub use end::{CommandReport, Delivery, EndedCommand, ReportVerdict, commands_cancel_tx, commands_report_tx};
pub use enqueue::{
    CommandRow, Enqueued, FailedRemoval, NewCommand, command_enqueue_tx, command_repeat_tx, commands_by_uid_tx,
    commands_open_tx,
};
