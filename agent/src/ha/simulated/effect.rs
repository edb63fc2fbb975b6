//! What a simulated machine asks the simulation to do: the effects of the real one, each split where a crash may come
//! between its beginning and its end.

use std::time::Duration;

use windlass_core::id::MemberId;

use super::{Barrier, Configuration, Gate, Lsn, Recovering};

/// What is to be done, and then told by the method named.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Nothing for so long.
    Wait(Duration),
    /// Look again at once.
    Again,
    /// Files and a reload: [`super::Watcher::configured`].
    Configure(Configuration, Gate),
    /// Start with the gate shut: [`super::Watcher::launched`] comes first, as in the real one.
    Launch(Recovering, Configuration),
    /// End without a word; it can only come back as a standby.
    Kill,
    /// Shut the gate and stop in order: [`super::Watcher::stopped`].
    Stop,
    /// Look whether it was stopped in order: [`super::Watcher::stopped`].
    Examine,
    /// Stop a standby for a rewind: [`super::Watcher::halted`].
    Halt,
    /// Files, a reload, then the promotion: [`super::Watcher::configured`].
    Promote(Configuration),
    /// What the database needs: [`super::Watcher::prepared`].
    Prepare(u64),
    /// A checkpoint: [`super::Watcher::checkpointed`].
    Checkpoint(u64),
    /// Slots.
    Slots,
    /// Commit the row: [`super::Watcher::committed`] when it is released, [`super::Watcher::uncommitted`] if it cannot be.
    Barrier(Barrier),
    /// Ask the leader: [`super::Watcher::compared`].
    Compare(MemberId),
    /// Copy from the leader: [`super::Watcher::copied`].
    Copy(MemberId),
    /// Rewind to the position: [`super::Watcher::rewound`].
    Rewind(MemberId, Lsn),
    /// End the server and put its data aside: [`super::Watcher::put_aside`].
    SetAside(Option<u64>),
}
