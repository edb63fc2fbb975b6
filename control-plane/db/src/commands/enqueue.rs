//! Putting commands into the queue and reading them back.

use jiff::SignedDuration;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;
use windlass_core::{
    Error,
    command::{CommandKind, CommandState},
    id::{CommandId, HostId, InstanceId, MemberId, OperationId},
};

use crate::{Db, error::DbResult as _};

/// A command to queue.
#[derive(Debug, Clone)]
pub struct NewCommand {
    /// Derived by the caller from what the command is for, so that a repeat has the same.
    pub uid: CommandId,
    /// See [`crate::shard`].
    pub shard: i16,
    /// Who carries it out.
    pub host: HostId,
    /// The instance it is about.
    pub instance: Option<InstanceId>,
    /// The member it is about; commands of one member are carried out one after the other.
    pub member: Option<MemberId>,
    /// The saga that waits for it.
    pub saga: Option<OperationId>,
    /// Ownership term under which it is queued.
    pub epoch: i64,
    /// Generation of the instance's spec.
    pub generation: i64,
    /// What it is.
    pub kind: CommandKind,
    /// Its arguments.
    pub args: Value,
    /// How long the agent may take.
    pub timeout: SignedDuration,
    /// Not begun after so long: EXPIRED. None never expires.
    pub expire: Option<SignedDuration>,
}

/// What queueing did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    /// It is in the queue now.
    Fresh,
    /// It was queued before.
    Known,
}

/// A command as its saga sees it.
#[derive(Debug, Clone)]
pub struct CommandRow {
    /// Its uid.
    pub uid: CommandId,
    /// Where it stands.
    pub state: CommandState,
    /// What the agent said at the end.
    pub result: Option<Value>,
}

/// Queues a command. Older queued ones of the member that it makes pointless become SUPERSEDED, and their sagas due.
///
/// # Errors
/// Those of the database.
pub async fn command_enqueue_tx(tx: &mut PgConnection, command: &NewCommand) -> Result<Enqueued, Error> {
    let done = sqlx::query!(
        "insert into command (uid, shard, host_id, instance_id, member_id, saga_id, epoch, generation, kind, args,
                              timeout_ms, expire_time)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, now() + make_interval(secs => $12))
         on conflict (uid) do nothing",
        command.uid.0,
        command.shard,
        command.host.0,
        command.instance.map(|id| id.0),
        command.member.map(|id| id.0),
        command.saga.map(|id| id.0),
        command.epoch,
        command.generation,
        command.kind.as_str(),
        command.args,
        i64::try_from(command.timeout.as_millis()).unwrap_or(i64::MAX),
        command.expire.map(|expire| expire.as_secs_f64())
    )
    .execute(&mut *tx)
    .await
    .db()?;
    if done.rows_affected() == 0 {
        return Ok(Enqueued::Known);
    }
    if let Some(member) = command.member
        && command.kind.superseded_by_newer()
    {
        supersede_tx(tx, member, command.kind, command.generation).await?;
    }
    Ok(Enqueued::Fresh)
}

async fn supersede_tx(
    tx: &mut PgConnection,
    member: MemberId,
    kind: CommandKind,
    generation: i64,
) -> Result<(), Error> {
    sqlx::query!(
        "with old as (
            update command set state = 'SUPERSEDED', end_time = now()
             where member_id = $1 and kind = $2 and state = 'QUEUED' and generation < $3
             returning saga_id)
         update saga set wake_at = clock_timestamp() where not done and id in (select saga_id from old)",
        member.0,
        kind.as_str(),
        generation
    )
    .execute(tx)
    .await
    .db()
    .map(drop)
}

/// Those of these commands that were ever queued.
///
/// # Errors
/// Those of the database.
pub async fn commands_by_uid_tx(tx: &mut PgConnection, uids: &[CommandId]) -> Result<Vec<CommandRow>, Error> {
    let uids: Vec<Uuid> = uids.iter().map(|uid| uid.0).collect();
    sqlx::query_as!(
        CommandRow,
        r#"select uid as "uid: CommandId", state as "state: CommandState", result
             from command where uid = any($1)"#,
        &uids
    )
    .fetch_all(tx)
    .await
    .db()
}

/// How many commands of the saga have not ended.
///
/// # Errors
/// Those of the database.
pub async fn commands_open_tx(tx: &mut PgConnection, saga: OperationId) -> Result<i64, Error> {
    sqlx::query_scalar!(
        r#"select count(*) as "count!" from command where saga_id = $1 and state in ('QUEUED', 'LEASED')"#,
        saga.0
    )
    .fetch_one(tx)
    .await
    .db()
}

/// A removal that did not work, of a member that the metadata has forgotten.
#[derive(Debug, Clone, Copy)]
pub struct FailedRemoval {
    /// The order.
    pub uid: CommandId,
    /// Whose it is.
    pub host: HostId,
}

impl Db {
    /// Removals that ended without success `patience` or longer ago, of members that nobody knows any more: the saga
    /// that asked has ended without them. Hosts that are revoked will not answer and are left out.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn removals_failed(&self, patience: SignedDuration, limit: i64) -> Result<Vec<FailedRemoval>, Error> {
        sqlx::query_as!(
            FailedRemoval,
            r#"select c.uid as "uid: CommandId", c.host_id as "host: HostId"
                 from command c join host h on h.id = c.host_id
                where c.kind in ('member.remove', 'member.purge') and c.state in ('FAILED', 'EXPIRED', 'CANCELLED')
                  and c.end_time < now() - make_interval(secs => $1) and h.state <> 'REVOKED'
                  and not exists (select from member m where m.id = c.member_id)
                  and not exists (select from command later where later.member_id = c.member_id and later.id > c.id)
                limit $2"#,
            patience.as_secs_f64(),
            limit
        )
        .fetch_all(self.pool())
        .await
        .db()
    }
}

/// Queues an ended command once more, as `again`, without a saga and without a deadline.
///
/// # Errors
/// Those of the database.
pub async fn command_repeat_tx(
    tx: &mut PgConnection,
    uid: CommandId,
    again: CommandId,
    epoch: i64,
) -> Result<Enqueued, Error> {
    let done = sqlx::query!(
        "insert into command (uid, shard, host_id, instance_id, member_id, epoch, generation, kind, args, timeout_ms)
         select $2, shard, host_id, instance_id, member_id, $3, generation, kind, args, timeout_ms
           from command where uid = $1
         on conflict (uid) do nothing",
        uid.0,
        again.0,
        epoch
    )
    .execute(tx)
    .await
    .db()?;
    Ok(if done.rows_affected() == 0 { Enqueued::Known } else { Enqueued::Fresh })
}
