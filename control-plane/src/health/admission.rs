//! Which host certificates are accepted: looked up in the database when first seen, then in memory.
//!
//! A revocation on this node counts at once; one on another node within the time between two refreshes.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;
use windlass_core::{Error, Reason, error::ErrorKind, id::HostId};

use super::Health;

/// What is known of certificates.
#[derive(Debug, Default)]
pub(super) struct Admission {
    state: Mutex<State>,
    /// Counts changes of the revocations.
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    /// Serials found valid, by host.
    valid: HashMap<HostId, HashSet<String>>,
    revoked: HashSet<HostId>,
}

impl Admission {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is a single insertion or removal.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, host: HostId, serial: &str) -> Option<bool> {
        let state = self.lock();
        if state.revoked.contains(&host) {
            return Some(false);
        }
        state.valid.get(&host).is_some_and(|serials| serials.contains(serial)).then_some(true)
    }

    /// Replaces what is known of revocations.
    pub(super) fn refresh(&self, revoked: Vec<HostId>) {
        let mut state = self.lock();
        for host in &revoked {
            state.valid.remove(host);
        }
        let revoked = revoked.into_iter().collect();
        if state.revoked != revoked {
            state.revoked = revoked;
            self.changed.send_modify(|n| *n += 1);
        }
    }
}

impl Health {
    /// Lets a host with this certificate in.
    ///
    /// # Errors
    /// `HOST_REVOKED` when the host or the certificate was revoked or is not known.
    pub async fn admit(&self, host: HostId, serial: &str) -> Result<(), Error> {
        let admission = &self.shared.admission;
        let valid = match admission.known(host, serial) {
            Some(valid) => valid,
            None => {
                let valid = self.shared.db.host_certificate_valid(serial, host).await?;
                if valid {
                    let mut state = admission.lock();
                    state.valid.entry(host).or_default().insert(serial.to_owned());
                }
                valid
            }
        };
        if valid { Ok(()) } else { Err(refused(host)) }
    }

    /// Ends when the host is revoked, with the refusal: for calls that last.
    pub async fn until_revoked(&self, host: HostId) -> Error {
        let admission = &self.shared.admission;
        let mut changed = admission.changed.subscribe();
        while !admission.lock().revoked.contains(&host) {
            // The sender lives as long as this borrow of its owner.
            let _ = changed.changed().await;
        }
        refused(host)
    }

    /// The host was revoked: refuse it from now on. Call it after the commit.
    pub fn revoked(&self, host: HostId) {
        let mut state = self.shared.admission.lock();
        state.valid.remove(&host);
        state.revoked.insert(host);
        drop(state);
        self.shared.admission.changed.send_modify(|n| *n += 1);
        self.table().forget(host);
    }
}

fn refused(host: HostId) -> Error {
    Error::new(
        ErrorKind::Unauthenticated,
        Reason::HostRevoked,
        format!("host {host} or its certificate was revoked; enrol the machine again with a new join token"),
    )
}
