//! The nodes of the control plane in the world: leases, reports in, decisions stored, orders and routes out.

use std::{rc::Rc, time::Duration};

use uuid::Uuid;
use windlass_core::id::{HostId, OperationId};
use windlass_logic::ha::{Cluster, RouteState, route};

use crate::{
    control::{Control, Report},
    network::Place,
    server::Time,
    world::{Event, Message, World},
};

impl World {
    pub(crate) fn start_control(&mut self, control: usize) {
        let life = self.unique();
        self.controls[control] = Some(Control::new(life));
        self.after(Duration::from_millis(20), Event::Think { control, life });
    }

    pub(crate) fn hosts(&self) -> Vec<HostId> {
        self.nodes.iter().map(|node| node.host).chain(self.witnesses.iter().copied()).collect()
    }

    pub(crate) fn think(&mut self, index: usize, life: u64) {
        let Some(control) = &mut self.controls[index] else { return };
        if control.life != life {
            return;
        }
        if !self.network.connects(Place::Control(index), Place::Metadata) || self.store.down {
            // Without the metadata nothing can be decided.
            self.after(Duration::from_millis(200), Event::Think { control: index, life });
            return;
        }
        match (self.store.lease(index, self.now), control.term) {
            (Some(term), Some(held)) if term == held => {}
            (Some(term), _) => {
                let row = self.store.row.clone();
                control.begin(self.now, term, row);
                self.tell(|_| format!("control plane {index} decides in term {term}"));
                self.push(index);
            }
            (None, Some(_)) => control.end(),
            (None, None) => {}
        }
        self.decide(index);
        self.after(Duration::from_millis(250), Event::Think { control: index, life });
    }

    /// Decides, and plans when to look again.
    pub(crate) fn decide(&mut self, index: usize) -> Option<()> {
        let hosts = self.hosts();
        let proxies = self.proxies_seen();
        let nonce = self.random.uuid();
        let (now, round_trip) = (self.now, Duration::from_millis(5));
        let control = self.controls[index].as_mut()?;
        control.term?;
        if control.storing {
            return None;
        }
        let observed = control.observe(now, &hosts, proxies, round_trip);
        let cluster = control.cluster.as_ref()?;
        let decision = windlass_logic::ha::decide(cluster, &observed, nonce);
        if let Some(next) = decision.next {
            let (before, term, life) = ((cluster.epoch, cluster.rev), control.term?, control.life);
            control.storing = true;
            let happened = decision.happened;
            self.tell(|_| {
                format!(
                    "control plane {index} stores epoch {} rev {} {}: {happened:?}",
                    next.epoch,
                    next.rev,
                    next.phase.word()
                )
            });
            let swap = Message::Swap { life, term, before, next: Rc::new(next) };
            // This way is TCP: it comes once, or the node reads the row anew.
            let pause = self.network.latency(&mut self.random) + self.random.millis(1, 8);
            self.after(pause, Event::Message { from: Place::Control(index), to: Place::Metadata, message: swap });
        }
        self.waits(index, &decision.waits.join("; "));
        if let Some(pause) = decision.look_again {
            let at = now + pause.clamp(Duration::from_millis(10), Duration::from_millis(250));
            let control = self.controls[index].as_mut()?;
            // The look that is planned comes soon enough, or is put off to no later than this.
            if control.looks_at <= now || at < control.looks_at {
                control.looks_at = at;
                let life = control.life;
                self.at(at, Event::Again { control: index, life, at });
            }
        }
        Some(())
    }

    /// Keeps why nothing is done.
    pub(crate) fn waits(&mut self, index: usize, waits: &str) {
        if let Some(control) = self.controls[index].as_mut().filter(|control| control.waits != waits) {
            waits.clone_into(&mut control.waits);
            self.tell(|_| format!("control plane {index} waits: {waits}"));
        }
    }

    pub(crate) fn swap(&mut self, index: usize, life: u64, term: u64, before: (u64, u64), next: &Rc<Cluster>) {
        self.store.swap(term, before, next);
        let pause = self.network.latency(&mut self.random) + self.random.millis(1, 8);
        let message = Message::Swapped { life };
        self.after(pause, Event::Message { from: Place::Metadata, to: Place::Control(index), message });
    }

    /// The answer to a swap. What else changed meanwhile was hinted at and is read anew.
    pub(crate) fn swapped(&mut self, index: usize, life: u64) {
        let (now, row) = (self.now, self.store.row.clone());
        let Some(control) = self.controls[index].as_mut().filter(|control| control.life == life) else { return };
        control.storing = false;
        if control.term.is_none() {
            return;
        }
        control.know(now, row);
        self.push(index);
        self.decide(index);
    }

    /// Orders to everybody who watches, and routes.
    pub(crate) fn push(&mut self, index: usize) {
        let Some(cluster) = self.controls[index].as_ref().and_then(|control| control.cluster.clone()) else { return };
        let orders = crate::orders::of(self.instance, &cluster);
        for node in 0..self.nodes.len() {
            let at = self.nodes[node].agent.as_ref().map(|agent| agent.control);
            if at != Some(index) {
                continue;
            }
            let own = self.nodes[node].member.to_string();
            let orders: Vec<_> = orders.iter().filter(|order| order.member_id == own).cloned().collect();
            let message = Message::Orders { life: self.nodes[node].life, sent_at: None, orders: Rc::new(orders) };
            self.send(Place::Control(index), Place::Host(node), message);
        }
        let route = route(&cluster);
        for proxy in 0..self.proxies.len() {
            let open = route.state == RouteState::Open;
            let (epoch, rev, primary) = (route.epoch, route.rev, route.primary);
            let message = Message::Route { epoch, rev, open, primary };
            self.send(Place::Control(index), Place::Proxy(proxy), message);
        }
    }

    pub(crate) fn proxies_seen(&self) -> Vec<windlass_logic::ha::ProxySeen> {
        let seen = self.proxies.iter().enumerate().map(|(index, proxy)| windlass_logic::ha::ProxySeen {
            proxy: windlass_core::id::ProxyId(Uuid::from_u64_pair(7, index as u64)),
            age: Duration::ZERO,
            paused_rev: (!proxy.open).then_some(proxy.route.1),
            connects_failed: 0,
            connects_done: 0,
        });
        seen.collect()
    }

    pub(crate) fn take_report(&mut self, index: usize, node: usize, sent_at: Time, report: &Report, relayed: bool) {
        let now = self.now;
        let Some(control) = self.controls[index].as_mut() else { return };
        if control.term.is_none() {
            // Refused: another node decides.
            return;
        }
        control.report(now, report);
        let Some(cluster) = &control.cluster else { return };
        if report.host != self.nodes.get(node).map_or(report.host, |node| node.host) {
            return;
        }
        if let Some(known) = self.nodes.get(node) {
            let own = known.member.to_string();
            let orders = crate::orders::of(self.instance, cluster);
            let orders: Vec<_> = orders.into_iter().filter(|order| order.member_id == own).collect();
            let message = Message::Orders { life: report.sequence.0, sent_at: Some(sent_at), orders: Rc::new(orders) };
            if relayed {
                // Back the way it came, by a path that was open a moment ago.
                let pause = self.network.latency(&mut self.random) * 2;
                self.after(pause, Event::Message { from: Place::Control(index), to: Place::Host(node), message });
            } else {
                self.send(Place::Control(index), Place::Host(node), message);
            }
        }
        self.decide(index);
    }

    /// An operation of a user, stored as the use cases do.
    pub(crate) fn intend(&mut self, change: impl FnOnce(&Cluster, OperationId) -> Option<Cluster>) {
        let id = OperationId(self.random.uuid());
        if self.store.down {
            return;
        }
        if let Some(next) = change(&self.store.row, id).filter(|next| *next != self.store.row) {
            let before = std::mem::replace(&mut self.store.row, next.clone());
            self.store.former.push(before);
            self.tell(|_| format!("an operation stores epoch {} rev {}: {:?}", next.epoch, next.rev, next.intent));
            let now = self.now;
            for index in 0..self.controls.len() {
                let deciding =
                    self.controls[index].as_mut().filter(|control| control.term.is_some() && !control.storing);
                if let Some(control) = deciding {
                    control.know(now, next.clone());
                    self.push(index);
                    self.decide(index);
                }
            }
        }
    }
}
