//! Replication of PostgreSQL: everything that only this engine does.
//!
//! Each file is one thing that can be done or seen, and can be repeated after a crash in its middle. Nothing here decides
//! or remembers: `crate::ha` does.

mod barrier;
mod clone;
mod conf;
mod control;
mod crash;
mod leader;
mod lineage;
mod lsn;
mod reader;
mod rewind;
mod schema;
mod slots;
mod tls;
mod waldump;

pub use barrier::{Barrier, Waits, commit as commit_barrier};
pub use clone::{Progress, clone};
pub use conf::{Configuration, Recovering, Segments, Upstream, files, files_in_data, has_standby_signal, mark};
pub use control::{ClusterState, Control, read as read_control};
pub use crash::{Follows, astray, hopeless, incurable};
pub use leader::{Leader, Remote, look as look_at_leader};
pub use lineage::{Ancestor, Position, Relation, Shared, local_timeline, read_history, relation};
pub use lsn::Lsn;
pub use reader::{Live, Reader, Receiver, Sender};
pub use rewind::{Divergence, Rewound, rewind};
pub(super) use schema::ensure as ensure_schema;
pub use slots::{SlotState, Slots};
pub use waldump::{end_of_wal, lost_writes};

pub use super::access::{Gate, PROXY_ROLE, REPLICATION_ROLE};
