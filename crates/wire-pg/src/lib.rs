//! The PostgreSQL wire protocol, version 3, as pure functions over byte slices.
//!
//! Owns: what bytes mean. It has no sockets, no clock and no randomness; nonces and keys come in as arguments.
//! Invariants: no input makes it panic or keep more than a fixed number of bytes; what a reader was not asked to look
//! at is passed on without a copy; views borrow from the input; secrets never show in `Debug`.
//! There is no state that a crash could tear.

pub mod backend;
pub mod frame;
pub mod frontend;
pub mod fuzzing;
mod read;
pub mod report;
pub mod scram;
pub mod sqlstate;
pub mod startup;

pub use frame::{Header, MAX_MESSAGE, Piece, Splitter};
pub use report::{Report, Severity};
pub use sqlstate::SqlState;
