//! What operations change in a cluster: intents, members, policy. Each is checked and gives the next value to store.
//!
//! An operation stores the value by compare-and-swap and then waits for what the state machine makes of it.

use windlass_core::{
    Error, Reason,
    id::{MemberId, OperationId},
    replication::Replication,
};

use super::{
    cluster::{Cluster, Member, Stay},
    decide::numbered,
    phase::{Intent, Loss, Outcome, Patience, Phase, Promotion, RestStep},
};

fn refused(message: String) -> Error {
    Error::precondition(Reason::StateForbids, message)
}

impl Cluster {
    /// The outcome of an operation's intent, once there is one.
    pub fn outcome_of(&self, id: OperationId) -> Option<&Outcome> {
        self.outcome.as_ref().filter(|outcome| outcome.id == id)
    }

    /// Asks to replace the leader in order; asked again by the same operation it changes nothing.
    ///
    /// # Errors
    /// If something else is under way, or `to` cannot lead.
    pub fn switchover(&self, id: OperationId, to: Option<MemberId>, patience: Patience) -> Result<Self, Error> {
        self.intend(Intent::Switchover { id, to, patience }, to)
    }

    /// Asks to replace the leader without it.
    ///
    /// # Errors
    /// If something else is under way, or `to` cannot lead.
    pub fn failover(&self, id: OperationId, to: Option<MemberId>, loss: Loss) -> Result<Self, Error> {
        self.intend(Intent::Failover { id, to, loss }, to)
    }

    /// Asks to stop all members.
    ///
    /// # Errors
    /// If something else is under way.
    pub fn rest(&self, id: OperationId) -> Result<Self, Error> {
        self.intend(Intent::Rest { id }, None)
    }

    /// Starts all members again; nothing changes if they are not at rest.
    pub fn resume(&self) -> Self {
        if !matches!(self.phase, Phase::Resting(_)) {
            return self.clone();
        }
        let intent = Intent::None;
        numbered(self, Self { phase: Phase::Promoting(Promotion::Reopening), intent, ..self.clone() })
    }

    /// Takes an intent back that has not begun; nothing changes if it has.
    pub fn withdraw(&self, id: OperationId) -> Self {
        if self.intent.id() != Some(id) || !matches!(self.phase, Phase::Steady | Phase::Promoting(_)) {
            return self.clone();
        }
        numbered(self, Self { intent: Intent::None, ..self.clone() })
    }

    /// Adds a member; it follows at once and acknowledges when it has caught up.
    ///
    /// # Errors
    /// If it would become too large.
    pub fn add(&self, id: MemberId, member: Member) -> Result<Self, Error> {
        if self.members.contains_key(&id) {
            return Ok(self.clone());
        }
        let most = windlass_core::replication::REPLICAS_MAX as usize + 1;
        let staying = self.members.values().filter(|member| member.stay == Stay::Staying).count();
        if staying >= most {
            return Err(refused(format!("it has {staying} members, which is the most; remove one first")));
        }
        let mut next = self.clone();
        next.members.insert(id, Member { order_rev: self.rev + 1, ..member });
        Ok(numbered(self, next))
    }

    /// Begins to remove a member: out of the ack set, then to rest. [`Self::is_out`] says when that is so.
    ///
    /// # Errors
    /// If it leads.
    pub fn remove(&self, id: MemberId) -> Result<Self, Error> {
        if self.primary() == Some(id) || self.reign.leader == id {
            return Err(refused(format!("{} is the primary; move it away by a switchover first", self.name(id))));
        }
        let mut next = self.clone();
        if let Some(member) = next.members.get_mut(&id) {
            member.stay = Stay::Leaving;
        }
        Ok(if next == *self { next } else { numbered(self, next) })
    }

    /// A member that is being removed acknowledges nothing any more: its data may be deleted.
    pub fn is_out(&self, id: MemberId) -> bool {
        let before = self.previous.iter().flat_map(|reign| reign.sets.iter());
        let counted = before.chain(&self.reign.sets).any(|set| set.members.contains(&id));
        self.members.get(&id).is_none_or(|member| member.stay == Stay::Leaving && !counted && self.reign.leader != id)
    }

    /// Forgets a member that is out.
    ///
    /// # Errors
    /// If it is not.
    pub fn forget(&self, id: MemberId) -> Result<Self, Error> {
        if !self.is_out(id) {
            return Err(refused(format!("{} still counts for commits; remove it and wait", self.name(id))));
        }
        let mut next = self.clone();
        next.members.remove(&id);
        Ok(if next == *self { next } else { numbered(self, next) })
    }

    /// Has a follower's data thrown away and copied anew.
    ///
    /// # Errors
    /// If it leads or acknowledges.
    pub fn clone_anew(&self, id: MemberId) -> Result<Self, Error> {
        if self.reign.leader == id || self.acks().contains(&id) {
            return Err(refused(format!("{} leads or acknowledges commits, so its data is needed", self.name(id))));
        }
        let mut next = self.clone();
        if let Some(member) = next.members.get_mut(&id) {
            member.clone_anew = true;
        }
        Ok(if next == *self { next } else { numbered(self, next) })
    }

    /// Takes a new policy and new timings.
    pub fn with_policy(&self, replication: Replication) -> Self {
        let next = Self { replication, ..self.clone() };
        if next == *self { next } else { numbered(self, next) }
    }

    /// All members that answer are at rest.
    pub fn is_at_rest(&self) -> bool {
        self.phase == Phase::Resting(RestStep::Done)
    }

    fn intend(&self, intent: Intent, to: Option<MemberId>) -> Result<Self, Error> {
        if self.intent == intent || intent.id().is_some_and(|id| self.outcome_of(id).is_some()) {
            return Ok(self.clone());
        }
        if let Some(to) = to {
            match self.members.get(&to) {
                None => return Err(Error::invalid("to", format!("{to} is not a member of this instance"))),
                Some(member) if !member.counts() && !matches!(intent, Intent::Failover { loss: Loss::Allowed, .. }) => {
                    return Err(refused(format!("{} is asynchronous or being removed; choose another", self.name(to))));
                }
                Some(_) => {}
            }
            if self.primary() == Some(to) {
                return Err(refused(format!("{} is the primary already", self.name(to))));
            }
        }
        // A failover is what gets a stuck cluster going, so it may replace any other wish.
        let replaceable = matches!(intent, Intent::Failover { .. });
        let free = self.intent == Intent::None
            && matches!(self.phase, Phase::Steady | Phase::Promoting(_) | Phase::Resting(RestStep::Done));
        let stuck = replaceable && !matches!(self.phase, Phase::Switchover(_) | Phase::Resting(_));
        if !free && !stuck {
            return Err(refused(format!("it is {} at this moment; try again", self.phase.word())));
        }
        Ok(numbered(self, Self { intent, ..self.clone() }))
    }
}
