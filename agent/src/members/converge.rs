//! Carries out an order to bring a member to a goal.
//!
//! The order of writes: the goal is stored as under way, then come the effects, then it is stored as applied. An error
//! takes a create back whole, and a change to the former goal. A crash in between leaves the phase on disk; the
//! repeated order goes on from what it finds, and so does supervision for a change.

use tokio_util::sync::CancellationToken;
use windlass_core::{Error, Reason};
use windlass_proto::agent::v1 as pb;

use super::{
    Members,
    goal::{Goal, Phase, Power, Source, Stored},
    layout, process,
    settle::session_of,
    slot::{Slot, Work},
};
use crate::{
    engines::{EngineDriver, Kinship, Server},
    host::{files, helper::cancelled},
};

impl Members {
    /// Brings the member to the goal.
    pub(super) async fn converge(
        &self,
        order: pb::MemberGoal,
        cancel: &CancellationToken,
    ) -> Result<pb::MemberFacts, Error> {
        let goal = Goal::parse(&order)?;
        let _busy = self.warm.busy();
        let (slot, mut work) = self.hold(goal.member).await;
        let result = self.converge_locked(&slot, &mut work, &goal, order, cancel).await;
        if work.stored.is_none() {
            self.forget_slot(goal.member);
        }
        self.news.changed();
        result
    }

    async fn converge_locked(
        &self,
        slot: &Slot,
        work: &mut Work,
        goal: &Goal,
        order: pb::MemberGoal,
        cancel: &CancellationToken,
    ) -> Result<pb::MemberFacts, Error> {
        match &work.stored {
            Some(stored) if matches!(stored.phase, Phase::Retiring | Phase::Purging) => {
                let message = format!("{} is being removed", goal.title);
                return Err(Error::precondition(Reason::StateForbids, message));
            }
            Some(stored) if goal.generation < stored.goal.generation => return Ok(slot.facts()),
            Some(_) | None => {}
        }
        let (driver, server) = self.server(goal)?;
        let target = (&*driver, &server);
        let done = match self.accept(work, goal, order, target, cancel).await {
            Ok(()) => self.carry_out(slot, work, goal, target, cancel).await,
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            tracing::warn!(member = %goal.member, error = error.chain(), "the goal was not reached");
            self.take_back(slot, work, goal, target).await;
            return Err(error);
        }
        self.observe(slot, work, goal, target).await;
        Ok(slot.facts())
    }

    /// Checks what can be checked without an effect, then stores the goal.
    async fn accept(
        &self,
        work: &mut Work,
        goal: &Goal,
        order: pb::MemberGoal,
        (driver, server): (&dyn EngineDriver, &Server),
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        let root = self.layout.member(goal.engine, goal.member);
        let Some(stored) = work.stored.clone() else {
            return self.accept_new(work, goal, order, server);
        };
        if stored.phase == Phase::Applied && stored.goal == order {
            return Ok(());
        }
        self.join_replication(&stored, goal, server)?;
        let rendered = driver.render(server, &goal.parameters)?;
        let main = rendered.files.first();
        let on_disk = main.map(|file| files::read_text(&file.path)).transpose()?.flatten();
        let has_data = server.site.data.exists();
        if has_data && stored.phase != Phase::Creating && on_disk.as_deref() != main.map(|file| file.text.as_str()) {
            driver.check(server, &rendered, cancel).await?;
        }
        if cancel.is_cancelled() {
            return Err(cancelled());
        }
        let (phase, previous) = match stored.phase {
            Phase::Creating => (Phase::Creating, None),
            Phase::Changing => (Phase::Changing, stored.previous),
            Phase::Applied | Phase::Retiring | Phase::Purging => (Phase::Changing, Some(stored.goal)),
        };
        let next = Stored { phase, goal: order, previous, ..stored };
        next.write(&root)?;
        work.stored = Some(next);
        Ok(())
    }

    /// A member that this host does not have. Its directory appears with its goal in it, or not at all.
    fn accept_new(&self, work: &mut Work, goal: &Goal, order: pb::MemberGoal, server: &Server) -> Result<(), Error> {
        let root = self.layout.member(goal.engine, goal.member);
        let invalid = |message: String| Err(Error::precondition(Reason::DataDirectoryInvalid, message));
        if !files::names_in(&root)?.is_empty() {
            return invalid(format!("{} exists, but no goal owns it; move it away first", root.display()));
        }
        match goal.source {
            Source::Existing => return invalid(format!("{} has no data on this host", goal.title)),
            Source::Retained if !self.retained(goal).exists() => {
                return invalid(format!("{} has no retained data on this host", goal.title));
            }
            Source::Cloned if goal.kinship == Kinship::Single => {
                return invalid(format!("{} is no replica: there is nobody to copy its data from", goal.title));
            }
            Source::Initialise | Source::Retained | Source::Cloned => {}
        }
        files::check_space(self.layout.state(), self.config.disk_floor_bytes)?;
        if goal.power == Power::On {
            process::check_port(&server.network)?;
        }
        let stored = Stored {
            phase: Phase::Creating,
            goal: order,
            previous: None,
            restarts_done: goal.restarts,
            replaces: None,
            admin_done: false,
        };
        let draft = self.layout.draft(goal.engine, goal.member);
        files::remove_tree(&draft)?;
        files::make_directory(&draft, 0o755)?;
        let written = stored
            .write(&draft)
            .and_then(|()| self.found_replication(goal, &draft))
            .and_then(|()| files::move_durably(&draft, &root));
        if let Err(error) = written {
            files::remove_tree(&draft)?;
            return Err(error);
        }
        work.stored = Some(stored);
        Ok(())
    }

    async fn carry_out(
        &self,
        slot: &Slot,
        work: &mut Work,
        goal: &Goal,
        target: (&dyn EngineDriver, &Server),
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        let (driver, server) = target;
        self.failpoints.hit("members.after_goal").await?;
        work.crashes.forget();
        let creating = work.stored.as_ref().is_some_and(|stored| stored.phase == Phase::Creating);
        if goal.kinship == Kinship::Single || creating {
            self.ensure_data(goal, driver, server, cancel).await?;
        }
        self.failpoints.hit("members.after_take_warm").await?;
        if cancel.is_cancelled() {
            return Err(cancelled());
        }
        self.settle(slot, work, goal, target, cancel).await?;
        self.host.limit(&server.unit, goal.limits).await?;
        self.ensure_admin(work, goal).await?;
        let root = self.layout.member(goal.engine, goal.member);
        self.finish(work, goal, &root)?;
        slot.publish(Some(goal.clone()));
        Ok(())
    }

    /// Sets the administrator's verifier, once in the life of a member.
    pub(super) async fn ensure_admin(&self, work: &mut Work, goal: &Goal) -> Result<(), Error> {
        // A replica has what its leader has, and which member leads may change at any time.
        let here = |stored: &Stored| match goal.kinship {
            Kinship::Single => true,
            Kinship::Replicated => stored.phase == Phase::Creating && goal.source != Source::Cloned,
        };
        let wanted =
            goal.power == Power::On && work.stored.as_ref().is_some_and(|stored| !stored.admin_done && here(stored));
        if let Some(admin) = goal.admin.as_ref().filter(|_| wanted) {
            session_of(work)?.apply(admin).await?;
            self.failpoints.hit("members.after_admin").await?;
            if let Some(stored) = &mut work.stored {
                stored.admin_done = true;
            }
        }
        Ok(())
    }

    /// Stores that the goal is reached, if that is news.
    pub(super) fn finish(&self, work: &mut Work, goal: &Goal, root: &std::path::Path) -> Result<(), Error> {
        let Some(stored) = work.stored.as_ref() else { return Ok(()) };
        let finished = Stored {
            phase: Phase::Applied,
            previous: None,
            restarts_done: goal.restarts,
            replaces: None,
            ..stored.clone()
        };
        if Stored::read(root)?.as_ref() != Some(&finished) {
            finished.write(root)?;
        }
        work.stored = Some(finished);
        Ok(())
    }

    /// Data from where the goal says, if there is none.
    async fn ensure_data(
        &self,
        goal: &Goal,
        driver: &dyn EngineDriver,
        server: &Server,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        if server.site.data.exists() {
            return Ok(());
        }
        match goal.source {
            Source::Initialise => self.take_warm(driver, server, cancel).await,
            Source::Retained if self.retained(goal).exists() => {
                files::move_durably(&self.retained(goal), &server.site.data)
            }
            Source::Cloned => Ok(()),
            Source::Existing | Source::Retained => Err(Error::precondition(
                Reason::DataDirectoryInvalid,
                format!("the data directory {} is gone", server.site.data.display()),
            )),
        }
    }

    /// After an error: nothing is left of a create; a change goes back to the former goal.
    async fn take_back(&self, slot: &Slot, work: &mut Work, goal: &Goal, target: (&dyn EngineDriver, &Server)) {
        let Some(stored) = work.stored.clone() else { return };
        let done = match stored.phase {
            Phase::Creating => self.take_back_create(work, goal, target).await,
            Phase::Changing => self.take_back_change(slot, work, stored).await,
            Phase::Applied | Phase::Retiring | Phase::Purging => Ok(()),
        };
        if let Err(error) = done {
            tracing::error!(member = %goal.member, error = error.chain(), "cannot take a failed change back");
            slot.update(|facts| facts.problem = error.message.clone());
        }
    }

    async fn take_back_create(
        &self,
        work: &mut Work,
        goal: &Goal,
        (driver, server): (&dyn EngineDriver, &Server),
    ) -> Result<(), Error> {
        self.stop(work, server, driver.unit(server).stop_signal).await?;
        if goal.source == Source::Retained && server.site.data.exists() && !self.retained(goal).exists() {
            files::move_durably(&server.site.data, &self.retained(goal))?;
        }
        self.clear(goal.engine, goal.member).await?;
        work.stored = None;
        Ok(())
    }

    async fn take_back_change(&self, slot: &Slot, work: &mut Work, stored: Stored) -> Result<(), Error> {
        let Some(previous) = stored.previous.clone() else { return Ok(()) };
        let goal = Goal::parse(&previous)?;
        let (driver, server) = self.server(&goal)?;
        let target = (&*driver, &server);
        let former = Stored { phase: Phase::Applied, goal: previous, previous: None, replaces: None, ..stored };
        former.write(&self.layout.member(goal.engine, goal.member))?;
        work.stored = Some(former);
        slot.publish(Some(goal.clone()));
        let settled = self.settle(slot, work, &goal, target, &CancellationToken::new()).await;
        self.observe(slot, work, &goal, target).await;
        settled.map(drop)
    }

    /// Where the data of a removed member is.
    pub(super) fn retained(&self, goal: &Goal) -> std::path::PathBuf {
        self.layout.retained().join(layout::name(goal.engine, goal.member))
    }
}
