//! Stand-ins for the agents of all hosts: they carry out commands on a picture of what a host keeps.
//!
//! Faithful in what sagas rely on: goals are idempotent, a removal of nothing succeeds, data that is put aside comes
//! back only when asked for, and what must exist and does not is an error.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    time::Duration,
};

use serde_json::Value;
use windlass_core::{
    Reason,
    command::{CommandKind, CommandState},
    id::HostId,
};
use windlass_db::{
    Db,
    commands::{ClaimedCommand, CommandReport, Parked},
};
use windlass_proto::agent::v1 as pb;

/// What the hosts keep.
#[derive(Debug, Default)]
pub(crate) struct Agents {
    /// Members by id.
    pub(crate) members: BTreeMap<String, Kept>,
    /// Hosts that fetch nothing.
    pub(crate) silent: HashSet<HostId>,
    /// Ports that something else holds.
    pub(crate) taken_ports: HashSet<u32>,
    /// Parameters that every agent says need a restart.
    pub(crate) needs_restart: Vec<String>,
    /// Objects that were created, as `kind name`.
    pub(crate) objects: Vec<String>,
    /// Commands that were carried out.
    pub(crate) done: Vec<CommandKind>,
    faults: VecDeque<(CommandKind, pb::Failure)>,
}

/// One member on its host.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    /// The last goal; None when the data was put aside.
    pub(crate) goal: Option<pb::MemberGoal>,
    restarts: u64,
    pending: Vec<String>,
}

impl Agents {
    /// The next command of this kind fails with `reason`, after it did half of its work.
    pub(crate) fn fail(&mut self, kind: CommandKind, reason: Reason) {
        let failure = pb::Failure {
            reason: reason.as_str().to_owned(),
            message: format!("{reason} on purpose"),
            retryable: false,
        };
        self.faults.push_back((kind, failure));
    }

    /// No fault is planned and no port is taken.
    pub(crate) fn be_well(&mut self) {
        self.faults.clear();
        self.taken_ports.clear();
    }

    /// Members whose data is in use or was put aside.
    pub(crate) fn count(&self) -> usize {
        self.members.len()
    }

    /// Members that are not put aside.
    pub(crate) fn live(&self) -> usize {
        self.members.values().filter(|kept| kept.goal.is_some()).count()
    }

    /// Fetches and carries out what is queued for hosts that are not silent. Gives how many commands.
    pub(crate) async fn work(&mut self, db: &Db) -> usize {
        let hosts = db.hosts_alive().await.expect("hosts");
        let parked: Vec<_> = hosts
            .iter()
            .filter(|host| !self.silent.contains(&host.id))
            .map(|host| Parked { host: host.id, room: 64 })
            .collect();
        let claimed = db.commands_claim(&parked, Duration::from_secs(60)).await.expect("claim");
        let reports: Vec<_> = claimed.iter().map(|command| self.report(command)).collect();
        db.commands_report(&reports).await.expect("report");
        reports.len()
    }

    fn report(&mut self, command: &ClaimedCommand) -> CommandReport {
        let stored: pb::Command = serde_json::from_value(command.args.clone()).expect("a stored command");
        let member = command.member.map(|id| id.to_string()).unwrap_or_default();
        let outcome = self.carry_out(command.kind, &member, stored.body.expect("a body"));
        let (state, result) = match outcome {
            Ok(facts) => (CommandState::Succeeded, serde_json::to_value(facts)),
            Err(failure) => (CommandState::Failed, serde_json::to_value(failure)),
        };
        let result: Value = result.expect("json");
        CommandReport { uid: command.uid, host: command.host, attempt: command.attempt, state, result }
    }

    /// What an agent does with a command.
    pub(crate) fn carry_out(
        &mut self,
        kind: CommandKind,
        member: &str,
        body: pb::command::Body,
    ) -> Result<pb::MemberFacts, pb::Failure> {
        self.done.push(kind);
        let fault = match self.faults.front() {
            Some((planned, _)) if *planned == kind => self.faults.pop_front().map(|(_, failure)| failure),
            Some(_) | None => None,
        };
        match body {
            pb::command::Body::ApplyMember(apply) => self.apply(apply.goal.expect("a goal"), fault),
            other @ (pb::command::Body::RemoveMember(_)
            | pb::command::Body::PurgeMember(_)
            | pb::command::Body::ApplyObject(_)) => {
                if let Some(failure) = fault {
                    return Err(failure);
                }
                self.change(member, other);
                Ok(self.facts(member))
            }
        }
    }

    fn change(&mut self, member: &str, body: pb::command::Body) {
        match body {
            pb::command::Body::RemoveMember(remove) if remove.purge => drop(self.members.remove(member)),
            pb::command::Body::RemoveMember(_) => {
                if let Some(kept) = self.members.get_mut(member) {
                    kept.goal = None;
                }
            }
            pb::command::Body::PurgeMember(_) => {
                if self.members.get(member).is_some_and(|kept| kept.goal.is_none()) {
                    self.members.remove(member);
                }
            }
            pb::command::Body::ApplyObject(order) => {
                let name = format!("{} {}", order.kind().as_str_name(), order.name);
                self.objects.retain(|known| *known != name);
                if !order.drop {
                    self.objects.push(name);
                }
            }
            pb::command::Body::ApplyMember(_) => unreachable!("handled by apply"),
        }
    }

    fn apply(&mut self, goal: pb::MemberGoal, fault: Option<pb::Failure>) -> Result<pb::MemberFacts, pb::Failure> {
        let refuse = |reason: Reason, message: &str| {
            Err(pb::Failure { reason: reason.as_str().to_owned(), message: message.to_owned(), retryable: false })
        };
        let present = self.members.get(&goal.member_id).map(|kept| kept.goal.is_some());
        match (present, goal.data()) {
            (Some(true), _)
            | (None, pb::member_goal::DataSource::Initialise | pb::member_goal::DataSource::Cloned)
            | (Some(false), pb::member_goal::DataSource::Retained) => {}
            (None | Some(false), _) => return refuse(Reason::DataDirectoryInvalid, "there is no data"),
        }
        let id = goal.member_id.clone();
        let kept =
            self.members.entry(id.clone()).or_insert_with(|| Kept { goal: None, restarts: 0, pending: Vec::new() });
        let before = kept.goal.replace(goal.clone());
        if let Some(failure) = fault {
            return Err(failure);
        }
        if goal.power() == pb::member_goal::Power::On && self.taken_ports.contains(&goal.port) {
            return refuse(Reason::PortTaken, &format!("port {} is taken", goal.port));
        }
        if before.is_some_and(|before| before.parameters != goal.parameters) {
            kept.pending.clone_from(&self.needs_restart);
        }
        if goal.restarts > kept.restarts {
            kept.restarts = goal.restarts;
            kept.pending.clear();
        }
        Ok(self.facts(&id))
    }

    /// What the agent reports of a member.
    pub(crate) fn facts(&self, member: &str) -> pb::MemberFacts {
        let Some(Kept { goal: Some(goal), restarts, pending }) = self.members.get(member) else {
            return pb::MemberFacts::default();
        };
        let process = match goal.power() {
            pb::member_goal::Power::On => pb::member_facts::Process::Running,
            pb::member_goal::Power::Off | pb::member_goal::Power::Unspecified => pb::member_facts::Process::Stopped,
        };
        pb::MemberFacts {
            member_id: goal.member_id.clone(),
            instance_id: goal.instance_id.clone(),
            generation: goal.generation,
            process: process.into(),
            restarts: *restarts,
            pending_restart: pending.clone(),
            disk_used_bytes: 1 << 29,
            ..pb::MemberFacts::default()
        }
    }
}
