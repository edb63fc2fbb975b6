//! Brings the files and the process of a member to its goal. Used by orders and by supervision alike.
//!
//! Every step looks at what is there and does only what differs, so it can be cut short anywhere and repeated.

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use windlass_core::{Error, Reason};

use super::{
    Members,
    certificate::{self, Fresh},
    goal::{Goal, Power},
    layout,
    running::Running,
    slot::{Slot, Work},
};
use crate::{
    engines::{Change, EngineDriver, Kinship, Rendered, Server, Session},
    host::{
        Process,
        files::{self, Owner},
        helper::cancelled,
    },
};

/// A server's log is put aside when it is larger, in bytes.
const LOG_MAX: u64 = 32 << 20;

/// What was found not to be as the goal says.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// Names of files that were put right.
    pub(super) files: Vec<String>,
    /// Whether the process was started.
    pub(super) start: Start,
}

/// Whether a process was started.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// It ran, or shall not.
    #[default]
    NotNeeded,
    /// Just now.
    Done,
}

impl Members {
    /// Directories, certificate, files, process.
    ///
    /// # Errors
    /// As each step says. What was done stays done.
    pub(super) async fn settle(
        &self,
        slot: &Slot,
        work: &mut Work,
        goal: &Goal,
        (driver, server): (&dyn EngineDriver, &Server),
        cancel: &CancellationToken,
    ) -> Result<Settled, Error> {
        layout::make_site(&server.site, &self.accounts)?;
        if server.site.data.exists() || goal.kinship == Kinship::Single {
            driver.check_data(server)?;
        }
        files::cap_log(&server.site.log, LOG_MAX)?;
        let fresh = certificate::ensure(&*self.certificates, goal.member, server).await?;
        self.failpoints.hit("members.after_certificate").await?;
        let rendered = driver.render(server, &goal.parameters)?;
        let files = self.write_owned(server, &rendered)?;
        self.failpoints.hit("members.after_config").await?;
        let process = self.process(server).await?;
        if goal.kinship == Kinship::Replicated {
            let fresh = if files.is_empty() { fresh } else { Fresh::Yes };
            let target = (driver, server);
            let start = self.settle_replicated(slot, work, goal, target, &rendered, fresh, cancel).await?;
            return Ok(Settled { files, start });
        }
        let start = match (goal.power, process) {
            (Power::Off, None) => Start::NotNeeded,
            (Power::Off, Some(_)) => {
                self.stop(work, server, driver.unit(server).stop_signal).await?;
                Start::NotNeeded
            }
            (Power::On, Some(process)) if self.shall_restart(work, goal, process)? => {
                self.stop(work, server, driver.unit(server).stop_signal).await?;
                self.failpoints.hit("members.after_stop").await?;
                self.start(slot, work, driver, server, &rendered, cancel).await?;
                Start::Done
            }
            (Power::On, None) => {
                self.start(slot, work, driver, server, &rendered, cancel).await?;
                Start::Done
            }
            (Power::On, Some(process)) => {
                self.await_session(work, driver, server, process, cancel).await?;
                if fresh == Fresh::Yes
                    || !files.is_empty()
                    || !Running::read(&server.site.conf)?.has(&rendered.settings)
                {
                    self.reload(work, server, &rendered).await?;
                }
                Start::NotNeeded
            }
        };
        Ok(Settled { files, start })
    }

    /// Whether a restart was asked for that is not done. Which process it replaces is on disk before it is stopped, so
    /// that a repeat after a crash does not restart twice.
    pub(super) fn shall_restart(&self, work: &mut Work, goal: &Goal, process: Process) -> Result<bool, Error> {
        let Some(stored) = work.stored.as_mut().filter(|stored| goal.restarts > stored.restarts_done) else {
            return Ok(false);
        };
        let this = identity(process);
        if stored.replaces.is_none() {
            stored.replaces = Some(this);
            stored.write(&self.layout.member(goal.engine, goal.member))?;
        }
        Ok(stored.replaces == Some(this))
    }

    /// A connection to a server that runs, or comes up.
    pub(super) async fn await_session(
        &self,
        work: &mut Work,
        driver: &dyn EngineDriver,
        server: &Server,
        process: Process,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        if work.session.is_some() {
            return Ok(());
        }
        let session = tokio::select! {
            session = driver.ready(server, process) => session,
            _ = self.host.ended(&server.unit) => return Err(Error::unavailable(format!("{} just ended", server.title))),
            () = tokio::time::sleep(self.config.start_timeout) => {
                let message = format!("{} runs but does not accept connections: {}", server.title, self.last_words(server));
                return Err(Error::precondition(Reason::StartFailed, message));
            }
            () = cancel.cancelled() => return Err(cancelled()),
        };
        work.session = Some(session);
        work.crashes.runs();
        Ok(())
    }

    pub(super) async fn reload(&self, work: &mut Work, server: &Server, rendered: &Rendered) -> Result<(), Error> {
        let running = Running::read(&server.site.conf)?;
        let before = running.before();
        let attempting = running.attempting(&rendered.settings);
        attempting.write(&server.site.conf)?;
        let change = Change { before: &before, after: &rendered.settings };
        session_of(work)?.reload(&change).await?;
        self.failpoints.hit("members.after_reload").await?;
        attempting.applied(&rendered.settings).write(&server.site.conf)
    }

    /// Writes the files that differ and gives their names.
    pub(super) fn write_owned(&self, server: &Server, rendered: &Rendered) -> Result<Vec<String>, Error> {
        let mut written = Vec::new();
        for file in &rendered.files {
            if files::read_text(&file.path)?.as_deref() == Some(&file.text) {
                continue;
            }
            let in_data = file.path.starts_with(&server.site.data);
            if in_data && !server.site.data.exists() {
                continue;
            }
            let (mode, owner) = if in_data { (0o600, Owner::Database(&self.accounts)) } else { (0o644, Owner::Agent) };
            files::write_derived(&file.path, file.text.as_bytes(), mode, owner)?;
            written.push(file.path.file_name().unwrap_or_default().to_string_lossy().into_owned());
        }
        Ok(written)
    }
}

/// The connection, which is there while the server runs.
pub(super) fn session_of(work: &mut Work) -> Result<&mut Box<dyn Session>, Error> {
    work.session.as_mut().ok_or_else(|| Error::unavailable("the server does not accept connections now"))
}

/// What names a process for good. Whole seconds: the wall clock's begin of the machine may shift a little.
pub(super) fn identity(process: Process) -> (i32, Timestamp) {
    (process.pid, Timestamp::from_second(process.started.as_second()).unwrap_or(Timestamp::UNIX_EPOCH))
}
