//! What agents tell and hear: reports, the way round, orders, probes of each other.

use std::{rc::Rc, time::Duration};

use windlass_agent::ha::simulated::Taken;
use windlass_proto::agent::v1 as pb;

use crate::{
    control::Report,
    facts,
    network::Place,
    server::Time,
    world::{Event, Message, World},
};

/// From report to report.
const REPORT_EVERY: Duration = Duration::from_millis(500);
/// Without an answer for so long, a report goes by a peer.
const SILENT: Duration = Duration::from_millis(800);
/// Without an answer for so long, another node is tried.
const LEAVE: Duration = Duration::from_millis(2500);

impl World {
    /// Reports at once if anything but a position is new.
    pub(crate) fn tell_facts(&mut self, node: usize, life: u64) {
        let at = self.look_at(node);
        let host = &mut self.nodes[node];
        let Some(agent) = &mut host.agent else { return };
        let told = facts::essence(agent.watcher.facts(&host.memory, at));
        if agent.told.as_ref() != Some(&told) {
            agent.told = Some(told);
            self.send_report(node);
        }
        let _ = life;
    }

    /// The agent's timer for reports.
    pub(crate) fn report(&mut self, node: usize, life: u64) {
        if !self.runs(node, life, || Event::Report { node, life }) {
            return;
        }
        self.send_report(node);
        let controls = self.controls.len();
        let now = self.now;
        if let Some(agent) = &mut self.nodes[node].agent
            && now.saturating_sub(agent.answered) >= LEAVE
        {
            agent.control = (agent.control + 1) % controls;
            agent.answered = now;
        }
        self.after(REPORT_EVERY, Event::Report { node, life });
    }

    pub(crate) fn send_report(&mut self, node: usize) {
        let at = self.look_at(node);
        let now = self.now;
        let sightings = self.sightings(node);
        let host = &mut self.nodes[node];
        let Some(agent) = &mut host.agent else { return };
        agent.reports += 1;
        let facts = facts::read(&agent.watcher.facts(&host.memory, at));
        let report = Rc::new(Report {
            sequence: (host.life, agent.reports),
            host: host.host,
            members: vec![(host.member, facts)],
            sightings,
            late: std::mem::take(&mut agent.late),
        });
        let (control, silent) = (agent.control, now.saturating_sub(agent.answered) >= SILENT);
        let message = Message::Report { node, sent_at: now, report: report.clone(), relayed: false };
        self.send(Place::Host(node), Place::Control(control), message);
        if silent {
            self.relay(node, &report);
        }
    }

    /// Hands a report to a peer that reaches the control plane.
    pub(crate) fn relay(&mut self, node: usize, report: &Rc<Report>) {
        let now = self.now;
        let hosts = self.nodes.len() + self.witnesses.len();
        let able = (0..hosts).filter(|peer| *peer != node && self.reaches(node, *peer)).find_map(|peer| {
            let control = match self.nodes.get(peer) {
                Some(other) => {
                    other.agent.as_ref().filter(|agent| now.saturating_sub(agent.answered) < SILENT)?.control
                }
                None => 0,
            };
            self.network.connects(Place::Host(peer), Place::Control(control)).then_some(control)
        });
        if let Some(control) = able {
            let pause = self.network.latency(&mut self.random) * 2;
            let message = Message::Report { node, sent_at: now, report: report.clone(), relayed: true };
            self.after(pause, Event::Message { from: Place::Host(node), to: Place::Control(control), message });
        }
    }

    /// Orders came.
    pub(crate) fn take_orders(
        &mut self,
        node: usize,
        control: usize,
        sent_at: Option<Time>,
        orders: &[pb::ReplicationOrder],
    ) {
        let now = self.now;
        let Some(host) = self.nodes.get_mut(node) else { return };
        let Some(agent) = &mut host.agent else { return };
        if let Some(sent_at) = sent_at {
            agent.watcher.heard(sent_at);
            if agent.control == control {
                agent.answered = now;
            }
        }
        let mut news = false;
        for order in orders {
            let taken = agent.watcher.take(&mut host.memory, order);
            if let Taken::New(epoch, rev) = taken {
                self.checker.obey(node, (epoch, rev));
            }
            news |= !matches!(taken, Taken::Refused);
        }
        if news {
            self.wake(node);
        }
    }

    /// Whether two hosts' agents answer each other now.
    pub(crate) fn reaches(&self, one: usize, other: usize) -> bool {
        let lives = |host: usize| self.nodes.get(host).is_none_or(|node| node.agent.is_some() && node.paused.is_none());
        lives(one) && lives(other) && self.network.connects(Place::Host(one), Place::Host(other))
    }

    /// All hosts probe each other.
    pub(crate) fn probe(&mut self) {
        let hosts = self.nodes.len() + self.witnesses.len();
        for from in 0..hosts {
            for to in 0..self.nodes.len() {
                if from == to {
                    continue;
                }
                let answered = self.reaches(from, to) && !self.random.chance(self.network.weather.lost * 2);
                let now = self.now;
                let seen = self.seen.entry((from, to)).or_default();
                if answered {
                    *seen = (Some(now), 0);
                    self.gossip(from, to);
                } else {
                    seen.1 += 1;
                }
            }
        }
        for witness in 0..self.witnesses.len() {
            self.witness_reports(witness);
        }
        self.after(Duration::from_millis(300), Event::Probe);
    }

    /// A peer shows the highest epoch that it has seen.
    pub(crate) fn gossip(&mut self, from: usize, to: usize) {
        let Some(epoch) = self.nodes.get(from).map(|node| node.memory.max_epoch()) else { return };
        let host = &mut self.nodes[to];
        if epoch > host.memory.max_epoch()
            && let Some(agent) = &mut host.agent
        {
            agent.watcher.shown(&mut host.memory, epoch);
            self.wake(to);
        }
    }

    pub(crate) fn sightings(&self, from: usize) -> Vec<(windlass_core::id::HostId, Option<Duration>, u32)> {
        let of = (0..self.nodes.len()).filter_map(|to| {
            let (answered, unanswered) = self.seen.get(&(from, to))?;
            Some((self.nodes[to].host, answered.map(|at| self.now - at), *unanswered))
        });
        of.collect()
    }

    pub(crate) fn witness_reports(&mut self, witness: usize) {
        let place = self.nodes.len() + witness;
        let (host, sightings) = (self.witnesses[witness], self.sightings(place));
        let sequence = (1, self.events);
        let report = Rc::new(Report { sequence, host, members: Vec::new(), sightings, late: false });
        for control in 0..self.controls.len() {
            let message = Message::Report { node: place, sent_at: self.now, report: report.clone(), relayed: false };
            self.send(Place::Host(place), Place::Control(control), message);
        }
    }
}
