//! Becoming a proxy: a join token and a fresh key for a certificate.
//!
//! Invariants: the key and its request are on disk before the token is first sent, so that a lost answer or a crash is
//! answered by the same request (the control plane takes a token once, for one key); the request is removed after the
//! identity is stored.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use windlass_core::Error;
use windlass_kit::{
    call::{ANSWER, call},
    files::{self, Access},
    tls::{self, KeyRequest, Trust},
    token::JoinToken,
};
use windlass_proto::proxy::v1::{self as pb, enrolment_service_client::EnrolmentServiceClient};

use super::ProxyIdentity;

/// Where the join token is.
#[derive(Debug, Clone)]
pub enum TokenSource {
    /// In a file, which is read at each attempt: a new token can be put there while the proxy runs.
    File(PathBuf),
    /// Given directly, for example by an environment variable.
    Given(SecretString),
    /// Nowhere.
    Absent,
}

/// What it takes to enrol.
#[derive(Debug, Clone)]
pub struct Enrolment {
    /// The identity file; the pending request lies beside it.
    pub identity_path: PathBuf,
    /// Where the token is.
    pub token: TokenSource,
    /// The name wished for.
    pub proxy_name: String,
}

/// A key whose certificate was asked for.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pending {
    token_sha256: String,
    key_pem: String,
    csr_der: String,
}

impl Enrolment {
    /// Enrols at one address of the control plane.
    ///
    /// # Errors
    /// `INVALID_FIELD` on `join_token_file` if there is no usable token; otherwise as the connection or the control
    /// plane says.
    pub(super) async fn attempt(&self, endpoint: &str) -> Result<Arc<ProxyIdentity>, Error> {
        let token = self.token()?;
        let pending = self.pending(&token)?;
        let csr_der = hex::decode(&pending.csr_der)
            .map_err(|_| Error::internal(format!("{} is damaged; remove it", self.pending_path().display())))?;
        tracing::info!(endpoint, token = token.short_id(), "enrolling");
        let channel = tls::connect(endpoint, &Trust::Pin(token.pin()), None).await?;
        let request = pb::EnrolRequest {
            token: token.text().expose_secret().to_owned(),
            csr_der,
            proxy_name: self.proxy_name.clone(),
        };
        let answer = call(ANSWER, EnrolmentServiceClient::new(channel).enrol(request)).await?;
        let identity = ProxyIdentity::create(&self.identity_path, answer, &pending.key_pem.into())?;
        files::remove(&self.pending_path())?;
        tracing::info!(proxy = %identity.proxy_id(), name = identity.proxy_name(), "enrolled");
        Ok(identity)
    }

    fn token(&self) -> Result<JoinToken, Error> {
        let text: SecretString = match &self.token {
            TokenSource::File(path) => files::read(path)?.into(),
            TokenSource::Given(text) => text.clone(),
            TokenSource::Absent => {
                return Err(Error::invalid(
                    "join_token_file",
                    "is not set and this proxy has not enrolled; run `windlass proxy token create`, put the token into a \
                     file that only the proxy's user can read, and name it",
                ));
            }
        };
        JoinToken::parse(text.expose_secret())
    }

    /// The request that was made for this token, or a fresh one.
    fn pending(&self, token: &JoinToken) -> Result<Pending, Error> {
        let path = self.pending_path();
        let token_sha256 = hex::encode(token.sha256());
        if let Some(pending) = read_pending(&path)?.filter(|pending| pending.token_sha256 == token_sha256) {
            return Ok(pending);
        }
        let fresh = KeyRequest::generate()?;
        let pending = Pending {
            token_sha256,
            key_pem: fresh.key_pem.expose_secret().to_owned(),
            csr_der: hex::encode(fresh.csr_der),
        };
        let text = serde_json::to_vec_pretty(&pending)
            .map_err(|e| Error::internal("cannot write the key request as JSON").with_source(e))?;
        files::replace(&path, &text, Access::Private)?;
        Ok(pending)
    }

    fn pending_path(&self) -> PathBuf {
        self.identity_path.with_file_name("enrolling.json")
    }
}

/// A request that a crash left half-written cannot exist; one that cannot be read is as good as none.
fn read_pending(path: &Path) -> Result<Option<Pending>, Error> {
    Ok(files::read_if_there(path)?.and_then(|text| serde_json::from_str(&text).ok()))
}
