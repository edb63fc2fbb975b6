//! One step of one cluster: what is stored and what is known go in, the next value to store comes out.
//!
//! Pure. The caller stores `next` by compare-and-swap on (epoch, rev) and pushes [`super::orders`] and [`super::route`]
//! after the commit; if the swap fails it reads the row anew and decides anew. Each decision takes one step, so the
//! caller repeats until `next` is none.

use std::time::Duration;

use uuid::Uuid;
use windlass_core::replication::ReplicaGoal;

use super::{
    adopt, cluster::Cluster, election, happened::Happened, observed::Observed, order, phase::Phase, promoting, resting,
    steady, switchover,
};

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    /// The value to store; none if nothing changes.
    pub next: Option<Cluster>,
    /// What storing it means; only to be told when it was stored.
    pub happened: Vec<Happened>,
    /// What it waits for and why it does not act, for people.
    pub waits: Vec<String>,
    /// When to ask again if nothing is heard until then.
    pub look_again: Option<Duration>,
}

/// Decides one step. `nonce` is used if an epoch gets a leader; it has to be fresh for each call.
pub fn decide(cluster: &Cluster, observed: &Observed, nonce: Uuid) -> Decision {
    let mut draft = Draft {
        now: cluster,
        observed,
        next: cluster.clone(),
        happened: Vec::new(),
        waits: Vec::new(),
        look_again: None,
    };
    if !adopt::begin(&mut draft) {
        match &cluster.phase {
            Phase::Steady => steady::step(&mut draft),
            Phase::Electing(election) => election::step(&mut draft, election, nonce),
            Phase::Promoting(why) => promoting::step(&mut draft, *why),
            Phase::Switchover(switch) => switchover::step(&mut draft, switch, nonce),
            Phase::Reconciling => adopt::step(&mut draft, nonce),
            Phase::Resting(step) => resting::step(&mut draft, *step),
        }
    }
    draft.finish()
}

/// A decision in the making.
pub(super) struct Draft<'a> {
    /// As stored.
    pub(super) now: &'a Cluster,
    /// What is known.
    pub(super) observed: &'a Observed,
    /// As it will be stored.
    pub(super) next: Cluster,
    /// What that means.
    pub(super) happened: Vec<Happened>,
    waits: Vec<String>,
    look_again: Option<Duration>,
}

impl Draft<'_> {
    /// The rev that the next value gets.
    pub(super) fn rev(&self) -> u64 {
        self.now.rev + 1
    }

    /// Says what is waited for.
    pub(super) fn wait(&mut self, why: impl Into<String>) {
        self.waits.push(why.into());
    }

    /// Asks to be asked again.
    pub(super) fn look_again(&mut self, after: Duration) {
        self.look_again = Some(self.look_again.map_or(after, |known| known.min(after)));
    }

    fn finish(self) -> Decision {
        let Self { now, next, happened, waits, look_again, .. } = self;
        let next = (next != *now).then(|| numbered(now, next));
        let happened = if next.is_some() { happened } else { Vec::new() };
        Decision { next, happened, waits, look_again }
    }
}

/// Gives a changed cluster its rev, and each changed order the rev of its change.
pub(super) fn numbered(now: &Cluster, mut next: Cluster) -> Cluster {
    next.rev = next.rev.max(now.rev + 1);
    if next.phase != now.phase || next.epoch != now.epoch {
        next.step_rev = next.rev;
    }
    let (before, after) = (order::goals(now), order::goals(&next));
    let anew = next.epoch != now.epoch;
    let fence_differs = next.timings().fence_ms != now.timings().fence_ms;
    for (id, goal) in after {
        // Only a leader acts by the time after which it shuts itself.
        let differs = anew || before.get(&id) != Some(&goal) || fence_differs && goal.word() == ReplicaGoal::Lead;
        if differs && let Some(member) = next.members.get_mut(&id) {
            member.order_rev = next.rev;
        }
    }
    next
}
