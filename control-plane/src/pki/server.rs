//! The control plane's own server certificate: issued at start, renewed at half life while the listener runs.
//!
//! It is kept in memory only: a restart issues a new one, and clients trust the CA, not the leaf.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use windlass_core::Error;
use windlass_kit::{
    clock, random,
    shutdown::{Shutdown, TaskKind},
    tls::IdentityStore,
};

use super::Authority;

/// However short certificates live, they are not made in a hot loop.
const SHORTEST_WAIT: Duration = Duration::from_millis(200);
const WAIT_AFTER_FAILURE: Duration = Duration::from_secs(60);

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
        tokio::time::sleep(SHORTEST_WAIT).await;
        clock::sleep_until(store.current().renew_at(random::unit())).await;
        match authority.issue_server(names, Timestamp::now()) {
            Ok(identity) => {
                tracing::info!(not_after = %identity.not_after(), "renewed the server certificate");
                store.replace(identity);
            }
            Err(error) => {
                tracing::error!(error = error.chain(), "cannot renew the server certificate; trying again");
                tokio::time::sleep(WAIT_AFTER_FAILURE).await;
            }
        }
    }
}
