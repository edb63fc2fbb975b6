//! Carries out an order about a user, database or extension.

use windlass_core::{Error, ErrorKind, Reason, id::MemberId};
use windlass_proto::agent::v1 as pb;

use super::{
    Members,
    goal::{Goal, Phase, Power},
};
use crate::engines::{Kinship, object::Object};

impl Members {
    /// Applies the object by the agent's own connection; one that has gone stale is made anew once.
    pub(super) async fn apply_to_server(
        &self,
        member: MemberId,
        order: &pb::ApplyObject,
    ) -> Result<pb::MemberFacts, Error> {
        let slot = self.slot(member).ok_or_else(|| Error::not_found("member", member))?;
        let mut work = slot.work.lock().await;
        let stored = work.stored.clone().ok_or_else(|| Error::not_found("member", member))?;
        let goal = Goal::parse(&stored.goal)?;
        let object = Object::parse(goal.engine, order)?;
        if goal.power == Power::Off || !matches!(stored.phase, Phase::Applied | Phase::Changing) {
            let message = format!("{} does not run; start it first", goal.title);
            return Err(Error::precondition(Reason::StateForbids, message));
        }
        let (driver, server) = self.server(&goal)?;
        if goal.kinship == Kinship::Replicated {
            // A commit may wait for followers as long as it likes; nobody else is to wait for it.
            drop(work);
            driver.connect(&server).await?.apply(&object).await?;
            return Ok(slot.facts());
        }
        for last in [false, true] {
            let session = match &mut work.session {
                Some(session) => session,
                None => work.session.insert(driver.connect(&server).await?),
            };
            match session.apply(&object).await {
                Ok(()) => break,
                Err(error) if error.kind == ErrorKind::Unavailable => {
                    work.session = None;
                    if last {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        self.observe(&slot, &mut work, &goal, (&*driver, &server)).await;
        Ok(slot.facts())
    }
}
