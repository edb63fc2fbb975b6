//! Does what was decided. Thin: each step is one thing, repeatable, and bounded in time or cut short by a newer order.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use windlass_core::{Error, Reason};

use super::{
    decide::Step,
    machine::Machine,
    order::{Goal, Order},
    quarantine,
    sight::{Busy, Sight, Start},
    state::{Promoting, Record, Role},
};
use crate::{
    engines::{
        EngineDriver as _, Server,
        postgres::{
            Postgres,
            replication::{
                ClusterState, Configuration, Follows, Gate, Lsn, Reader, Recovering, Waits, end_of_wal,
                files as role_files, files_in_data, mark, read_control,
            },
        },
    },
    host::{
        files::{self, Owner},
        proc::{self, Which},
    },
    members::check_port,
};

/// How often the end of something short is looked for.
const POLL: Duration = Duration::from_millis(2);
/// A server reads its files within milliseconds.
const RELOAD: Duration = Duration::from_secs(3);
/// What a standby has not replayed yet is replayed before it is a primary.
const PROMOTION: Duration = Duration::from_secs(120);
/// How long a server that is killed may take to clean up before it is killed for good.
const LAST_BREATH: Duration = Duration::from_millis(500);
/// After SIGKILL only the kernel can delay the end.
const KILL_LIMIT: Duration = Duration::from_secs(20);

impl Machine {
    /// Does one step.
    ///
    /// # Errors
    /// As the step says; it is decided anew afterwards.
    pub(super) async fn perform(
        &mut self,
        server: &Server,
        record: &Record,
        order: Option<&Order>,
        step: Step,
    ) -> Result<(), Error> {
        match step {
            Step::Wait { .. } => Ok(()),
            Step::Become(role) => self.become_(role).await,
            Step::Configure { configuration, gate } => self.configure(server, configuration, gate, order).await,
            Step::Launch(recovering, configuration) => self.launch(server, recovering, configuration).await,
            Step::Kill => self.kill(server).await,
            Step::Stop => self.stop_in_order(server).await,
            Step::Examine => {
                self.chores_at = Some(Instant::now());
                let end = end_of_log(server, None).await?;
                self.seat.update(|record| record.stopped_at = end).await
            }
            Step::Halt => {
                self.busy = Some(Busy::Rewinding);
                self.tell();
                let done = self.stop(server, Signal::INT).await;
                self.busy = None;
                done
            }
            Step::Promote(promoting, configuration) => self.promote(server, promoting, configuration, order).await,
            Step::Prepare => {
                self.reader()?.ensure_schema().await?;
                self.prepared = self.process.map(|process| (process, Instant::now()));
                Ok(())
            }
            Step::Checkpoint => {
                self.checkpoint_beside(server);
                Ok(())
            }
            Step::Slots(slots) => {
                self.chores_at = Some(Instant::now());
                slots.settle(self.reader()?.client()).await
            }
            Step::Barrier(row) => {
                self.failpoints.hit("ha.before_barrier").await?;
                let waits = if self.has_names() { self.waits } else { Waits::Proven };
                self.barrier.start(server, row, waits, &self.seat);
                Ok(())
            }
            Step::Admit(opened) => {
                self.failpoints.hit("ha.after_barrier").await?;
                let boot = self.boot.to_string();
                self.seat
                    .update(|record| {
                        (record.opened, record.opened_in, record.promoting) = (Some(opened), boot, None);
                    })
                    .await?;
                self.fenced = false;
                if self.has_names() {
                    self.waits = Waits::Proven;
                }
                Ok(())
            }
            Step::Fence => {
                self.fenced = true;
                self.barrier.forget();
                self.members.replica_happened(
                    "member.fenced",
                    record.member,
                    format!(
                        "{} shut itself: it is cut off from the control plane and from its followers",
                        server.title
                    ),
                );
                self.seat.update(|record| record.opened = None).await?;
                let applied = self.applied.clone().unwrap_or_default();
                self.configure(server, applied, Gate::Shut, order).await
            }
            Step::Compare => self.compare(server, record, order).await,
            Step::Copy(upstream) => self.copy(server, &upstream, order).await,
            Step::Rewind { upstream, fork } => self.rewind(server, record, &upstream, fork, order).await,
            Step::SetAside { why, ordered } => self.set_aside(server, &why, ordered).await,
            Step::Distrust(why) => {
                tracing::error!(member = %record.member, why, "the member's data is not trusted any more");
                self.members.replica_happened("member.quarantined", record.member, format!("{}: {why}", server.title));
                self.kill(server).await?;
                self.seat.update(|record| record.distrust = why.clone()).await
            }
        }
    }

    /// Whether the server was told names to wait for.
    fn has_names(&self) -> bool {
        self.applied.as_ref().is_some_and(|applied| !applied.names.is_empty())
    }

    async fn become_(&mut self, role: Role) -> Result<(), Error> {
        self.comparison = None;
        if matches!(role, Role::Proven(_)) {
            for path in quarantine::expired(&self.seat.replica.root)? {
                files::remove_large_tree(path).await?;
            }
        }
        self.seat.update(|record| record.assume(role)).await?;
        self.failpoints.hit("ha.after_role").await
    }

    pub(super) fn reader(&self) -> Result<&Reader, Error> {
        self.reader.as_ref().ok_or_else(|| Error::unavailable("the server does not accept connections now"))
    }

    /// Writes the files of the role, and waits until the server has read them.
    async fn configure(
        &mut self,
        server: &Server,
        configuration: Configuration,
        gate: Gate,
        order: Option<&Order>,
    ) -> Result<(), Error> {
        let settings_differ = self.applied.as_ref() != Some(&configuration);
        if configuration.names.is_empty() {
            self.waits = Waits::Unproven;
        }
        write_role(server, &configuration, gate)?;
        self.failpoints.hit("ha.after_files").await?;
        self.reader()?.reload().await?;
        if settings_differ {
            self.applied = None;
            self.await_settings(server, &configuration).await?;
        }
        if gate == Gate::Shut {
            self.reader()?.end_sessions().await?;
        }
        self.gate = gate;
        self.enforced_rev = match order.map(|order| (&order.goal, order.rev)) {
            Some((Goal::Lead(_), rev)) if configuration.epoch.is_some() => rev,
            Some(_) | None => self.enforced_rev,
        };
        self.applied = Some(configuration);
        Ok(())
    }

    async fn await_settings(&self, server: &Server, configuration: &Configuration) -> Result<(), Error> {
        let (names, epoch, conninfo) =
            (configuration.standby_names(), configuration.epoch_text(), configuration.conninfo(server));
        let reader = self.reader()?;
        let wait = async {
            while !reader.has_read(&names, &epoch, &conninfo).await? {
                tokio::time::sleep(POLL).await;
            }
            Ok::<_, Error>(())
        };
        let waited = tokio::time::timeout(RELOAD, wait).await;
        waited.map_err(|_| Error::unavailable("PostgreSQL did not take its settings in time"))?
    }

    /// Starts the server with its gate shut. Does not wait for it.
    async fn launch(
        &mut self,
        server: &Server,
        recovering: Recovering,
        configuration: Configuration,
    ) -> Result<(), Error> {
        proc::kill_under(&server.site.data, Which::Running(&server.installation.server)).await;
        check_port(&server.network)?;
        // After a stop in order it was read, by which its end is known.
        if recovering == Recovering::Yes
            && self.seat.record().stopped_at.is_none()
            && let Err(error) = read_control(server).await
        {
            if error.reason == Reason::DataDirectoryInvalid {
                let why = error.message.clone();
                self.seat.update(|record| record.distrust = why).await?;
            }
            return Err(error);
        }
        files::cap_log(&server.site.log, 32 << 20)?;
        for file in files_in_data(server) {
            files::write_derived(&file.path, file.text.as_bytes(), 0o600, Owner::Database(&server.accounts))?;
        }
        write_role(server, &configuration, Gate::Shut)?;
        mark(server, recovering)?;
        let stopped = self.seat.record().stopped_at.is_some();
        self.seat
            .update(|record| {
                record.starts += 1;
                record.stopped_at = None;
            })
            .await?;
        self.failpoints.hit("ha.before_start").await?;
        self.gate = Gate::Shut;
        self.fenced = false;
        self.start = if stopped { Start::Plain } else { Start::AfterCrash };
        self.follows = if configuration.upstream.is_some() { Follows::Somebody } else { Follows::Nobody };
        (self.launched, self.log_from) = (Some(Instant::now()), files::length(&server.site.log));
        let process = self.host.start(&Postgres.unit(server)).await?;
        self.meet(server, process);
        if !configuration.names.is_empty() {
            self.waits = Waits::Proven;
        }
        if recovering == Recovering::Yes {
            // It reads them before it answers anybody. What a leader enforces is read back from it instead.
            self.applied = Some(configuration);
        }
        self.failpoints.hit("ha.after_start").await?;
        Ok(())
    }

    /// Ends the server without waiting for anybody, and makes sure that it can only come back as a standby.
    pub(super) async fn kill(&mut self, server: &Server) -> Result<(), Error> {
        self.expected_end = true;
        self.host.signal(&server.unit, Signal::QUIT).await?;
        if tokio::time::timeout(LAST_BREATH, self.host.ended(&server.unit)).await.is_err() {
            self.host.signal(&server.unit, Signal::KILL).await?;
            let killed = tokio::time::timeout(KILL_LIMIT, self.host.ended(&server.unit)).await;
            killed.map_err(|_| Error::unavailable("the server does not end even when killed; its disk may hang"))??;
        }
        proc::kill_under(&server.site.data, Which::Running(&server.installation.server)).await;
        self.host.forget(&server.unit).await?;
        if server.site.data.exists() {
            mark(server, Recovering::Yes)?;
        }
        Ok(())
    }

    /// Stops the server by the signal, after the grace by SIGKILL.
    async fn stop(&mut self, server: &Server, signal: Signal) -> Result<(), Error> {
        self.expected_end = true;
        self.host.signal(&server.unit, signal).await?;
        if tokio::time::timeout(self.members.stop_grace(), self.host.ended(&server.unit)).await.is_err() {
            tracing::warn!(unit = server.unit, "it did not stop within the grace and is killed");
            self.host.signal(&server.unit, Signal::KILL).await?;
            let killed = tokio::time::timeout(KILL_LIMIT, self.host.ended(&server.unit)).await;
            killed.map_err(|_| Error::unavailable("the server does not end even when killed; its disk may hang"))??;
        }
        proc::kill_under(&server.site.data, Which::Running(&server.installation.server)).await;
        self.host.forget(&server.unit).await
    }

    /// Shuts the gate, stops, which writes everything out, and keeps where the log ends.
    async fn stop_in_order(&mut self, server: &Server) -> Result<(), Error> {
        self.busy = Some(Busy::Draining);
        self.tell();
        let stopped = self.drain(server).await;
        self.busy = None;
        let end = stopped?;
        self.failpoints.hit("ha.after_stop").await?;
        self.seat.update(|record| record.stopped_at = end).await
    }

    async fn drain(&mut self, server: &Server) -> Result<Option<Lsn>, Error> {
        let live = match &self.sight {
            Sight::Live(live) => Some(live.clone()),
            Sight::NoData | Sight::Down(_) | Sight::Starting(_) | Sight::Silent(_) => None,
        };
        // The stop itself ends sessions and lets nobody in; the next start must find the gate shut.
        write_entry(server, Gate::Shut)?;
        self.gate = Gate::Shut;
        self.stop(server, Signal::INT).await?;
        end_of_log(server, live.map(|live| live.end())).await
    }

    /// Names first, then the promotion: the first commit of the new leader waits for the new epoch's receipts.
    async fn promote(
        &mut self,
        server: &Server,
        promoting: Promoting,
        configuration: Configuration,
        order: Option<&Order>,
    ) -> Result<(), Error> {
        self.seat.update(|record| record.promoting = Some(promoting)).await?;
        self.failpoints.hit("ha.after_persist").await?;
        self.configure(server, configuration, Gate::Shut, order).await?;
        self.failpoints.hit("ha.before_promote").await?;
        let reader = self.reader()?;
        reader.promote().await?;
        let promoted = async {
            while reader.is_recovering().await? {
                tokio::time::sleep(POLL).await;
            }
            Ok::<_, Error>(())
        };
        let promoted = tokio::time::timeout(PROMOTION, promoted).await;
        promoted.map_err(|_| Error::unavailable("the server was not promoted in time"))??;
        self.failpoints.hit("ha.after_promote").await
    }

    /// A checkpoint beside everything else: a rewind believes the control file.
    fn checkpoint_beside(&mut self, server: &Server) {
        self.checkpointed = self.process;
        let (server, failpoints) = (server.clone(), self.failpoints.clone());
        tokio::spawn(async move {
            let written = async {
                failpoints.hit("ha.before_checkpoint").await?;
                Reader::connect(&server).await?.checkpoint().await
            }
            .await;
            if let Err(error) = written {
                tracing::warn!(unit = server.unit, error = error.chain(), "no checkpoint was written");
            }
        });
    }

    /// Whether an order of the other kind wants another process: gate shut, stopped in order, started again.
    pub(super) async fn must_restart(&mut self, server: &Server) -> Result<bool, Error> {
        let Some(process) = self.process else { return Ok(false) };
        if self.members.replica_to_restart(self.seat.member()) != Some((process.pid, process.second)) {
            return Ok(false);
        }
        let record = self.seat.record();
        let order = super::machine::order_of(&record);
        self.sight = Sight::Starting(Start::Plain);
        "it is restarted by order".clone_into(&mut self.why);
        self.tell();
        let recovering =
            if matches!(record.role, Role::Leader(_) | Role::Unborn) { Recovering::No } else { Recovering::Yes };
        write_entry(server, Gate::Shut)?;
        self.stop(server, Signal::INT).await?;
        self.seat.update(|record| record.stopped_at = Some(Lsn(0))).await?;
        (self.process, self.reader, self.applied) = (None, None, None);
        let configuration = super::decide::configuration(&record, order.as_ref());
        self.launch(server, recovering, configuration).await?;
        Ok(true)
    }
}

/// The file that says that a rewind is under way.
pub(super) fn marker(root: &Path) -> PathBuf {
    root.join("rewinding")
}

fn write_role(server: &Server, configuration: &Configuration, gate: Gate) -> Result<(), Error> {
    for file in role_files(server, configuration, gate) {
        if files::read_text(&file.path)?.as_deref() != Some(&file.text) {
            // It holds no secret: certificates are files of their own.
            files::write_derived(&file.path, file.text.as_bytes(), 0o644, Owner::Agent)?;
        }
    }
    Ok(())
}

fn write_entry(server: &Server, gate: Gate) -> Result<(), Error> {
    let files = role_files(server, &Configuration::default(), gate);
    let entry = files.iter().find(|file| file.path.ends_with("pg_hba.conf"));
    entry.map_or(Ok(()), |file| files::write_derived(&file.path, file.text.as_bytes(), 0o644, Owner::Agent))
}

/// Where the log of a server that was stopped in order ends; None if it was not.
async fn end_of_log(server: &Server, received: Option<Lsn>) -> Result<Option<Lsn>, Error> {
    let control = read_control(server).await?;
    Ok(match control.state {
        ClusterState::ShutDown => Some(end_of_wal(server, control.timeline, control.checkpoint).await?),
        ClusterState::ShutDownInRecovery => Some(received.unwrap_or(control.redo)),
        ClusterState::InUse => None,
    })
}
