//! Members: one server process of an instance on one host, with what its agent reported of it.
//!
//! What a member reserves is changed only in [`crate::reservations`]. Facts are replaced as a whole by the newest
//! report; they may go back (a host that lost its state directory reports ABSENT again).

use jiff::Timestamp;
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;
use windlass_core::{
    Error,
    host::HostState,
    id::{HostId, InstanceId, MemberId},
    member::{MemberRole, Process},
    size::Resources,
};

use crate::error::DbResult as _;

/// A member as stored, with what one needs to know of its host.
#[derive(Debug, Clone)]
pub struct MemberRow {
    /// Id.
    pub id: MemberId,
    /// Its instance.
    pub instance_id: InstanceId,
    /// Where it is.
    pub host_id: HostId,
    /// Name of the host.
    pub host_name: String,
    /// Address that clients use for the host's databases.
    pub host_address: String,
    /// Whether the host's agent can be reached.
    pub host_state: HostState,
    /// Zone of the host, empty if unset.
    pub zone: String,
    /// What it is to its instance.
    pub role: MemberRole,
    /// It never acknowledges commits and is never promoted by itself.
    pub asynchronous: bool,
    /// Its instance has a cluster, so that replication orders say what it is.
    pub clustered: bool,
    /// Its port; None once it is given back.
    pub port: Option<u16>,
    /// What is reserved for it.
    pub reserved: Resources,
    /// What its agent says of the process.
    pub process: Process,
    /// The agent's whole report, as JSON of its protocol message.
    pub facts: Value,
    /// The generation that it has reached.
    pub observed_generation: i64,
    /// When it was reported.
    pub observed_time: Option<Timestamp>,
    /// When it was placed.
    pub create_time: Timestamp,
}

/// One report about a member.
#[derive(Debug, Clone)]
pub struct MemberObservation {
    /// Which one.
    pub member_id: MemberId,
    /// State of its process.
    pub process: Process,
    /// The generation that it has reached.
    pub generation: i64,
    /// The whole report, as JSON of the protocol message.
    pub facts: Value,
}

/// The members of these instances, by instance and id.
///
/// # Errors
/// Those of the database.
pub async fn members_of_tx(tx: &mut PgConnection, instances: &[InstanceId]) -> Result<Vec<MemberRow>, Error> {
    let ids: Vec<Uuid> = instances.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        r#"select m.id as "id: MemberId", m.instance_id as "instance_id: InstanceId", m.host_id as "host_id: HostId",
                  h.name as host_name, h.address as host_address, h.state as "host_state: HostState",
                  h.zone, m.role as "role: MemberRole", m.asynchronous,
                  exists (select from ha_cluster c where c.instance_id = m.instance_id) as "clustered!", m.port, m.cpu_millis, m.memory_bytes, m.disk_bytes,
                  m.process as "process: Process", m.facts, m.observed_generation, m.observed_time, m.create_time
             from member m join host h on h.id = m.host_id
            where m.instance_id = any($1)
            order by m.instance_id, m.id"#,
        &ids
    )
    .fetch_all(tx)
    .await
    .db()?;
    Ok(rows
        .into_iter()
        .map(|r| MemberRow {
            id: r.id,
            instance_id: r.instance_id,
            host_id: r.host_id,
            host_name: r.host_name,
            host_address: r.host_address,
            host_state: r.host_state,
            zone: r.zone,
            role: r.role,
            asynchronous: r.asynchronous,
            clustered: r.clustered,
            port: r.port.and_then(|port| u16::try_from(port).ok()),
            reserved: Resources {
                cpu_millis: r.cpu_millis.unsigned_abs(),
                memory_bytes: r.memory_bytes.unsigned_abs(),
                disk_bytes: r.disk_bytes.unsigned_abs(),
            },
            process: r.process,
            facts: r.facts,
            observed_generation: r.observed_generation,
            observed_time: r.observed_time.map(|t| t.to_jiff()),
            create_time: r.create_time.to_jiff(),
        })
        .collect())
}

/// Stores reports of one host's agent. Reports about members that are not on that host are ignored. Gives the
/// instances whose members' process or generation changed.
///
/// # Errors
/// Those of the database.
pub async fn members_observed_tx(
    tx: &mut PgConnection,
    host: HostId,
    seen: &[MemberObservation],
) -> Result<Vec<InstanceId>, Error> {
    let ids: Vec<Uuid> = seen.iter().map(|o| o.member_id.0).collect();
    let processes: Vec<String> = seen.iter().map(|o| o.process.as_str().to_owned()).collect();
    let generations: Vec<i64> = seen.iter().map(|o| o.generation).collect();
    let facts: Vec<Value> = seen.iter().map(|o| o.facts.clone()).collect();
    // Instances before members: the order that everybody keeps.
    sqlx::query!(
        "select id from instance where id in (select instance_id from member where id = any($2) and host_id = $1)
          order by id for no key update",
        host.0,
        &ids
    )
    .fetch_all(&mut *tx)
    .await
    .db()?;
    let changed = sqlx::query!(
        r#"with seen as (
               select * from unnest($2::uuid[], $3::text[], $4::bigint[], $5::jsonb[]) as s (id, process, generation, facts)
           ), before as (
               select m.id, m.process, m.observed_generation from member m join seen using (id)
                where m.host_id = $1 order by m.id for no key update of m
           )
           update member m
              set process = s.process, observed_generation = s.generation, facts = s.facts, observed_time = now()
             from seen s join before b using (id)
            where m.id = s.id
           returning m.instance_id as "instance_id: InstanceId",
                     (b.process, b.observed_generation) is distinct from (s.process, s.generation) as "changed!""#,
        host.0,
        &ids,
        &processes,
        &generations,
        &facts
    )
    .fetch_all(tx)
    .await
    .db()?;
    Ok(changed.into_iter().filter(|row| row.changed).map(|row| row.instance_id).collect())
}

/// Notes as ABSENT the members of a host that its agent, freshly started, does not report although it did once. Those
/// of which nothing was ever heard, or something so lately that the agent's list may be older, are left alone. Gives
/// their instances.
///
/// # Errors
/// Those of the database.
pub async fn members_missing_tx(
    tx: &mut PgConnection,
    host: HostId,
    reported: &[MemberId],
    lately: jiff::SignedDuration,
) -> Result<Vec<InstanceId>, Error> {
    let reported: Vec<Uuid> = reported.iter().map(|id| id.0).collect();
    let missing = sqlx::query_scalar!(
        "select id from member
          where host_id = $1 and id <> all($2) and process not in ('UNKNOWN', 'ABSENT')
            and observed_time < now() - make_interval(secs => $3)",
        host.0,
        &reported,
        lately.as_secs_f64()
    )
    .fetch_all(&mut *tx)
    .await
    .db()?;
    let absent: Vec<_> = missing
        .into_iter()
        .map(|id| MemberObservation {
            member_id: MemberId(id),
            process: Process::Absent,
            generation: 0,
            facts: Value::Object(serde_json::Map::new()),
        })
        .collect();
    if absent.is_empty() {
        return Ok(Vec::new());
    }
    members_observed_tx(tx, host, &absent).await
}
