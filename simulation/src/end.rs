//! How a schedule ends: everything is whole again, and then everybody has to come to rest.

use std::collections::BTreeSet;

use windlass_agent::ha::simulated::Gate;
use windlass_core::id::MemberId;
use windlass_logic::ha::{Kind as Counts, Phase};

use crate::{
    control::Control,
    network::Weather,
    world::{Undo, World},
};

impl World {
    pub(crate) fn heal(&mut self) {
        self.healed = true;
        self.tell(|_| "everything is whole again".to_owned());
        self.network.heal();
        self.network.weather = Weather::FAIR;
        self.store.down = false;
        for control in 0..self.controls.len() {
            if self.controls[control].is_none() {
                self.start_control(control);
            }
        }
        for node in 0..self.nodes.len() {
            self.nodes[node].paused = None;
            if let Some(process) = &mut self.nodes[node].server.process {
                process.frozen = None;
            }
            if self.nodes[node].agent.is_none() {
                self.start_agent(node);
            }
        }
        if matches!(self.store.row.phase, Phase::Resting(_)) {
            self.undo(Undo::Resume);
        }
    }

    /// Somebody leads with the gate open, everybody follows, all that may acknowledge do.
    pub(crate) fn is_well(&self) -> bool {
        let row = &self.store.row;
        if row.phase != Phase::Steady || row.reign.sets.len() != 1 {
            return false;
        }
        let leader = self.index(row.reign.leader);
        let Some(process) = leader.and_then(|leader| self.nodes[leader].server.running(self.now)) else { return false };
        if process.gate == Gate::Shut || process.leads() != Some(row.epoch) {
            return false;
        }
        let distrusted: BTreeSet<MemberId> =
            self.nodes.iter().filter(|node| node.memory.is_distrusted()).map(|node| node.member).collect();
        let counting = row.members.iter().filter(|(id, member)| {
            **id != row.reign.leader && member.kind == Counts::Synchronous && !distrusted.contains(id)
        });
        let all_follow =
            row.members.keys().filter(|id| **id != row.reign.leader && !distrusted.contains(id)).all(|id| {
                let node = self.index(*id);
                node.is_some_and(|node| process.senders.contains_key(&node))
            });
        all_follow && counting.map(|(id, _)| *id).collect::<BTreeSet<_>>() == row.reign.ordered().members
    }

    pub(crate) fn finish(&mut self) {
        if self.checker.breach.is_some() {
            return;
        }
        if !self.is_well() {
            let row = &self.store.row;
            let members: Vec<_> = self.nodes.iter().map(|node| node.memory.describe()).collect();
            if self.plan.destroys() && self.waits_for_what_was_destroyed() {
                return;
            }
            let waits: Vec<_> = self.controls.iter().flatten().map(|control| control.waits.as_str()).collect();
            let what = format!(
                "not at rest {:?} after everything was whole again: {waits:?}; {:?} of epoch {}, sets {:?}; members {members:?}",
                self.now.saturating_sub(self.healed_at),
                row.phase,
                row.epoch,
                row.reign.sets
            );
            return self.checker.fail("END", what);
        }
        let leader = self.index(self.store.row.reign.leader);
        if let Some((leader, log)) = leader.and_then(|leader| Some((leader, self.nodes[leader].server.log.clone()?))) {
            self.checker.finish(leader, &log);
        }
    }

    /// The cluster says that it waits for data that a fault destroyed: an operator has to decide.
    pub(crate) fn waits_for_what_was_destroyed(&self) -> bool {
        const REASONS: [&str; 3] = ["an acknowledged commit may be on", "committed alone", "waiting for"];
        let says = |control: &Control| {
            let Some((_, why)) = control.waits.split_once(REASONS[1]).or_else(|| control.waits.split_once(REASONS[0]))
            else {
                return false;
            };
            why.contains(REASONS[2])
        };
        self.controls.iter().flatten().any(says)
    }
}
