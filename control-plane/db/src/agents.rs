//! What agents bring: enrolment, who they are when they connect, signs of life, catalogues.
//!
//! Invariants: enrolling is one transaction (host, certificate, token used); a session's happenings are stored once
//! (`host.happenings` is the last sequence of `host.session_id`); signs of life reach the row only when a host comes or
//! goes and in a rare batch.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;
use windlass_core::{
    Error,
    host::HostState,
    id::{HostId, InstanceId, JoinTokenId, MemberId, ProxyId},
    proxy::TokenPurpose,
    size::Resources,
};

use crate::{Db, error::DbResult as _};

/// A join token as an enrolment sees it, locked.
#[derive(Debug, Clone)]
pub struct TokenForEnrolment {
    /// Id.
    pub id: JoinTokenId,
    /// Name that the host gets; empty if it may choose.
    pub host_name: String,
    /// Region of the host.
    pub region: String,
    /// Zone of the host.
    pub zone: String,
    /// Labels of the host.
    pub labels: BTreeMap<String, String>,
    /// Until when it may be used.
    pub expire_time: Timestamp,
    /// When it was revoked.
    pub revoke_time: Option<Timestamp>,
    /// What may enrol with it.
    pub purpose: TokenPurpose,
    /// SHA-256 of the public key that used it, and the host that it became.
    pub used: Option<(Vec<u8>, HostId)>,
    /// The same of a proxy.
    pub used_by_proxy: Option<(Vec<u8>, ProxyId)>,
}

/// A host that enrols.
#[derive(Debug, Clone)]
pub struct EnrollingHost<'a> {
    /// Its id.
    pub id: HostId,
    /// Its name.
    pub name: &'a str,
    /// Region.
    pub region: &'a str,
    /// Zone.
    pub zone: &'a str,
    /// Labels.
    pub labels: &'a BTreeMap<String, String>,
}

/// What an agent says of itself when it connects.
#[derive(Debug, Clone)]
pub struct AgentHello {
    /// Version of the agent.
    pub agent_version: String,
    /// New for each boot of the machine.
    pub boot_id: String,
    /// New for each start of the agent.
    pub session_id: String,
    /// What the machine has for members.
    pub capacity: Resources,
    /// Address that clients use.
    pub address: String,
    /// First port for members.
    pub port_low: u16,
    /// Last port for members.
    pub port_high: u16,
    /// Where other agents reach it; 0 if they cannot.
    pub peer_port: u16,
    /// Installed engines, as JSON: a list of objects with `engine`, `version`, `full_version`, `catalogue_digest`.
    pub engines: Value,
}

/// A host as the liveness table knows it.
#[derive(Debug, Clone)]
pub struct HostLife {
    /// The host.
    pub id: HostId,
    /// Its name.
    pub name: String,
    /// Where it stands, as stored.
    pub state: HostState,
    /// Session of the agent that spoke last.
    pub session_id: String,
    /// Last happening stored of that session.
    pub happenings: i64,
}

/// A sign of life to store.
#[derive(Debug, Clone)]
pub struct HostTouch {
    /// The host.
    pub id: HostId,
    /// Its load, as JSON.
    pub load: Value,
}

/// The token with this hash, locked until the transaction ends.
///
/// # Errors
/// Those of the database.
pub async fn join_token_lock_tx(tx: &mut PgConnection, sha256: &[u8]) -> Result<Option<TokenForEnrolment>, Error> {
    let row = sqlx::query!(
        r#"select id as "id: JoinTokenId", host_name, region, zone, labels as "labels: Json<BTreeMap<String, String>>",
                  purpose as "purpose: TokenPurpose", expire_time, revoke_time, used_by_key,
                  host_id as "host_id: HostId", proxy_id as "proxy_id: ProxyId"
             from join_token where secret_sha256 = $1 for update"#,
        sha256
    )
    .fetch_optional(tx)
    .await
    .db()?;
    Ok(row.map(|row| TokenForEnrolment {
        id: row.id,
        host_name: row.host_name,
        region: row.region,
        zone: row.zone,
        labels: row.labels.0,
        expire_time: row.expire_time.to_jiff(),
        revoke_time: row.revoke_time.map(jiff_sqlx::Timestamp::to_jiff),
        purpose: row.purpose,
        used: row.used_by_key.clone().zip(row.host_id),
        used_by_proxy: row.used_by_key.zip(row.proxy_id),
    }))
}

/// Adds a host that has not connected yet, and marks the token as used by its key.
///
/// # Errors
/// `NAME_IN_USE` when another host has the name.
pub async fn host_enrol_tx(
    tx: &mut PgConnection,
    host: &EnrollingHost<'_>,
    token: JoinTokenId,
    key_sha256: &[u8],
) -> Result<(), Error> {
    sqlx::query!(
        "insert into host (id, name, region, zone, labels, state) values ($1, $2, $3, $4, $5, 'OFFLINE')",
        host.id.0,
        host.name,
        host.region,
        host.zone,
        Json(host.labels) as _
    )
    .execute(&mut *tx)
    .await
    .db()?;
    sqlx::query!(
        "update join_token set use_time = now(), used_by_key = $2, host_id = $3 where id = $1",
        token.0,
        key_sha256,
        host.id.0
    )
    .execute(tx)
    .await
    .db()
    .map(drop)
}

/// The host's name; None when there is no such host or it was revoked.
///
/// # Errors
/// Those of the database.
pub async fn host_name_tx(tx: &mut PgConnection, host: HostId) -> Result<Option<String>, Error> {
    sqlx::query_scalar!("select name from host where id = $1 and revoke_time is null", host.0)
        .fetch_optional(tx)
        .await
        .db()
}

/// The address of the host and its name, if the member is there.
///
/// # Errors
/// Those of the database.
pub async fn member_address_tx(
    tx: &mut PgConnection,
    host: HostId,
    member: MemberId,
) -> Result<Option<(String, String)>, Error> {
    let row = sqlx::query!(
        "select h.address, h.name from member m join host h on h.id = m.host_id where m.id = $1 and h.id = $2",
        member.0,
        host.0
    )
    .fetch_optional(tx)
    .await
    .db()?;
    Ok(row.map(|row| (row.address, row.name)))
}

/// Stores what an agent says of itself. Gives the last happening stored of this session.
///
/// # Errors
/// `NOT_FOUND` when the host is gone.
pub async fn host_hello_tx(tx: &mut PgConnection, host: HostId, hello: &AgentHello) -> Result<i64, Error> {
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    sqlx::query_scalar!(
        "update host
            set agent_version = $2, boot_id = $3, capacity_cpu_millis = $5, capacity_memory = $6, capacity_disk = $7,
                address = $8, port_low = $9, port_high = $10, engines = $11, peer_port = $12, last_seen_time = now(),
                happenings = case when session_id = $4 then happenings else 0 end, session_id = $4
          where id = $1
      returning happenings",
        host.0,
        hello.agent_version,
        hello.boot_id,
        hello.session_id,
        signed(hello.capacity.cpu_millis),
        signed(hello.capacity.memory_bytes),
        signed(hello.capacity.disk_bytes),
        hello.address,
        i32::from(hello.port_low),
        i32::from(hello.port_high),
        hello.engines,
        i32::from(hello.peer_port)
    )
    .fetch_optional(tx)
    .await
    .db()?
    .ok_or_else(|| Error::not_found("host", host))
}

/// Moves hosts between ONLINE and OFFLINE; revoked ones stay. Gives those that moved.
///
/// # Errors
/// Those of the database.
pub async fn hosts_move_tx(tx: &mut PgConnection, hosts: &[HostId], state: HostState) -> Result<Vec<HostLife>, Error> {
    let ids: Vec<Uuid> = hosts.iter().map(|host| host.0).collect();
    sqlx::query_as!(
        HostLife,
        r#"update host set state = $2, last_seen_time = case $2 when 'ONLINE' then now() else last_seen_time end
            where id = any($1) and state <> $2 and revoke_time is null
        returning id as "id: HostId", name, state as "state: HostState", session_id, happenings"#,
        &ids,
        state.as_str()
    )
    .fetch_all(tx)
    .await
    .db()
}

/// The instances that have a member on one of these hosts, locked: whoever changes a host and then its instances locks
/// these first, as everybody does.
///
/// # Errors
/// Those of the database.
pub async fn instances_on_hosts_tx(tx: &mut PgConnection, hosts: &[HostId]) -> Result<Vec<InstanceId>, Error> {
    let ids: Vec<Uuid> = hosts.iter().map(|host| host.0).collect();
    sqlx::query_scalar!(
        r#"select id as "id: InstanceId" from instance
            where id in (select instance_id from member where host_id = any($1))
            order by id for no key update"#,
        &ids
    )
    .fetch_all(tx)
    .await
    .db()
}

/// Claims the happenings of a session up to `last` for storing. Gives the last one stored before; None when the
/// session is not the host's current one.
///
/// # Errors
/// Those of the database.
pub async fn host_happenings_tx(
    tx: &mut PgConnection,
    host: HostId,
    session: &str,
    last: i64,
) -> Result<Option<i64>, Error> {
    let before = sqlx::query_scalar!(
        "select happenings from host where id = $1 and session_id = $2 for no key update",
        host.0,
        session
    )
    .fetch_optional(&mut *tx)
    .await
    .db()?;
    if before.is_some_and(|before| before < last) {
        sqlx::query!("update host set happenings = $2 where id = $1", host.0, last).execute(tx).await.db()?;
    }
    Ok(before)
}

/// Stores which data directories on a host no goal owns.
///
/// # Errors
/// Those of the database.
pub async fn host_orphans_tx(tx: &mut PgConnection, host: HostId, orphans: &[String]) -> Result<(), Error> {
    sqlx::query!("update host set orphans = $2 where id = $1", host.0, Json(orphans) as _)
        .execute(tx)
        .await
        .db()
        .map(drop)
}

impl Db {
    /// All hosts that are not revoked.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn hosts_alive(&self) -> Result<Vec<HostLife>, Error> {
        sqlx::query_as!(
            HostLife,
            r#"select id as "id: HostId", name, state as "state: HostState", session_id, happenings
                 from host where revoke_time is null"#
        )
        .fetch_all(self.pool())
        .await
        .db()
    }

    /// The host, if it is there and not revoked.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn host_alive(&self, host: HostId) -> Result<Option<HostLife>, Error> {
        sqlx::query_as!(
            HostLife,
            r#"select id as "id: HostId", name, state as "state: HostState", session_id, happenings
                 from host where id = $1 and revoke_time is null"#,
            host.0
        )
        .fetch_optional(self.pool())
        .await
        .db()
    }

    /// All hosts that were revoked.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn hosts_revoked(&self) -> Result<Vec<HostId>, Error> {
        sqlx::query_scalar!(r#"select id as "id: HostId" from host where revoke_time is not null"#)
            .fetch_all(self.pool())
            .await
            .db()
    }

    /// Whether this certificate is the host's and neither was revoked.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn host_certificate_valid(&self, serial: &str, host: HostId) -> Result<bool, Error> {
        sqlx::query_scalar!(
            r#"select exists (select from host_certificate c join host h on h.id = c.host_id
                               where c.serial = $1 and h.id = $2 and c.revoke_time is null and h.revoke_time is null)
                      as "valid!""#,
            serial,
            host.0
        )
        .fetch_one(self.pool())
        .await
        .db()
    }

    /// Stores signs of life of many hosts at once.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn hosts_touch(&self, hosts: &[HostTouch]) -> Result<(), Error> {
        let ids: Vec<Uuid> = hosts.iter().map(|host| host.id.0).collect();
        let loads: Vec<Value> = hosts.iter().map(|host| host.load.clone()).collect();
        sqlx::query!(
            "update host h set last_seen_time = now(), load = t.load
               from unnest($1::uuid[], $2::jsonb[]) as t(id, load) where h.id = t.id",
            &ids,
            &loads
        )
        .execute(self.pool())
        .await
        .db()
        .map(drop)
    }
}
