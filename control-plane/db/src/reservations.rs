//! What members reserve: the only code that changes the counters of hosts and projects.
//!
//! Why counters: a sum over members at each create would need to lock them all; a row-locked counter serialises only
//! the two rows that matter.
//!
//! Invariants:
//! 1. A member's `cpu_millis`, `memory_bytes` and `disk_bytes` are counted once in its host and once in its project.
//! 2. A project's `used_instances` counts its instances that are not DELETED.
//! 3. Locks are taken in the order instance, project, host, member, so that two changes never wait for each other.
//! 4. Every function here is idempotent with regard to the member row: what was given back is not given back again.
//!
//! All run in the caller's transaction: a crash leaves either the whole change or none of it.

use sqlx::PgConnection;
use windlass_core::{
    Error,
    id::{HostId, InstanceId, MemberId, ProjectId},
    member::MemberRole,
    size::Resources,
};

use crate::error::DbResult as _;

/// A member to be placed.
#[derive(Debug, Clone, Copy)]
pub struct NewMember {
    /// Id.
    pub id: MemberId,
    /// Its instance.
    pub instance_id: InstanceId,
    /// Where.
    pub host_id: HostId,
    /// What it is to its instance.
    pub role: MemberRole,
    /// It never acknowledges commits and is never promoted by itself.
    pub asynchronous: bool,
    /// What it reserves.
    pub resources: Resources,
}

/// Locks a host's counters until the transaction ends.
///
/// # Errors
/// `NOT_FOUND` when the host is gone.
pub async fn host_lock_tx(tx: &mut PgConnection, host: HostId) -> Result<(), Error> {
    sqlx::query!("select id from host where id = $1 for no key update", host.0)
        .fetch_optional(tx)
        .await
        .db()?
        .map(drop)
        .ok_or_else(|| Error::not_found("host", host))
}

/// Adds `change` to the number of instances of a project.
///
/// # Errors
/// `INTERNAL` when it would fall below zero.
pub async fn project_instances_add_tx(tx: &mut PgConnection, project: ProjectId, change: i64) -> Result<(), Error> {
    sqlx::query!("update project set used_instances = used_instances + $2 where id = $1", project.0, change)
        .execute(tx)
        .await
        .db()
        .map(drop)
}

/// Stores a member with what it reserves and the lowest port of its host that is free and not blocked. None when
/// there is no such port. The caller has locked and checked the counters.
///
/// # Errors
/// Those of the database.
pub async fn member_reserve_tx(tx: &mut PgConnection, new: &NewMember) -> Result<Option<u16>, Error> {
    sqlx::query!(
        "insert into member (id, instance_id, host_id, role, asynchronous, cpu_millis, memory_bytes, disk_bytes)
         values ($1, $2, $3, $4, $5, 0, 0, 0)",
        new.id.0,
        new.instance_id.0,
        new.host_id.0,
        new.role.as_str(),
        new.asynchronous
    )
    .execute(&mut *tx)
    .await
    .db()?;
    member_resize_tx(tx, new.id, new.resources).await?;
    member_take_port_tx(tx, new.id).await
}

/// Makes a member reserve exactly `size`, on its host and in its project.
///
/// # Errors
/// `NOT_FOUND` when the member is gone.
pub async fn member_resize_tx(tx: &mut PgConnection, member: MemberId, size: Resources) -> Result<(), Error> {
    let owner = sqlx::query!(
        "select i.project_id, m.host_id from member m join instance i on i.id = m.instance_id where m.id = $1",
        member.0
    )
    .fetch_optional(&mut *tx)
    .await
    .db()?
    .ok_or_else(|| Error::not_found("member", member))?;
    sqlx::query!("select id from project where id = $1 for no key update", owner.project_id)
        .fetch_one(&mut *tx)
        .await
        .db()?;
    sqlx::query!("select id from host where id = $1 for no key update", owner.host_id)
        .fetch_one(&mut *tx)
        .await
        .db()?;
    let held = sqlx::query!(
        "select cpu_millis, memory_bytes, disk_bytes from member where id = $1 for no key update",
        member.0
    )
    .fetch_one(&mut *tx)
    .await
    .db()?;
    let (cpu, memory, disk) = (
        to_i64(size.cpu_millis) - held.cpu_millis,
        to_i64(size.memory_bytes) - held.memory_bytes,
        to_i64(size.disk_bytes) - held.disk_bytes,
    );
    if (cpu, memory, disk) == (0, 0, 0) {
        return Ok(());
    }
    sqlx::query!(
        "update project
            set used_cpu_millis = used_cpu_millis + $2, used_memory = used_memory + $3, used_disk = used_disk + $4
          where id = $1",
        owner.project_id,
        cpu,
        memory,
        disk
    )
    .execute(&mut *tx)
    .await
    .db()?;
    sqlx::query!(
        "update host
            set reserved_cpu_millis = reserved_cpu_millis + $2, reserved_memory = reserved_memory + $3,
                reserved_disk = reserved_disk + $4
          where id = $1",
        owner.host_id,
        cpu,
        memory,
        disk
    )
    .execute(&mut *tx)
    .await
    .db()?;
    sqlx::query!(
        "update member
            set cpu_millis = cpu_millis + $2, memory_bytes = memory_bytes + $3, disk_bytes = disk_bytes + $4
          where id = $1",
        member.0,
        cpu,
        memory,
        disk
    )
    .execute(tx)
    .await
    .db()
    .map(drop)
}

/// Gives a member the lowest free port of its host in place of the one it has, if any. None when there is none; the
/// member has no port then.
///
/// # Errors
/// Those of the database.
pub async fn member_take_port_tx(tx: &mut PgConnection, member: MemberId) -> Result<Option<u16>, Error> {
    // The host's row lock makes the choice and its storing one.
    sqlx::query!(
        "select h.id from host h join member m on m.host_id = h.id where m.id = $1 for no key update of h",
        member.0
    )
    .fetch_optional(&mut *tx)
    .await
    .db()?;
    let port = sqlx::query_scalar!(
        "update member m
            set port = (select p
                          from host h, generate_series(h.port_low, h.port_high) p
                         where h.id = m.host_id and p > 0
                           and not exists (select from member other where other.host_id = h.id and other.port = p)
                           and not exists (select from blocked_port b
                                            where b.host_id = h.id and b.port = p and b.until > now())
                         order by p limit 1)
          where id = $1
         returning port",
        member.0
    )
    .fetch_optional(tx)
    .await
    .db()?
    .flatten();
    Ok(port.and_then(|port| u16::try_from(port).ok()))
}

/// Gives back a member's port and everything but its disk, which its retained data still takes.
///
/// # Errors
/// `NOT_FOUND` when the member is gone.
pub async fn member_retain_tx(tx: &mut PgConnection, member: MemberId) -> Result<(), Error> {
    let held = sqlx::query_scalar!("select disk_bytes from member where id = $1", member.0)
        .fetch_optional(&mut *tx)
        .await
        .db()?
        .ok_or_else(|| Error::not_found("member", member))?;
    member_resize_tx(tx, member, Resources { disk_bytes: held.unsigned_abs(), ..Resources::default() }).await?;
    // What was seen of it is over; a host that reports it again has not put it aside.
    sqlx::query!("update member set port = null, process = 'ABSENT', facts = '{}' where id = $1", member.0)
        .execute(tx)
        .await
        .db()
        .map(drop)
}

/// Gives back everything that a member reserves and deletes its row. Does nothing when it is gone.
///
/// # Errors
/// Those of the database.
pub async fn member_delete_tx(tx: &mut PgConnection, member: MemberId) -> Result<(), Error> {
    let exists = sqlx::query!("select id from member where id = $1", member.0).fetch_optional(&mut *tx).await.db()?;
    if exists.is_some() {
        member_resize_tx(tx, member, Resources::default()).await?;
        sqlx::query!("delete from member where id = $1", member.0).execute(tx).await.db()?;
    }
    Ok(())
}

/// Keeps a port of a host from being given out for a while.
///
/// # Errors
/// Those of the database.
pub async fn port_block_tx(
    tx: &mut PgConnection,
    host: HostId,
    port: u16,
    hold: jiff::SignedDuration,
) -> Result<(), Error> {
    sqlx::query!(
        "insert into blocked_port (host_id, port, until) values ($1, $2, now() + make_interval(secs => $3))
         on conflict (host_id, port) do update set until = excluded.until",
        host.0,
        i32::from(port),
        hold.as_secs_f64()
    )
    .execute(tx)
    .await
    .db()
    .map(drop)
}

/// Sizes are checked far below the range of `i64`.
fn to_i64(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
