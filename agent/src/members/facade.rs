//! The facade that the rest of the agent uses.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedMutexGuard, broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;
use windlass_core::{Error, ErrorKind, Reason, id::MemberId};
use windlass_kit::failpoint::Failpoints;
use windlass_proto::agent::v1 as pb;

use super::{
    InstalledEngine, MemberCertificates, MembersConfig,
    goal::{Goal, Phase, Stored},
    installed::Installed,
    layout::{self, Layout},
    news::News,
    observe::Processes,
    slot::{Slot, Work},
    warm::Warm,
};
use crate::{
    engines::{EngineDriver, Network, Registry, Server, registry},
    host::{self, ProcessHost, UnitStatus, account::Accounts, files},
};

/// What becomes of a removed member's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposal {
    /// Put aside, for an undelete.
    Retain,
    /// Deleted.
    Purge,
}

/// The database servers of this host.
pub struct Members {
    pub(super) config: MembersConfig,
    pub(super) layout: Layout,
    pub(super) accounts: Accounts,
    pub(super) registry: Registry,
    pub(super) host: Arc<dyn ProcessHost>,
    pub(super) certificates: Arc<dyn MemberCertificates>,
    pub(super) failpoints: Failpoints,
    pub(super) installed: Installed,
    pub(super) news: News,
    pub(super) warm: Warm,
    pub(super) processes: Processes,
    /// Members whose process ended or came up, for supervision.
    pub(super) due: mpsc::UnboundedSender<MemberId>,
    due_reader: Mutex<Option<mpsc::UnboundedReceiver<MemberId>>>,
    slots: Mutex<BTreeMap<MemberId, Arc<Slot>>>,
    orphans: Mutex<Vec<String>>,
}

impl Members {
    /// Reads what is on disk and finds the servers that still run. Starts nothing; see [`Self::run`].
    ///
    /// # Errors
    /// `INVALID_FIELD` for settings that cannot work; `INTERNAL` for a state directory that cannot be used.
    pub async fn open(
        config: MembersConfig,
        certificates: Arc<dyn MemberCertificates>,
        failpoints: Failpoints,
    ) -> Result<Arc<Self>, Error> {
        let accounts = Accounts::resolve(config.run_as.as_deref())?;
        let layout = Layout::create(&config.state_dir, &config.run_dir, &accounts)?;
        let host = host::open(config.process_host, &layout.units(), failpoints.clone()).await?;
        let (due, due_reader) = mpsc::unbounded_channel();
        let members = Arc::new(Self {
            config,
            layout,
            accounts,
            registry: registry(),
            host,
            certificates,
            failpoints,
            installed: Installed::default(),
            news: News::new(),
            warm: Warm::new(),
            processes: Processes::default(),
            due,
            due_reader: Mutex::new(Some(due_reader)),
            slots: Mutex::default(),
            orphans: Mutex::default(),
        });
        members.clean_warm().await?;
        members.discover().await;
        members.load().await?;
        Ok(members)
    }

    /// Brings a member to the goal. Idempotent; a goal of a lower generation than applied changes nothing.
    ///
    /// # Errors
    /// As each step says; after a failed create nothing is left, after a failed change the former goal holds. Of kind
    /// `Cancelled` only if nothing half-done is left.
    pub async fn apply(&self, goal: pb::MemberGoal, cancel: &CancellationToken) -> Result<pb::MemberFacts, Error> {
        self.converge(goal, cancel).await
    }

    /// Stops a member, takes everything of it away and disposes of its data. Succeeds when there is nothing.
    ///
    /// # Errors
    /// `STOP_FAILED`, `INTERNAL`.
    pub async fn remove(&self, member: MemberId, disposal: Disposal) -> Result<pb::MemberFacts, Error> {
        self.retire(member, disposal).await
    }

    /// Deletes data that was put aside. Succeeds when there is none.
    ///
    /// # Errors
    /// `INTERNAL` when files cannot be removed.
    pub async fn purge(&self, member: MemberId) -> Result<pb::MemberFacts, Error> {
        self.delete(member).await
    }

    /// Creates, changes or drops a user, database or extension. Idempotent.
    ///
    /// # Errors
    /// `STATE_FORBIDS` while the member does not run, `DATABASE_REFUSED`, `NOT_FOUND`, `INVALID_FIELD`.
    pub async fn apply_object(&self, member: MemberId, object: pb::ApplyObject) -> Result<pb::MemberFacts, Error> {
        self.apply_to_server(member, &object).await
    }

    /// What is known of every member. Cheap: answers from memory.
    pub fn facts(&self) -> Vec<pb::MemberFacts> {
        self.slots().values().map(|slot| slot.facts()).collect()
    }

    /// Names of data directories that no goal owns.
    pub fn orphans(&self) -> Vec<String> {
        lock(&self.orphans).clone()
    }

    /// Engine versions of this host.
    pub fn engines(&self) -> Vec<InstalledEngine> {
        let known = self.installed.all().into_iter();
        known
            .map(|known| InstalledEngine {
                engine: known.installation.engine,
                version: known.installation.version,
                full_version: known.installation.full_version,
                catalogue: known.catalogue.map(|catalogue| (*catalogue).clone()),
            })
            .collect()
    }

    /// What the agent did by itself or saw, from now on. Subscribe before [`Self::run`].
    pub fn happenings(&self) -> broadcast::Receiver<pb::Happening> {
        self.news.happenings()
    }

    /// Changes when facts or engines changed in a way worth an early heartbeat.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.news.changes()
    }

    /// Supervision: restarts what crashed, puts hand-made changes right, refills the warm pool. Returns on shutdown;
    /// the servers go on. To be called once.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        tokio::join!(self.supervise(&shutdown), self.keep_warm(&shutdown));
    }

    /// Reads the goals on disk and finds their processes.
    async fn load(&self) -> Result<(), Error> {
        for name in files::names_in(&self.layout.members())? {
            let root = self.layout.members().join(&name);
            if layout::is_leftover(&name) {
                files::remove_large_tree(root).await?;
                continue;
            }
            let Ok(Some(stored)) = Stored::read(&root) else { continue };
            let Ok(goal) = Goal::parse(&stored.goal) else { continue };
            let (unit, generation) = (layout::unit(goal.engine, goal.member), stored.goal.generation);
            let restarts = stored.restarts_done;
            let settled = matches!(stored.phase, Phase::Applied | Phase::Changing);
            let slot = Arc::new(Slot::new(goal.member, Some(stored)));
            slot.publish(settled.then(|| goal.clone()));
            let status = self.host.status(&unit).await?;
            slot.update(|facts| {
                facts.instance_id = goal.instance.to_string();
                (facts.generation, facts.restarts) = (generation, restarts);
                facts.process = pb::member_facts::Process::Stopped.into();
                if let UnitStatus::Running(process) = status {
                    super::observe::starting(facts, process);
                }
            });
            if matches!(status, UnitStatus::Running(_)) {
                self.watch(goal.member, &unit);
            }
            self.slots().insert(goal.member, slot);
        }
        self.look_for_orphans();
        Ok(())
    }

    /// Directories among the members' that have no readable goal.
    pub(super) fn look_for_orphans(&self) {
        let names = files::names_in(&self.layout.members()).unwrap_or_default();
        let unowned = |name: &String| {
            let root = self.layout.members().join(name);
            root.is_dir() && !layout::is_leftover(name) && !matches!(Stored::read(&root), Ok(Some(_)))
        };
        let found: Vec<String> = names.into_iter().filter(unowned).collect();
        let news = std::mem::replace(&mut *lock(&self.orphans), found.clone()) != found;
        if news {
            tracing::warn!(?found, "data directories that no goal owns; they are left alone");
            self.news.changed();
        }
    }

    /// The driver and the server of a goal.
    ///
    /// # Errors
    /// `ENGINE_UNAVAILABLE` if this host has no such engine version.
    pub(super) fn server(&self, goal: &Goal) -> Result<(Arc<dyn EngineDriver>, Server), Error> {
        let installation = self.installed.find(goal.engine, &goal.version);
        let (Some(driver), Some(installation)) = (self.registry.get(goal.engine), installation) else {
            let all = self.installed.all().into_iter().map(|known| known.installation);
            let has: Vec<String> = all.map(|known| format!("{} {}", known.engine, known.version)).collect();
            let message = format!("this host has no {} {}; it has: {}", goal.engine, goal.version, has.join(", "));
            return Err(Error::new(ErrorKind::FailedPrecondition, Reason::EngineUnavailable, message));
        };
        let server = Server {
            installation,
            site: layout::site(
                &self.layout.member(goal.engine, goal.member),
                self.layout.sockets(&goal.member.short()),
            ),
            network: Network::Tcp { bind: self.config.bind_address.clone(), port: goal.port },
            accounts: self.accounts.clone(),
            kinship: goal.kinship,
            unit: layout::unit(goal.engine, goal.member),
            title: goal.title.clone(),
            limits: goal.limits,
        };
        Ok((driver.clone(), server))
    }

    pub(super) fn slot(&self, member: MemberId) -> Option<Arc<Slot>> {
        self.slots().get(&member).cloned()
    }

    /// The slot of a member, made if there is none, with its lock. A slot that was forgotten while its lock was waited
    /// for is not used: somebody else may have made another.
    pub(super) async fn hold(&self, member: MemberId) -> (Arc<Slot>, OwnedMutexGuard<Work>) {
        loop {
            let slot = self.slots().entry(member).or_insert_with(|| Arc::new(Slot::new(member, None))).clone();
            let work = slot.work.clone().lock_owned().await;
            if self.slot(member).is_some_and(|current| Arc::ptr_eq(&current, &slot)) {
                return (slot, work);
            }
        }
    }

    /// Forgets the slot of a member that is not there. To be called by who holds its lock.
    pub(super) fn forget_slot(&self, member: MemberId) {
        self.slots().remove(&member);
    }

    pub(super) fn member_ids(&self) -> Vec<MemberId> {
        self.slots().keys().copied().collect()
    }

    pub(super) fn take_due(&self) -> Option<mpsc::UnboundedReceiver<MemberId>> {
        lock(&self.due_reader).take()
    }

    pub(super) fn slots(&self) -> MutexGuard<'_, BTreeMap<MemberId, Arc<Slot>>> {
        lock(&self.slots)
    }
}

/// What is held here is replaced in one step, so a panic elsewhere leaves it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Members {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Members").field("state_dir", &self.config.state_dir).finish_non_exhaustive()
    }
}
