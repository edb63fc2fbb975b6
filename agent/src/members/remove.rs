//! Takes members away, and deletes what was put aside.
//!
//! The intention is on disk before the first effect, so that a crash does not bring the server back; the directory goes
//! last, so that a repeat finds what is left. Data is put aside by one rename.

use std::path::PathBuf;

use rustix::process::Signal;
use windlass_core::{Error, engine::Engine, id::MemberId};
use windlass_proto::agent::v1::{self as pb, member_facts};

use super::{
    Disposal, Members,
    goal::{Goal, Phase, Stored},
    layout,
    slot::Work,
};
use crate::host::{files, proc, proc::Which};

impl Members {
    /// Stops the member, disposes of its data and removes everything else of it.
    pub(super) async fn retire(&self, member: MemberId, disposal: Disposal) -> Result<pb::MemberFacts, Error> {
        let (slot, mut work) = self.hold(member).await;
        if let Some(stored) = work.stored.clone() {
            let phase = match disposal {
                Disposal::Retain => Phase::Retiring,
                Disposal::Purge => Phase::Purging,
            };
            let goal = Goal::parse(&stored.goal)?;
            let stored = Stored { phase, ..stored };
            stored.write(&self.layout.member(goal.engine, member))?;
            work.stored = Some(stored);
            slot.publish(None);
            slot.release().await;
            self.failpoints.hit("members.after_retire").await?;
        }
        let done = self.finish_retiring(&mut work, member, disposal).await;
        if work.stored.is_none() {
            self.forget_slot(member);
        }
        self.news.changed();
        done.map(|()| absent(member))
    }

    /// The effects of a removal; repeatable.
    pub(super) async fn finish_retiring(
        &self,
        work: &mut Work,
        member: MemberId,
        disposal: Disposal,
    ) -> Result<(), Error> {
        for engine in Engine::ALL.iter().copied() {
            let root = self.layout.member(engine, member);
            if root.exists() {
                self.halt(work, engine, member).await?;
                self.failpoints.hit("members.after_halt").await?;
                let data = root.join("data");
                match disposal {
                    Disposal::Retain if data.exists() => {
                        files::move_durably(&data, &self.free_retained(engine, member))?
                    }
                    Disposal::Retain | Disposal::Purge => {}
                }
                self.failpoints.hit("members.after_data").await?;
                self.clear(engine, member).await?;
            }
            if disposal == Disposal::Purge {
                self.delete_retained(engine, member).await?;
            }
        }
        work.stored = None;
        Ok(())
    }

    /// Deletes retained data.
    pub(super) async fn delete(&self, member: MemberId) -> Result<pb::MemberFacts, Error> {
        for engine in Engine::ALL.iter().copied() {
            self.delete_retained(engine, member).await?;
        }
        let known = self.slot(member).map(|slot| slot.facts());
        Ok(known.unwrap_or_else(|| absent(member)))
    }

    /// Stops the process; also when the goal cannot be read or its engine is no longer installed.
    async fn halt(&self, work: &mut Work, engine: Engine, member: MemberId) -> Result<(), Error> {
        let goal = work.stored.as_ref().and_then(|stored| Goal::parse(&stored.goal).ok());
        if let Some((driver, server)) = goal.and_then(|goal| self.server(&goal).ok()) {
            return self.stop(work, &server, driver.unit(&server).stop_signal).await;
        }
        work.session = None;
        let unit = layout::unit(engine, member);
        self.host.signal(&unit, Signal::TERM).await?;
        if tokio::time::timeout(self.config.stop_grace, self.host.ended(&unit)).await.is_err() {
            self.host.signal(&unit, Signal::KILL).await?;
        }
        proc::kill_under(&self.layout.member(engine, member).join("data"), Which::All).await;
        self.host.forget(&unit).await
    }

    /// Removes everything of a member but data that was put aside. Its directory is renamed first, so that a crash in the
    /// middle leaves no half of a member; the next start of the agent deletes the rest.
    pub(super) async fn clear(&self, engine: Engine, member: MemberId) -> Result<(), Error> {
        files::remove_tree(&self.layout.sockets(&member.short()))?;
        let (root, doomed) = (self.layout.member(engine, member), self.layout.doomed(engine, member));
        files::remove_large_tree(doomed.clone()).await?;
        if root.exists() {
            files::move_durably(&root, &doomed)?;
        }
        files::remove_large_tree(doomed).await
    }

    /// A name for retained data that is not taken: an older set of the same member stays too.
    fn free_retained(&self, engine: Engine, member: MemberId) -> PathBuf {
        let name = layout::name(engine, member);
        let candidates = (0u32..).map(|n| if n == 0 { name.clone() } else { format!("{name}.{n}") });
        let retained = self.layout.retained();
        candidates.map(|name| retained.join(name)).find(|path| !path.exists()).unwrap_or(retained)
    }

    async fn delete_retained(&self, engine: Engine, member: MemberId) -> Result<(), Error> {
        let name = layout::name(engine, member);
        for entry in files::names_in(&self.layout.retained())? {
            if entry == name || entry.strip_prefix(&name).is_some_and(|rest| rest.starts_with('.')) {
                files::remove_large_tree(self.layout.retained().join(entry)).await?;
            }
        }
        Ok(())
    }
}

/// Facts of a member that this host does not have.
pub(super) fn absent(member: MemberId) -> pb::MemberFacts {
    pb::MemberFacts {
        member_id: member.to_string(),
        process: member_facts::Process::Absent.into(),
        ..pb::MemberFacts::default()
    }
}
