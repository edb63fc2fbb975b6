//! Server certificates for members, by the connection that there is.

use std::time::Duration;

use async_trait::async_trait;
use secrecy::ExposeSecret as _;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use windlass_core::{Error, error::ErrorKind, id::MemberId};
use windlass_kit::tls::KeyRequest;
use windlass_proto::agent::v1 as pb;

use super::{
    call::{ANSWER, call},
    session::Client,
};
use crate::members::{IssuedCertificate, MemberCertificates};

/// How long to try, through reconnects: a control plane that restarts shall not fail a command.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(250);

/// Issues by the control plane. Made before the link, so that members can be opened first.
#[derive(Clone)]
pub struct LinkCertificates(watch::Sender<Option<Client>>);

impl LinkCertificates {
    /// An issuer without a connection.
    pub fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    pub(super) fn connected(&self, client: Client) {
        self.0.send_replace(Some(client));
    }

    pub(super) fn disconnected(&self) {
        self.0.send_replace(None);
    }

    async fn ask(&self, request: &pb::IssueMemberCertificateRequest) -> Result<pb::CertificateBundle, Error> {
        let mut connection = self.0.subscribe();
        loop {
            let client = connection.wait_for(Option::is_some).await.ok().and_then(|client| client.clone());
            let Some(mut client) = client else { return Err(unreachable()) };
            match call(ANSWER, client.issue_member_certificate(request.clone())).await {
                Err(error) if error.kind == ErrorKind::Unavailable => sleep(PAUSE).await,
                answered => return answered,
            }
        }
    }
}

impl Default for LinkCertificates {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl MemberCertificates for LinkCertificates {
    async fn issue(&self, member: MemberId) -> Result<IssuedCertificate, Error> {
        let fresh = KeyRequest::generate()?;
        let request = pb::IssueMemberCertificateRequest { member_id: member.to_string(), csr_der: fresh.csr_der };
        let bundle = timeout(PATIENCE, self.ask(&request)).await.unwrap_or_else(|_| Err(unreachable()))?;
        Ok(IssuedCertificate {
            chain_pem: bundle.chain_pem,
            key_pem: fresh.key_pem.expose_secret().to_owned(),
            ca_pem: bundle.ca_pem,
        })
    }
}

fn unreachable() -> Error {
    Error::unavailable("no certificate without a connection to the control plane")
}
