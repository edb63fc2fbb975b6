//! Bearer keys: from the `authorization` header to a [`Caller`].
//!
//! Looked-up keys are remembered for [`FRESH`], so a busy client costs no query per call, and a revocation made on
//! another node acts within that time; one made here acts at once ([`Authenticator::forget`]). Unknown keys are not
//! remembered.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};
use tonic::codegen::http::{HeaderMap, header::AUTHORIZATION};
use windlass_core::{Error, Reason, error::ErrorKind, role::Scope};
use windlass_db::{Db, api_keys::ApiKeyRow};
use windlass_kit::token::ApiKey;

use crate::app::Caller;

/// How long a looked-up key counts without another look.
const FRESH: Duration = Duration::from_secs(2);
/// Most keys remembered.
const REMEMBERED_MAX: usize = 10_000;
/// The last use of a key is written at most so often.
const TOUCH_EVERY: SignedDuration = SignedDuration::from_mins(5);

/// Tells who is calling.
#[derive(Debug)]
pub struct Authenticator {
    db: Db,
    seen: Mutex<HashMap<[u8; 32], (ApiKeyRow, Instant)>>,
}

impl Authenticator {
    /// One that remembers nothing yet.
    pub fn new(db: Db) -> Self {
        Self { db, seen: Mutex::new(HashMap::new()) }
    }

    /// Who made a call with these headers.
    ///
    /// # Errors
    /// `KEY_INVALID` when there is no key or it is unknown, expired or revoked; those of the database.
    pub async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Error> {
        let header = headers.get(AUTHORIZATION).ok_or_else(|| refused("no key was sent"))?;
        let text = header.to_str().map_err(|_| refused("the authorization header is not text"))?;
        let text = text
            .split_once(' ')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, key)| key)
            .ok_or_else(|| refused("the authorization header is not of the form \"Bearer wl_...\""))?;
        let key = ApiKey::parse(text).map_err(|error| refused(&error.message))?;
        let row = self.row(&key.sha256()).await?;
        check(&row, Timestamp::now())?;
        let scope = row.project.map_or(Scope::Installation, Scope::Project);
        Ok(Caller { key: row.id, role: row.role, scope })
    }

    /// Forgets what was looked up, so that a revocation acts at the next call.
    pub fn forget(&self) {
        self.lock().clear();
    }

    async fn row(&self, sha256: &[u8; 32]) -> Result<ApiKeyRow, Error> {
        let known = self.lock().get(sha256).filter(|(_, at)| at.elapsed() < FRESH).map(|(row, _)| row.clone());
        if let Some(row) = known {
            return Ok(row);
        }
        let asked = Instant::now();
        let row = self.db.api_key_by_hash(sha256).await?.ok_or_else(|| refused("the key is unknown"))?;
        let now = Timestamp::now();
        if check(&row, now).is_ok() && row.last_use_time.is_none_or(|used| now.duration_since(used) > TOUCH_EVERY) {
            self.db.api_key_touch(row.id).await?;
        }
        let mut seen = self.lock();
        if seen.len() >= REMEMBERED_MAX {
            seen.clear();
        }
        seen.insert(*sha256, (row.clone(), asked));
        Ok(row)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], (ApiKeyRow, Instant)>> {
        // A panic while the lock was held leaves whole values: the map is still good.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check(row: &ApiKeyRow, now: Timestamp) -> Result<(), Error> {
    if let Some(at) = row.revoke_time {
        return Err(refused(&format!("the key {} was revoked at {at:.0}", row.prefix)));
    }
    match row.expire_time {
        Some(at) if at <= now => Err(refused(&format!("the key {} expired at {at:.0}", row.prefix))),
        Some(_) | None => Ok(()),
    }
}

fn refused(why: &str) -> Error {
    Error::new(
        ErrorKind::Unauthenticated,
        Reason::KeyInvalid,
        format!("{why}; send a valid API key as \"authorization: Bearer wl_...\""),
    )
}
