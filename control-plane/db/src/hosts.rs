//! Hosts as users see and change them. What agents report is written in `agents`, what members reserve in
//! `reservations`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;
use windlass_core::{Error, host::HostState, id::HostId, size::Resources};

use crate::{Db, error::DbResult as _, supply::MeasuredLoad};

/// A host as stored.
#[derive(Debug, Clone)]
pub struct HostRow {
    /// Id.
    pub id: HostId,
    /// Name, unique.
    pub name: String,
    /// What a user may set.
    pub settings: HostSettings,
    /// Whether its agent can be reached.
    pub state: HostState,
    /// Whether new members are refused.
    pub cordoned: bool,
    /// What the machine has for members.
    pub capacity: Resources,
    /// What members reserve.
    pub reserved: Resources,
    /// Address that clients use.
    pub address: String,
    /// Version of its agent.
    pub agent_version: String,
    /// Installed engines.
    pub engines: Vec<HostEngine>,
    /// Data directories that no goal owns.
    pub orphans: Vec<String>,
    /// Load as measured last.
    pub load: MeasuredLoad,
    /// Free disk and used memory, as measured last, in bytes.
    pub usage: HostUsage,
    /// How many members it has.
    pub members: i64,
    /// When it enrolled.
    pub create_time: Timestamp,
    /// When its agent spoke last, coarsely.
    pub last_seen_time: Option<Timestamp>,
    /// When its certificate ends.
    pub certificate_expire_time: Option<Timestamp>,
    /// Grows with each change by a user.
    pub revision: i64,
}

/// What a user may set of a host.
#[derive(Debug, Clone, PartialEq)]
pub struct HostSettings {
    /// Region.
    pub region: String,
    /// Zone.
    pub zone: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// How many times the processor may be promised.
    pub cpu_overcommit: f64,
    /// How many times the memory may be promised.
    pub memory_overcommit: f64,
    /// How many times the disk may be promised.
    pub disk_overcommit: f64,
    /// Relative price.
    pub cost_weight: f64,
}

/// An engine on a host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct HostEngine {
    /// Word of `Engine`, or of one that a newer agent knows.
    pub engine: String,
    /// Major version.
    pub version: String,
    /// Full version.
    #[serde(default)]
    pub full_version: String,
}

/// What a host uses, as its agent measured it; zeros where unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct HostUsage {
    /// Memory in use, in bytes.
    pub memory_used_bytes: u64,
    /// Free disk, in bytes.
    pub disk_free_bytes: u64,
}

/// Which hosts to list.
#[derive(Debug, Clone, Default)]
pub struct HostQuery {
    /// Only those with a greater name.
    pub after: String,
    /// Only those that carry all these labels.
    pub labels: BTreeMap<String, String>,
    /// Only those in this state.
    pub state: Option<HostState>,
    /// Only those of this region.
    pub region: Option<String>,
    /// Only those of this zone.
    pub zone: Option<String>,
    /// At most so many.
    pub limit: i64,
}

struct Raw {
    id: HostId,
    name: String,
    region: String,
    zone: String,
    labels: Json<BTreeMap<String, String>>,
    state: HostState,
    cordoned: bool,
    cpu_overcommit: f64,
    memory_overcommit: f64,
    disk_overcommit: f64,
    cost_weight: f64,
    address: String,
    capacity_cpu_millis: i64,
    capacity_memory: i64,
    capacity_disk: i64,
    engines: Json<Vec<HostEngine>>,
    agent_version: String,
    orphans: Json<Vec<String>>,
    load: Json<MeasuredLoad>,
    usage: Json<HostUsage>,
    last_seen_time: Option<jiff_sqlx::Timestamp>,
    reserved_cpu_millis: i64,
    reserved_memory: i64,
    reserved_disk: i64,
    certificate_expire_time: Option<jiff_sqlx::Timestamp>,
    revision: i64,
    create_time: jiff_sqlx::Timestamp,
    members: i64,
}

impl From<Raw> for HostRow {
    fn from(raw: Raw) -> Self {
        let size = |cpu: i64, memory: i64, disk: i64| Resources {
            cpu_millis: cpu.unsigned_abs(),
            memory_bytes: memory.unsigned_abs(),
            disk_bytes: disk.unsigned_abs(),
        };
        Self {
            id: raw.id,
            name: raw.name,
            settings: HostSettings {
                region: raw.region,
                zone: raw.zone,
                labels: raw.labels.0,
                cpu_overcommit: raw.cpu_overcommit,
                memory_overcommit: raw.memory_overcommit,
                disk_overcommit: raw.disk_overcommit,
                cost_weight: raw.cost_weight,
            },
            state: raw.state,
            cordoned: raw.cordoned,
            capacity: size(raw.capacity_cpu_millis, raw.capacity_memory, raw.capacity_disk),
            reserved: size(raw.reserved_cpu_millis, raw.reserved_memory, raw.reserved_disk),
            address: raw.address,
            agent_version: raw.agent_version,
            engines: raw.engines.0,
            orphans: raw.orphans.0,
            load: raw.load.0,
            usage: raw.usage.0,
            members: raw.members,
            create_time: raw.create_time.to_jiff(),
            last_seen_time: raw.last_seen_time.map(jiff_sqlx::Timestamp::to_jiff),
            certificate_expire_time: raw.certificate_expire_time.map(jiff_sqlx::Timestamp::to_jiff),
            revision: raw.revision,
        }
    }
}

/// The host of this name or, if it reads as one, of this id; its row locked until the transaction ends.
///
/// # Errors
/// Those of the database.
pub async fn host_by_name_lock_tx(tx: &mut PgConnection, name_or_id: &str) -> Result<Option<HostRow>, Error> {
    sqlx::query!(
        "select from host where name = $1 or id = $2 for no key update",
        name_or_id,
        Uuid::parse_str(name_or_id).ok()
    )
    .execute(&mut *tx)
    .await
    .db()?;
    host_by_name_tx(tx, name_or_id).await
}

/// The host of this name or, if it reads as one, of this id.
///
/// # Errors
/// Those of the database.
pub async fn host_by_name_tx(tx: &mut PgConnection, name_or_id: &str) -> Result<Option<HostRow>, Error> {
    let row = sqlx::query_as!(
        Raw,
        r#"select id as "id: HostId", name, region, zone, labels as "labels: Json<BTreeMap<String, String>>",
                  state as "state: HostState", cordoned, cpu_overcommit, memory_overcommit, disk_overcommit,
                  cost_weight, address, capacity_cpu_millis, capacity_memory, capacity_disk,
                  engines as "engines: Json<Vec<HostEngine>>", agent_version, orphans as "orphans: Json<Vec<String>>",
                  load as "load: Json<MeasuredLoad>", load as "usage: Json<HostUsage>", last_seen_time,
                  reserved_cpu_millis, reserved_memory, reserved_disk, certificate_expire_time, revision, create_time,
                  (select count(*) from member m where m.host_id = host.id and m.port is not null) as "members!"
             from host where name = $1 or id = $2"#,
        name_or_id,
        Uuid::parse_str(name_or_id).ok()
    )
    .fetch_optional(tx)
    .await
    .db()?;
    Ok(row.map(HostRow::from))
}

/// Stores what a user may set; the revision grows.
///
/// # Errors
/// Those of the database.
pub async fn host_settings_tx(tx: &mut PgConnection, id: HostId, settings: &HostSettings) -> Result<(), Error> {
    sqlx::query!(
        "update host
            set region = $2, zone = $3, labels = $4, cpu_overcommit = $5, memory_overcommit = $6,
                disk_overcommit = $7, cost_weight = $8, revision = revision + 1
          where id = $1",
        id.0,
        settings.region,
        settings.zone,
        Json(&settings.labels) as _,
        settings.cpu_overcommit,
        settings.memory_overcommit,
        settings.disk_overcommit,
        settings.cost_weight
    )
    .execute(tx)
    .await
    .db()
    .map(drop)
}

/// Whether new members may be placed on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedulable {
    /// They may.
    Yes,
    /// The host is cordoned.
    No,
}

/// Cordons or uncordons a host; the revision grows.
///
/// # Errors
/// Those of the database.
pub async fn host_cordon_tx(tx: &mut PgConnection, id: HostId, schedulable: Schedulable) -> Result<(), Error> {
    sqlx::query!(
        "update host set cordoned = $2, revision = revision + 1 where id = $1",
        id.0,
        schedulable == Schedulable::No
    )
    .execute(tx)
    .await
    .db()
    .map(drop)
}

/// Revokes a host; the revision grows. Its certificates are revoked by `host_certificates_revoke_tx`.
///
/// # Errors
/// Those of the database.
pub async fn host_revoke_tx(tx: &mut PgConnection, id: HostId) -> Result<(), Error> {
    sqlx::query!(
        "update host set state = 'REVOKED', revoke_time = now(), cordoned = true, revision = revision + 1
          where id = $1 and revoke_time is null",
        id.0
    )
    .execute(tx)
    .await
    .db()
    .map(drop)
}

impl Db {
    /// The hosts that match, by name.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn host_list(&self, query: &HostQuery) -> Result<Vec<HostRow>, Error> {
        let rows = sqlx::query_as!(
            Raw,
            r#"select id as "id: HostId", name, region, zone, labels as "labels: Json<BTreeMap<String, String>>",
                      state as "state: HostState", cordoned, cpu_overcommit, memory_overcommit, disk_overcommit,
                      cost_weight, address, capacity_cpu_millis, capacity_memory, capacity_disk,
                      engines as "engines: Json<Vec<HostEngine>>", agent_version,
                      orphans as "orphans: Json<Vec<String>>", load as "load: Json<MeasuredLoad>",
                      load as "usage: Json<HostUsage>", last_seen_time, reserved_cpu_millis, reserved_memory,
                      reserved_disk, certificate_expire_time, revision, create_time,
                      (select count(*) from member m where m.host_id = host.id and m.port is not null) as "members!"
                 from host
                where name > $1 and labels @> $2 and ($3::text is null or state = $3)
                  and ($4::text is null or region = $4) and ($5::text is null or zone = $5)
                order by name limit $6"#,
            query.after,
            Json(&query.labels) as _,
            query.state.map(HostState::as_str),
            query.region,
            query.zone,
            query.limit
        )
        .fetch_all(self.pool())
        .await
        .db()?;
        Ok(rows.into_iter().map(HostRow::from).collect())
    }

    /// Forgets blocked ports whose time is over. Gives how many.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn blocked_port_expire(&self) -> Result<u64, Error> {
        let done = sqlx::query!("delete from blocked_port where until < now()").execute(self.pool()).await.db()?;
        Ok(done.rows_affected())
    }
}
