//! The control plane's own server certificate: issued at start, renewed at half life while the listener runs.
//!
//! It is kept in memory only: a restart issues a new one, and clients trust the CA, not the leaf.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use windlass_core::Error;
use windlass_kit::{
    random,
    shutdown::{Shutdown, TaskKind},
    tls::{Identity, IdentityStore},
};

use super::Authority;

/// The wall clock may be set while we sleep, so no sleep is longer.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// However short certificates live, they are not made in a hot loop.
const SHORTEST_SLEEP: Duration = Duration::from_millis(200);

/// Issues a certificate for `names` (DNS names and IP addresses) and keeps it fresh until shutdown.
///
/// # Errors
/// As [`Authority::issue_server`], at once if the first cannot be issued.
pub fn keep_server_identity(
    authority: Arc<Authority>,
    names: Vec<String>,
    shutdown: &Shutdown,
) -> Result<Arc<IdentityStore>, Error> {
    let store = IdentityStore::new(authority.issue_server(&names, Timestamp::now())?);
    let (kept, begun) = (store.clone(), shutdown.token().clone());
    shutdown.spawn("server certificate", TaskKind::Vital, async move {
        begun.run_until_cancelled(renew(&authority, &names, &kept)).await;
        Ok(())
    });
    Ok(store)
}

async fn renew(authority: &Authority, names: &[String], store: &IdentityStore) {
    loop {
        tokio::time::sleep(SHORTEST_SLEEP).await;
        sleep_until_due(&store.current()).await;
        match authority.issue_server(names, Timestamp::now()) {
            Ok(identity) => {
                tracing::info!(not_after = %identity.not_after(), "renewed the server certificate");
                store.replace(identity);
            }
            Err(error) => {
                tracing::error!(error = error.chain(), "cannot renew the server certificate; trying again");
                tokio::time::sleep(LONGEST_SLEEP).await;
            }
        }
    }
}

async fn sleep_until_due(identity: &Identity) {
    let due = identity.renew_at(random::unit());
    loop {
        let left = due.duration_since(Timestamp::now());
        match Duration::try_from(left) {
            Ok(left) if !left.is_zero() => tokio::time::sleep(left.min(LONGEST_SLEEP)).await,
            // Zero or negative: it is due.
            _ => return,
        }
    }
}
