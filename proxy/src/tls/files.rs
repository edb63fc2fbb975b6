//! The certificate that clients see, when the operator has his own: two files, read again when they change.
//!
//! Invariant: a pair that cannot be used leaves the former one in force; an operator who replaces one file after the
//! other gives such a pair for a moment.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use windlass_core::Error;
use windlass_kit::{files, tls::Identity};

use super::ServerTls;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Where certificate and key are.
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    /// Chain in PEM, leaf first.
    pub certificate: PathBuf,
    /// Private key in PEM.
    pub key: PathBuf,
}

type Seen = [Option<(SystemTime, u64)>; 2];

impl CertificateFiles {
    /// Reads both.
    ///
    /// # Errors
    /// `INVALID_FIELD` on `tls` if they cannot be used together; `INTERNAL` if one cannot be read.
    pub fn read(&self) -> Result<Identity, Error> {
        Identity::from_pem(&files::read(&self.certificate)?, &files::read(&self.key)?.into())
            .map_err(|e| e.under("tls"))
    }

    /// Takes changes into use until asked to stop.
    pub async fn follow(&self, tls: &ServerTls, stop: &CancellationToken) {
        let mut known = self.seen();
        while stop.run_until_cancelled(sleep(LOOK)).await.is_some() {
            let seen = self.seen();
            if seen == known {
                continue;
            }
            match self.read() {
                Ok(identity) => {
                    tracing::info!(expires = %identity.not_after(), "the certificate files changed");
                    tls.replace(identity);
                    known = seen;
                }
                Err(error) => {
                    tracing::error!(error = error.chain(), "the certificate files changed and cannot be used")
                }
            }
        }
    }

    fn seen(&self) -> Seen {
        [&self.certificate, &self.key].map(|path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        })
    }
}
