//! What the hosts offer: room, engines and the engines' own parameter catalogues. Read-only.
//!
//! A snapshot for the scheduler; nothing here locks, so what was read may be gone when it is acted on. Whoever reserves
//! locks the host first (`host_lock_tx`) and reads its row again.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;
use sqlx::{PgConnection, types::Json};
use windlass_core::{
    Error,
    engine::Engine,
    host::HostState,
    id::{HostId, InstanceId, ProjectId},
    parameter::Catalogue,
    size::Resources,
};

use crate::error::DbResult as _;

/// A host as the scheduler sees it.
#[derive(Debug, Clone)]
pub struct SupplyRow {
    /// The host.
    pub id: HostId,
    /// Its name.
    pub name: String,
    /// Whether its agent can be reached.
    pub state: HostState,
    /// Whether new members are refused.
    pub cordoned: bool,
    /// Region, empty if unset.
    pub region: String,
    /// Zone, empty if unset.
    pub zone: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What the machine has.
    pub capacity: Resources,
    /// What members reserve of it.
    pub reserved: Resources,
    /// How many times the processor may be promised.
    pub cpu_overcommit: f64,
    /// How many times the memory may be promised.
    pub memory_overcommit: f64,
    /// How many times the disk may be promised.
    pub disk_overcommit: f64,
    /// Relative price.
    pub cost_weight: f64,
    /// Installed engines.
    pub engines: Vec<InstalledEngine>,
    /// First port for members.
    pub port_low: u16,
    /// Last port for members.
    pub port_high: u16,
    /// Ports given out or blocked.
    pub ports_taken: u32,
    /// The last measured load.
    pub load: MeasuredLoad,
    /// Members it holds of the instance in question.
    pub instance_members: u32,
    /// Members it holds of the project in question.
    pub project_members: u32,
}

/// An engine on a host.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct InstalledEngine {
    /// Word of [`Engine`], or of one that a newer agent knows.
    pub engine: String,
    /// Major version.
    pub version: String,
}

/// Load as the agent measured it; zeros where unknown.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub struct MeasuredLoad {
    /// Processor use in percent of the whole machine.
    pub cpu_percent: f64,
    /// Processor pressure in percent.
    pub psi_cpu: f64,
    /// Memory pressure in percent.
    pub psi_memory: f64,
    /// Disk pressure in percent.
    pub psi_io: f64,
}

/// An engine version and how many hosts offer it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedVersion {
    /// The engine.
    pub engine: Engine,
    /// Major version.
    pub version: String,
    /// Hosts that have it and are not revoked.
    pub hosts: u32,
}

/// The hosts as the scheduler sees them for a member of this instance: all that are not revoked, or just one.
///
/// # Errors
/// Those of the database.
pub async fn supply_tx(
    tx: &mut PgConnection,
    project: ProjectId,
    instance: InstanceId,
    only: Option<HostId>,
) -> Result<Vec<SupplyRow>, Error> {
    let rows = sqlx::query!(
        r#"select h.id as "id!: HostId", h.name as "name!", h.state as "state!: HostState", h.cordoned as "cordoned!",
                  h.region as "region!", h.zone as "zone!", h.labels as "labels!: Json<BTreeMap<String, String>>",
                  h.capacity_cpu_millis as "capacity_cpu!", h.capacity_memory as "capacity_memory!",
                  h.capacity_disk as "capacity_disk!", h.reserved_cpu_millis as "reserved_cpu!",
                  h.reserved_memory as "reserved_memory!", h.reserved_disk as "reserved_disk!",
                  h.cpu_overcommit as "cpu_overcommit!", h.memory_overcommit as "memory_overcommit!",
                  h.disk_overcommit as "disk_overcommit!", h.cost_weight as "cost_weight!",
                  h.engines as "engines!: Json<Vec<InstalledEngine>>", h.port_low as "port_low!",
                  h.port_high as "port_high!", h.load as "load!: Json<MeasuredLoad>",
                  (coalesce(m.ports, 0) + coalesce(b.ports, 0)) as "ports_taken!",
                  coalesce(m.of_instance, 0) as "of_instance!", coalesce(m.of_project, 0) as "of_project!"
             from host h
             left join (select m.host_id, count(m.port) as ports,
                               count(*) filter (where m.instance_id = $2) as of_instance,
                               count(*) filter (where i.project_id = $1) as of_project
                          from member m join instance i on i.id = m.instance_id
                         where $3::uuid is null or m.host_id = $3
                         group by m.host_id) m on m.host_id = h.id
             left join (select host_id, count(*) as ports from blocked_port where until > now() group by host_id) b
                    on b.host_id = h.id
            where ($3::uuid is null and h.revoke_time is null) or h.id = $3"#,
        project.0,
        instance.0,
        only.map(|id| id.0)
    )
    .fetch_all(tx)
    .await
    .db()?;
    Ok(rows
        .into_iter()
        .map(|r| SupplyRow {
            id: r.id,
            name: r.name,
            state: r.state,
            cordoned: r.cordoned,
            region: r.region,
            zone: r.zone,
            labels: r.labels.0,
            capacity: resources(r.capacity_cpu, r.capacity_memory, r.capacity_disk),
            reserved: resources(r.reserved_cpu, r.reserved_memory, r.reserved_disk),
            cpu_overcommit: r.cpu_overcommit,
            memory_overcommit: r.memory_overcommit,
            disk_overcommit: r.disk_overcommit,
            cost_weight: r.cost_weight,
            engines: r.engines.0,
            port_low: u16::try_from(r.port_low).unwrap_or(0),
            port_high: u16::try_from(r.port_high).unwrap_or(0),
            ports_taken: count(r.ports_taken),
            load: r.load.0,
            instance_members: count(r.of_instance),
            project_members: count(r.of_project),
        })
        .collect())
}

/// What all hosts offer, by engine and version as text.
///
/// # Errors
/// Those of the database.
pub async fn offered_versions_tx(tx: &mut PgConnection) -> Result<Vec<OfferedVersion>, Error> {
    let rows = sqlx::query!(
        r#"select e.engine as "engine!", e.version as "version!", count(distinct h.id) as "hosts!"
             from host h, jsonb_to_recordset(h.engines) as e (engine text, version text)
            where h.revoke_time is null and e.engine is not null and e.version is not null
            group by 1, 2 order by 1, 2"#
    )
    .fetch_all(tx)
    .await
    .db()?;
    Ok(rows
        .into_iter()
        .filter_map(|r| {
            Some(OfferedVersion { engine: r.engine.parse().ok()?, version: r.version, hosts: count(r.hosts) })
        })
        .collect())
}

/// Whether any host offers this version.
///
/// # Errors
/// Those of the database.
pub async fn version_offered_tx(tx: &mut PgConnection, engine: Engine, version: &str) -> Result<bool, Error> {
    sqlx::query_scalar!(
        r#"select exists (select from host where revoke_time is null and engines @> $1) as "offered!""#,
        json!([{ "engine": engine.as_str(), "version": version }])
    )
    .fetch_one(tx)
    .await
    .db()
}

/// The newest catalogue of this version that any host sent. None while none has.
///
/// # Errors
/// Those of the database.
pub async fn catalogue_of_tx(tx: &mut PgConnection, engine: Engine, version: &str) -> Result<Option<Catalogue>, Error> {
    let found = sqlx::query_scalar!(
        r#"select catalogue as "catalogue: Json<Catalogue>" from engine_catalogue
            where engine = $1 and version = $2 order by update_time desc limit 1"#,
        engine.as_str(),
        version
    )
    .fetch_optional(tx)
    .await
    .db()?;
    Ok(found.map(|json| json.0))
}

fn resources(cpu: i64, memory: i64, disk: i64) -> Resources {
    Resources { cpu_millis: cpu.unsigned_abs(), memory_bytes: memory.unsigned_abs(), disk_bytes: disk.unsigned_abs() }
}

fn count(rows: i64) -> u32 {
    u32::try_from(rows).unwrap_or(0)
}
