//! Renewal of the host's certificate at half of its life.
//!
//! The new certificate shows on the next connection, so a renewal ends this one in order. A crash between the answer and
//! the disk only means one more renewal.

use std::{convert::Infallible, time::Duration};

use jiff::Timestamp;
use tokio::time::sleep;
use windlass_core::Error;
use windlass_kit::{random, tls::KeyRequest};
use windlass_proto::agent::v1 as pb;

use super::{
    HostIdentity,
    call::{ANSWER, call, is_refusal},
    session::Conversation,
};

/// The clock is looked at this often: a timer alone does not notice that the machine slept.
const LOOK: Duration = Duration::from_secs(60);

/// Renews when it is time and then asks the conversation to end.
pub(super) async fn run(talk: &Conversation<'_>, identity: &HostIdentity) -> Result<Infallible, Error> {
    let current = identity.store().current();
    let due = current.renew_at(random::unit());
    loop {
        sleep_until(due).await;
        match renew(talk, identity).await {
            Ok(()) => break,
            Err(error) if is_refusal(&error) => return Err(error),
            Err(error) => {
                tracing::warn!(error = error.chain(), expires = %current.not_after(), "cannot renew the certificate");
                let life = current.not_after().duration_since(current.not_before()).unsigned_abs();
                sleep((life / 40).clamp(Duration::from_millis(200), LOOK)).await;
            }
        }
    }
    talk.leave_renewed();
    std::future::pending().await
}

async fn renew(talk: &Conversation<'_>, identity: &HostIdentity) -> Result<(), Error> {
    let fresh = KeyRequest::generate()?;
    let request = talk.link.request(pb::RenewCertificateRequest { csr_der: fresh.csr_der });
    let bundle = call(ANSWER, talk.client.clone().renew_certificate(request)).await?;
    identity.renew(bundle, &fresh.key_pem)?;
    tracing::info!(expires = %identity.store().current().not_after(), "renewed the certificate");
    Ok(())
}

async fn sleep_until(time: Timestamp) {
    loop {
        let left = Duration::try_from(time.duration_since(Timestamp::now())).unwrap_or_default();
        if left.is_zero() {
            return;
        }
        sleep(left.min(LOOK)).await;
    }
}
