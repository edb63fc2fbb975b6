//! API keys: who may call.

use jiff::{SignedDuration, Timestamp};
use windlass_core::{
    Error,
    id::{ApiKeyId, ProjectId},
    role::{Permission, Role},
};
use windlass_db::{
    PgConnection, Tx,
    api_keys::{ApiKeyRow, NewApiKey, api_key_by_id_tx, api_key_insert_tx, api_key_revoke_tx},
    events::{NewEvent, event_add_tx},
    projects::project_by_name_tx,
};
use windlass_kit::token::ApiKey;

use super::{Caller, Context, validate};

/// Shortest life of a key.
const SHORTEST: SignedDuration = SignedDuration::from_mins(1);
/// Longest life of a key that ends at all: ten years.
const LONGEST: SignedDuration = SignedDuration::from_hours(24 * 3653);

/// A key to make.
#[derive(Debug, Clone)]
pub struct KeyRequest {
    /// For people.
    pub title: String,
    /// Role.
    pub role: Role,
    /// Name of the one project it reaches; None for the installation.
    pub project: Option<String>,
    /// How long it lives; None for ever.
    pub ttl: Option<SignedDuration>,
}

/// Makes a key; its text is only here.
///
/// # Errors
/// `PERMISSION_MISSING`, `INVALID_FIELD`, `NOT_FOUND` for the project.
pub async fn create(tx: &mut Tx, caller: &Caller, request: KeyRequest) -> Result<(ApiKeyRow, ApiKey), Error> {
    let project = match &request.project {
        None => {
            caller.check(Permission::FleetAdmin, None)?;
            None
        }
        Some(name) => Some(caller.project_tx(tx, name, Permission::ProjectAdmin).await?.id),
    };
    make(tx, &caller.actor(), project, request).await
}

/// Makes a key on behalf of whoever has the control plane's machine; asks for no permission.
///
/// # Errors
/// `INVALID_FIELD`, `NOT_FOUND` for the project.
pub async fn create_on_host(tx: &mut Tx, request: KeyRequest) -> Result<(ApiKeyRow, ApiKey), Error> {
    let project = match &request.project {
        None => None,
        Some(name) => {
            let found = project_by_name_tx(tx, name).await?;
            Some(found.ok_or_else(|| Error::not_found("project", format!("projects/{name}")))?.id)
        }
    };
    make(tx, "system", project, request).await
}

/// Keys that the caller may see, in the order they were made.
///
/// # Errors
/// `PERMISSION_MISSING`.
pub async fn list(
    ctx: &Context,
    caller: &Caller,
    after: Option<ApiKeyId>,
    limit: i64,
) -> Result<Vec<ApiKeyRow>, Error> {
    caller.check(Permission::ProjectAdmin, caller.own_project())?;
    ctx.db.api_key_list(caller.own_project(), after, limit).await
}

/// The caller's own key.
///
/// # Errors
/// Those of the database.
pub async fn own(ctx: &Context, caller: &Caller) -> Result<ApiKeyRow, Error> {
    let mut tx = ctx.db.begin().await?;
    find(&mut tx, caller.key).await
}

/// Revokes a key. Revoking twice is fine.
///
/// # Errors
/// `NOT_FOUND`, also for keys outside the caller's scope; `PERMISSION_MISSING`.
pub async fn revoke(tx: &mut Tx, caller: &Caller, id: ApiKeyId) -> Result<ApiKeyRow, Error> {
    caller.check(Permission::ProjectAdmin, caller.own_project())?;
    let row = find(tx, id).await?;
    if caller.own_project().is_some() && row.project != caller.own_project() {
        return Err(missing(id));
    }
    api_key_revoke_tx(tx, id).await?;
    tell(tx, &caller.actor(), &row, "key.revoked", "API key revoked").await?;
    find(tx, id).await
}

async fn make(
    tx: &mut Tx,
    actor: &str,
    project: Option<ProjectId>,
    request: KeyRequest,
) -> Result<(ApiKeyRow, ApiKey), Error> {
    if request.title.is_empty() {
        return Err(Error::invalid("api_key.title", "is empty; say what the key is for, in 1 to 63 characters"));
    }
    validate::text("api_key.title", &request.title)?;
    if let Some(ttl) = request.ttl {
        validate::life("ttl", ttl, SHORTEST, LONGEST)?;
    }
    let key = ApiKey::generate();
    let new = NewApiKey {
        id: ApiKeyId::new(),
        title: request.title,
        project,
        role: request.role,
        prefix: key.prefix().to_owned(),
        sha256: key.sha256(),
        expire_time: request.ttl.map(|ttl| Timestamp::now() + ttl),
    };
    api_key_insert_tx(tx, &new).await?;
    let row = find(tx, new.id).await?;
    tell(tx, actor, &row, "key.created", &format!("API key made, role {}", row.role)).await?;
    Ok((row, key))
}

async fn find(tx: &mut PgConnection, id: ApiKeyId) -> Result<ApiKeyRow, Error> {
    api_key_by_id_tx(tx, id).await?.ok_or_else(|| missing(id))
}

fn missing(id: ApiKeyId) -> Error {
    Error::not_found("API key", format!("apiKeys/{id}"))
}

async fn tell(tx: &mut Tx, actor: &str, row: &ApiKeyRow, kind: &str, text: &str) -> Result<(), Error> {
    let event = NewEvent::info(kind, format!("apiKeys/{}", row.id), format!("{text}: {} ({})", row.title, row.prefix));
    event_add_tx(tx, NewEvent { actor: actor.to_owned(), project: row.project, ..event }).await.map(drop)
}
