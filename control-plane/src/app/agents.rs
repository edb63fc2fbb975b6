//! Use cases of agents: how a machine becomes a host, and what it is signed for.
//!
//! Unlike the use cases of users these own their transaction: an agent's calls need no stored answers, because each is
//! safe to repeat.

use std::net::IpAddr;

use jiff::Timestamp;
use windlass_core::{
    Error, Reason,
    error::ErrorKind,
    id::{HostId, MemberId},
    name::ResourceName,
    proxy::TokenPurpose,
};
use windlass_db::{
    PgConnection,
    agents::{EnrollingHost, TokenForEnrolment, host_enrol_tx, host_name_tx, join_token_lock_tx, member_address_tx},
    certificates::{HostCertificate, host_certificate_add_tx},
    events::{NewEvent, event_add_tx},
};

use super::Context;
use crate::pki::{Admission, JoinToken, RequestedKey, SignedCert, TokenFacts, TokenUse, admit};

/// A machine that is a host now.
#[derive(Debug)]
pub struct Enrolled {
    /// The host.
    pub host: HostId,
    /// Its name.
    pub name: String,
    /// Its client certificate.
    pub certificate: SignedCert,
}

/// Makes a machine with a join token a host. The same token with the same key gives the same host again.
///
/// # Errors
/// `JOIN_TOKEN_INVALID`; `NAME_IN_USE`; `INVALID_FIELD` on `token`, `csr_der` or `host_name`.
pub async fn enrol(ctx: &Context, token: &str, csr_der: &[u8], wished_name: &str) -> Result<Enrolled, Error> {
    let token = JoinToken::parse(token)?;
    let key = RequestedKey::from_csr(csr_der)?;
    let now = Timestamp::now();
    let mut tx = ctx.db.begin().await?;
    let row = join_token_lock_tx(&mut tx, &token.sha256()).await?;
    let admission = admit(TokenPurpose::Host, row.as_ref().map(facts).as_ref(), &key.sha256(), now)?;
    let (host, name) = match (admission, row) {
        (Admission::New, Some(row)) => enrol_new_tx(&mut tx, &row, &key, wished_name).await?,
        (Admission::New, None) => return Err(Error::internal("a token was admitted that does not exist")),
        (Admission::Repeat(host), _) => (host, name_tx(&mut tx, host).await?),
    };
    let certificate = sign_tx(ctx, &mut tx, &key, host, &name, now).await?;
    tx.commit().await?;
    tracing::info!(%host, name, token = token.short_id(), "a host has enrolled");
    Ok(Enrolled { host, name, certificate })
}

/// A fresh certificate for a host that shows a valid one.
///
/// # Errors
/// `HOST_REVOKED`; `INVALID_FIELD` on `csr_der`.
pub async fn renew(ctx: &Context, host: HostId, csr_der: &[u8]) -> Result<SignedCert, Error> {
    let key = RequestedKey::from_csr(csr_der)?;
    let mut tx = ctx.db.begin().await?;
    let name = name_tx(&mut tx, host).await?;
    let certificate = sign_tx(ctx, &mut tx, &key, host, &name, Timestamp::now()).await?;
    tx.commit().await?;
    Ok(certificate)
}

/// A server certificate for a member of the host, good for the address that clients use and for this machine itself.
///
/// # Errors
/// `NOT_FOUND` when the host has no such member; `INVALID_FIELD` on `csr_der`.
pub async fn sign_member(ctx: &Context, host: HostId, member: MemberId, csr_der: &[u8]) -> Result<SignedCert, Error> {
    let key = RequestedKey::from_csr(csr_der)?;
    let mut tx = ctx.db.begin().await?;
    let found = member_address_tx(&mut tx, host, member).await?;
    let (address, name) = found.ok_or_else(|| Error::not_found("member", member))?;
    tx.commit().await?;
    let mut names = vec!["localhost".to_owned(), name];
    let mut addresses: Vec<IpAddr> = vec![[127, 0, 0, 1].into(), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)];
    match address.parse() {
        Ok(ip) if addresses.contains(&ip) => {}
        Ok(ip) => addresses.push(ip),
        Err(_) if address.is_empty() || names.contains(&address) => {}
        Err(_) => names.push(address),
    }
    ctx.authority.sign_member(&key, member, &names, &addresses, Timestamp::now())
}

fn facts(token: &TokenForEnrolment) -> TokenFacts<HostId> {
    TokenFacts {
        purpose: token.purpose,
        expire_time: token.expire_time,
        revoke_time: token.revoke_time,
        used: token.used.clone().map(|(key_sha256, by)| TokenUse { key_sha256, by }),
    }
}

async fn enrol_new_tx(
    tx: &mut PgConnection,
    token: &TokenForEnrolment,
    key: &RequestedKey,
    wished_name: &str,
) -> Result<(HostId, String), Error> {
    let name = if token.host_name.is_empty() { wished_name } else { &token.host_name };
    let name = ResourceName::parse("host_name", name)?.to_string();
    let id = HostId::new();
    let host = EnrollingHost { id, name: &name, region: &token.region, zone: &token.zone, labels: &token.labels };
    host_enrol_tx(tx, &host, token.id, &key.sha256()).await?;
    let event = NewEvent {
        actor: name.clone(),
        host: Some(id),
        ..NewEvent::info("host.enrolled", format!("hosts/{name}"), format!("host {name} has enrolled"))
    };
    event_add_tx(tx, event).await?;
    Ok((id, name))
}

async fn name_tx(tx: &mut PgConnection, host: HostId) -> Result<String, Error> {
    host_name_tx(tx, host).await?.ok_or_else(|| {
        Error::new(
            ErrorKind::Unauthenticated,
            Reason::HostRevoked,
            format!("host {host} was revoked; enrol the machine again with a new join token"),
        )
    })
}

async fn sign_tx(
    ctx: &Context,
    tx: &mut PgConnection,
    key: &RequestedKey,
    host: HostId,
    name: &str,
    now: Timestamp,
) -> Result<SignedCert, Error> {
    let signed = ctx.authority.sign_host(key, host, name, now)?;
    let certificate = HostCertificate { serial: signed.serial.clone(), host, not_after: signed.not_after };
    host_certificate_add_tx(tx, &certificate).await?;
    Ok(signed)
}
