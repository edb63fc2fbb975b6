//! The modelled agent with its server: what it does with orders, how logs travel and receipts come back, what a restart
//! leaves, and what it reports.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;
use windlass_core::replication::{ReplicaGoal, ReplicaState};
use windlass_logic::ha::{Barrier, Downstream, Enforced, Facts, Goal, Lineage, Upstream, table};

use super::world::{Entry, World, id, index};

impl World {
    /// Whom a member leads or follows: the epoch of its order.
    fn goal(&self, node: usize) -> Option<&Goal> {
        self.nodes[node].order.as_ref().map(|order| &order.goal)
    }

    pub(super) fn leads(&self, node: usize) -> bool {
        let it = &self.nodes[node];
        it.up && matches!(it.state, ReplicaState::Gated | ReplicaState::Open)
    }

    fn leader_of(&self, node: usize) -> Option<usize> {
        let Some(Goal::Follow { leader, .. }) = self.goal(node) else { return None };
        let order = self.nodes[node].order.as_ref()?;
        let leader = index(leader.member);
        let leads = self.leads(leader) && self.nodes[leader].order.as_ref().is_some_and(|of| of.epoch == order.epoch);
        (self.nodes[node].up && leads).then_some(leader)
    }

    /// A follower has proven its history by the barrier of the epoch.
    fn named(&self, node: usize) -> bool {
        let epoch = self.nodes[node].order.as_ref().map_or(0, |order| order.epoch);
        self.nodes[node]
            .log
            .iter()
            .any(|entry| matches!(entry, Entry::Barrier { barrier, .. } if barrier.epoch == epoch))
    }

    fn newest(&self, node: usize) -> (Barrier, Option<Uuid>) {
        let barriers = self.nodes[node].log.iter().filter_map(|entry| match entry {
            Entry::Barrier { barrier, nonce } => Some((*barrier, Some(Uuid::from_u128((*nonce).into())))),
            Entry::Commit(_) => None,
        });
        barriers.max_by_key(|(barrier, _)| *barrier).unwrap_or_default()
    }

    /// What the agent would report.
    pub(super) fn facts(&self, node: usize) -> Facts {
        let it = &self.nodes[node];
        let (barrier, nonce) = self.newest(node);
        let leads = self.leads(node);
        let end = it.log.len() as u64;
        let epoch = it.order.as_ref().map_or(0, |order| order.epoch);
        let streams = self.leader_of(node).filter(|leader| self.nodes[*leader].log.starts_with(&it.log));
        let downstream =
            (0..self.nodes.len()).filter(|other| leads && self.leader_of(*other) == Some(node)).map(|other| {
                let named = self.named(other) && it.log.starts_with(&self.nodes[other].log);
                Downstream {
                    member: id(other),
                    epoch: if named { epoch } else { 0 },
                    streaming: true,
                    acknowledges: named && it.enforced.as_ref().is_some_and(|set| set.acks.contains(&id(other))),
                    flushed: self.nodes[other].log.len() as u64,
                    replayed: self.nodes[other].log.len() as u64,
                }
            });
        Facts {
            max_epoch: it.max_epoch,
            applied_rev: it.applied_rev,
            role_epoch: epoch,
            lineage: Lineage {
                system: if it.log.is_empty() { String::new() } else { "s".to_owned() },
                timeline: 1,
                fork: 0,
                nonce,
            },
            barrier: if leads { it.acknowledged } else { barrier },
            flushed: end,
            replayed: end,
            upstream: streams.map(|leader| Upstream {
                member: Some(id(leader)),
                streaming: true,
                application_name: String::new(),
                silent_for: Duration::ZERO,
            }),
            downstream: downstream.collect(),
            enforced: it.enforced.as_deref().filter(|_| leads).cloned(),
            checkpoint_rev: match it.order.as_ref().map(|order| &order.goal) {
                Some(Goal::Lead { checkpoint_rev, .. }) => *checkpoint_rev,
                Some(_) | None => 0,
            },
            ..Facts::of(it.state)
        }
    }

    pub(super) fn deliver(&mut self, node: usize, at: usize) -> bool {
        let order = self.sent[node][at].clone();
        let it = &mut self.nodes[node];
        if !it.up || order.epoch < it.max_epoch || order.rev <= it.applied_rev {
            return false;
        }
        let pair = (it.state, order.goal.word());
        assert!(table::pairs().any(|known| known == pair), "P14: {pair:?} is not in the table");
        it.max_epoch = order.epoch;
        it.applied_rev = order.rev;
        let led = matches!(it.state, ReplicaState::Gated | ReplicaState::Open);
        let same =
            it.order.as_ref().is_some_and(|old| old.epoch == order.epoch && old.goal.word() == ReplicaGoal::Lead);
        match &order.goal {
            Goal::Lead { .. } => {
                self.leaders.entry(order.epoch).or_default().insert(node);
                if !(led && same) {
                    it.state = ReplicaState::Gated;
                    it.enforced = None;
                    it.flushed_of.clear();
                    it.acknowledged = Barrier::default();
                    it.since = it.log.len();
                }
            }
            Goal::Follow { clone_anew, .. } => {
                if *clone_anew {
                    it.log.clear();
                    it.state = ReplicaState::Cloning;
                } else if !without_data(it.state) {
                    it.state = if led { ReplicaState::Demoted } else { ReplicaState::Catchup };
                }
            }
            Goal::Seal if without_data(it.state) => {}
            Goal::Seal => it.state = if led { ReplicaState::Demoted } else { ReplicaState::Sealed },
            Goal::Drain => it.state = ReplicaState::CleanStop,
            Goal::Rest => it.state = ReplicaState::Resting,
        }
        it.order = Some(order);
        // What can never be obeyed again need not be remembered.
        let (epoch, rev) = (it.max_epoch, it.applied_rev);
        let last = self.sent[node].len() - 1;
        let mut at = 0;
        self.sent[node].retain(|order| {
            at += 1;
            at > last || (order.epoch >= epoch && order.rev > rev)
        });
        true
    }

    pub(super) fn may_enforce(&self, node: usize) -> bool {
        let Some(Goal::Lead { acks, acks_needed, barrier_rev, .. }) = self.goal(node) else { return false };
        let it = &self.nodes[node];
        self.leads(node)
            && it
                .enforced
                .as_ref()
                .is_none_or(|has| has.acks != *acks || has.needed != *acks_needed || has.rev < *barrier_rev)
    }

    pub(super) fn enforce(&mut self, node: usize) -> bool {
        if !self.may_enforce(node) {
            return false;
        }
        let it = &mut self.nodes[node];
        let Some(order) = &it.order else { return false };
        let Goal::Lead { acks, acks_needed, barrier_rev, nonce, .. } = &order.goal else { return false };
        it.enforced = Some(Arc::new(Enforced {
            rev: order.rev,
            acks: acks.clone(),
            needed: *acks_needed,
            barrier_rev: *barrier_rev,
        }));
        let barrier = Barrier { epoch: order.epoch, rev: *barrier_rev };
        it.log.push(Entry::Barrier { barrier, nonce: nonce.as_u128() as u64 });
        true
    }

    pub(super) fn may_replicate(&self, node: usize) -> bool {
        let Some(leader) = self.leader_of(node) else { return false };
        let (own, its) = (&self.nodes[node], &self.nodes[leader]);
        let able = matches!(
            own.state,
            ReplicaState::Catchup | ReplicaState::Standby | ReplicaState::Demoted | ReplicaState::Cloning
        );
        let behind =
            !its.log.starts_with(&own.log) || own.log.len() < its.log.len() || own.state == ReplicaState::Cloning;
        let unsaid = self.named(node) && its.flushed_of.get(&node) != Some(&own.log.len());
        let renamed = self.named(node) && own.state != ReplicaState::Standby;
        able && (behind || unsaid || renamed)
    }

    pub(super) fn replicate(&mut self, node: usize) -> bool {
        if !self.may_replicate(node) {
            return false;
        }
        let Some(leader) = self.leader_of(node) else { return false };
        let its = self.nodes[leader].log.clone();
        let own = &mut self.nodes[node];
        if own.state == ReplicaState::Cloning {
            // A copy is all or nothing.
            own.log.clone_from(&its);
            own.state = ReplicaState::Catchup;
            return true;
        }
        if its.starts_with(&own.log) {
            own.log.extend(its.get(own.log.len()).copied());
        } else {
            let common = own.log.iter().zip(&its).take_while(|(a, b)| a == b).count();
            own.log.truncate(common);
            own.state = ReplicaState::Catchup;
            return true;
        }
        let end = own.log.len();
        if self.named(node) {
            self.nodes[node].state = ReplicaState::Standby;
            self.nodes[leader].flushed_of.insert(node, end);
        } else {
            self.nodes[node].state = ReplicaState::Catchup;
        }
        true
    }

    /// Releases commits and barriers; opens the gate.
    pub(super) fn acknowledge(&mut self, node: usize) -> bool {
        if !self.leads(node) {
            return false;
        }
        let it = &mut self.nodes[node];
        let Some(set) = it.enforced.clone() else { return false };
        let mut ends: Vec<usize> =
            set.acks.iter().map(|id| it.flushed_of.get(&index(*id)).copied().unwrap_or(0)).collect();
        ends.sort_unstable_by(|a, b| b.cmp(a));
        let end = match set.needed as usize {
            0 => it.log.len(),
            needed => ends.get(needed - 1).copied().unwrap_or(0),
        };
        let mut changed = false;
        let epoch = it.order.as_ref().map_or(0, |order| order.epoch);
        for at in it.since..end.min(it.log.len()) {
            match it.log[at] {
                Entry::Commit(commit) => changed |= self.acked.insert(commit, epoch).is_none(),
                Entry::Barrier { barrier, .. } if barrier.epoch == epoch && barrier > it.acknowledged => {
                    it.acknowledged = barrier;
                    changed = true;
                }
                Entry::Barrier { .. } => {}
            }
        }
        let wanted = match it.order.as_ref().map(|order| &order.goal) {
            Some(Goal::Lead { barrier_rev, .. }) => Barrier { epoch, rev: *barrier_rev },
            _ => return changed,
        };
        if it.state == ReplicaState::Gated && it.acknowledged >= wanted && set.rev >= wanted.rev {
            it.state = ReplicaState::Open;
            changed = true;
        }
        changed
    }

    pub(super) fn restart(&mut self, node: usize) -> bool {
        let it = &mut self.nodes[node];
        if it.up {
            return false;
        }
        it.up = true;
        it.enforced = None;
        it.flushed_of.clear();
        it.acknowledged = Barrier::default();
        it.since = it.log.len();
        it.state = match it.order.as_ref().map(|order| order.goal.word()) {
            _ if without_data(it.state) => it.state,
            Some(ReplicaGoal::Lead) => ReplicaState::Gated,
            Some(ReplicaGoal::Follow) => ReplicaState::Catchup,
            Some(ReplicaGoal::Seal) if it.state == ReplicaState::Demoted => ReplicaState::Demoted,
            Some(ReplicaGoal::Seal) => ReplicaState::Sealed,
            Some(ReplicaGoal::Drain) => ReplicaState::CleanStop,
            Some(ReplicaGoal::Rest) => ReplicaState::Resting,
            None => ReplicaState::New,
        };
        for other in &mut self.nodes {
            other.flushed_of.remove(&node);
        }
        true
    }
}

/// Nothing that could be sealed or followed with.
fn without_data(state: ReplicaState) -> bool {
    matches!(state, ReplicaState::Quarantine | ReplicaState::Cloning)
}
