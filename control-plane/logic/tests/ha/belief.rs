//! What the control plane hears and believes, and what it decides then; and rules that may be broken on purpose.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;
use windlass_core::replication::ReplicaState;
use windlass_logic::ha::{Cluster, Decision, Facts, HostSeen, Link, Observed, Phase, Seen, Witness, decide};

use super::world::{World, host, id, index};

/// What a nemesis may break on purpose, to see that the checks would notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Mutation {
    /// Nothing.
    None,
    /// A new set counts for elections at once, before the leader confirmed it.
    CandidateBeforeConfirmation,
    /// Members are believed to hold the newest barrier of the epoch when they hold any.
    NoBarrier,
    /// One seal is always enough.
    OneSealIsEnough,
    /// Members count as sealed before they have promised anything.
    SealsNotAwaited,
}

/// What the control plane believes beside the facts it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Belief {
    /// Everybody is well.
    Calm,
    /// The leader's host is dead and all evidence says so.
    LeaderDead,
    /// This member's host is dead, and it has been away from the leader for long.
    Away(usize),
    /// So are all hosts that are down.
    Truth,
}

impl World {
    /// What the control plane would do.
    pub(super) fn decision(&self, belief: Belief) -> Decision {
        self.decision_after(belief, Duration::ZERO)
    }

    /// The same if everything has been as it is for so long.
    pub(super) fn decision_after(&self, belief: Belief, long: Duration) -> Decision {
        let observed = self.observed(belief, long);
        let mut cluster = Cluster::clone(&self.cluster);
        if self.mutation == Mutation::OneSealIsEnough && matches!(cluster.phase, Phase::Electing(_)) {
            for set in &mut cluster.reign.sets {
                set.needed = set.members.len() as u32;
            }
        }
        let mut decision = decide(&cluster, &observed, Uuid::from_u128(u128::from(self.cluster.rev) + 1_000));
        if self.mutation == Mutation::CandidateBeforeConfirmation
            && let Some(next) = &mut decision.next
        {
            let old = next.reign.sets.len() - 1;
            next.reign.sets.drain(..old);
        }
        decision
    }

    /// What the control plane knows and believes, if everything has been as it is for so long.
    pub(super) fn observed(&self, belief: Belief, long: Duration) -> Observed {
        let ages = Duration::from_secs(3600);
        let leader = index(self.cluster.reign.leader);
        let mut observed = Observed::nothing(Timestamp::UNIX_EPOCH);
        observed.step_for = ages.max(long);
        observed.pause_for = long;
        observed.intent_for = long;
        for (node, known) in self.known.iter().enumerate() {
            let dead = match belief {
                Belief::Calm => false,
                Belief::LeaderDead => node == leader,
                Belief::Away(away) => node == away,
                Belief::Truth => !self.nodes[node].up,
            };
            let silent_for = if dead { ages } else { Duration::ZERO };
            let witness = |by| Witness {
                by: host(by),
                silent_for: Some(silent_for),
                unanswered: u32::from(dead) * 9,
                late: false,
            };
            let witnesses = (100..103).map(witness).collect();
            observed.hosts.insert(host(node), HostSeen { silent_for, witnesses });
            let Some(facts) = known else { continue };
            let mut facts = Facts::clone(facts);
            if belief == Belief::LeaderDead {
                facts.upstream = None;
            }
            if self.mutation == Mutation::SealsNotAwaited
                && matches!(self.cluster.phase, Phase::Electing(_))
                && facts.state == ReplicaState::Standby
            {
                facts.state = ReplicaState::Sealed;
                facts.role_epoch = self.cluster.epoch;
            }
            if self.mutation == Mutation::NoBarrier && facts.barrier.epoch == self.cluster.reign.epoch {
                facts.barrier.rev = self.cluster.reign.ordered().rev;
            }
            observed.members.insert(id(node), Seen { facts, age: silent_for, state_for: long });
            let streams = self.known[leader]
                .as_ref()
                .and_then(|facts| facts.downstream_of(id(node)))
                .is_some_and(|down| down.epoch == self.cluster.epoch);
            let away_for = if dead { Some(ages) } else { (!streams).then_some(long) };
            observed.links.insert(id(node), Link { away_for, slow_for: None });
        }
        observed
    }
}
