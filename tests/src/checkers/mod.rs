//! What must hold of a history whatever faults there were. Pure: a checker gets what clients and servers saw and gives
//! the breaches it found, in words; none is good.
//!
//! Times are since the start of the run on the clock of the one process that has all clients; clocks of machines are never
//! compared.

pub mod acked;
pub mod append;
pub mod bank;
pub mod gap;
pub mod gate;
pub mod routes;
pub mod writers;

use std::time::Duration;

/// One insert of a unique id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Who.
    pub client: u32,
    /// What, unique in the run.
    pub id: i64,
    /// Before anything was sent.
    pub begun: Duration,
    /// What the server said; None if the client was never told of a success. Then the row may be there or not.
    pub ack: Option<Ack>,
}

/// The success of a [`Write`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// When the client had it.
    pub at: Duration,
    /// The epoch of the server that gave it; 0 for one that has none.
    pub epoch: u64,
}

/// A row of a [`Write`] as it is in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// What.
    pub id: i64,
    /// The epoch that its server had.
    pub epoch: u64,
    /// Its transaction; these numbers grow along a history and survive a promotion.
    pub transaction: u64,
}
