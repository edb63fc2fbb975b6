//! Whether the metadata agrees with itself. For tests after each scenario, and for `doctor`.
//!
//! Each rule is one query that finds what breaks it. Run on a quiet or a busy database alike: every rule holds in every
//! committed state, because what must agree is changed in one transaction.

use sqlx::PgConnection;
use windlass_core::Error;

use crate::{Db, error::DbResult as _};

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The rule, as a sentence.
    pub rule: &'static str,
    /// What breaks it.
    pub what: String,
}

impl Db {
    /// Every broken rule; empty if all is well. Reads one snapshot.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn consistency_check(&self) -> Result<Vec<Violation>, Error> {
        let mut tx = self.begin().await?;
        sqlx::query!("set transaction isolation level repeatable read, read only").execute(&mut *tx).await.db()?;
        let found = consistency_check_tx(&mut tx).await?;
        tx.rollback().await?;
        Ok(found)
    }
}

/// Every rule that is broken as this transaction sees it.
///
/// # Errors
/// Those of the database.
pub async fn consistency_check_tx(tx: &mut PgConnection) -> Result<Vec<Violation>, Error> {
    let mut found = Vec::new();
    let mut add = |rule, broken: Vec<Option<String>>| {
        found.extend(broken.into_iter().map(|what| Violation { rule, what: what.unwrap_or_default() }));
    };
    add(
            "a project's counters are the sums over its members, and its count that of its instances",
            sqlx::query_scalar!(
                "select format('project %s uses (%s, %s, %s, %s), its instances and members sum to (%s, %s, %s, %s)',
                               p.name, p.used_instances, p.used_cpu_millis, p.used_memory, p.used_disk,
                               n.instances, s.cpu, s.memory, s.disk)
                   from project p,
                        lateral (select count(*) as instances from instance i
                                  where i.project_id = p.id and i.lifecycle <> 'DELETED') n,
                        lateral (select coalesce(sum(m.cpu_millis), 0) as cpu, coalesce(sum(m.memory_bytes), 0) as memory,
                                        coalesce(sum(m.disk_bytes), 0) as disk
                                   from member m join instance i on i.id = m.instance_id
                                  where i.project_id = p.id) s
                  where (p.used_instances, p.used_cpu_millis, p.used_memory, p.used_disk)
                        <> (n.instances, s.cpu, s.memory, s.disk)"
            )
            .fetch_all(&mut *tx)
            .await
            .db()?,
        );
    add(
            "a host's counters are the sums over its members",
            sqlx::query_scalar!(
                "select format('host %s has reserved (%s, %s, %s), its members sum to (%s, %s, %s)', h.name,
                               h.reserved_cpu_millis, h.reserved_memory, h.reserved_disk, s.cpu, s.memory, s.disk)
                   from host h,
                        lateral (select coalesce(sum(m.cpu_millis), 0) as cpu, coalesce(sum(m.memory_bytes), 0) as memory,
                                        coalesce(sum(m.disk_bytes), 0) as disk
                                   from member m where m.host_id = h.id) s
                  where (h.reserved_cpu_millis, h.reserved_memory, h.reserved_disk) <> (s.cpu, s.memory, s.disk)"
            )
            .fetch_all(&mut *tx)
            .await
            .db()?,
        );
    add(
        "an instance in service has a member with a port in its host's range",
        sqlx::query_scalar!(
            "select format('instance %s is %s with port %s of range %s to %s', i.id, i.lifecycle, m.port,
                               h.port_low, h.port_high)
                   from instance i
                   left join member m on m.instance_id = i.id
                   left join host h on h.id = m.host_id
                  where i.lifecycle in ('RUNNING', 'STOPPED', 'SUSPENDED', 'MODIFYING', 'STOPPING')
                    and not coalesce(m.port between h.port_low and h.port_high, false)"
        )
        .fetch_all(&mut *tx)
        .await
        .db()?,
    );
    add(
        "a deleted instance holds no port, processor or memory, and has the time of its purge",
        sqlx::query_scalar!(
            "select format('deleted instance %s holds port %s, %s millis, %s bytes; purge %s', i.id, m.port,
                               m.cpu_millis, m.memory_bytes, i.purge_time)
                   from instance i left join member m on m.instance_id = i.id
                  where i.lifecycle = 'DELETED'
                    and (m.port is not null or m.cpu_millis > 0 or m.memory_bytes > 0 or i.purge_time is null)"
        )
        .fetch_all(&mut *tx)
        .await
        .db()?,
    );
    add(
        "an instance is in transit exactly while an operation works on it",
        sqlx::query_scalar!(
            "select format('instance %s is %s without an operation', i.id, i.lifecycle)
                   from instance i
                  where i.lifecycle in ('PENDING', 'CREATING', 'MODIFYING', 'STOPPING', 'DELETING')
                    and not exists (select from operation o where o.instance_id = i.id
                                       and o.state not in ('SUCCEEDED', 'FAILED', 'CANCELLED'))"
        )
        .fetch_all(&mut *tx)
        .await
        .db()?,
    );
    add(
        "an operation has ended exactly when its saga has",
        sqlx::query_scalar!(
            "select format('operation %s is %s, its saga is done: %s', o.id, o.state, s.done)
                   from operation o left join saga s on s.id = o.id
                  where s.done is distinct from (o.state in ('SUCCEEDED', 'FAILED', 'CANCELLED'))
                     or (o.end_time is not null) is distinct from (o.state in ('SUCCEEDED', 'FAILED', 'CANCELLED'))"
        )
        .fetch_all(&mut *tx)
        .await
        .db()?,
    );
    add(
        "a saga that is parked waits for a command that has not ended",
        sqlx::query_scalar!(
            "select format('saga %s (%s) is parked with no open command', s.id, s.kind)
                   from saga s
                  where not s.done and s.wake_at is null
                    and not exists (select from command c where c.saga_id = s.id and c.state in ('QUEUED', 'LEASED'))"
        )
        .fetch_all(&mut *tx)
        .await
        .db()?,
    );
    add(
        "a command has an end exactly when its state is final, and a lease only while it is leased",
        sqlx::query_scalar!(
            "select format('command %s is %s, ended %s, leased until %s', uid, state, end_time, lease_until)
                   from command
                  where (end_time is null) <> (state in ('QUEUED', 'LEASED'))
                     or (state = 'LEASED' and lease_until is null)"
        )
        .fetch_all(&mut *tx)
        .await
        .db()?,
    );
    add(
        "an object is in transit exactly while an operation works on its instance",
        sqlx::query_scalar!(
            "select format('%s %s of instance %s is %s without an operation', d.kind, d.name, d.instance_id, d.state)
                   from database_object d
                  where d.state in ('PENDING', 'DROPPING')
                    and not exists (select from operation o where o.instance_id = d.instance_id
                                       and o.state not in ('SUCCEEDED', 'FAILED', 'CANCELLED'))"
        )
        .fetch_all(&mut *tx)
        .await
        .db()?,
    );
    Ok(found)
}
