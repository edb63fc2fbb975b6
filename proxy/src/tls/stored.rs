//! The certificate that clients see, when it comes from the control plane: kept on disk, so that the proxy starts without.
//!
//! Invariant: to disk before it is shown. A crash between leaves the newer one for the next start.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use windlass_core::Error;
use windlass_kit::{
    files::{self, Access},
    random,
    tls::Identity,
};

use super::ServerTls;

/// The file and what is in it.
#[derive(Debug)]
pub struct StoredCertificate {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    asked: Asked,
    renew_at: Timestamp,
}

/// Projects that were known when it was asked for, below which domain, and the address clients were told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Asked {
    domain: String,
    address: String,
    projects: BTreeSet<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    chain_pem: String,
    key_pem: String,
    asked: Asked,
}

impl StoredCertificate {
    /// Reads the stored one, with the certificate if there is one for this domain and address.
    ///
    /// # Errors
    /// `INTERNAL` if the file cannot be read or others may read it. One that is damaged counts as none.
    pub fn load(path: &Path, domain: &str, address: &str) -> Result<(Self, Option<Identity>), Error> {
        let read = files::read_if_there(path)?.and_then(|text| serde_json::from_str::<Record>(&text).ok());
        if read.is_some() {
            files::check_private(path)?;
        }
        let read = read.filter(|record| record.asked.domain == domain && record.asked.address == address);
        let known = read.and_then(|record| {
            let identity = Identity::from_pem(&record.chain_pem, &record.key_pem.into()).ok()?;
            (identity.not_after() > Timestamp::now()).then_some((record.asked, identity))
        });
        let nothing = Asked { domain: domain.to_owned(), address: address.to_owned(), projects: BTreeSet::new() };
        let (state, identity) = match known {
            Some((asked, identity)) => (State { asked, renew_at: identity.renew_at(random::unit()) }, Some(identity)),
            None => (State { asked: nothing, renew_at: Timestamp::now() }, None),
        };
        Ok((Self { path: path.to_owned(), state: Mutex::new(state) }, identity))
    }

    /// Whether a project is wanted that was not known when the certificate was asked for.
    pub(crate) fn lacks(&self, wanted: &BTreeSet<String>) -> bool {
        !wanted.is_subset(&self.lock().asked.projects)
    }

    /// Whether it is time for a new one.
    pub(crate) fn is_due(&self) -> bool {
        self.renew_at() <= Timestamp::now()
    }

    /// When it is time for a new one.
    pub(crate) fn renew_at(&self) -> Timestamp {
        self.lock().renew_at
    }

    /// Takes a new one: to disk, then into use.
    ///
    /// # Errors
    /// `INTERNAL` if it makes no sense or cannot be stored; the former one stays.
    pub(crate) fn renew(
        &self,
        chain_pem: &str,
        key_pem: &SecretString,
        projects: BTreeSet<String>,
        tls: &ServerTls,
    ) -> Result<(), Error> {
        let identity = self.store(chain_pem, key_pem, projects)?;
        tls.replace(identity);
        Ok(())
    }

    /// Takes the first one: to disk.
    ///
    /// # Errors
    /// As [`StoredCertificate::renew`].
    pub(crate) fn store(
        &self,
        chain_pem: &str,
        key_pem: &SecretString,
        projects: BTreeSet<String>,
    ) -> Result<Identity, Error> {
        let identity = Identity::from_pem(chain_pem, key_pem).map_err(|error| {
            Error::internal("the control plane gave a certificate that cannot be used").with_source(error)
        })?;
        let mut state = self.lock();
        let asked = Asked { projects, ..state.asked.clone() };
        let record = Record {
            chain_pem: chain_pem.to_owned(),
            key_pem: key_pem.expose_secret().to_owned(),
            asked: asked.clone(),
        };
        let text = serde_json::to_vec_pretty(&record)
            .map_err(|e| Error::internal("cannot write the certificate as JSON").with_source(e))?;
        files::replace(&self.path, &text, Access::Private)?;
        *state = State { asked, renew_at: identity.renew_at(random::unit()) };
        Ok(identity)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
