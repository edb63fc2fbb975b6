//! Members that may not be as wanted. Read-only; a net that is wider than the decision, which is in `logic`.

use sqlx::{PgConnection, types::Json};
use windlass_core::{
    Error,
    host::HostState,
    id::{InstanceId, MemberId},
    instance::{InstanceSpec, Lifecycle},
    member::Process,
};

use crate::{Db, error::DbResult as _};

/// What is wanted of a member and what is known of it.
#[derive(Debug, Clone)]
pub struct DriftRow {
    /// The member.
    pub member_id: MemberId,
    /// Its instance.
    pub instance_id: InstanceId,
    /// The instance's lifecycle.
    pub lifecycle: Lifecycle,
    /// What is wanted.
    pub spec: InstanceSpec,
    /// Generation of what is wanted.
    pub generation: i64,
    /// Generation that it has reached.
    pub observed_generation: i64,
    /// State of its process.
    pub process: Process,
    /// Whether its host's agent can be reached.
    pub host_state: HostState,
    /// Whether an operation works on the instance.
    pub operation: bool,
    /// Whether a command for the member has not ended.
    pub command: bool,
}

impl Db {
    /// Members worth a look: on a host that answers, with a difference between what is wanted and what is known, on
    /// whose instance nothing works.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn members_drifting(&self, limit: i64) -> Result<Vec<(InstanceId, MemberId)>, Error> {
        let rows = sqlx::query!(
            r#"select m.id as "member: MemberId", m.instance_id as "instance: InstanceId"
                 from member m
                 join instance i on i.id = m.instance_id
                 join host h on h.id = m.host_id
                where h.state = 'ONLINE'
                  and (i.lifecycle = 'DELETED' and m.process not in ('UNKNOWN', 'ABSENT')
                       or i.lifecycle in ('RUNNING', 'STOPPED', 'SUSPENDED')
                          and (m.observed_generation < i.generation
                               or m.process <> case i.spec->>'power' when 'ON' then 'RUNNING' else 'STOPPED' end))
                  and not exists (select from operation o where o.instance_id = i.id
                                     and o.state not in ('SUCCEEDED', 'FAILED', 'CANCELLED'))
                  and not exists (select from command c where c.member_id = m.id and c.state = 'LEASED')
                  and not exists (select from command c
                                   where c.host_id = m.host_id and c.member_id = m.id and c.state = 'QUEUED')
                limit $1"#,
            limit
        )
        .fetch_all(self.pool())
        .await
        .db()?;
        Ok(rows.into_iter().map(|row| (row.instance, row.member)).collect())
    }
}

/// How a member stands, to be asked under the instance's lock.
///
/// # Errors
/// Those of the database.
pub async fn member_drift_tx(tx: &mut PgConnection, member: MemberId) -> Result<Option<DriftRow>, Error> {
    let row = sqlx::query!(
        r#"select m.instance_id as "instance_id: InstanceId", i.lifecycle as "lifecycle: Lifecycle",
                  i.spec as "spec: Json<InstanceSpec>", i.generation, m.observed_generation,
                  m.process as "process: Process", h.state as "host_state: HostState",
                  exists (select from operation o where o.instance_id = i.id
                             and o.state not in ('SUCCEEDED', 'FAILED', 'CANCELLED')) as "operation!",
                  (exists (select from command c where c.member_id = m.id and c.state = 'LEASED')
                   or exists (select from command c where c.host_id = m.host_id and c.member_id = m.id
                                 and c.state = 'QUEUED')) as "command!"
             from member m
             join instance i on i.id = m.instance_id
             join host h on h.id = m.host_id
            where m.id = $1"#,
        member.0
    )
    .fetch_optional(tx)
    .await
    .db()?;
    Ok(row.map(|r| DriftRow {
        member_id: member,
        instance_id: r.instance_id,
        lifecycle: r.lifecycle,
        spec: r.spec.0,
        generation: r.generation,
        observed_generation: r.observed_generation,
        process: r.process,
        host_state: r.host_state,
        operation: r.operation,
        command: r.command,
    }))
}
