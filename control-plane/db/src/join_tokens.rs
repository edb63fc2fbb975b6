//! Join tokens as users see them. How one is used is in `agents`. Only a hash of a token's text is stored.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use sqlx::{PgConnection, types::Json};
use windlass_core::{Error, id::JoinTokenId, proxy::TokenPurpose};

use crate::{Db, error::DbResult as _};

/// A token to add.
#[derive(Debug, Clone)]
pub struct NewJoinToken {
    /// Id.
    pub id: JoinTokenId,
    /// Hash of the whole token.
    pub sha256: [u8; 32],
    /// What may enrol with it.
    pub purpose: TokenPurpose,
    /// Name that the host or proxy gets; empty lets it choose.
    pub host_name: String,
    /// Region of the host.
    pub region: String,
    /// Zone of the host.
    pub zone: String,
    /// Labels of the host.
    pub labels: BTreeMap<String, String>,
    /// When it ends.
    pub expire_time: Timestamp,
}

/// A token as stored.
#[derive(Debug, Clone)]
pub struct JoinTokenRow {
    /// Id.
    pub id: JoinTokenId,
    /// What may enrol with it.
    pub purpose: TokenPurpose,
    /// Name that the host or proxy gets.
    pub host_name: String,
    /// Region of the host.
    pub region: String,
    /// Zone of the host.
    pub zone: String,
    /// Labels of the host.
    pub labels: BTreeMap<String, String>,
    /// When it was made.
    pub create_time: Timestamp,
    /// When it ends.
    pub expire_time: Timestamp,
    /// When it was revoked.
    pub revoke_time: Option<Timestamp>,
    /// When it was used.
    pub use_time: Option<Timestamp>,
    /// Name of the host or proxy that used it.
    pub used_by: Option<String>,
}

struct Raw {
    id: JoinTokenId,
    purpose: TokenPurpose,
    host_name: String,
    region: String,
    zone: String,
    labels: Json<BTreeMap<String, String>>,
    create_time: jiff_sqlx::Timestamp,
    expire_time: jiff_sqlx::Timestamp,
    revoke_time: Option<jiff_sqlx::Timestamp>,
    use_time: Option<jiff_sqlx::Timestamp>,
    used_by: Option<String>,
}

impl From<Raw> for JoinTokenRow {
    fn from(raw: Raw) -> Self {
        Self {
            id: raw.id,
            purpose: raw.purpose,
            host_name: raw.host_name,
            region: raw.region,
            zone: raw.zone,
            labels: raw.labels.0,
            create_time: raw.create_time.to_jiff(),
            expire_time: raw.expire_time.to_jiff(),
            revoke_time: raw.revoke_time.map(jiff_sqlx::Timestamp::to_jiff),
            use_time: raw.use_time.map(jiff_sqlx::Timestamp::to_jiff),
            used_by: raw.used_by,
        }
    }
}

/// Adds a token.
///
/// # Errors
/// Those of the database.
pub async fn join_token_insert_tx(tx: &mut PgConnection, token: &NewJoinToken) -> Result<(), Error> {
    sqlx::query!(
        "insert into join_token (id, secret_sha256, host_name, region, zone, labels, expire_time, purpose)
         values ($1, $2, $3, $4, $5, $6, $7, $8)",
        token.id.0,
        token.sha256.as_slice(),
        token.host_name,
        token.region,
        token.zone,
        Json(&token.labels) as _,
        jiff_sqlx::Timestamp::from(token.expire_time) as _,
        token.purpose.as_str()
    )
    .execute(tx)
    .await
    .db()
    .map(drop)
}

/// The token of this id.
///
/// # Errors
/// Those of the database.
pub async fn join_token_by_id_tx(tx: &mut PgConnection, id: JoinTokenId) -> Result<Option<JoinTokenRow>, Error> {
    let row = sqlx::query_as!(
        Raw,
        r#"select t.id as "id: JoinTokenId", t.purpose as "purpose: TokenPurpose", t.host_name, t.region, t.zone,
                  t.labels as "labels: Json<BTreeMap<String, String>>", t.create_time, t.expire_time, t.revoke_time,
                  t.use_time, coalesce(h.name, p.name) as used_by
             from join_token t left join host h on h.id = t.host_id left join proxy p on p.id = t.proxy_id where t.id = $1"#,
        id.0
    )
    .fetch_optional(tx)
    .await
    .db()?;
    Ok(row.map(JoinTokenRow::from))
}

/// Revokes a token; nothing happens if it is revoked already.
///
/// # Errors
/// Those of the database.
pub async fn join_token_revoke_tx(tx: &mut PgConnection, id: JoinTokenId) -> Result<(), Error> {
    sqlx::query!("update join_token set revoke_time = now() where id = $1 and revoke_time is null", id.0)
        .execute(tx)
        .await
        .db()
        .map(drop)
}

impl Db {
    /// Tokens in the order they were made, later than `after`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn join_token_list(&self, after: Option<JoinTokenId>, limit: i64) -> Result<Vec<JoinTokenRow>, Error> {
        let rows = sqlx::query_as!(
            Raw,
            r#"select t.id as "id: JoinTokenId", t.purpose as "purpose: TokenPurpose", t.host_name, t.region, t.zone,
                      t.labels as "labels: Json<BTreeMap<String, String>>", t.create_time, t.expire_time,
                      t.revoke_time, t.use_time, coalesce(h.name, p.name) as used_by
                 from join_token t left join host h on h.id = t.host_id left join proxy p on p.id = t.proxy_id
                where $1::uuid is null or t.id > $1 order by t.id limit $2"#,
            after.map(|id| id.0),
            limit
        )
        .fetch_all(self.pool())
        .await
        .db()?;
        Ok(rows.into_iter().map(JoinTokenRow::from).collect())
    }

    /// Forgets tokens that ended longer than `age` ago; at most `limit` at a time. Gives how many.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn join_token_expire(&self, age: SignedDuration, limit: i64) -> Result<u64, Error> {
        let done = sqlx::query!(
            "delete from join_token where id in
                (select id from join_token where expire_time < now() - make_interval(secs => $1) limit $2)",
            age.as_secs_f64(),
            limit
        )
        .execute(self.pool())
        .await
        .db()?;
        Ok(done.rows_affected())
    }
}
