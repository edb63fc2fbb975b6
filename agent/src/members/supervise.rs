//! Holds members to their goals without being asked.
//!
//! Level-triggered: each look compares all that shall be with all that is. The end of a process, or a replicated one that
//! answers, only makes the next look come at once. What was changed by hand is put back; a process that ended is started,
//! at once the first time and then ever more slowly; what an order left unfinished is finished, except a create, which is
//! the order's to repeat or to give up.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Instant,
};

use tokio::{task::JoinSet, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use windlass_core::{Error, id::MemberId};

use super::{
    Disposal, Members,
    goal::{Goal, Phase, Power, Stored},
    settle::{Settled, Start},
    slot::{Slot, Told, Work},
};
use crate::{
    engines::{Kinship, Server},
    host::UnitStatus,
};

/// What a look at a member leads to.
enum Next {
    /// Nothing until the next look.
    Rest,
    /// Its process is to be started after a pause.
    Pause(std::time::Duration),
}

impl Members {
    /// Looks after the members until shutdown.
    pub(super) async fn supervise(self: &Arc<Self>, shutdown: &CancellationToken) {
        let Some(mut due) = self.take_due() else { return };
        let mut looks: JoinSet<()> = JoinSet::new();
        let mut running: HashMap<tokio::task::Id, MemberId> = HashMap::new();
        let mut again: BTreeSet<MemberId> = BTreeSet::new();
        let mut ticks = tokio::time::interval(self.config.check_every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(member) = due.recv() => drop(again.insert(member)),
                _ = ticks.tick() => {
                    again.extend(self.member_ids());
                    self.look_for_orphans();
                }
                Some(done) = looks.join_next_with_id(), if !looks.is_empty() => {
                    let id = match done {
                        Ok((id, ())) => id,
                        Err(error) => {
                            tracing::error!(%error, "a look at a member broke off");
                            error.id()
                        }
                    };
                    running.remove(&id);
                }
            }
            let free: Vec<MemberId> =
                again.iter().copied().filter(|id| running.values().all(|busy| busy != id)).collect();
            for member in free {
                again.remove(&member);
                let this = self.clone();
                running.insert(looks.spawn(async move { this.look_after(member).await }).id(), member);
            }
        }
    }

    /// Looks at a member until it is as it shall be, or cannot be made so.
    async fn look_after(&self, member: MemberId) {
        loop {
            let (slot, mut work) = self.hold(member).await;
            let next = self.look(&slot, &mut work).await;
            if work.stored.is_none() {
                self.forget_slot(member);
            }
            drop(work);
            match next {
                Ok(Next::Rest) => return,
                Ok(Next::Pause(delay)) => tokio::time::sleep(delay).await,
                Err(error) => {
                    tracing::warn!(%member, error = error.chain(), "a member is not as it shall be");
                    slot.update(|facts| facts.problem = error.message.clone());
                    self.news.changed();
                    return;
                }
            }
        }
    }

    async fn look(&self, slot: &Slot, work: &mut Work) -> Result<Next, Error> {
        let Some(stored) = work.stored.clone() else { return Ok(Next::Rest) };
        match stored.phase {
            Phase::Creating => return Ok(Next::Rest),
            Phase::Retiring => return self.finish_retiring(work, slot.id, Disposal::Retain).await.map(|()| Next::Rest),
            Phase::Purging => return self.finish_retiring(work, slot.id, Disposal::Purge).await.map(|()| Next::Rest),
            Phase::Applied | Phase::Changing => {}
        }
        let goal = Goal::parse(&stored.goal)?;
        let (driver, server) = self.server(&goal)?;
        let target = (&*driver, &server);
        if goal.kinship == Kinship::Replicated {
            let settled = self.settle(slot, work, &goal, target, &CancellationToken::new()).await;
            let result = match settled {
                Ok(settled) => self.settled(work, &goal, &stored, &settled).await.map(|()| Next::Rest),
                Err(error) => Err(error),
            };
            self.observe(slot, work, &goal, target).await;
            return result;
        }
        let supervised = match (goal.power, self.host.status(&server.unit).await?) {
            (Power::On, UnitStatus::Absent) => Some("it did not run".to_owned()),
            (Power::On, UnitStatus::Ended(how)) => Some(how),
            (Power::On, UnitStatus::Running(_)) | (Power::Off, _) => None,
        };
        if let Some(how) = supervised {
            self.tell_end(work, &server, slot, &how);
            let now = Instant::now();
            let delay = work.crashes.delay(now);
            if !delay.is_zero() {
                self.observe(slot, work, &goal, target).await;
                slot.update(|facts| {
                    facts.problem = format!("{how}; the next start is in {:.1} s", delay.as_secs_f64())
                });
                return Ok(Next::Pause(delay));
            }
            work.crashes.starting(now);
        }
        let settled = self.settle(slot, work, &goal, target, &CancellationToken::new()).await;
        let result = match settled {
            Ok(settled) => self.settled(work, &goal, &stored, &settled).await.map(|()| Next::Rest),
            Err(error) if self.process(&server).await?.is_none() && goal.power == Power::On => {
                tracing::warn!(member = %slot.id, error = error.chain(), "a start failed; another will follow");
                self.observe(slot, work, &goal, target).await;
                slot.update(|facts| facts.problem = error.message.clone());
                self.news.changed();
                return Ok(Next::Pause(work.crashes.delay(Instant::now())));
            }
            Err(error) => Err(error),
        };
        self.observe(slot, work, &goal, target).await;
        result
    }

    /// Tells what was put right, and completes a change that an order left.
    async fn settled(&self, work: &mut Work, goal: &Goal, stored: &Stored, settled: &Settled) -> Result<(), Error> {
        if stored.phase == Phase::Changing {
            self.ensure_admin(work, goal).await?;
            return self.finish(work, goal, &self.layout.member(goal.engine, goal.member));
        }
        if settled.start == Start::Done {
            self.news.happened("member.restarted", goal.member, format!("{} runs again", goal.title));
        }
        if !settled.files.is_empty() {
            let message = format!("put back what was changed by hand: {}", settled.files.join(", "));
            self.news.happened("config.repaired", goal.member, message);
        }
        Ok(())
    }

    fn tell_end(&self, work: &mut Work, server: &Server, slot: &Slot, how: &str) {
        work.session = None;
        if work.crashes.ended() == Told::Now {
            let kind = if how.ends_with("exit code 0") { "member.stopped" } else { "member.crashed" };
            let message = format!("{}: {how}; its log ends with: {}", server.title, self.last_words(server));
            self.news.happened(kind, slot.id, message);
        }
    }
}
