//! Server certificates for members, by the connection that there is.

use std::time::Duration;

use async_trait::async_trait;
use secrecy::ExposeSecret as _;
use tokio::{sync::watch, time::timeout};
use windlass_core::{Error, id::MemberId};
use windlass_kit::tls::KeyRequest;
use windlass_proto::agent::v1 as pb;

use super::{
    call::{ANSWER, call},
    session::Client,
};
use crate::members::{IssuedCertificate, MemberCertificates};

/// How long to wait for a connection.
const CONNECTION: Duration = Duration::from_secs(20);

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

    async fn client(&self) -> Result<Client, Error> {
        let mut connection = self.0.subscribe();
        let found = timeout(CONNECTION, connection.wait_for(Option::is_some)).await;
        let client = found.ok().and_then(Result::ok).and_then(|client| client.clone());
        client.ok_or_else(|| Error::unavailable("no certificate without a connection to the control plane"))
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
        let mut client = self.client().await?;
        let request = pb::IssueMemberCertificateRequest { member_id: member.to_string(), csr_der: fresh.csr_der };
        let bundle = call(ANSWER, client.issue_member_certificate(request)).await?;
        Ok(IssuedCertificate {
            chain_pem: bundle.chain_pem,
            key_pem: fresh.key_pem.expose_secret().to_owned(),
            ca_pem: bundle.ca_pem,
        })
    }
}
