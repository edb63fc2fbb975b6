//! What an agent sees of its server: the model of the statement that the real one asks.

use std::time::Duration;

use windlass_agent::ha::simulated::{Barrier, Live, Look, Lsn, Receiver, Seen, Sender, SlotState};
use windlass_core::replication::slot_name;

use crate::{
    log::{Log, position},
    server::{Process, Waiter},
    world::World,
};

/// A server that does not answer for so long counts as silent.
const NO_ANSWER: Duration = Duration::from_secs(2);

impl World {
    /// What the agent sees of its server.
    pub(crate) fn seen_of(&self, node: usize) -> Seen {
        let server = &self.nodes[node].server;
        let Some(log) = &server.log else { return Seen::NoData };
        let Some(process) = &server.process else { return Seen::Down };
        if let Some(since) = process.frozen {
            let silent = self.now - since;
            if silent >= NO_ANSWER {
                return Seen::Silent(process.number, silent);
            }
        }
        if process.ready > self.now || process.stopping.is_some() {
            return Seen::Starting(process.number);
        }
        Seen::Live(process.number, Box::new(self.live(node, log, process)))
    }

    pub(crate) fn live(&self, node: usize, log: &Log, process: &Process) -> Live {
        let end = Lsn(log.end());
        let waits = |row: &Barrier| process.waiting.iter().any(|(_, waiter)| *waiter == Waiter::Barrier(*row));
        let worth = if process.recovering { SlotState::Empty } else { SlotState::Keeps };
        let slots = process.slots.iter().map(|member| (slot_name(*member), worth)).collect();
        let upstream = process.conf.upstream.as_ref();
        let conninfo = upstream.map(|upstream| {
            format!("host={} port={} application_name={}", upstream.address, upstream.port, upstream.name)
        });
        let receiver = process.receiver.as_ref().map(|receiver| Receiver {
            pid: i32::try_from(receiver.connection).unwrap_or(0),
            status: "streaming".to_owned(),
            timeline: Some(log.timeline),
            conninfo: conninfo.clone(),
            silent: Some(self.now.saturating_sub(self.last_heard(node, receiver)).as_secs_f64()),
        });
        let senders = process.senders.values().map(|sender| Sender {
            name: sender.name.clone(),
            state: Some("streaming".to_owned()),
            sync_state: Some(if process.conf.names.contains(&sender.name) { "quorum" } else { "async" }.to_owned()),
            flushed: Some(Lsn(position(sender.flushed))),
            replayed: Some(Lsn(position(sender.flushed))),
        });
        Live {
            system: log.system.to_string(),
            recovering: process.recovering,
            segment: 16 << 20,
            checkpoint_timeline: process.checkpoint_timeline,
            redo: end,
            timeline: if process.recovering { 0 } else { log.timeline },
            inserted: (!process.recovering).then_some(end),
            flushed: Some(end),
            replayed: process.recovering.then_some(end),
            startup: (process.recovering && process.receiver.is_none()).then(|| "RecoveryWalStream".to_owned()),
            receiver,
            senders: senders.collect(),
            names: process.conf.standby_names(),
            epoch: Some(process.conf.epoch_text()),
            conninfo: conninfo.unwrap_or_default(),
            clients: 0,
            slots,
            barrier: log.barrier().filter(|row| process.recovering || !waits(row)),
        }
    }

    pub(crate) fn look_at(&self, node: usize) -> Look {
        let host = &self.nodes[node];
        let log = host.server.log.as_ref();
        Look {
            now: self.now,
            gate: host.server.gate,
            marker: host.server.marker,
            boot: host.boot,
            timeline: log.map_or(0, |log| log.timeline),
            fork: log.and_then(|log| log.history.last().map(|(_, end)| position(*end))).unwrap_or(0),
        }
    }
}
