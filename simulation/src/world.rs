//! Everything together, one event after the other in virtual time.
//!
//! Invariant: what happens follows from the plan and its seed alone; no clock, no thread, no hash order.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    rc::Rc,
    time::Duration,
};

use windlass_agent::ha::simulated::{Gate, Memory};
use windlass_core::{
    id::{HostId, InstanceId, MemberId},
    replication::{Replication, Timings},
};
use windlass_logic::ha::{Cluster, Kind as Counts, Member, Stay};
use windlass_proto::agent::v1 as pb;

use crate::{
    agent::{Action, Agent},
    check::Checker,
    control::{Control, Report},
    log::{Kind, Log, Record},
    network::{Network, Place, Weather},
    plan::{END, Fault, HEALED, Plan},
    random::Random,
    server::{Server, Time, Waiter},
    store::Store,
};

/// More events than any honest schedule has.
const MOST_EVENTS: u64 = 2_000_000;
/// After the last fault ended by itself, before everything is made whole.
const QUIET: Duration = Duration::from_secs(6);
/// Two attempts of clients are so far apart.
const CLIENTS: (u64, u64) = (50, 250);
/// From look to look of the servers' connections.
const CONNECTIONS: (u64, u64) = (100, 200);

/// A member and its host.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) member: MemberId,
    pub(crate) host: HostId,
    /// The database.
    pub(crate) server: Server,
    /// What the agent has on disk.
    pub(crate) memory: Memory,
    /// The agent, while it runs.
    pub(crate) agent: Option<Agent>,
    /// Grows with each start of the agent.
    pub(crate) life: u64,
    /// Grows with each boot of the machine.
    pub(crate) boot: u64,
    /// The whole machine stands still until then.
    pub(crate) paused: Option<Time>,
    /// When the agent looks next; an event of another moment was overtaken.
    pub(crate) looks_at: Time,
}

/// Something that happens at a moment.
#[derive(Debug)]
pub(crate) enum Event {
    /// The agent of a member looks at it.
    Look { node: usize, life: u64 },
    /// What the agent of a member began is done.
    Act { node: usize, life: u64, action: Action },
    /// The agent of a host reports.
    Report { node: usize, life: u64 },
    /// The agents of all hosts probe each other.
    Probe,
    /// The servers look at their connections.
    Connections { node: usize },
    /// A stopping server ends.
    Stopped { node: usize, process: u64 },
    /// A node of the control plane keeps its lease, and looks at its cluster.
    Think { control: usize, life: u64 },
    /// It looks at its cluster as it planned to.
    Again { control: usize, life: u64, at: Time },
    /// A client writes.
    Write,
    /// The nth fault of the plan.
    Fault(usize),
    /// The end of what a fault did.
    Undo(Undo),
    /// All faults end.
    Heal,
    /// A message arrives.
    Message { from: Place, to: Place, message: Message },
}

/// How a fault ends.
#[derive(Debug, Clone)]
pub(crate) enum Undo {
    Agent(usize),
    Host(usize),
    Thaw(usize, u64),
    Unpause(usize),
    Join(Place, Place),
    Control(usize),
    Metadata,
    Resume,
}

/// What goes over the network.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    /// Facts. `by` is the host that relays, if it is not the sender.
    Report { node: usize, sent_at: Time, report: Rc<Report>, relayed: bool },
    /// Orders, as an answer or by push.
    Orders { life: u64, sent_at: Option<Time>, orders: Rc<Vec<pb::ReplicationOrder>> },
    /// Records of a log.
    Wal { connection: u64, upto: usize, records: Rc<Vec<Record>>, at: usize },
    /// What a follower has.
    Flushed { connection: u64, flushed: usize },
    /// A change of the row.
    Swap { life: u64, term: u64, before: (u64, u64), next: Rc<Cluster> },
    /// What came of it.
    Swapped { life: u64 },
    /// A route.
    Route { epoch: u64, rev: u64, open: bool, primary: Option<MemberId> },
}

/// What a proxy goes by.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Proxy {
    pub(crate) route: (u64, u64),
    pub(crate) open: bool,
    pub(crate) primary: Option<usize>,
}

/// A world.
pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) random: Random,
    pub(crate) plan: Plan,
    pub(crate) nodes: Vec<Node>,
    pub(crate) witnesses: Vec<HostId>,
    pub(crate) controls: Vec<Option<Control>>,
    pub(crate) store: Store,
    pub(crate) network: Network,
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) checker: Checker,
    pub(crate) instance: InstanceId,
    /// What happened, for people; only if it is kept.
    pub(crate) story: Option<Vec<String>>,
    queue: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    unique: u64,
    commits: u32,
    /// Last answer of each host to each host's probes, and probes since.
    pub(crate) seen: BTreeMap<(usize, usize), (Option<Time>, u32)>,
    pub(crate) healed: bool,
    /// When everything is whole again.
    pub(crate) healed_at: Time,
    /// The highest epoch there was when the metadata lost rows; what it assumes is not true before a higher one.
    pub(crate) lost_rows: Option<u64>,
    /// Events in all.
    pub(crate) events: u64,
}

struct Scheduled {
    at: Time,
    number: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl World {
    /// A new world: the first member has data, the others none; the control plane is about to start.
    pub(crate) fn new(seed: u64, plan: Plan) -> Self {
        let mut random = Random::new(seed ^ 0xabcd_ef01_2345_6789);
        let instance = InstanceId(random.uuid());
        let mut nodes = Vec::new();
        for index in 0..plan.members {
            let (member, host) = (MemberId(random.uuid()), HostId(random.uuid()));
            let log = (index == 0).then(|| Log::new(1, 0));
            nodes.push(Node {
                member,
                host,
                server: Server::new(log),
                memory: Memory::new(instance, member),
                agent: None,
                life: 0,
                boot: 1,
                paused: None,
                looks_at: Time::ZERO,
            });
        }
        let witnesses = (0..plan.witnesses).map(|_| HostId(random.uuid())).collect();
        let members = nodes.iter().enumerate().map(|(index, node)| {
            let asynchronous = index > 0 && index + plan.asynchronous as usize >= plan.members;
            let member = Member {
                host: node.host,
                host_name: format!("h{index}"),
                address: format!("h{index}"),
                port: u16::try_from(20_000 + index).unwrap_or(20_000),
                kind: if asynchronous { Counts::Asynchronous } else { Counts::Synchronous },
                priority: 0,
                stay: Stay::Staying,
                clone_anew: false,
                order_rev: 1,
            };
            (node.member, member)
        });
        let replication = Replication {
            replicas: u32::try_from(plan.members).unwrap_or(1) - 1,
            asynchronous: plan.asynchronous,
            durability: plan.durability,
            acknowledgements: 0,
            timings: Timings::default(),
        };
        let cluster = Cluster::found(members.collect(), nodes[0].member, replication, random.uuid());
        let mut world = Self {
            now: Time::ZERO,
            network: Network::new(Weather::FAIR),
            controls: (0..plan.nodes).map(|_| None).collect(),
            store: Store::new(cluster),
            proxies: vec![Proxy::default(); 2],
            checker: Checker::new(plan.destroys()),
            nodes,
            witnesses,
            random,
            instance,
            story: None,
            queue: BinaryHeap::new(),
            scheduled: 0,
            unique: 1,
            commits: 0,
            seen: BTreeMap::new(),
            healed: false,
            healed_at: HEALED,
            lost_rows: None,
            events: 0,
            plan,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        let number = self.unique();
        self.nodes[0].server.start(number, Time::ZERO);
        for control in 0..self.controls.len() {
            self.start_control(control);
        }
        for node in 0..self.nodes.len() {
            self.start_agent(node);
            self.after(Duration::from_millis(100), Event::Connections { node });
        }
        self.after(Duration::from_millis(300), Event::Probe);
        self.after(Duration::from_millis(50), Event::Write);
        let faults: Vec<Time> = self.plan.faults.iter().map(|(at, _)| *at).collect();
        for (number, at) in faults.into_iter().enumerate() {
            self.at(at, Event::Fault(number));
        }
        // Quiet time after faults finds nothing; without any, it is what is looked at.
        let over = self.plan.faults.iter().map(|(at, fault)| *at + lasts(fault)).max();
        self.healed_at = over.map_or(HEALED, |over| (over + QUIET).min(HEALED));
        self.at(self.healed_at, Event::Heal);
    }

    /// Runs to the end, or to the first breach.
    pub(crate) fn run(&mut self) {
        while let Some(Reverse(next)) = self.queue.pop() {
            if next.at > END || self.checker.breach.is_some() || (self.healed && self.is_well()) {
                break;
            }
            self.now = next.at;
            self.events += 1;
            if self.events > MOST_EVENTS {
                self.checker.fail("END", "there is no end to events: something goes round in circles".to_owned());
                break;
            }
            self.happen(next.event);
            self.check();
        }
        self.finish();
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Look { node, life } => self.look(node, life),
            Event::Act { node, life, action } => self.act(node, life, action),
            Event::Report { node, life } => self.report(node, life),
            Event::Probe => self.probe(),
            Event::Connections { node } => {
                self.connections(node);
                let pause = self.random.millis(CONNECTIONS.0, CONNECTIONS.1);
                self.after(pause, Event::Connections { node });
            }
            Event::Stopped { node, process } => self.stopped(node, process),
            Event::Think { control, life } => self.think(control, life),
            Event::Again { control, life, at } => {
                let planned = |control: &Control| control.life == life && control.looks_at == at;
                if self.controls[control].as_ref().is_some_and(planned) {
                    self.decide(control);
                }
            }
            Event::Write => {
                self.write();
                let pause = self.random.millis(CLIENTS.0, CLIENTS.1);
                self.after(pause, Event::Write);
            }
            Event::Fault(number) => {
                let fault = self.plan.faults[number].1.clone();
                self.fault(&fault);
            }
            Event::Undo(undo) => self.undo(undo),
            Event::Heal => self.heal(),
            Event::Message { from, to, message } => self.arrive(from, to, message),
        }
    }

    /// Has something happen later.
    pub(crate) fn after(&mut self, pause: Duration, event: Event) {
        self.at(self.now + pause, event);
    }

    pub(crate) fn at(&mut self, at: Time, event: Event) {
        self.scheduled += 1;
        self.queue.push(Reverse(Scheduled { at, number: self.scheduled, event }));
    }

    /// Sends a message, which the network may lose, double or delay.
    pub(crate) fn send(&mut self, from: Place, to: Place, message: Message) {
        if !self.network.passes(from, to) {
            return;
        }
        let fate = self.network.fate(&mut self.random);
        for pause in fate {
            self.after(pause, Event::Message { from, to, message: message.clone() });
        }
    }

    fn arrive(&mut self, from: Place, to: Place, message: Message) {
        if !self.network.passes(from, to) {
            if matches!(message, Message::Wal { .. } | Message::Flushed { .. }) {
                // TCP tries again for as long as both ends keep the connection.
                self.after(Duration::from_millis(100), Event::Message { from, to, message });
            }
            return;
        }
        if let Place::Host(node) = to
            && let Some(Node { paused: Some(until), .. }) = self.nodes.get(node)
        {
            // It waits in a buffer of the machine.
            let until = *until + Duration::from_micros(10);
            return self.at(until, Event::Message { from, to, message });
        }
        match (message, from, to) {
            (Message::Report { node, sent_at, report, relayed }, _, Place::Control(control)) => {
                self.take_report(control, node, sent_at, &report, relayed);
            }
            (Message::Orders { life, sent_at, orders }, Place::Control(control), Place::Host(node)) => {
                // An answer to a connection that ended with its agent reaches nobody.
                if self.nodes.get(node).is_some_and(|node| node.life == life) {
                    self.take_orders(node, control, sent_at, &orders);
                }
            }
            (Message::Wal { connection, upto, records, at }, Place::Host(leader), Place::Host(node)) => {
                self.receive(leader, node, connection, at, upto, &records);
            }
            (Message::Flushed { connection, flushed }, Place::Host(node), Place::Host(leader)) => {
                self.flushed(leader, node, connection, flushed);
            }
            (Message::Swap { life, term, before, next }, Place::Control(control), Place::Metadata) => {
                self.swap(control, life, term, before, &next);
            }
            (Message::Swapped { life }, Place::Metadata, Place::Control(control)) => self.swapped(control, life),
            (Message::Route { epoch, rev, open, primary }, _, Place::Proxy(proxy)) => {
                let known = self.proxies[proxy].route;
                // As a proxy does: what is older than what it has is left.
                if (epoch, rev) > known {
                    let primary = primary.and_then(|id| self.nodes.iter().position(|node| node.member == id));
                    self.proxies[proxy] = Proxy { route: (epoch, rev), open, primary };
                    self.checker.route(proxy, (epoch, rev));
                }
            }
            (message, from, to) => unreachable!("{message:?} from {from:?} to {to:?}"),
        }
    }

    /// A number that was never used.
    pub(crate) fn unique(&mut self) -> u64 {
        self.unique += 1;
        self.unique
    }

    /// Keeps a line of the story.
    pub(crate) fn tell(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.story.is_some() {
            let line = format!("{:>9.3} {}", self.now.as_secs_f64(), line(self));
            if let Some(story) = &mut self.story {
                story.push(line);
            }
        }
    }

    /// The node of a member.
    pub(crate) fn index(&self, member: MemberId) -> Option<usize> {
        self.nodes.iter().position(|node| node.member == member)
    }

    fn write(&mut self) {
        self.commits += 1;
        let commit = self.commits;
        let direct = self.random.chance(300);
        let count = self.nodes.len() as u64;
        let (target, known) = if direct {
            // A session that knows nothing of epochs.
            (usize::try_from(self.random.below(count)).unwrap_or(0), 0)
        } else {
            let proxy = usize::try_from(self.random.below(self.proxies.len() as u64)).unwrap_or(0);
            let Proxy { route, open, primary } = self.proxies[proxy];
            let (Some(primary), true) = (primary, open) else { return };
            if !self.network.connects(Place::Proxy(proxy), Place::Host(primary)) {
                return;
            }
            (primary, route.0)
        };
        if self.nodes[target].paused.is_some() {
            return;
        }
        let now = self.now;
        let Some(process) = self.nodes[target].server.running(now) else { return };
        if process.recovering || process.gate == Gate::Shut || process.stopping.is_some() {
            return;
        }
        // P11: what proves a lower epoch is not used.
        if process.leads().unwrap_or(0) < known {
            return;
        }
        let unique = self.unique();
        let end = self.nodes[target].server.append(unique, Kind::Commit(commit));
        if let Some(process) = &mut self.nodes[target].server.process {
            process.waiting.push((end, Waiter::Client(commit)));
        }
        self.wrote(target);
    }

    /// What follows from a record or a receipt: sending, and commits that are released.
    pub(crate) fn wrote(&mut self, node: usize) {
        self.transmit(node);
        self.release(node);
    }

    /// Commits that wait no longer.
    pub(crate) fn release(&mut self, node: usize) {
        let now = self.now;
        let Some(end) = self.nodes[node].server.log.as_ref().map(|log| log.records.len()) else { return };
        let Some(process) = self.nodes[node].server.running_mut(now) else { return };
        let (epoch, released) = (process.leads().unwrap_or(0), process.release(end));
        for waiter in released {
            match waiter {
                Waiter::Client(commit) => self.checker.acknowledge(commit, epoch, node),
                Waiter::Barrier(row) => self.barrier_acknowledged(node, row),
            }
        }
    }
}

/// Time that a fault lasts.
pub(crate) fn lasts(fault: &Fault) -> Duration {
    match fault {
        Fault::Freeze(_, span)
        | Fault::KillAgent(_, span)
        | Fault::KillHost(_, span)
        | Fault::PauseHost(_, span)
        | Fault::Isolate(_, span)
        | Fault::Deafen(_, _, span)
        | Fault::Cut(_, _, span)
        | Fault::CutControl(_, span)
        | Fault::KillControl(_, span)
        | Fault::StopMetadata(span)
        | Fault::Rest(span)
        | Fault::OnLeader(_, span) => *span,
        Fault::KillServer(_)
        | Fault::RollBack(_)
        | Fault::LoseData(_)
        | Fault::LoseMemory(_)
        | Fault::Switchover
        | Fault::Failover => Duration::ZERO,
    }
}
