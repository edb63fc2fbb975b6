//! The journal: what this agent has promised to carry out and what came of it, on disk.
//!
//! Owns one append-only file. Why: commands are delivered at least once, and the journal makes each have its effect
//! once: a repeat of a finished uid is answered with the stored result, a repeat of a running one changes nothing.
//!
//! Invariants:
//! - A command is carried out only after its acceptance is on disk; its result is on disk before it is reported
//!   (except on a full disk, see [`Journal::finish`]).
//! - A result is kept until the control plane acknowledges it.
//! - The highest epoch seen for an instance never goes down; a command with a lower one is refused.
//!
//! A crash in the middle: a torn last record is cut off at the next open. Accepted but unfinished commands are carried
//! out again, which is why every command is idempotent.

mod commit;
mod log;
mod record;
mod state;
mod storage;

pub use commit::Journal;
pub use state::Acceptance;
pub use storage::{FileStorage, MemoryStorage, Storage};
