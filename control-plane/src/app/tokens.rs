//! Join tokens: one-use permissions to enrol a host or a proxy.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use windlass_core::{Error, id::JoinTokenId, name::ResourceName, proxy::TokenPurpose, role::Permission};
use windlass_db::{
    Tx,
    events::{NewEvent, event_add_tx},
    hosts::host_by_name_tx,
    join_tokens::{JoinTokenRow, NewJoinToken, join_token_by_id_tx, join_token_insert_tx, join_token_revoke_tx},
    proxies::proxy_by_name_tx,
};
use windlass_kit::token::JoinToken;

use super::{Caller, Context, validate};

/// Life of a token when none is asked for.
const USUAL: SignedDuration = SignedDuration::from_hours(1);
const SHORTEST: SignedDuration = SignedDuration::from_mins(1);
const LONGEST: SignedDuration = SignedDuration::from_hours(30 * 24);

/// A token to make.
#[derive(Debug, Clone)]
pub struct TokenRequest {
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
    /// How long it lives; None for an hour.
    pub ttl: Option<SignedDuration>,
}

/// Makes a token; its text is only here.
///
/// # Errors
/// `PERMISSION_MISSING`, `INVALID_FIELD`, `NAME_IN_USE` for the host's name.
pub async fn create(
    ctx: &Context,
    tx: &mut Tx,
    caller: &Caller,
    request: TokenRequest,
) -> Result<(JoinTokenRow, JoinToken), Error> {
    caller.check(Permission::FleetAdmin, None)?;
    if !request.host_name.is_empty() {
        let name = ResourceName::parse("join_token.host_name", &request.host_name)?;
        match request.purpose {
            TokenPurpose::Host if host_by_name_tx(tx, name.as_str()).await?.is_some() => {
                return Err(Error::already_exists("host", format!("hosts/{name}")));
            }
            TokenPurpose::Proxy if taken(tx, name.as_str()).await? => {
                return Err(Error::already_exists("proxy", super::proxies::full(name.as_str())));
            }
            TokenPurpose::Host | TokenPurpose::Proxy => {}
        }
    }
    validate::text("join_token.region", &request.region)?;
    validate::text("join_token.zone", &request.zone)?;
    validate::labels("join_token.labels", &request.labels)?;
    let ttl = request.ttl.unwrap_or(USUAL);
    validate::life("ttl", ttl, SHORTEST, LONGEST)?;
    let id = JoinTokenId::new();
    let token = JoinToken::generate(id, ctx.authority.pin());
    let new = NewJoinToken {
        id,
        sha256: token.sha256(),
        purpose: request.purpose,
        host_name: request.host_name,
        region: request.region,
        zone: request.zone,
        labels: request.labels,
        expire_time: Timestamp::now() + ttl,
    };
    join_token_insert_tx(tx, &new).await?;
    tell(tx, caller, id, "join_token.created", "Join token made").await?;
    Ok((find(tx, id).await?, token))
}

/// Tokens in the order they were made.
///
/// # Errors
/// `PERMISSION_MISSING`.
pub async fn list(
    ctx: &Context,
    caller: &Caller,
    after: Option<JoinTokenId>,
    limit: i64,
) -> Result<Vec<JoinTokenRow>, Error> {
    caller.check(Permission::FleetRead, None)?;
    ctx.db.join_token_list(after, limit).await
}

/// Revokes a token. Revoking twice is fine; a host that used it stays.
///
/// # Errors
/// `PERMISSION_MISSING`, `NOT_FOUND`.
pub async fn revoke(tx: &mut Tx, caller: &Caller, id: JoinTokenId) -> Result<JoinTokenRow, Error> {
    caller.check(Permission::FleetAdmin, None)?;
    find(tx, id).await?;
    join_token_revoke_tx(tx, id).await?;
    tell(tx, caller, id, "join_token.revoked", "Join token revoked").await?;
    find(tx, id).await
}

/// A revoked proxy makes room for another of its name.
async fn taken(tx: &mut Tx, name: &str) -> Result<bool, Error> {
    Ok(proxy_by_name_tx(tx, name).await?.is_some_and(|proxy| proxy.revoke_time.is_none()))
}

async fn find(tx: &mut Tx, id: JoinTokenId) -> Result<JoinTokenRow, Error> {
    join_token_by_id_tx(tx, id).await?.ok_or_else(|| Error::not_found("join token", format!("joinTokens/{id}")))
}

async fn tell(tx: &mut Tx, caller: &Caller, id: JoinTokenId, kind: &str, text: &str) -> Result<(), Error> {
    let event = NewEvent::info(kind, format!("joinTokens/{id}"), text);
    event_add_tx(tx, NewEvent { actor: caller.actor(), ..event }).await.map(drop)
}
