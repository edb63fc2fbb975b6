//! What goes wrong, and how it ends.

use windlass_logic::ha::{Cluster, Loss, Patience};

use crate::{
    network::Place,
    plan::{Fault, OnLeader, Way},
    world::{Event, Undo, World, lasts},
};

impl World {
    /// Something goes wrong.
    pub(crate) fn fault(&mut self, fault: &Fault) {
        self.tell(|_| format!("fault: {fault:?}"));
        let span = lasts(fault);
        match fault {
            Fault::KillServer(node) => self.end_server(*node),
            Fault::Freeze(node, _) => {
                let now = self.now;
                if let Some(process) = &mut self.server(*node).process {
                    process.frozen = Some(now);
                    let number = process.number;
                    self.after(span, Event::Undo(Undo::Thaw(*node, number)));
                }
            }
            Fault::KillAgent(node, _) => {
                self.nodes[*node].agent = None;
                self.after(span, Event::Undo(Undo::Agent(*node)));
            }
            Fault::KillHost(node, _) => {
                self.nodes[*node].agent = None;
                // Nobody tells the others: the machine is gone.
                let place = Place::Host(*node);
                self.nodes[*node].server.process = None;
                self.cut_off(place);
                self.after(span, Event::Undo(Undo::Host(*node)));
            }
            Fault::PauseHost(node, _) => {
                self.nodes[*node].paused = Some(self.now + span);
                self.after(span, Event::Undo(Undo::Unpause(*node)));
            }
            Fault::Isolate(node, _) => {
                self.cut_off(Place::Host(*node));
                self.join_all_after(Place::Host(*node), span);
            }
            Fault::Deafen(node, way, _) => {
                for place in self.others(Place::Host(*node)) {
                    match way {
                        Way::Out => self.network.cut_one_way(Place::Host(*node), place),
                        Way::In => self.network.cut_one_way(place, Place::Host(*node)),
                    }
                }
                self.join_all_after(Place::Host(*node), span);
            }
            Fault::Cut(one, other, _) => {
                let (one, other) = (Place::Host(*one), Place::Host(*other));
                self.network.cut(one, other);
                self.after(span, Event::Undo(Undo::Join(one, other)));
            }
            Fault::CutControl(node, _) => {
                for control in 0..self.controls.len() {
                    let (one, other) = (Place::Host(*node), Place::Control(control));
                    self.network.cut(one, other);
                    self.after(span, Event::Undo(Undo::Join(one, other)));
                }
            }
            Fault::KillControl(control, _) => {
                self.controls[*control] = None;
                self.after(span, Event::Undo(Undo::Control(*control)));
            }
            Fault::StopMetadata(_) => {
                self.store.down = true;
                self.after(span, Event::Undo(Undo::Metadata));
            }
            Fault::RollBack(changes) => {
                let highest = self.nodes.iter().map(|node| node.memory.max_epoch()).max().unwrap_or(0);
                self.lost_rows = Some(highest.max(self.store.row.epoch));
                self.store.roll_back(*changes);
                // Whoever decides reads the row anew when its next change is refused, or when it starts.
                for control in 0..self.controls.len() {
                    if self.controls[control].is_some() {
                        self.start_control(control);
                    }
                }
            }
            Fault::LoseData(node) => {
                self.end_server(*node);
                let server = self.server(*node);
                (server.log, server.clean, server.marker) = (None, false, false);
            }
            Fault::LoseMemory(node) => self.lose_memory(*node),
            Fault::Switchover => {
                self.intend(|row, id| row.switchover(id, None, Patience::EndTransactions).ok());
            }
            Fault::Failover => self.intend(|row, id| row.failover(id, None, Loss::Forbidden).ok()),
            Fault::Rest(_) => {
                self.intend(|row, id| row.rest(id).ok());
                self.after(span, Event::Undo(Undo::Resume));
            }
            Fault::OnLeader(what, _) => {
                let Some(node) = self.index(self.store.row.reign.leader) else { return };
                let fault = match what {
                    OnLeader::KillServer => Fault::KillServer(node),
                    OnLeader::KillAgent => Fault::KillAgent(node, span),
                    OnLeader::KillHost => Fault::KillHost(node, span),
                    OnLeader::PauseHost => Fault::PauseHost(node, span),
                    OnLeader::Isolate => Fault::Isolate(node, span),
                    OnLeader::Freeze => Fault::Freeze(node, span),
                };
                self.fault(&fault);
            }
        }
    }

    fn lose_memory(&mut self, node: usize) {
        use windlass_agent::ha::simulated::Memory;
        let (instance, host) = (self.instance, &mut self.nodes[node]);
        let restarts = host.agent.take().is_some();
        host.memory = if host.server.log.is_some() {
            Memory::lost(instance, host.member)
        } else {
            Memory::new(instance, host.member)
        };
        self.checker.forget(node);
        if restarts {
            self.start_agent(node);
        }
    }

    /// Everywhere else.
    fn others(&self, place: Place) -> Vec<Place> {
        let hosts = (0..self.nodes.len() + self.witnesses.len()).map(Place::Host);
        let controls = (0..self.controls.len()).map(Place::Control);
        let proxies = (0..self.proxies.len()).map(Place::Proxy);
        hosts.chain(controls).chain(proxies).filter(|other| *other != place).collect()
    }

    fn cut_off(&mut self, place: Place) {
        for other in self.others(place) {
            self.network.cut(place, other);
        }
    }

    fn join_all_after(&mut self, place: Place, span: std::time::Duration) {
        for other in self.others(place) {
            self.after(span, Event::Undo(Undo::Join(place, other)));
        }
    }

    /// A fault ends.
    pub(crate) fn undo(&mut self, undo: Undo) {
        self.tell(|_| format!("ends: {undo:?}"));
        match undo {
            Undo::Agent(node) => {
                if self.nodes[node].agent.is_none() {
                    self.start_agent(node);
                }
            }
            Undo::Host(node) => {
                for other in self.others(Place::Host(node)) {
                    self.network.join(Place::Host(node), other);
                }
                self.nodes[node].boot += 1;
                if self.nodes[node].agent.is_none() {
                    self.start_agent(node);
                }
            }
            Undo::Thaw(node, number) => {
                if let Some(process) = self.server(node).process.as_mut().filter(|process| process.number == number) {
                    process.frozen = None;
                    self.wrote(node);
                    self.wake(node);
                }
            }
            Undo::Unpause(node) => {
                self.nodes[node].paused = None;
                self.wrote(node);
            }
            Undo::Join(one, other) => self.network.join(one, other),
            Undo::Control(control) => {
                if self.controls[control].is_none() {
                    self.start_control(control);
                }
            }
            Undo::Metadata => self.store.down = false,
            Undo::Resume => self.intend(|row, _| Some(Cluster::resume(row))),
        }
    }

    /// P2: the leader of the stored reign enforces one of the sets that are stored.
    pub(crate) fn check(&mut self) {
        let reign = &self.store.row.reign;
        if self.lost_rows.is_some_and(|epoch| self.store.row.epoch <= epoch) {
            return;
        }
        if self.store.row.phase == windlass_logic::ha::Phase::Reconciling {
            return;
        }
        let Some(leader) = self.index(reign.leader) else { return };
        let Some(process) =
            self.nodes[leader].server.process.as_ref().filter(|process| process.leads() == Some(reign.epoch))
        else {
            return;
        };
        if process.gate == windlass_agent::ha::simulated::Gate::Shut {
            return;
        }
        let name = |id: &windlass_core::id::MemberId| windlass_core::replication::epoch_name(*id, reign.epoch);
        let enforced = |set: &windlass_logic::ha::AckSet| {
            let names: Vec<String> = set.members.iter().map(name).collect();
            names.iter().collect::<std::collections::BTreeSet<_>>() == process.conf.names.iter().collect()
                && set.needed == process.conf.needed
        };
        if !reign.sets.iter().any(enforced) {
            let what = format!(
                "member {leader} enforces {} of {:?} in epoch {}, and the row assumes {:?}",
                process.conf.needed, process.conf.names, reign.epoch, reign.sets
            );
            self.checker.fail("P2", what);
        }
    }
}
