//! Proxies: how a program becomes one, what it is signed for, and what users do with it.
//!
//! The use cases of the proxies themselves own their transaction, because each of their calls is safe to repeat.

use jiff::{SignedDuration, Timestamp};
use windlass_core::{
    Error, Reason,
    error::ErrorKind,
    id::ProxyId,
    name::ResourceName,
    proxy::{ProxyState, TokenPurpose},
    role::Permission,
};
use windlass_db::{
    PgConnection, Tx,
    agents::{TokenForEnrolment, join_token_lock_tx},
    events::{NewEvent, event_add_tx},
    proxies::{ProxyHello, ProxyRow, proxy_by_name_tx, proxy_certified_tx, proxy_enrol_tx, proxy_revoke_tx},
};

use super::{Caller, Context};
use crate::{
    config::Config,
    pki::{Admission, JoinToken, RequestedKey, SignedCert, TokenFacts, TokenUse, admit},
};

/// A proxy that was not heard for so much longer than its polls are held is offline.
const GRACE: SignedDuration = SignedDuration::from_secs(15);
/// Most names in the certificate that clients see; what is beyond has to use user suffixes or its own certificate.
const NAMES: usize = 500;

/// A program that is a proxy now.
#[derive(Debug)]
pub struct Enrolled {
    /// The proxy.
    pub proxy: ProxyId,
    /// Its name.
    pub name: String,
    /// Its client certificate.
    pub certificate: SignedCert,
}

/// Makes a program with a join token a proxy. The same token with the same key gives the same proxy again.
///
/// # Errors
/// `JOIN_TOKEN_INVALID`; `NAME_IN_USE`; `INVALID_FIELD` on `token`, `csr_der` or `proxy_name`.
pub async fn enrol(ctx: &Context, token: &str, csr_der: &[u8], wished_name: &str) -> Result<Enrolled, Error> {
    let token = JoinToken::parse(token)?;
    let key = RequestedKey::from_csr(csr_der)?;
    let now = Timestamp::now();
    let mut tx = ctx.db.begin().await?;
    let row = join_token_lock_tx(&mut tx, &token.sha256()).await?;
    let admission = admit(TokenPurpose::Proxy, row.as_ref().map(facts).as_ref(), &key.sha256(), now)?;
    let proxy = match (admission, row) {
        (Admission::New, Some(row)) => enrol_new_tx(&mut tx, &row, &key, wished_name).await?,
        (Admission::New, None) => return Err(Error::internal("a token was admitted that does not exist")),
        (Admission::Repeat(proxy), _) => proxy,
    };
    let certificate = ctx.authority.sign_proxy(&key, proxy, now)?;
    let name = proxy_certified_tx(&mut tx, proxy, certificate.not_after).await?.ok_or_else(|| revoked(proxy))?;
    tx.commit().await?;
    tracing::info!(%proxy, name, token = token.short_id(), "a proxy has enrolled");
    Ok(Enrolled { proxy, name, certificate })
}

/// A fresh client certificate for a proxy that shows a valid one.
///
/// # Errors
/// `HOST_REVOKED`; `INVALID_FIELD` on `csr_der`.
pub async fn renew(ctx: &Context, proxy: ProxyId, csr_der: &[u8]) -> Result<SignedCert, Error> {
    let certificate = ctx.authority.sign_proxy(&RequestedKey::from_csr(csr_der)?, proxy, Timestamp::now())?;
    let mut tx = ctx.db.begin().await?;
    proxy_certified_tx(&mut tx, proxy, certificate.not_after).await?.ok_or_else(|| revoked(proxy))?;
    tx.commit().await?;
    Ok(certificate)
}

/// The certificate that the proxy shows its clients: for its address, its domain, and each project below it.
///
/// # Errors
/// `HOST_REVOKED`; `INVALID_FIELD` on `csr_der` or on a name that it gave in its hello.
pub async fn sign_server(ctx: &Context, proxy: ProxyId, csr_der: &[u8]) -> Result<SignedCert, Error> {
    let key = RequestedKey::from_csr(csr_der)?;
    let row = heard(ctx, proxy).await?;
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let mut add = |name: String| {
        if !name.is_empty() && names.len() < NAMES && !names.contains(&name) {
            names.push(name);
        }
    };
    add(row.address);
    if !row.domain.is_empty() {
        add(row.domain.clone());
        ctx.routes.projects().into_iter().for_each(|project| add(format!("*.{project}.{}", row.domain)));
    }
    ctx.authority.sign_proxy_server(&key, &names, Timestamp::now())
}

/// Takes what a proxy says of itself.
///
/// # Errors
/// `HOST_REVOKED`; `INVALID_FIELD` on what makes no sense.
pub async fn hello(ctx: &Context, proxy: ProxyId, hello: &ProxyHello) -> Result<(), Error> {
    if hello.session_id.is_empty() {
        return Err(Error::invalid("session_id", "must be set, new for each start of the proxy"));
    }
    if hello.address.is_empty() || hello.port == 0 {
        return Err(Error::invalid("address", "is empty or has port 0; clients could not be told where the proxy is"));
    }
    if !ctx.db.proxy_hello(proxy, hello).await? {
        return Err(revoked(proxy));
    }
    ctx.routes.reports().heard(proxy, &hello.session_id);
    ctx.routes.proxies_changed();
    Ok(())
}

/// The proxy that is calling; it is noted as alive.
///
/// # Errors
/// `HOST_REVOKED`.
pub async fn heard(ctx: &Context, proxy: ProxyId) -> Result<ProxyRow, Error> {
    ctx.db.proxy_heard(proxy).await?.ok_or_else(|| revoked(proxy))
}

/// How long a proxy may be quiet before it counts as gone.
pub fn silence(config: &Config) -> SignedDuration {
    config.cadence.poll_hold + GRACE
}

/// Whether a proxy is connected.
pub fn state(ctx: &Context, row: &ProxyRow) -> ProxyState {
    let silence = silence(&ctx.config);
    match (row.revoke_time, row.last_seen_time) {
        (Some(_), _) => ProxyState::Revoked,
        (None, Some(seen)) if Timestamp::now().duration_since(seen) < silence => ProxyState::Online,
        (None, _) => ProxyState::Offline,
    }
}

/// The proxy of this name or uid.
///
/// # Errors
/// `PERMISSION_MISSING`, `NOT_FOUND`.
pub async fn get(ctx: &Context, caller: &Caller, name: &str) -> Result<ProxyRow, Error> {
    caller.check(Permission::FleetRead, None)?;
    let mut tx = ctx.db.begin().await?;
    proxy_by_name_tx(&mut tx, name).await?.ok_or_else(|| Error::not_found("proxy", full(name)))
}

/// Proxies by name.
///
/// # Errors
/// `PERMISSION_MISSING`.
pub async fn list(ctx: &Context, caller: &Caller, after: &str, limit: i64) -> Result<Vec<ProxyRow>, Error> {
    caller.check(Permission::FleetRead, None)?;
    ctx.db.proxy_list(after, limit).await
}

/// Refuses the proxy from its next call on. Revoking twice is fine.
///
/// # Errors
/// `PERMISSION_MISSING`, `NOT_FOUND`.
pub async fn revoke(tx: &mut Tx, caller: &Caller, name: &str) -> Result<ProxyRow, Error> {
    caller.check(Permission::FleetAdmin, None)?;
    let find =
        async |tx: &mut Tx| proxy_by_name_tx(tx, name).await?.ok_or_else(|| Error::not_found("proxy", full(name)));
    let row = find(tx).await?;
    if row.revoke_time.is_some() {
        return Ok(row);
    }
    proxy_revoke_tx(tx, row.id).await?;
    let event = NewEvent::warning("proxy.revoked", full(&row.name), "It is refused from now on");
    event_add_tx(tx, NewEvent { actor: caller.actor(), ..event }).await?;
    find(tx).await
}

/// Full name of a proxy.
pub fn full(name: &str) -> String {
    format!("proxies/{name}")
}

fn facts(token: &TokenForEnrolment) -> TokenFacts<ProxyId> {
    TokenFacts {
        purpose: token.purpose,
        expire_time: token.expire_time,
        revoke_time: token.revoke_time,
        used: token.used_by_proxy.clone().map(|(key_sha256, by)| TokenUse { key_sha256, by }),
    }
}

async fn enrol_new_tx(
    tx: &mut PgConnection,
    token: &TokenForEnrolment,
    key: &RequestedKey,
    wished_name: &str,
) -> Result<ProxyId, Error> {
    let name = if token.host_name.is_empty() { wished_name } else { &token.host_name };
    let name = ResourceName::parse("proxy_name", name)?.to_string();
    let id = ProxyId::new();
    proxy_enrol_tx(tx, id, &name, token.id, &key.sha256()).await?;
    let event = NewEvent::info("proxy.enrolled", full(&name), format!("proxy {name} has enrolled"));
    event_add_tx(tx, NewEvent { actor: name.clone(), ..event }).await?;
    Ok(id)
}

fn revoked(proxy: ProxyId) -> Error {
    Error::new(
        ErrorKind::Unauthenticated,
        Reason::HostRevoked,
        format!("proxy {proxy} was revoked; enrol it again with a new join token"),
    )
}
