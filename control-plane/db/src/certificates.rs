//! The certificate authority as it rests, and the certificates of hosts.

use jiff::Timestamp;
use sqlx::PgConnection;
use windlass_core::{Error, id::HostId};

use crate::{Db, error::DbResult as _};

/// The installation's certificate authority.
#[derive(Debug, Clone)]
pub struct AuthorityRow {
    /// Certificate, PEM.
    pub cert_pem: String,
    /// Private key, sealed.
    pub key_sealed: Vec<u8>,
    /// Until when it is valid.
    pub not_after: Timestamp,
}

/// A host certificate that was issued.
#[derive(Debug, Clone)]
pub struct HostCertificate {
    /// Serial number, hex.
    pub serial: String,
    /// The host.
    pub host: HostId,
    /// Until when it is valid.
    pub not_after: Timestamp,
}

/// The authority; when there is none, nobody else can add one until the transaction ends.
///
/// # Errors
/// Those of the database.
pub async fn authority_lock_tx(tx: &mut PgConnection) -> Result<Option<AuthorityRow>, Error> {
    sqlx::query!("lock table certificate_authority in share row exclusive mode").execute(&mut *tx).await.db()?;
    let row =
        sqlx::query!("select cert_pem, key_sealed, not_after from certificate_authority order by id desc limit 1")
            .fetch_optional(tx)
            .await
            .db()?;
    Ok(row.map(|row| AuthorityRow {
        cert_pem: row.cert_pem,
        key_sealed: row.key_sealed,
        not_after: row.not_after.to_jiff(),
    }))
}

/// Adds the authority, under [`authority_lock_tx`].
///
/// # Errors
/// Those of the database.
pub async fn authority_insert_tx(tx: &mut PgConnection, authority: &AuthorityRow) -> Result<(), Error> {
    sqlx::query!(
        "insert into certificate_authority (cert_pem, key_sealed, not_after) values ($1, $2, $3)",
        authority.cert_pem,
        authority.key_sealed,
        jiff_sqlx::Timestamp::from(authority.not_after) as _
    )
    .execute(tx)
    .await
    .db()
    .map(drop)
}

/// Notes a certificate that was issued to a host, which renews its certificate by it.
///
/// # Errors
/// Those of the database.
pub async fn host_certificate_add_tx(tx: &mut PgConnection, certificate: &HostCertificate) -> Result<(), Error> {
    let not_after = jiff_sqlx::Timestamp::from(certificate.not_after);
    sqlx::query!(
        "insert into host_certificate (serial, host_id, not_after) values ($1, $2, $3)",
        certificate.serial,
        certificate.host.0,
        not_after as _
    )
    .execute(&mut *tx)
    .await
    .db()?;
    sqlx::query!("update host set certificate_expire_time = $2 where id = $1", certificate.host.0, not_after as _)
        .execute(tx)
        .await
        .db()
        .map(drop)
}

/// Revokes every certificate of a host.
///
/// # Errors
/// Those of the database.
pub async fn host_certificates_revoke_tx(tx: &mut PgConnection, host: HostId) -> Result<(), Error> {
    sqlx::query!("update host_certificate set revoke_time = now() where host_id = $1 and revoke_time is null", host.0)
        .execute(tx)
        .await
        .db()
        .map(drop)
}

impl Db {
    /// Forgets certificates that ended more than 30 days ago; at most `limit` at a time. Gives how many.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn host_certificate_expire(&self, limit: i64) -> Result<u64, Error> {
        let done = sqlx::query!(
            "delete from host_certificate where serial in
                (select serial from host_certificate where not_after < now() - interval '30 days' limit $1)",
            limit
        )
        .execute(self.pool())
        .await
        .db()?;
        Ok(done.rows_affected())
    }
}
