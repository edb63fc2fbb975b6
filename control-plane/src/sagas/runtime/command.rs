//! Commands as a step sees them, and their stored form.
//!
//! Stored arguments and results are the JSON of the agent protocol's messages, so that what is in the queue is what
//! the agent gets.

use std::str::FromStr as _;

use jiff::SignedDuration;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use uuid::{Builder, Uuid};
use windlass_core::{
    Error, Reason,
    command::{CommandKind, CommandState, MAX_ATTEMPTS},
    error::ErrorKind,
    id::{CommandId, HostId, InstanceId, MemberId, OperationId},
    operation::Direction,
};
use windlass_db::commands::CommandRow;
use windlass_proto::agent::v1 as pb;

/// A command that a step wants carried out.
#[derive(Debug, Clone)]
pub struct NewCommand {
    /// Who carries it out.
    pub host: HostId,
    /// The member it is about.
    pub member: Option<MemberId>,
    /// The instance it is about.
    pub instance: Option<InstanceId>,
    /// Generation of the instance's spec.
    pub generation: i64,
    /// The order.
    pub body: pb::command::Body,
    /// How long the agent may take.
    pub timeout: SignedDuration,
    /// Not begun after so long: it expires. None never expires.
    pub expire: Option<SignedDuration>,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq)]
pub enum CommandOutcome {
    /// Nothing yet.
    Pending,
    /// Carried out; what the agent saw afterwards.
    Succeeded(pb::MemberFacts),
    /// Not carried out.
    Failed(Error),
}

/// Which command of which saga: the same slot has the same uid in every run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot<'a> {
    pub(crate) saga: OperationId,
    pub(crate) step: i32,
    pub(crate) direction: Direction,
    pub(crate) key: &'a str,
}

impl Slot<'_> {
    /// The uid of this slot's command in the step's n-th attempt.
    pub(crate) fn uid(&self, attempt: i32) -> CommandId {
        let mut hash = Sha256::new();
        hash.update(self.saga.0.as_bytes());
        hash.update(format!("/{}/{}/{attempt}/{}", self.step, self.direction, self.key));
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.finalize()[..16]);
        CommandId(Builder::from_custom_bytes(bytes).into_uuid())
    }
}

/// The word for what the body asks.
pub(crate) fn kind(body: &pb::command::Body) -> CommandKind {
    match body {
        pb::command::Body::ApplyMember(_) => CommandKind::ApplyMember,
        pb::command::Body::RemoveMember(_) => CommandKind::RemoveMember,
        pb::command::Body::PurgeMember(_) => CommandKind::PurgeMember,
        pb::command::Body::ApplyObject(_) => CommandKind::ApplyObject,
    }
}

/// The stored form of the body.
pub(crate) fn args(body: pb::command::Body) -> Result<Value, Error> {
    serde_json::to_value(pb::Command { body: Some(body), ..pb::Command::default() })
        .map_err(|error| Error::internal("a command cannot be written as JSON").with_source(error))
}

/// What a stored command means to its step.
pub(crate) fn outcome(row: CommandRow) -> CommandOutcome {
    if let Some(error) = row.state.silent_end() {
        return CommandOutcome::Failed(error);
    }
    match row.state {
        CommandState::Succeeded => match row.result.map(serde_json::from_value::<pb::MemberFacts>) {
            Some(Ok(facts)) => CommandOutcome::Succeeded(facts),
            None => CommandOutcome::Succeeded(pb::MemberFacts::default()),
            Some(Err(error)) => CommandOutcome::Failed(unreadable(row.uid.0, error)),
        },
        CommandState::Failed => CommandOutcome::Failed(match row.result.map(serde_json::from_value::<pb::Failure>) {
            Some(Ok(failure)) => failed(&failure),
            Some(Err(error)) => unreadable(row.uid.0, error),
            None => Error::new(
                ErrorKind::Internal,
                Reason::CommandPoisoned,
                format!("the host got the order {MAX_ATTEMPTS} times and never answered; look at the agent's log"),
            ),
        }),
        CommandState::Queued
        | CommandState::Leased
        | CommandState::Cancelled
        | CommandState::Superseded
        | CommandState::Expired => CommandOutcome::Pending,
    }
}

/// What an agent's failure is as an error.
fn failed(failure: &pb::Failure) -> Error {
    let reason = Reason::from_str(&failure.reason).unwrap_or(Reason::Internal);
    let kind = if failure.retryable { ErrorKind::Unavailable } else { ErrorKind::FailedPrecondition };
    Error::new(kind, reason, failure.message.clone())
}

fn unreadable(uid: Uuid, error: serde_json::Error) -> Error {
    Error::internal(format!("the result of command {uid} cannot be read")).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(state: CommandState, result: Option<Value>) -> CommandRow {
        CommandRow { uid: CommandId::new(), state, result }
    }

    #[test]
    fn a_slot_has_one_uid_for_each_attempt() {
        let saga = OperationId::new();
        let slot = Slot { saga, step: 2, direction: Direction::Forward, key: "a" };
        assert_eq!(slot.uid(0), slot.uid(0));
        let others = [
            slot.uid(1),
            Slot { key: "b", ..slot }.uid(0),
            Slot { step: 3, ..slot }.uid(0),
            Slot { direction: Direction::Unwind, ..slot }.uid(0),
            Slot { saga: OperationId::new(), ..slot }.uid(0),
        ];
        assert!(others.iter().all(|uid| *uid != slot.uid(0)));
    }

    #[test]
    fn arguments_are_the_protocols_json() {
        let body = pb::command::Body::RemoveMember(pb::RemoveMember { purge: true });
        assert_eq!(args(body).expect("writes"), serde_json::json!({"remove_member": {"purge": true}}));
    }

    #[test]
    fn every_end_has_a_meaning() {
        let failure = pb::Failure { reason: "PORT_TAKEN".into(), message: "port 1 is taken".into(), retryable: true };
        let CommandOutcome::Failed(error) =
            outcome(row(CommandState::Failed, Some(serde_json::to_value(failure).expect("json"))))
        else {
            panic!("failed")
        };
        assert_eq!((error.reason, error.retryable()), (Reason::PortTaken, true));
        let reason = |state| match outcome(row(state, None)) {
            CommandOutcome::Failed(error) => Some(error.reason),
            CommandOutcome::Pending | CommandOutcome::Succeeded(_) => None,
        };
        assert_eq!(reason(CommandState::Failed), Some(Reason::CommandPoisoned));
        assert_eq!(reason(CommandState::Expired), Some(Reason::CommandExpired));
        assert_eq!(reason(CommandState::Superseded), Some(Reason::CommandSuperseded));
        assert_eq!(outcome(row(CommandState::Leased, None)), CommandOutcome::Pending);
    }
}
