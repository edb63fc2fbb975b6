//! The members of a simulated host, as a value: what each command changes, and whether it changes anything.

use std::collections::{BTreeMap, BTreeSet};

use windlass_core::{Error, Reason, id::MemberId};
use windlass_proto::agent::v1::{self as pb, member_facts::Process, member_goal::DataSource, member_goal::Power};

use crate::members::Disposal;

/// Everything that a simulated host has.
#[derive(Debug, Default)]
pub(super) struct Members {
    live: BTreeMap<MemberId, Member>,
    retained: BTreeMap<MemberId, Member>,
    next_pid: i64,
}

#[derive(Debug, Clone, Default)]
struct Member {
    goal: pb::MemberGoal,
    pid: i64,
    identity: String,
    objects: BTreeSet<(i32, String, String)>,
}

/// Whether a command changed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Changed,
    Nothing,
}

impl Members {
    pub(super) fn apply(&mut self, id: MemberId, goal: pb::MemberGoal) -> Result<(pb::MemberFacts, Effect), Error> {
        self.next_pid += 1;
        let pid = self.next_pid;
        if !self.live.contains_key(&id) {
            let member = match goal.data() {
                DataSource::Initialise => Member { identity: id.short(), ..Member::default() },
                DataSource::Retained => self.retained.remove(&id).ok_or_else(|| no_data(id))?,
                // Its data comes when it is told whom to follow.
                DataSource::Cloned if goal.replicated => Member { identity: id.short(), ..Member::default() },
                DataSource::Existing | DataSource::Cloned | DataSource::Unspecified => return Err(no_data(id)),
            };
            self.live.insert(id, member);
        }
        let member = self.live.get_mut(&id).ok_or_else(|| no_data(id))?;
        if goal.generation < member.goal.generation || goal == member.goal {
            return Ok((member.facts(), Effect::Nothing));
        }
        let restart = goal.restarts > member.goal.restarts || member.pid == 0;
        member.pid = match goal.power() {
            Power::Off => 0,
            Power::On | Power::Unspecified if restart => pid,
            Power::On | Power::Unspecified => member.pid,
        };
        member.goal = goal;
        Ok((member.facts(), Effect::Changed))
    }

    pub(super) fn remove(&mut self, id: MemberId, disposal: Disposal) -> (pb::MemberFacts, Effect) {
        let effect = match (self.live.remove(&id), disposal) {
            (Some(member), Disposal::Retain) => {
                self.retained.insert(id, member);
                Effect::Changed
            }
            (Some(_), Disposal::Purge) => Effect::Changed,
            (None, Disposal::Purge) => return self.purge(id),
            (None, Disposal::Retain) => Effect::Nothing,
        };
        (absent(id), effect)
    }

    pub(super) fn purge(&mut self, id: MemberId) -> (pb::MemberFacts, Effect) {
        let effect = if self.retained.remove(&id).is_some() { Effect::Changed } else { Effect::Nothing };
        (absent(id), effect)
    }

    pub(super) fn apply_object(
        &mut self,
        id: MemberId,
        object: &pb::ApplyObject,
    ) -> Result<(pb::MemberFacts, Effect), Error> {
        let member = self.live.get_mut(&id).filter(|member| member.pid != 0).ok_or_else(|| {
            Error::precondition(Reason::StateForbids, format!("member {id} does not run; start it first"))
        })?;
        let key = (object.kind, object.database.clone(), object.name.clone());
        let changed = if object.drop { member.objects.remove(&key) } else { member.objects.insert(key) };
        Ok((member.facts(), if changed { Effect::Changed } else { Effect::Nothing }))
    }

    pub(super) fn facts(&self) -> Vec<pb::MemberFacts> {
        self.live.values().map(Member::facts).collect()
    }

    pub(super) fn count(&self) -> (usize, usize) {
        (self.live.len(), self.retained.len())
    }
}

impl Member {
    fn facts(&self) -> pb::MemberFacts {
        let process = if self.pid == 0 { Process::Stopped } else { Process::Running };
        pb::MemberFacts {
            member_id: self.goal.member_id.clone(),
            instance_id: self.goal.instance_id.clone(),
            generation: self.goal.generation,
            process: process.into(),
            pid: self.pid,
            restarts: self.goal.restarts,
            engine_identity: self.identity.clone(),
            ..pb::MemberFacts::default()
        }
    }
}

fn absent(id: MemberId) -> pb::MemberFacts {
    pb::MemberFacts { member_id: id.to_string(), process: Process::Absent.into(), ..pb::MemberFacts::default() }
}

fn no_data(id: MemberId) -> Error {
    Error::precondition(Reason::DataDirectoryInvalid, format!("member {id} has no data on this host"))
}
