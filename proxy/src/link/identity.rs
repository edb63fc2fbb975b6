//! The proxy's identity on disk and in use: id, key, client certificate, trusted CA.
//!
//! Invariant: one file, mode 0600, replaced atomically and synced before the new identity is used.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use windlass_core::{Error, id::ProxyId};
use windlass_kit::{
    files::{self, Access},
    tls::{Identity, IdentityStore, Trust},
};
use windlass_proto::proxy::v1 as pb;

/// Who this proxy is. Lives as long as the process; renewals change it in place.
pub struct ProxyIdentity {
    path: PathBuf,
    store: Arc<IdentityStore>,
    record: Mutex<Record>,
}

/// The file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    proxy_id: ProxyId,
    proxy_name: String,
    key_pem: String,
    chain_pem: String,
    ca_pem: String,
}

impl ProxyIdentity {
    /// Reads the identity; `None` if this proxy has not enrolled.
    ///
    /// # Errors
    /// `INTERNAL` naming the file if it cannot be read or is damaged, or if others may read it.
    pub fn load(path: &Path) -> Result<Option<Arc<Self>>, Error> {
        let Some(text) = files::read_if_there(path)? else { return Ok(None) };
        files::check_private(path)?;
        let damaged = |what: String| {
            Error::internal(format!(
                "{} is damaged ({what}); restore it, or remove it and enrol this proxy again with a new join token",
                path.display()
            ))
        };
        let record: Record = serde_json::from_str(&text).map_err(|e| damaged(e.to_string()))?;
        Self::open(path, record).map(Some).map_err(|e| damaged(e.message))
    }

    /// Stores the answer to an enrolment.
    ///
    /// # Errors
    /// `INTERNAL` if the answer makes no sense or cannot be stored.
    pub(super) fn create(path: &Path, answer: pb::EnrolResponse, key_pem: &SecretString) -> Result<Arc<Self>, Error> {
        let bundle = answer.certificate.ok_or_else(|| nonsense("it has no certificate"))?;
        let record = Record {
            proxy_id: answer.proxy_id.parse().map_err(|_| nonsense("its proxy id is no UUID"))?,
            proxy_name: answer.proxy_name,
            key_pem: key_pem.expose_secret().to_owned(),
            chain_pem: bundle.chain_pem,
            ca_pem: bundle.ca_pem,
        };
        let identity = Self::open(path, record.clone()).map_err(|e| nonsense(&e.message))?;
        record.write(path)?;
        Ok(identity)
    }

    /// Takes a renewed certificate: to disk first, then into use for the next connection.
    ///
    /// # Errors
    /// `INTERNAL` if it makes no sense or cannot be stored; the former one stays.
    pub(super) fn renew(&self, bundle: pb::CertificateBundle, key_pem: &SecretString) -> Result<(), Error> {
        let former = self.record();
        let record = Record {
            key_pem: key_pem.expose_secret().to_owned(),
            chain_pem: bundle.chain_pem,
            ca_pem: if bundle.ca_pem.is_empty() { former.ca_pem } else { bundle.ca_pem },
            ..former
        };
        let identity = record.identity().map_err(|e| nonsense(&e.message))?;
        record.write(&self.path)?;
        *self.record.lock().unwrap_or_else(PoisonError::into_inner) = record;
        self.store.replace(identity);
        Ok(())
    }

    /// The id that the control plane gave this proxy.
    pub fn proxy_id(&self) -> ProxyId {
        self.record().proxy_id
    }

    /// The name under which people know it.
    pub fn proxy_name(&self) -> String {
        self.record().proxy_name
    }

    /// PEM of the CA that signed it, and the databases.
    pub fn ca_pem(&self) -> Arc<str> {
        self.record().ca_pem.into()
    }

    /// The certificate in use; the next handshake shows it.
    pub fn store(&self) -> Arc<IdentityStore> {
        self.store.clone()
    }

    /// Whom the proxy believes to be the control plane.
    ///
    /// # Errors
    /// `INVALID_FIELD` if the stored CA cannot be read, which opening has ruled out.
    pub fn trust(&self) -> Result<Trust, Error> {
        Trust::from_pem(&self.record().ca_pem)
    }

    fn open(path: &Path, record: Record) -> Result<Arc<Self>, Error> {
        let store = IdentityStore::new(record.identity()?);
        Ok(Arc::new(Self { path: path.to_owned(), store, record: Mutex::new(record) }))
    }

    fn record(&self) -> Record {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for ProxyIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProxyIdentity({})", self.proxy_id())
    }
}

impl Record {
    /// The certificate with its key, if everything in the record can be used.
    fn identity(&self) -> Result<Identity, Error> {
        Trust::from_pem(&self.ca_pem)?;
        Identity::from_pem(&self.chain_pem, &self.key_pem.clone().into())
    }

    fn write(&self, path: &Path) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(self)
            .map_err(|e| Error::internal("cannot write the identity as JSON").with_source(e))?;
        files::replace(path, &text, Access::Private)
    }
}

fn nonsense(what: &str) -> Error {
    Error::internal(format!("the control plane gave an identity that cannot be used: {what}"))
}
