//! Proxies: programs that route clients. What they report of traffic is not stored.
//!
//! Invariants: enrolling is one transaction (proxy, token used); a revoked proxy keeps its row until another takes its
//! name; signs of life reach the row only when it comes and now and then.

use std::time::Duration;

use jiff::Timestamp;
use sqlx::PgConnection;
use windlass_core::{
    Error,
    id::{JoinTokenId, ProxyId},
};

use crate::{Db, error::DbResult as _};

/// A proxy as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyRow {
    /// Id.
    pub id: ProxyId,
    /// Name, unique.
    pub name: String,
    /// Where clients reach it; empty until it has come.
    pub address: String,
    /// Port; 0 until it has come.
    pub port: u16,
    /// What instances' names end with; may be empty.
    pub domain: String,
    /// Version of its program.
    pub version: String,
    /// When it spoke last, coarsely.
    pub last_seen_time: Option<Timestamp>,
    /// When its certificate ends.
    pub certificate_expire_time: Option<Timestamp>,
    /// When it was revoked.
    pub revoke_time: Option<Timestamp>,
    /// When it enrolled.
    pub create_time: Timestamp,
}

/// What a proxy says of itself when it connects.
#[derive(Debug, Clone)]
pub struct ProxyHello {
    /// Version of its program.
    pub version: String,
    /// New for each start.
    pub session_id: String,
    /// Where clients reach it.
    pub address: String,
    /// Port.
    pub port: u16,
    /// What instances' names end with.
    pub domain: String,
}

struct Raw {
    id: ProxyId,
    name: String,
    address: String,
    port: i32,
    domain: String,
    proxy_version: String,
    last_seen_time: Option<jiff_sqlx::Timestamp>,
    certificate_expire_time: Option<jiff_sqlx::Timestamp>,
    revoke_time: Option<jiff_sqlx::Timestamp>,
    create_time: jiff_sqlx::Timestamp,
}

impl From<Raw> for ProxyRow {
    fn from(raw: Raw) -> Self {
        Self {
            id: raw.id,
            name: raw.name,
            address: raw.address,
            port: u16::try_from(raw.port).unwrap_or(0),
            domain: raw.domain,
            version: raw.proxy_version,
            last_seen_time: raw.last_seen_time.map(jiff_sqlx::Timestamp::to_jiff),
            certificate_expire_time: raw.certificate_expire_time.map(jiff_sqlx::Timestamp::to_jiff),
            revoke_time: raw.revoke_time.map(jiff_sqlx::Timestamp::to_jiff),
            create_time: raw.create_time.to_jiff(),
        }
    }
}

/// Adds a proxy and marks the token as used by its key. A revoked one of the same name makes room.
///
/// # Errors
/// `NAME_IN_USE` when another proxy has the name.
pub async fn proxy_enrol_tx(
    tx: &mut PgConnection,
    id: ProxyId,
    name: &str,
    token: JoinTokenId,
    key_sha256: &[u8],
) -> Result<(), Error> {
    sqlx::query!("delete from proxy where name = $1 and revoke_time is not null", name).execute(&mut *tx).await.db()?;
    sqlx::query!("insert into proxy (id, name) values ($1, $2)", id.0, name).execute(&mut *tx).await.db()?;
    sqlx::query!(
        "update join_token set use_time = now(), used_by_key = $2, proxy_id = $3 where id = $1",
        token.0,
        key_sha256,
        id.0
    )
    .execute(tx)
    .await
    .db()
    .map(drop)
}

/// Notes until when the certificate that it was given is valid. Gives its name; None when there is no such proxy or it was
/// revoked.
///
/// # Errors
/// Those of the database.
pub async fn proxy_certified_tx(
    tx: &mut PgConnection,
    id: ProxyId,
    not_after: Timestamp,
) -> Result<Option<String>, Error> {
    sqlx::query_scalar!(
        "update proxy set certificate_expire_time = $2 where id = $1 and revoke_time is null returning name",
        id.0,
        jiff_sqlx::Timestamp::from(not_after) as _
    )
    .fetch_optional(tx)
    .await
    .db()
}

/// The proxy of this name.
///
/// # Errors
/// Those of the database.
pub async fn proxy_by_name_tx(tx: &mut PgConnection, name: &str) -> Result<Option<ProxyRow>, Error> {
    let row = sqlx::query_as!(
        Raw,
        r#"select id as "id: ProxyId", name, address, port, domain, proxy_version, last_seen_time,
                  certificate_expire_time, revoke_time, create_time
             from proxy where name = $1 or id::text = $1"#,
        name
    )
    .fetch_optional(tx)
    .await
    .db()?;
    Ok(row.map(ProxyRow::from))
}

/// Refuses it from now on; nothing happens if it is refused already.
///
/// # Errors
/// Those of the database.
pub async fn proxy_revoke_tx(tx: &mut PgConnection, id: ProxyId) -> Result<(), Error> {
    sqlx::query!("update proxy set revoke_time = now() where id = $1 and revoke_time is null", id.0)
        .execute(tx)
        .await
        .db()
        .map(drop)
}

impl Db {
    /// Stores what a proxy says of itself. False when there is no such proxy or it was revoked.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn proxy_hello(&self, id: ProxyId, hello: &ProxyHello) -> Result<bool, Error> {
        let done = sqlx::query!(
            "update proxy
                set proxy_version = $2, session_id = $3, address = $4, port = $5, domain = $6, last_seen_time = now()
              where id = $1 and revoke_time is null",
            id.0,
            hello.version,
            hello.session_id,
            hello.address,
            i32::from(hello.port),
            hello.domain
        )
        .execute(self.pool())
        .await
        .db()?;
        Ok(done.rows_affected() > 0)
    }

    /// The proxy of this id, and a note that it spoke just now, at most one in ten seconds. None when there is no such
    /// proxy or it was revoked.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn proxy_heard(&self, id: ProxyId) -> Result<Option<ProxyRow>, Error> {
        let row = sqlx::query_as!(
            Raw,
            r#"with seen as (
                   update proxy set last_seen_time = now()
                    where id = $1 and coalesce(last_seen_time < now() - interval '10 seconds', true)
               )
               select id as "id: ProxyId", name, address, port, domain, proxy_version, last_seen_time,
                      certificate_expire_time, revoke_time, create_time
                 from proxy where id = $1 and revoke_time is null"#,
            id.0
        )
        .fetch_optional(self.pool())
        .await
        .db()?;
        Ok(row.map(ProxyRow::from))
    }

    /// Proxies that spoke within this time, by name.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn proxies_alive(&self, within: Duration) -> Result<Vec<ProxyRow>, Error> {
        let rows = sqlx::query_as!(
            Raw,
            r#"select id as "id: ProxyId", name, address, port, domain, proxy_version, last_seen_time,
                      certificate_expire_time, revoke_time, create_time
                 from proxy
                where revoke_time is null and last_seen_time > now() - make_interval(secs => $1)
                order by name"#,
            within.as_secs_f64()
        )
        .fetch_all(self.pool())
        .await
        .db()?;
        Ok(rows.into_iter().map(ProxyRow::from).collect())
    }

    /// Proxies by name, later than `after`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn proxy_list(&self, after: &str, limit: i64) -> Result<Vec<ProxyRow>, Error> {
        let rows = sqlx::query_as!(
            Raw,
            r#"select id as "id: ProxyId", name, address, port, domain, proxy_version, last_seen_time,
                      certificate_expire_time, revoke_time, create_time
                 from proxy where name > $1 order by name limit $2"#,
            after,
            limit
        )
        .fetch_all(self.pool())
        .await
        .db()?;
        Ok(rows.into_iter().map(ProxyRow::from).collect())
    }
}
