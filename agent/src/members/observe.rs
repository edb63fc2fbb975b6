//! Takes the facts of a member.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use windlass_core::Error;
use windlass_proto::agent::v1::{self as pb, member_facts};

use super::{
    Members,
    goal::{Goal, Power},
    news::timestamp,
    running::Running,
    slot::{Slot, Work},
};
use crate::{
    engines::{Change, EngineDriver, Kinship, Probe, Server},
    host::{Process, files, proc},
};

/// A walk over a data directory is repeated no sooner.
const DISK_EVERY: Duration = Duration::from_secs(30);
/// A pass over `/proc` serves all members for this long.
const PROCESSES_EVERY: Duration = Duration::from_secs(5);

/// A server that takes longer to say how it is does not answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Processes by working directory, as of a moment ago.
#[derive(Default)]
pub(super) struct Processes(Mutex<Option<(Instant, Arc<ByDirectory>)>>);

type ByDirectory = std::collections::HashMap<std::path::PathBuf, Vec<i32>>;

impl Processes {
    fn get(&self) -> Arc<ByDirectory> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((taken, processes)) if taken.elapsed() < PROCESSES_EVERY => processes.clone(),
            _ => {
                let processes = Arc::new(proc::by_directory());
                *kept = Some((Instant::now(), processes.clone()));
                processes
            }
        }
    }
}

/// A process was started and does not accept connections yet.
pub(super) fn starting(facts: &mut pb::MemberFacts, process: Process) {
    facts.process = member_facts::Process::Starting.into();
    facts.pid = process.pid.into();
    facts.process_start = Some(timestamp(process.started));
}

impl Members {
    /// Looks at the member and keeps the facts. What cannot be learnt now is told as the problem.
    pub(super) async fn observe(
        &self,
        slot: &Slot,
        work: &mut Work,
        goal: &Goal,
        (driver, server): (&dyn EngineDriver, &Server),
    ) {
        let before = slot.facts();
        let process = self.process(server).await.ok().flatten();
        let pid = process.map_or(0, |process| process.pid.into());
        if pid != before.pid {
            // It was of the process before; replication starts and stops servers without asking here.
            work.session = None;
        }
        let mut facts = pb::MemberFacts {
            member_id: goal.member.to_string(),
            instance_id: goal.instance.to_string(),
            generation: work.stored.as_ref().map_or(0, |stored| stored.goal.generation),
            restarts: work.stored.as_ref().map_or(0, |stored| stored.restarts_done),
            disk_used_bytes: self.disk_used(work, server).await,
            engine_identity: before.engine_identity.clone(),
            position: before.position.clone(),
            pid,
            process_start: process.map(|process| timestamp(process.started)),
            ..pb::MemberFacts::default()
        };
        let state = match (process, goal.power) {
            (None, _) if goal.kinship == Kinship::Replicated => member_facts::Process::Stopped,
            (None, Power::Off) => member_facts::Process::Stopped,
            (None, Power::On) => member_facts::Process::Failed,
            (Some(_), _) => match self.ask(work, goal, driver, server).await {
                Ok((probe, pending)) => {
                    facts.engine_identity = probe.identity;
                    facts.connections = probe.connections;
                    facts.position = probe.position;
                    facts.in_recovery = probe.in_recovery;
                    facts.pending_restart = pending;
                    facts.memory_used_bytes = self.memory_used(server).await;
                    member_facts::Process::Running
                }
                Err(error) => {
                    work.session = None;
                    facts.problem = error.message;
                    member_facts::Process::Starting
                }
            },
        };
        facts.process = state.into();
        let news = (before.process, before.pid, &before.problem, &before.pending_restart)
            != (facts.process, facts.pid, &facts.problem, &facts.pending_restart);
        slot.update(|kept| *kept = facts);
        if news {
            self.news.changed();
        }
    }

    async fn ask(
        &self,
        work: &mut Work,
        goal: &Goal,
        driver: &dyn EngineDriver,
        server: &Server,
    ) -> Result<(Probe, Vec<String>), Error> {
        let session = match &mut work.session {
            Some(session) => session,
            None => work.session.insert(driver.connect(server).await?),
        };
        let probe = tokio::time::timeout(ANSWER, session.probe()).await;
        let probe = probe.map_err(|_| Error::unavailable("the server does not answer"))??;
        let rendered = driver.render(server, &goal.parameters)?;
        let running = Running::read(&server.site.conf)?;
        let pending = session.pending_restart(&Change { before: &running.started, after: &rendered.settings }).await?;
        Ok((probe, pending))
    }

    async fn memory_used(&self, server: &Server) -> u64 {
        match self.host.memory(&server.unit).await {
            Some(bytes) => bytes,
            None => proc::memory(self.processes.get().get(&server.site.data).map_or(&[], Vec::as_slice)),
        }
    }

    async fn disk_used(&self, work: &mut Work, server: &Server) -> u64 {
        if let Some((measured, bytes)) = work.disk
            && measured.elapsed() < DISK_EVERY
        {
            return bytes;
        }
        let data = server.site.data.clone();
        let bytes = tokio::task::spawn_blocking(move || files::tree_size(&data)).await.unwrap_or(0);
        work.disk = Some((Instant::now(), bytes));
        bytes
    }
}
