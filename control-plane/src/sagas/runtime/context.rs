//! What a running step may use: the guarded transaction, the operation it serves, and commands.

use jiff::Timestamp;
use windlass_core::{
    Error,
    id::{HostId, InstanceId, OperationId, ProjectId},
    operation::Direction,
};
use windlass_db::{
    Guard, PgConnection, Tx,
    commands::{self, Enqueued, command_enqueue_tx, commands_by_uid_tx},
    events::{NewEvent, event_add_tx},
    sagas::SagaRow,
    shard,
};

use super::command::{self, CommandOutcome, NewCommand, Slot};
use crate::ha::{ClusterView, Ha};

/// Attempts of a step whose commands are looked at before a new one is queued.
const ATTEMPTS_REMEMBERED: i32 = 16;

/// The context of one run of a step. Everything done through it commits or fails together.
#[derive(Debug)]
pub struct StepContext {
    tx: Tx,
    guard: Guard,
    saga: OperationId,
    project: Option<ProjectId>,
    instance: Option<InstanceId>,
    target: String,
    actor: String,
    step: i32,
    direction: Direction,
    attempt: i32,
    now: Timestamp,
    ha: Ha,
    hosts: Vec<HostId>,
    clusters: Vec<InstanceId>,
}

/// Whom to tell of a step once it is committed.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// Hosts with new commands.
    pub(crate) hosts: Vec<HostId>,
    /// Instances whose clusters were changed.
    pub(crate) clusters: Vec<InstanceId>,
}

impl StepContext {
    pub(crate) fn new(tx: Tx, guard: &Guard, saga: &SagaRow, now: Timestamp, ha: Ha) -> Self {
        Self {
            tx,
            guard: guard.clone(),
            saga: saga.id,
            project: saga.project,
            instance: saga.instance,
            target: saga.target.clone(),
            actor: saga.actor.clone(),
            step: saga.cursor,
            direction: saga.direction,
            attempt: saga.attempt,
            now,
            ha,
            hosts: Vec::new(),
            clusters: Vec::new(),
        }
    }

    /// The transaction; and whom to tell once it is committed.
    pub(crate) fn into_parts(self) -> (Tx, News) {
        (self.tx, News { hosts: self.hosts, clusters: self.clusters })
    }

    /// Drops everything done through it. Explicitly, so that the saga's row is free again when this returns.
    pub(crate) async fn abandon(self) {
        if let Err(error) = self.tx.rollback().await {
            tracing::debug!(error = error.chain(), "the connection broke; the server rolls back by itself");
        }
    }

    /// The transaction, for the `_tx` functions of the database.
    pub fn tx(&mut self) -> &mut PgConnection {
        &mut self.tx
    }

    /// The operation that the saga carries out.
    pub fn operation(&self) -> OperationId {
        self.saga
    }

    /// The operation's project.
    pub fn project(&self) -> Option<ProjectId> {
        self.project
    }

    /// The operation's instance.
    pub fn instance(&self) -> Option<InstanceId> {
        self.instance
    }

    /// Full name of the resource that the operation works on.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Who asked for the operation.
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// When this run of the step began.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// How often the step has failed so far.
    pub fn attempt(&self) -> i32 {
        self.attempt
    }

    /// The cluster of this instance was changed through the transaction: the driver of replication is told of it after
    /// the commit.
    pub fn cluster_changed(&mut self, instance: InstanceId) {
        self.clusters.push(instance);
    }

    /// What is heard of a replicated instance, for people; the stored cluster decides.
    pub fn heard(&self, instance: InstanceId) -> Option<ClusterView> {
        self.ha.heard(instance)
    }

    /// Asks for a command and tells what became of it. `key` names it within the step. However often the step runs,
    /// the command is queued once; after the step failed, only commands that have failed are queued again.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn command(&mut self, key: &str, command: NewCommand) -> Result<CommandOutcome, Error> {
        let slot = Slot { saga: self.saga, step: self.step, direction: self.direction, key };
        if let Some(outcome) = self.known(&slot).await? {
            return Ok(outcome);
        }
        let id = command.instance.map_or(self.saga.0, |instance| instance.0);
        let queued = command_enqueue_tx(
            &mut self.tx,
            &commands::NewCommand {
                uid: slot.uid(self.attempt),
                shard: shard::of(id),
                host: command.host,
                instance: command.instance,
                member: command.member,
                saga: Some(self.saga),
                epoch: self.guard.epoch,
                generation: command.generation,
                kind: command::kind(&command.body),
                args: command::args(command.body)?,
                timeout: command.timeout,
                expire: command.expire,
            },
        )
        .await?;
        if queued == Enqueued::Fresh {
            self.hosts.push(command.host);
        }
        Ok(CommandOutcome::Pending)
    }

    /// The outcome of the slot's newest command that counts: one of this attempt, or an earlier one that did not fail.
    async fn known(&mut self, slot: &Slot<'_>) -> Result<Option<CommandOutcome>, Error> {
        let oldest = (self.attempt + 1 - ATTEMPTS_REMEMBERED).max(0);
        let uids: Vec<_> = (oldest..=self.attempt).rev().map(|attempt| slot.uid(attempt)).collect();
        let mut rows = commands_by_uid_tx(&mut self.tx, &uids).await?;
        for uid in &uids {
            let Some(found) = rows.iter().position(|row| row.uid == *uid) else { continue };
            let outcome = command::outcome(rows.swap_remove(found));
            let of_this_attempt = *uid == uids[0];
            match outcome {
                CommandOutcome::Failed(_) if !of_this_attempt => {}
                CommandOutcome::Failed(_) | CommandOutcome::Pending | CommandOutcome::Succeeded(_) => {
                    return Ok(Some(outcome));
                }
            }
        }
        Ok(None)
    }

    /// Adds an event about the operation's target, by its actor; `event` brings kind, severity, message and data.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn event(&mut self, event: NewEvent) -> Result<(), Error> {
        let event = NewEvent {
            actor: self.actor.clone(),
            project: self.project,
            instance: self.instance,
            operation: Some(self.saga),
            ..event
        };
        event_add_tx(&mut self.tx, event).await.map(drop)
    }
}
