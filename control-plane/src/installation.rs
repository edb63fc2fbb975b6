//! What an installation has exactly one of: its certificate authority.

use jiff::Timestamp;
use windlass_core::Error;
use windlass_db::{
    Db,
    certificates::{AuthorityRow, authority_insert_tx, authority_lock_tx},
};

use crate::{
    config::CertificateConfig,
    pki::{Authority, StoredAuthority, Validity},
    secrets::Sealer,
};

/// Opens the installation's certificate authority, made at the first call; several nodes at once make one.
///
/// # Errors
/// `INTERNAL` when the stored one does not open with this node's key-encryption key; those of the database.
pub async fn authority(db: &Db, sealer: &Sealer, lives: &CertificateConfig) -> Result<Authority, Error> {
    let mut tx = db.begin().await?;
    let stored = match authority_lock_tx(&mut tx).await? {
        Some(row) => StoredAuthority { cert_pem: row.cert_pem, key_sealed: row.key_sealed, not_after: row.not_after },
        None => {
            let made = Authority::create(sealer, Timestamp::now())?;
            let row = AuthorityRow {
                cert_pem: made.cert_pem.clone(),
                key_sealed: made.key_sealed.clone(),
                not_after: made.not_after,
            };
            authority_insert_tx(&mut tx, &row).await?;
            made
        }
    };
    tx.commit().await?;
    let validity = Validity { host: lives.host, member: lives.member, server: lives.server };
    Authority::open(&stored, sealer, validity).map_err(|error| {
        let message = format!(
            "the certificate authority in the metadata does not open with the key file `kek` of this state directory; use the one it was made with ({})",
            error.message
        );
        Error { message, ..error }
    })
}
