//! Members of replicated instances: what replication gets of them, and what it leaves to them.
//!
//! Members keep owning directories, parameters, certificates and removal. Replication alone starts and stops the server
//! once the member is made, and writes the files that follow from its role. A member is made with its memory
//! (`ha.state`) already in its directory, so that data without a memory is never taken for a fresh member.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use windlass_core::{
    Error,
    id::{InstanceId, MemberId},
};

use super::{
    Keeper, Members,
    certificate::Fresh,
    goal::{Goal, Phase, Source, Stored},
    running::Running,
    settle::{Start, identity},
    slot::{Slot, Work},
};
use crate::{
    engines::{
        EngineDriver, Kinship, Rendered, Server,
        postgres::replication::{Configuration, Gate, files as role_files},
    },
    ha::{Record, Storage},
    host::{ProcessHost, files, helper::cancelled},
};

/// How often the end of a restart is looked for.
const POLL: Duration = Duration::from_millis(10);

/// A replicated member as replication sees it.
#[derive(Debug, Clone)]
pub(crate) struct Replica {
    pub(crate) member: MemberId,
    pub(crate) instance: InstanceId,
    /// Its directory.
    pub(crate) root: PathBuf,
}

impl Members {
    /// The replicated members that are made and stay.
    pub(crate) fn replicas(&self) -> Vec<Replica> {
        let goals = self.slots().values().filter_map(|slot| slot.published()).collect::<Vec<_>>();
        let replicated = goals.into_iter().filter(|goal| goal.kinship == Kinship::Replicated);
        replicated
            .map(|goal| Replica {
                member: goal.member,
                instance: goal.instance,
                root: self.layout.member(goal.engine, goal.member),
            })
            .collect()
    }

    /// The server of a replicated member by its present goal; None once it is removed.
    pub(crate) fn replica_server(&self, member: MemberId) -> Option<Server> {
        let goal = self.slot(member)?.published()?;
        // An engine that was taken off the host: nothing can be done until it is back.
        self.server(&goal).ok().map(|(_, server)| server)
    }

    /// Makes the caller the one who starts and stops the server; None if somebody is.
    pub(crate) fn keep_replica(&self, member: MemberId) -> Option<Keeper> {
        self.slot(member)?.take_over()
    }

    /// The process that an order wants replaced by another.
    pub(crate) fn replica_to_restart(&self, member: MemberId) -> Option<(i32, i64)> {
        *self.slot(member)?.restart.borrow()
    }

    /// Who runs processes.
    pub(crate) fn process_host(&self) -> Arc<dyn ProcessHost> {
        self.host.clone()
    }

    /// How long a server may take to stop by itself.
    pub(crate) fn stop_grace(&self) -> Duration {
        self.config.stop_grace
    }

    /// A replicated member's server answers for the first time: its facts are news.
    pub(crate) fn replica_answers(&self, member: MemberId) {
        // Without supervision nobody looks, as at shutdown.
        let _ = self.due.send(member);
    }

    /// Tells what happened to a replicated member.
    pub(crate) fn replica_happened(&self, kind: &str, member: MemberId, message: String) {
        self.news.happened(kind, member, message);
    }

    /// Puts the memory of a new member into its directory.
    pub(super) fn found_replication(&self, goal: &Goal, directory: &std::path::Path) -> Result<(), Error> {
        match goal.kinship {
            Kinship::Single => Ok(()),
            Kinship::Replicated => Storage::found(directory, &Record::new(goal.instance, goal.member)),
        }
    }

    /// A single member becomes one of several: its memory is made, and the files of its role let everybody in as before
    /// until it is ordered to lead.
    pub(super) fn join_replication(&self, stored: &Stored, goal: &Goal, server: &Server) -> Result<(), Error> {
        if goal.kinship == Kinship::Single || stored.goal.replicated {
            return Ok(());
        }
        self.found_replication(goal, &self.layout.member(goal.engine, goal.member))?;
        self.write_role(server, Gate::Open)
    }

    fn write_role(&self, server: &Server, gate: Gate) -> Result<(), Error> {
        for file in role_files(server, &Configuration::default(), gate) {
            if !file.path.exists() {
                files::write_derived(&file.path, file.text.as_bytes(), 0o644, files::Owner::Agent)?;
            }
        }
        Ok(())
    }

    /// The process part of bringing a replicated member to its goal: the first start of fresh data, reloads, and waiting
    /// for a restart that replication carries out.
    pub(super) async fn settle_replicated(
        &self,
        slot: &Slot,
        work: &mut Work,
        goal: &Goal,
        (driver, server): (&dyn EngineDriver, &Server),
        rendered: &Rendered,
        fresh: Fresh,
        cancel: &CancellationToken,
    ) -> Result<Start, Error> {
        self.write_role(server, Gate::Shut)?;
        let creating = work.stored.as_ref().is_some_and(|stored| stored.phase == Phase::Creating);
        match self.process(server).await? {
            None if creating && goal.source != Source::Cloned => {
                self.start(slot, work, driver, server, rendered, cancel).await?;
                Ok(Start::Done)
            }
            None => Ok(Start::NotNeeded),
            Some(process) if !creating && self.shall_restart(work, goal, process)? => {
                let replaced = identity(process);
                slot.restart.send_replace(Some((replaced.0, replaced.1.as_second())));
                let done = self.await_other_process(server, process.pid, cancel).await;
                slot.restart.send_replace(None);
                done?;
                work.session = None;
                Ok(Start::Done)
            }
            Some(process) => {
                if fresh == Fresh::Yes || !Running::read(&server.site.conf)?.has(&rendered.settings) {
                    self.await_session(work, driver, server, process, cancel).await?;
                    self.reload(work, server, rendered).await?;
                }
                Ok(Start::NotNeeded)
            }
        }
    }

    async fn await_other_process(&self, server: &Server, pid: i32, cancel: &CancellationToken) -> Result<(), Error> {
        let other = async {
            loop {
                if self.process(server).await?.is_some_and(|process| process.pid != pid) {
                    return Ok(());
                }
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::select! {
            done = tokio::time::timeout(self.config.start_timeout, other) => done.map_err(|_| {
                Error::unavailable(format!("{} was not restarted in time: replication does not run", server.title))
            })?,
            () = cancel.cancelled() => Err(cancelled()),
        }
    }
}
