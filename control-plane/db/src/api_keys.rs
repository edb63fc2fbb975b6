//! API keys. Only the SHA-256 of a key's text is stored; 256 random bits need no slow hash.

use jiff::Timestamp;
use sqlx::PgConnection;
use windlass_core::{
    Error,
    id::{ApiKeyId, ProjectId},
    role::Role,
};

use crate::{Db, error::DbResult as _};

/// A key to add.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// Id.
    pub id: ApiKeyId,
    /// For people.
    pub title: String,
    /// The one project it reaches; None for the installation.
    pub project: Option<ProjectId>,
    /// Role.
    pub role: Role,
    /// The start of the key.
    pub prefix: String,
    /// Hash of the whole key.
    pub sha256: [u8; 32],
    /// When it ends; None for never.
    pub expire_time: Option<Timestamp>,
}

/// A key as stored.
#[derive(Debug, Clone)]
pub struct ApiKeyRow {
    /// Id.
    pub id: ApiKeyId,
    /// For people.
    pub title: String,
    /// The one project it reaches; None for the installation.
    pub project: Option<ProjectId>,
    /// Name of that project.
    pub project_name: Option<String>,
    /// Role.
    pub role: Role,
    /// The start of the key.
    pub prefix: String,
    /// When it was made.
    pub create_time: Timestamp,
    /// When it ends.
    pub expire_time: Option<Timestamp>,
    /// When it was revoked.
    pub revoke_time: Option<Timestamp>,
    /// When it was used, coarsely.
    pub last_use_time: Option<Timestamp>,
}

struct Raw {
    id: ApiKeyId,
    title: String,
    project_id: Option<ProjectId>,
    project_name: Option<String>,
    role: Role,
    prefix: String,
    create_time: jiff_sqlx::Timestamp,
    expire_time: Option<jiff_sqlx::Timestamp>,
    revoke_time: Option<jiff_sqlx::Timestamp>,
    last_use_time: Option<jiff_sqlx::Timestamp>,
}

impl From<Raw> for ApiKeyRow {
    fn from(raw: Raw) -> Self {
        Self {
            id: raw.id,
            title: raw.title,
            project: raw.project_id,
            project_name: raw.project_name,
            role: raw.role,
            prefix: raw.prefix,
            create_time: raw.create_time.to_jiff(),
            expire_time: raw.expire_time.map(jiff_sqlx::Timestamp::to_jiff),
            revoke_time: raw.revoke_time.map(jiff_sqlx::Timestamp::to_jiff),
            last_use_time: raw.last_use_time.map(jiff_sqlx::Timestamp::to_jiff),
        }
    }
}

/// Adds a key.
///
/// # Errors
/// Those of the database.
pub async fn api_key_insert_tx(tx: &mut PgConnection, key: &NewApiKey) -> Result<(), Error> {
    sqlx::query!(
        "insert into api_key (id, title, project_id, role, prefix, secret_sha256, expire_time)
         values ($1, $2, $3, $4, $5, $6, $7)",
        key.id.0,
        key.title,
        key.project.map(|id| id.0),
        key.role.as_str(),
        key.prefix,
        key.sha256.as_slice(),
        key.expire_time.map(jiff_sqlx::Timestamp::from) as _
    )
    .execute(tx)
    .await
    .db()
    .map(drop)
}

/// The key of this id.
///
/// # Errors
/// Those of the database.
pub async fn api_key_by_id_tx(tx: &mut PgConnection, id: ApiKeyId) -> Result<Option<ApiKeyRow>, Error> {
    let row = sqlx::query_as!(
        Raw,
        r#"select k.id as "id: ApiKeyId", k.title, k.project_id as "project_id: ProjectId",
                  p.name as "project_name?", k.role as "role: Role", k.prefix, k.create_time, k.expire_time,
                  k.revoke_time, k.last_use_time
             from api_key k left join project p on p.id = k.project_id where k.id = $1"#,
        id.0
    )
    .fetch_optional(tx)
    .await
    .db()?;
    Ok(row.map(ApiKeyRow::from))
}

/// Revokes a key; nothing happens if it is revoked already.
///
/// # Errors
/// Those of the database.
pub async fn api_key_revoke_tx(tx: &mut PgConnection, id: ApiKeyId) -> Result<(), Error> {
    sqlx::query!("update api_key set revoke_time = now() where id = $1 and revoke_time is null", id.0)
        .execute(tx)
        .await
        .db()
        .map(drop)
}

impl Db {
    /// The key with this hash, whatever its state.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn api_key_by_hash(&self, sha256: &[u8; 32]) -> Result<Option<ApiKeyRow>, Error> {
        let row = sqlx::query_as!(
            Raw,
            r#"select k.id as "id: ApiKeyId", k.title, k.project_id as "project_id: ProjectId",
                      p.name as "project_name?", k.role as "role: Role", k.prefix, k.create_time, k.expire_time,
                      k.revoke_time, k.last_use_time
                 from api_key k left join project p on p.id = k.project_id where k.secret_sha256 = $1"#,
            sha256.as_slice()
        )
        .fetch_optional(self.pool())
        .await
        .db()?;
        Ok(row.map(ApiKeyRow::from))
    }

    /// Notes that the key was used now.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn api_key_touch(&self, id: ApiKeyId) -> Result<(), Error> {
        sqlx::query!("update api_key set last_use_time = now() where id = $1", id.0)
            .execute(self.pool())
            .await
            .db()
            .map(drop)
    }

    /// Keys in the order they were made, those of `project` only if given, later than `after`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn api_key_list(
        &self,
        project: Option<ProjectId>,
        after: Option<ApiKeyId>,
        limit: i64,
    ) -> Result<Vec<ApiKeyRow>, Error> {
        let rows = sqlx::query_as!(
            Raw,
            r#"select k.id as "id: ApiKeyId", k.title, k.project_id as "project_id: ProjectId",
                      p.name as "project_name?", k.role as "role: Role", k.prefix, k.create_time, k.expire_time,
                      k.revoke_time, k.last_use_time
                 from api_key k left join project p on p.id = k.project_id
                where ($1::uuid is null or k.project_id = $1) and ($2::uuid is null or k.id > $2)
                order by k.id limit $3"#,
            project.map(|id| id.0),
            after.map(|id| id.0),
            limit
        )
        .fetch_all(self.pool())
        .await
        .db()?;
        Ok(rows.into_iter().map(ApiKeyRow::from).collect())
    }

    /// How many keys there are, of any state.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn api_key_count(&self) -> Result<i64, Error> {
        sqlx::query_scalar!(r#"select count(*) as "count!" from api_key"#).fetch_one(self.pool()).await.db()
    }
}
