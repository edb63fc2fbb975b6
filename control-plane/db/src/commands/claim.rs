//! Handing commands to agents, keeping their leases, and taking back what got lost on the way.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::Value;
use uuid::Uuid;
use windlass_core::{
    Error,
    command::CommandKind,
    id::{CommandId, HostId, InstanceId, MemberId},
};

use crate::{Db, commands::Delivery, error::DbResult as _};

/// A host whose agent waits for commands.
#[derive(Debug, Clone, Copy)]
pub struct Parked {
    /// The host.
    pub host: HostId,
    /// The most commands it takes.
    pub room: u32,
}

/// A command that was just leased.
#[derive(Debug, Clone)]
pub struct ClaimedCommand {
    /// Its uid.
    pub uid: CommandId,
    /// The host it is leased to.
    pub host: HostId,
    /// Counts deliveries, this one included.
    pub attempt: i32,
    /// Ownership term under which it was queued.
    pub epoch: i64,
    /// Generation of the instance's spec.
    pub generation: i64,
    /// The instance it is about.
    pub instance: Option<InstanceId>,
    /// The member it is about.
    pub member: Option<MemberId>,
    /// What it is.
    pub kind: CommandKind,
    /// Its arguments.
    pub args: Value,
    /// How long the agent may take.
    pub timeout: SignedDuration,
}

/// A command that a host has, as far as the database knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeasedCommand {
    /// Its uid.
    pub uid: CommandId,
    /// The host it is leased to.
    pub host: HostId,
}

impl Db {
    /// Leases queued commands to all these hosts in one statement: oldest first, of each member only the oldest and
    /// only when none of it is leased already.
    ///
    /// The commit does not wait for the disk. If the server crashes right then, the command is queued again and goes
    /// to the same host under the same attempt, whose journal knows the uid: a repeat, which is always allowed.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn commands_claim(&self, parked: &[Parked], lease: Duration) -> Result<Vec<ClaimedCommand>, Error> {
        let hosts: Vec<Uuid> = parked.iter().map(|p| p.host.0).collect();
        let rooms: Vec<i32> = parked.iter().map(|p| i32::try_from(p.room).unwrap_or(i32::MAX)).collect();
        let rows = sqlx::query!(
            r#"with quick as (select set_config('synchronous_commit', 'off', true))
               update command c
                  set state = 'LEASED', attempt = c.attempt + 1,
                      lease_until = clock_timestamp() + make_interval(secs => $3)
                 from quick cross join unnest($1::uuid[], $2::int[]) as p(host_id, room)
                cross join lateral (
                      select q.id from command q
                       where q.host_id = p.host_id and q.state = 'QUEUED'
                         and (q.expire_time is null or q.expire_time > clock_timestamp())
                         and (q.member_id is null or not (
                              exists (select 1 from command b where b.member_id = q.member_id and b.state = 'LEASED')
                              or exists (select 1 from command b
                                          where b.host_id = q.host_id and b.state = 'QUEUED' and b.id < q.id
                                            and b.member_id = q.member_id)))
                       order by q.id limit p.room
                         for update skip locked) n
                where c.id = n.id
            returning c.id, c.uid as "uid: CommandId", c.host_id as "host: HostId", c.attempt, c.epoch, c.generation,
                      c.instance_id as "instance: InstanceId", c.member_id as "member: MemberId",
                      c.kind as "kind: CommandKind", c.args, c.timeout_ms"#,
            &hosts,
            &rooms,
            lease.as_secs_f64()
        )
        .fetch_all(self.pool())
        .await
        .db()?;
        let mut claimed: Vec<_> = rows
            .into_iter()
            .map(|row| {
                (
                    row.id,
                    ClaimedCommand {
                        uid: row.uid,
                        host: row.host,
                        attempt: row.attempt,
                        epoch: row.epoch,
                        generation: row.generation,
                        instance: row.instance,
                        member: row.member,
                        kind: row.kind,
                        args: row.args,
                        timeout: SignedDuration::from_millis(row.timeout_ms),
                    },
                )
            })
            .collect();
        claimed.sort_by_key(|(id, _)| *id);
        Ok(claimed.into_iter().map(|(_, command)| command).collect())
    }

    /// Which of these hosts have something queued. The safety net under wake-ups in memory.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn commands_waiting_hosts(&self, hosts: &[HostId]) -> Result<Vec<HostId>, Error> {
        let hosts: Vec<Uuid> = hosts.iter().map(|host| host.0).collect();
        sqlx::query_scalar!(
            r#"select distinct host_id as "host: HostId" from command where state = 'QUEUED' and host_id = any($1)"#,
            &hosts
        )
        .fetch_all(self.pool())
        .await
        .db()
    }

    /// Extends the leases of what an agent says it is carrying out.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn commands_renew(&self, host: HostId, running: &[CommandId], lease: Duration) -> Result<(), Error> {
        let uids: Vec<Uuid> = running.iter().map(|uid| uid.0).collect();
        sqlx::query!(
            "update command set lease_until = clock_timestamp() + make_interval(secs => $3)
              where uid = any($2) and host_id = $1 and state = 'LEASED'",
            host.0,
            &uids,
            lease.as_secs_f64()
        )
        .execute(self.pool())
        .await
        .db()
        .map(drop)
    }

    /// What is leased to the host.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn commands_leased(&self, host: HostId) -> Result<Vec<Delivery>, Error> {
        sqlx::query_as!(
            Delivery,
            r#"select uid as "uid: CommandId", attempt from command where state = 'LEASED' and host_id = $1"#,
            host.0
        )
        .fetch_all(self.pool())
        .await
        .db()
    }

    /// What these hosts carry out and shall cancel.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn commands_to_cancel(&self, hosts: &[HostId]) -> Result<Vec<LeasedCommand>, Error> {
        let hosts: Vec<Uuid> = hosts.iter().map(|host| host.0).collect();
        sqlx::query_as!(
            LeasedCommand,
            r#"select uid as "uid: CommandId", host_id as "host: HostId" from command
                where state = 'LEASED' and cancel_requested and host_id = any($1)"#,
            &hosts
        )
        .fetch_all(self.pool())
        .await
        .db()
    }
}
