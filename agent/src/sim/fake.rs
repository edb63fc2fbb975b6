//! The command target of a simulated agent: its members, how slow they are, what fails, and how often what took effect.
//!
//! Invariant: it outlives the agent's kills, as databases do, so that its counters tell about all lives together.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tokio::{
    sync::{broadcast, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use windlass_core::{
    Error, Reason,
    command::CommandKind,
    error::ErrorKind,
    id::{CommandId, MemberId},
};
use windlass_proto::agent::v1::{self as pb, member_facts::Process};

use super::{
    SimReplication,
    member::{Effect, Members},
};
use crate::{
    commands::{CommandTarget, Order},
    members::{Disposal, InstalledEngine},
};

/// Members in memory. Share it by `Arc`.
pub struct FakeTarget {
    fake: Mutex<Fake>,
    paused: watch::Sender<bool>,
    changed: watch::Sender<u64>,
    happenings: broadcast::Sender<pb::Happening>,
    databases: OnceLock<Arc<SimReplication>>,
}

/// Which of the commands of a kind fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// All from now on.
    Always,
    /// The nth from now on, counted from 1.
    Nth(u64),
}

struct Fake {
    members: Members,
    engines: Vec<InstalledEngine>,
    latency: Duration,
    faults: BTreeMap<CommandKind, Fault>,
    runs: BTreeMap<CommandId, u32>,
    begun: BTreeMap<CommandId, Instant>,
    effects: BTreeMap<CommandId, u32>,
}

struct Fault {
    times: Times,
    seen: u64,
    error: Error,
}

impl FakeTarget {
    /// A host with these engines and without members.
    pub fn new(engines: Vec<InstalledEngine>) -> Arc<Self> {
        Arc::new(Self {
            fake: Mutex::new(Fake {
                members: Members::default(),
                engines,
                latency: Duration::ZERO,
                faults: BTreeMap::new(),
                runs: BTreeMap::new(),
                begun: BTreeMap::new(),
                effects: BTreeMap::new(),
            }),
            paused: watch::Sender::new(false),
            changed: watch::Sender::new(0),
            happenings: broadcast::Sender::new(64),
            databases: OnceLock::new(),
        })
    }

    /// Where its replicated members live. Given once.
    pub(super) fn replicate(&self, databases: Arc<SimReplication>) {
        // A second one would be of another host.
        let _ = self.databases.set(databases);
    }

    /// Whether the server of a replicated member runs is not the fake's to say.
    fn with_process(&self, mut facts: pb::MemberFacts) -> pb::MemberFacts {
        if let Some(runs) = self.databases.get().and_then(|databases| databases.runs(&facts.member_id)) {
            let process = if runs { Process::Running } else { Process::Stopped };
            facts.process = process.into();
        }
        facts
    }

    /// Other engines are installed, or their catalogues became known.
    pub fn set_engines(&self, engines: Vec<InstalledEngine>) {
        self.fake().engines = engines;
        self.changed.send_modify(|version| *version += 1);
    }

    /// How long each command takes from now on.
    pub fn set_latency(&self, latency: Duration) {
        self.fake().latency = latency;
    }

    /// Makes commands of a kind fail with this error.
    pub fn fail(&self, kind: CommandKind, times: Times, error: Error) {
        self.fake().faults.insert(kind, Fault { times, seen: 0, error });
    }

    /// Makes commands of a kind succeed again.
    pub fn heal(&self, kind: CommandKind) {
        self.fake().faults.remove(&kind);
    }

    /// Holds every command before its effect.
    pub fn pause(&self) {
        self.paused.send_replace(true);
    }

    /// Lets held commands go on.
    pub fn resume(&self) {
        self.paused.send_replace(false);
    }

    /// How often this command was begun.
    pub fn runs(&self, uid: CommandId) -> u32 {
        self.fake().runs.get(&uid).copied().unwrap_or(0)
    }

    /// When this command was first begun, for measurements.
    pub fn begun(&self, uid: CommandId) -> Option<Instant> {
        self.fake().begun.get(&uid).copied()
    }

    /// How often this command changed something.
    pub fn effects(&self, uid: CommandId) -> u32 {
        self.fake().effects.get(&uid).copied().unwrap_or(0)
    }

    /// Commands that changed something more than once; must be empty.
    pub fn repeated(&self) -> Vec<CommandId> {
        self.fake().effects.iter().filter(|(_, count)| **count > 1).map(|(uid, _)| *uid).collect()
    }

    /// How many members there are, and how many were put aside.
    pub fn count(&self) -> (usize, usize) {
        self.fake().members.count()
    }

    /// Something happens without an order.
    pub fn happen(&self, kind: &str, member: &str, message: &str) {
        // Nobody listens while the agent is down; then it is lost, as with a real one.
        let _ = self.happenings.send(pb::Happening {
            kind: kind.to_owned(),
            member_id: member.to_owned(),
            message: message.to_owned(),
            ..pb::Happening::default()
        });
    }

    /// Waits its turn, fails if it is to fail, and counts.
    async fn carry_out(
        &self,
        order: &Order,
        kind: CommandKind,
        cancel: Option<&CancellationToken>,
        change: impl FnOnce(&mut Members, MemberId) -> Result<(pb::MemberFacts, Effect), Error>,
    ) -> Result<pb::MemberFacts, Error> {
        let latency = {
            let mut fake = self.fake();
            *fake.runs.entry(order.uid).or_default() += 1;
            fake.begun.entry(order.uid).or_insert_with(Instant::now);
            fake.latency
        };
        let mut paused = self.paused.subscribe();
        let turn = async {
            // The sender lives in self, so that waiting cannot fail.
            let _ = paused.wait_for(|paused| !paused).await;
            if !latency.is_zero() {
                sleep(latency).await;
            }
        };
        match cancel {
            None => turn.await,
            Some(cancel) => cancel.run_until_cancelled(turn).await.ok_or_else(|| {
                Error::new(ErrorKind::Cancelled, Reason::OperationCancelled, "cancelled before it changed anything")
            })?,
        }
        let mut fake = self.fake();
        if let Some(fault) = fake.faults.get_mut(&kind) {
            fault.seen += 1;
            if fault.times == Times::Always || fault.times == Times::Nth(fault.seen) {
                return Err(fault.error.clone());
            }
        }
        let (facts, effect) = change(&mut fake.members, order.member)?;
        if effect == Effect::Changed {
            *fake.effects.entry(order.uid).or_default() += 1;
            self.changed.send_modify(|version| *version += 1);
        }
        Ok(facts)
    }

    fn fake(&self) -> MutexGuard<'_, Fake> {
        self.fake.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl CommandTarget for FakeTarget {
    async fn apply(
        &self,
        order: &Order,
        goal: pb::MemberGoal,
        cancel: &CancellationToken,
    ) -> Result<pb::MemberFacts, Error> {
        let replicated = self.databases.get().filter(|_| goal.replicated);
        let facts = self.carry_out(order, CommandKind::ApplyMember, Some(cancel), |members, id| {
            let applied = members.apply(id, goal.clone())?;
            if let Some(databases) = replicated {
                databases.apply(&goal);
            }
            Ok(applied)
        });
        Ok(self.with_process(facts.await?))
    }

    async fn remove(&self, order: &Order, disposal: Disposal) -> Result<pb::MemberFacts, Error> {
        let facts = self.carry_out(order, CommandKind::RemoveMember, None, |members, id| {
            if let Some(databases) = self.databases.get() {
                databases.remove(&id.to_string());
            }
            Ok(members.remove(id, disposal))
        });
        facts.await
    }

    async fn purge(&self, order: &Order) -> Result<pb::MemberFacts, Error> {
        self.carry_out(order, CommandKind::PurgeMember, None, |members, id| Ok(members.purge(id))).await
    }

    async fn apply_object(&self, order: &Order, object: pb::ApplyObject) -> Result<pb::MemberFacts, Error> {
        self.carry_out(order, CommandKind::ApplyObject, None, |members, id| members.apply_object(id, &object)).await
    }

    fn facts(&self) -> Vec<pb::MemberFacts> {
        let facts = self.fake().members.facts();
        facts.into_iter().map(|facts| self.with_process(facts)).collect()
    }

    fn orphans(&self) -> Vec<String> {
        Vec::new()
    }

    fn engines(&self) -> Vec<InstalledEngine> {
        self.fake().engines.clone()
    }

    fn happenings(&self) -> broadcast::Receiver<pb::Happening> {
        self.happenings.subscribe()
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
