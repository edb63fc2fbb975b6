//! Keeping certificates fresh: the proxy's own, at half life, and the one that clients see, also when a project comes.
//!
//! Renewing its own ends the conversation, because a connection shows a certificate only when it begins. A crash between
//! the answer and the disk only means one more renewal.

use std::{collections::BTreeSet, convert::Infallible, time::Duration};

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use windlass_core::Error;
use windlass_kit::{
    call::{ANSWER, call, is_refusal},
    clock, random,
    tls::{Identity, KeyRequest},
};
use windlass_proto::proxy::v1 as pb;

use super::{
    ProxyIdentity,
    session::{Hello, Talk},
};
use crate::tls::StoredCertificate;

/// Pause while there is no first one.
const FIRST: Duration = Duration::from_millis(500);
/// Pause after a failure.
const AGAIN: Duration = Duration::from_secs(10);
/// However many projects come, a certificate is asked for once in this time.
const GATHER: Duration = Duration::from_secs(1);
/// How long a change of routes may go unnoticed here.
const LOOK: Duration = Duration::from_secs(3600);

/// The first certificate that clients see, from the control plane; tried until there is one. `None` if asked to stop.
pub async fn first(
    hello: &Hello,
    identity: &ProxyIdentity,
    stored: &StoredCertificate,
    endpoints: &[String],
    stop: &CancellationToken,
) -> Option<Identity> {
    for endpoint in endpoints.iter().cycle() {
        let attempt = async {
            let (mut client, _) = hello.say(endpoint, identity).await?;
            let fresh = KeyRequest::generate()?;
            let request = pb::CertificateRequest { csr_der: fresh.csr_der };
            let bundle = call(ANSWER, client.issue_server_certificate(request)).await?;
            stored.store(&bundle.chain_pem, &fresh.key_pem, BTreeSet::new())
        };
        match stop.run_until_cancelled(attempt).await? {
            Ok(identity) => return Some(identity),
            Err(error) => {
                tracing::error!(endpoint, error = error.chain(), "no certificate for clients yet; trying again");
                stop.run_until_cancelled(sleep(FIRST)).await?;
            }
        }
    }
    None
}

/// Renews the proxy's own certificate when it is time, and returns.
pub(super) async fn renew_own(talk: &Talk<'_>) -> Result<(), Error> {
    let identity = &talk.link.identity;
    clock::sleep_until(identity.store().current().renew_at(random::unit())).await;
    loop {
        let fresh = KeyRequest::generate()?;
        let request = pb::CertificateRequest { csr_der: fresh.csr_der };
        match call(ANSWER, talk.client.clone().renew_certificate(request)).await {
            Ok(bundle) => {
                identity.renew(bundle, &fresh.key_pem)?;
                tracing::info!(expires = %identity.store().current().not_after(), "renewed the certificate");
                return Ok(());
            }
            Err(error) if is_refusal(&error) => return Err(error),
            Err(error) => {
                tracing::warn!(error = error.chain(), "cannot renew the certificate; trying again");
                sleep(AGAIN).await;
            }
        }
    }
}

/// Keeps the certificate that clients see: fresh, and with a name for each project.
pub(super) async fn keep_server(talk: &Talk<'_>) -> Result<Infallible, Error> {
    let Some(stored) = &talk.link.certificate else { return std::future::pending().await };
    let (tls, table) = (&talk.link.shared.tls, &talk.link.shared.routes);
    let mut routes = table.version();
    loop {
        let wanted: BTreeSet<_> = match talk.link.shared.config.domain.as_str() {
            "" => BTreeSet::new(),
            _ => table.all().iter().map(|instance| instance.route().project.clone()).collect(),
        };
        if stored.lacks(&wanted) || stored.is_due() {
            let fresh = KeyRequest::generate()?;
            let request = pb::CertificateRequest { csr_der: fresh.csr_der };
            let bundle = call(ANSWER, talk.client.clone().issue_server_certificate(request)).await?;
            stored.renew(&bundle.chain_pem, &fresh.key_pem, wanted, tls)?;
            tracing::info!(expires = %tls.current().not_after(), "clients see a new certificate");
            sleep(GATHER).await;
        }
        let due = clock::sleep_until(stored.renew_at());
        tokio::select! {
            // An error means that the table is gone, and the process with it.
            _ = timeout(LOOK, routes.changed()) => {}
            () = due => {}
        }
    }
}
