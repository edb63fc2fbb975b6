//! Streams between servers: who is connected, what is sent, what is acknowledged, and when the loss of one is noticed.

use std::{rc::Rc, time::Duration};

use crate::{
    network::Place,
    server::{Receiver, Sender, Time},
    world::{Event, Message, World},
};

/// `wal_receiver_timeout` and `wal_sender_timeout`.
const RECEIVER_TIMEOUT: Duration = Duration::from_millis(1500);
const SENDER_TIMEOUT: Duration = Duration::from_secs(3);

impl World {
    /// A server looks at its connections: those that are lost, and the one that it should have.
    pub(crate) fn connections(&mut self, node: usize) {
        if self.nodes[node].paused.is_some() || self.nodes[node].server.running(self.now).is_none() {
            return;
        }
        self.look_at_receiver(node);
        self.look_at_senders(node);
        self.connect(node);
    }

    /// When a follower last had a sign of life of its leader: now, if nothing is between them.
    pub(crate) fn last_heard(&self, node: usize, receiver: &Receiver) -> Time {
        if self.is_sending(receiver.upstream, node, receiver.connection) { self.now } else { receiver.heard }
    }

    fn is_sending(&self, leader: usize, node: usize, connection: u64) -> bool {
        let sends = |sender: &Sender| sender.connection == connection;
        self.network.connects(Place::Host(leader), Place::Host(node))
            && self.nodes[leader].paused.is_none()
            && self.nodes[leader]
                .server
                .running(self.now)
                .and_then(|leader| leader.senders.get(&node))
                .is_some_and(sends)
    }

    fn look_at_receiver(&mut self, node: usize) {
        let now = self.now;
        let Some(receiver) = self.nodes[node].server.process.as_ref().and_then(|process| process.receiver.clone())
        else {
            return;
        };
        let leader = receiver.upstream;
        let path = self.network.connects(Place::Host(leader), Place::Host(node)) && self.nodes[leader].paused.is_none();
        let frozen = self.nodes[leader].server.process.as_ref().is_some_and(|process| process.frozen.is_some());
        let lost = if self.is_sending(leader, node, receiver.connection) {
            false
        } else if path && !frozen {
            // The other end is gone and its machine says so.
            true
        } else {
            now.saturating_sub(receiver.heard) >= RECEIVER_TIMEOUT
        };
        let sending = self.is_sending(leader, node, receiver.connection);
        if let Some(process) = &mut self.nodes[node].server.process {
            if lost {
                process.receiver = None;
            } else if let (true, Some(receiver)) = (sending, &mut process.receiver) {
                receiver.heard = now;
            }
        }
        if lost {
            self.tell(|_| format!("member {node} lost its connection to {leader}"));
            self.wake(node);
        }
    }

    fn look_at_senders(&mut self, node: usize) {
        let now = self.now;
        let Some(process) = &self.nodes[node].server.process else { return };
        let mut gone = Vec::new();
        let mut heard = Vec::new();
        for (other, sender) in &process.senders {
            let path =
                self.network.connects(Place::Host(node), Place::Host(*other)) && self.nodes[*other].paused.is_none();
            let process = self.nodes[*other].server.process.as_ref();
            let frozen = process.is_some_and(|process| process.frozen.is_some());
            let receives = process
                .and_then(|process| process.receiver.as_ref())
                .is_some_and(|receiver| receiver.connection == sender.connection);
            if path && !frozen && receives {
                heard.push(*other);
            } else if (path && !frozen) || now.saturating_sub(sender.heard) >= SENDER_TIMEOUT {
                gone.push(*other);
            }
        }
        let Some(process) = &mut self.nodes[node].server.process else { return };
        for other in heard {
            if let Some(sender) = process.senders.get_mut(&other) {
                sender.heard = now;
            }
        }
        let changed = !gone.is_empty();
        for other in gone {
            process.senders.remove(&other);
        }
        if changed {
            self.wake(node);
        }
    }

    /// A standby connects to its leader, if PostgreSQL itself would let it stream.
    fn connect(&mut self, node: usize) {
        let now = self.now;
        let server = &self.nodes[node].server;
        let Some(process) = server.running(now).filter(|process| process.recovering && process.receiver.is_none())
        else {
            return;
        };
        let Some(upstream) = &process.conf.upstream else { return };
        let name = upstream.name.clone();
        let Some(leader) = upstream.address.strip_prefix('h').and_then(|index| index.parse::<usize>().ok()) else {
            return;
        };
        if !self.network.connects(Place::Host(node), Place::Host(leader)) || self.nodes[leader].paused.is_some() {
            return;
        }
        let source = &self.nodes[leader].server;
        let (Some(running), Some(theirs), Some(own)) = (source.running(now), &source.log, &server.log) else { return };
        let admitted = running.conf.members.contains(&self.nodes[node].member);
        let Ok(from) = theirs.streams_to(own) else { return };
        if !admitted || running.stopping.is_some() {
            return;
        }
        let connection = self.unique();
        let sender = Sender {
            connection,
            name: name.clone(),
            sent: from,
            flushed: from,
            heard: now,
            arrives: now,
            returns: now,
        };
        if let Some(running) = &mut self.nodes[leader].server.process {
            running.senders.insert(node, sender);
        }
        if let Some(process) = &mut self.nodes[node].server.process {
            process.receiver = Some(Receiver { connection, upstream: leader, heard: now });
        }
        self.tell(|_| format!("member {node} streams from {leader} as {name}"));
        self.wrote(leader);
        self.wake(leader);
        self.wake(node);
    }

    /// Sends what followers do not have yet.
    pub(crate) fn transmit(&mut self, node: usize) {
        let now = self.now;
        let server = &self.nodes[node].server;
        let (Some(process), Some(log)) = (server.running(now), &server.log) else { return };
        let end = log.records.len();
        let due: Vec<(usize, u64, usize)> = process
            .senders
            .iter()
            .filter(|(_, sender)| sender.sent < end)
            .map(|(other, sender)| (*other, sender.connection, sender.sent))
            .collect();
        for (other, connection, from) in due {
            let Some(log) = &self.nodes[node].server.log else { return };
            let records = Rc::new(log.records[from..].to_vec());
            let latency = self.network.latency(&mut self.random);
            let Some(sender) =
                self.nodes[node].server.process.as_mut().and_then(|process| process.senders.get_mut(&other))
            else {
                continue;
            };
            sender.sent = end;
            // TCP keeps the order.
            sender.arrives = (now + latency).max(sender.arrives + Duration::from_micros(1));
            let pause = sender.arrives - now;
            let message = Message::Wal { connection, upto: end, records, at: from };
            self.after(pause, Event::Message { from: Place::Host(node), to: Place::Host(other), message });
        }
    }

    /// Records arrive at a follower, which writes them and says so.
    pub(crate) fn receive(
        &mut self,
        leader: usize,
        node: usize,
        connection: u64,
        at: usize,
        upto: usize,
        records: &[crate::log::Record],
    ) {
        let now = self.now;
        let sender = self.nodes[leader].server.log.clone();
        let server = &mut self.nodes[node].server;
        let of_this = |receiver: &Receiver| receiver.connection == connection;
        if !server.process.as_ref().and_then(|process| process.receiver.as_ref()).is_some_and(of_this) {
            return;
        }
        if server.running(now).is_none() {
            // It waits in the buffer of a server that stands still.
            let message = Message::Wal { connection, upto, records: Rc::new(records.to_vec()), at };
            let (from, to) = (Place::Host(leader), Place::Host(node));
            return self.after(Duration::from_millis(100), Event::Message { from, to, message });
        }
        let (Some(own), Some(sender)) = (&mut server.log, sender) else { return };
        if own.records.len() < at {
            // What comes before it was held up: TCP keeps the order.
            let message = Message::Wal { connection, upto, records: Rc::new(records.to_vec()), at };
            let (from, to) = (Place::Host(leader), Place::Host(node));
            return self.after(Duration::from_millis(20), Event::Message { from, to, message });
        }
        if own.records.len() > at {
            return;
        }
        own.receive(at, records, &sender);
        let latency = self.network.latency(&mut self.random) + self.random.millis(0, 4);
        let flushed = Message::Flushed { connection, flushed: upto };
        let Some(sender) =
            self.nodes[leader].server.process.as_mut().and_then(|process| process.senders.get_mut(&node))
        else {
            return;
        };
        sender.returns = (now + latency).max(sender.returns + Duration::from_micros(1));
        let pause = sender.returns - now;
        self.after(pause, Event::Message { from: Place::Host(node), to: Place::Host(leader), message: flushed });
        self.wake(node);
    }

    /// A receipt arrives at the leader.
    pub(crate) fn flushed(&mut self, leader: usize, node: usize, connection: u64, flushed: usize) {
        let now = self.now;
        let server = &mut self.nodes[leader].server;
        if server.process.is_some() && server.running(now).is_none() {
            let message = Message::Flushed { connection, flushed };
            let (from, to) = (Place::Host(node), Place::Host(leader));
            return self.after(Duration::from_millis(100), Event::Message { from, to, message });
        }
        let Some(process) = server.running_mut(now) else { return };
        let Some(sender) = process.senders.get_mut(&node).filter(|sender| sender.connection == connection) else {
            return;
        };
        sender.flushed = sender.flushed.max(flushed);
        sender.heard = now;
        self.release(leader);
    }
}
