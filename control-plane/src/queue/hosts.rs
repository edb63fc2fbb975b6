//! What this node knows of each host that polls here: its parked poll and the commands it was given.
//!
//! Pure state behind one short lock; nothing here waits.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;
use windlass_core::id::{CommandId, HostId};
use windlass_db::commands::{ClaimedCommand, Delivery, Parked};

/// A command that a host does not list must have been with it for this long before it counts as lost on the way.
const LOST_AFTER: Duration = Duration::from_secs(2);
/// A cancel is sent again after this time if its command has not ended.
const CANCEL_AGAIN: Duration = Duration::from_secs(5);

/// What a parked poll is woken with.
#[derive(Debug, Default)]
pub(crate) struct Parcel {
    pub(crate) commands: Vec<ClaimedCommand>,
    pub(crate) cancels: Vec<CommandId>,
}

#[derive(Debug)]
struct ParkedPoll {
    ticket: u64,
    room: u32,
    running: HashSet<CommandId>,
    wake: oneshot::Sender<Parcel>,
}

#[derive(Debug, Clone, Copy)]
struct Lease {
    attempt: i32,
    since: Instant,
}

#[derive(Debug, Default)]
struct Host {
    session: String,
    parked: Option<ParkedPoll>,
    leased: HashMap<CommandId, Lease>,
    cancels_sent: HashMap<CommandId, Instant>,
}

/// All hosts of this node.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    hosts: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    hosts: HashMap<HostId, Host>,
    tickets: u64,
}

impl Hosts {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Valid after a panic: each change leaves every host in a state that a later poll repairs.
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the session is new here, so that what its host has must be loaded.
    pub(crate) fn is_new(&self, host: HostId, session: &str) -> bool {
        self.lock().hosts.get(&host).is_none_or(|known| known.session != session)
    }

    /// Learns what a host of a new session has.
    pub(crate) fn load(&self, host: HostId, session: &str, leased: &[Delivery], now: Instant) {
        let mut state = self.lock();
        let known = state.hosts.entry(host).or_default();
        known.session = session.to_owned();
        known.cancels_sent.clear();
        known.leased.extend(leased.iter().map(|d| (d.uid, Lease { attempt: d.attempt, since: now })));
    }

    /// Parks a poll in place of an older one of the host, which then ends empty. Gives its ticket.
    pub(crate) fn park(
        &self,
        host: HostId,
        room: u32,
        running: HashSet<CommandId>,
        wake: oneshot::Sender<Parcel>,
    ) -> u64 {
        let mut state = self.lock();
        state.tickets += 1;
        let ticket = state.tickets;
        state.hosts.entry(host).or_default().parked = Some(ParkedPoll { ticket, room, running, wake });
        ticket
    }

    /// Takes a poll away, if it is still the one with this ticket.
    pub(crate) fn unpark(&self, host: HostId, ticket: u64) {
        if let Some(known) = self.lock().hosts.get_mut(&host)
            && known.parked.as_ref().is_some_and(|parked| parked.ticket == ticket)
        {
            known.parked = None;
        }
    }

    /// Splits hosts into those parked here, with their room, and the others.
    pub(crate) fn split(&self, hosts: &[HostId]) -> (Vec<Parked>, Vec<HostId>) {
        let state = self.lock();
        let (mut parked, mut others) = (Vec::new(), Vec::new());
        for host in hosts {
            match state.hosts.get(host).and_then(|known| known.parked.as_ref()) {
                Some(poll) => parked.push(Parked { host: *host, room: poll.room }),
                None => others.push(*host),
            }
        }
        (parked, others)
    }

    /// All hosts parked here.
    pub(crate) fn parked(&self) -> Vec<HostId> {
        self.lock().hosts.iter().filter(|(_, known)| known.parked.is_some()).map(|(host, _)| *host).collect()
    }

    /// Of these hosts, those that have commands: only they can have something to cancel.
    pub(crate) fn with_commands(&self, hosts: impl IntoIterator<Item = HostId>) -> Vec<HostId> {
        let state = self.lock();
        hosts.into_iter().filter(|host| state.hosts.get(host).is_some_and(|known| !known.leased.is_empty())).collect()
    }

    /// Cancels to send now: those not sent a short while ago.
    pub(crate) fn cancels_due(&self, host: HostId, uids: Vec<CommandId>, now: Instant) -> Vec<CommandId> {
        let mut state = self.lock();
        let Some(known) = state.hosts.get_mut(&host) else { return Vec::new() };
        uids.into_iter()
            .filter(|uid| {
                let due = known.cancels_sent.get(uid).is_none_or(|sent| now.duration_since(*sent) >= CANCEL_AGAIN);
                if due {
                    known.cancels_sent.insert(*uid, now);
                }
                due
            })
            .collect()
    }

    /// Hands a parcel to the host's parked poll. Gives the deliveries back when there is none any more.
    pub(crate) fn deliver(&self, host: HostId, parcel: Parcel, now: Instant) -> Result<(), Vec<Delivery>> {
        let deliveries: Vec<_> = parcel.commands.iter().map(|c| Delivery { uid: c.uid, attempt: c.attempt }).collect();
        let mut state = self.lock();
        let Some(known) = state.hosts.get_mut(&host) else { return Err(deliveries) };
        let Some(poll) = known.parked.take() else { return Err(deliveries) };
        poll.wake.send(parcel).map_err(|_| deliveries.clone())?;
        known.leased.extend(deliveries.iter().map(|d| (d.uid, Lease { attempt: d.attempt, since: now })));
        Ok(())
    }

    /// Forgets commands of a host that have ended or were taken back.
    pub(crate) fn settle(&self, host: HostId, uids: impl IntoIterator<Item = CommandId>) {
        if let Some(known) = self.lock().hosts.get_mut(&host) {
            for uid in uids {
                known.leased.remove(&uid);
                known.cancels_sent.remove(&uid);
            }
        }
    }

    /// Deliveries that got lost on the way: their host polls, and does not list them, although it had the time to.
    pub(crate) fn lost(&self, now: Instant) -> Vec<(HostId, Delivery)> {
        let state = self.lock();
        let mut lost = Vec::new();
        for (host, known) in &state.hosts {
            let Some(poll) = &known.parked else { continue };
            for (uid, lease) in &known.leased {
                if !poll.running.contains(uid) && now.duration_since(lease.since) >= LOST_AFTER {
                    lost.push((*host, Delivery { uid: *uid, attempt: lease.attempt }));
                }
            }
        }
        lost
    }

    /// Ends every parked poll, empty.
    pub(crate) fn release_all(&self) {
        for known in self.lock().hosts.values_mut() {
            known.parked = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use windlass_core::command::CommandKind;

    use super::*;

    fn claimed(host: HostId) -> ClaimedCommand {
        ClaimedCommand {
            uid: CommandId::new(),
            host,
            attempt: 1,
            epoch: 1,
            generation: 1,
            instance: None,
            member: None,
            kind: CommandKind::PurgeMember,
            args: Value::Null,
            timeout: jiff::SignedDuration::from_secs(1),
        }
    }

    fn park(hosts: &Hosts, host: HostId, running: &[CommandId]) -> (u64, oneshot::Receiver<Parcel>) {
        let (sender, receiver) = oneshot::channel();
        (hosts.park(host, 4, running.iter().copied().collect(), sender), receiver)
    }

    #[test]
    fn a_newer_poll_takes_the_place_of_an_older_one() {
        let (hosts, host) = (Hosts::default(), HostId::new());
        let (old, mut first) = park(&hosts, host, &[]);
        let (_new, mut second) = park(&hosts, host, &[]);
        assert!(first.try_recv().is_err(), "the older one ends");
        hosts.unpark(host, old);
        hosts
            .deliver(host, Parcel { commands: vec![claimed(host)], ..Parcel::default() }, Instant::now())
            .expect("new");
        assert_eq!(second.try_recv().expect("delivered").commands.len(), 1);
        let returned =
            hosts.deliver(host, Parcel { commands: vec![claimed(host)], ..Parcel::default() }, Instant::now());
        assert_eq!(returned.expect_err("nobody is parked").len(), 1);
    }

    #[test]
    fn what_a_host_does_not_list_is_lost_after_the_grace() {
        let (hosts, host, start) = (Hosts::default(), HostId::new(), Instant::now());
        let (_, _receiver) = park(&hosts, host, &[]);
        let (kept, lost) = (claimed(host), claimed(host));
        let uids = [kept.uid, lost.uid];
        hosts.deliver(host, Parcel { commands: vec![kept, lost], ..Parcel::default() }, start).expect("parked");
        let late = start + LOST_AFTER;
        assert!(hosts.lost(late).is_empty(), "no poll, no knowledge");
        let (_, _receiver) = park(&hosts, host, &uids[..1]);
        assert!(hosts.lost(start).is_empty(), "too early");
        assert_eq!(hosts.lost(late), [(host, Delivery { uid: uids[1], attempt: 1 })]);
        hosts.settle(host, [uids[1]]);
        assert!(hosts.lost(late).is_empty());
    }

    #[test]
    fn a_cancel_is_not_repeated_at_once() {
        let (hosts, host, uid, start) = (Hosts::default(), HostId::new(), CommandId::new(), Instant::now());
        let (_, _receiver) = park(&hosts, host, &[]);
        assert_eq!(hosts.cancels_due(host, vec![uid], start), [uid]);
        assert!(hosts.cancels_due(host, vec![uid], start).is_empty());
        assert_eq!(hosts.cancels_due(host, vec![uid], start + CANCEL_AGAIN), [uid]);
    }
}
