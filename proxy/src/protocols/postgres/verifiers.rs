//! Stored verifiers of users, read from the databases that they belong to, and kept for a while.
//!
//! Why kept: a client comes in while nobody leads, too, and is held instead of refused. Why not for long: a password that
//! was changed or a role that was dropped has to end what it allowed. So a verifier is asked for anew when it is older
//! than a few seconds and the database can be asked.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use windlass_core::{Error, id::InstanceId};
use windlass_wire_pg::{Report, scram::Verifier};

use super::{
    server::{self, Credentials, Done, Refused, Server, Target},
    sql::literal,
};
use crate::{
    Shared,
    pool::{Place, Pool, Taken},
    routes::{Access, Instance, State},
};

/// How long an answer is good without asking again.
const FRESH: Duration = Duration::from_secs(5);
/// The longest name that a user can have, in bytes.
const LONGEST_NAME: usize = 63;
/// Most answers that are kept.
const MOST: usize = 100_000;
/// Connections for asking, to one member.
const ASKING: u32 = 4;
/// As whom the proxy asks, and where.
const ROLE: &str = "windlass_proxy";
const DATABASE: &str = "postgres";

/// Answers, and the connections that ask. Shared by reference.
#[derive(Debug, Default)]
pub(crate) struct Verifiers {
    known: Mutex<HashMap<InstanceId, HashMap<Box<str>, Known>>>,
    asking: crate::pool::Pools<Box<Server>>,
}

#[derive(Debug, Clone)]
struct Known {
    /// `None`: nobody of this name may log in by a password that we can check.
    verifier: Option<Arc<Verifier>>,
    at: Instant,
}

impl Verifiers {
    /// The verifier of a user. `None` if there is none that fits.
    ///
    /// # Errors
    /// `UNAVAILABLE` if it is not known and the database cannot be asked now.
    pub(super) async fn of(
        &self,
        shared: &Shared,
        instance: &Arc<Instance>,
        access: Access,
        user: &str,
    ) -> Result<Option<Arc<Verifier>>, Error> {
        if user.len() > LONGEST_NAME {
            return Ok(None);
        }
        let known = self.lock().get(&instance.id()).and_then(|users| users.get(user)).cloned();
        if let Some(known) = &known
            && known.at.elapsed() < FRESH
        {
            return Ok(known.verifier.clone());
        }
        match (self.ask(shared, instance, access, user).await, known) {
            (Ok(verifier), known) => {
                let changed = known.is_some_and(|known| known.verifier != verifier);
                self.keep(instance.id(), user, verifier.clone());
                if changed {
                    // Connections that were made with the former password end.
                    shared.postgres.pools().clear(instance.id(), &[]);
                }
                Ok(verifier)
            }
            (Err(error), Some(known)) => {
                tracing::debug!(%error, instance = instance.route().key(), "a verifier is not fresh");
                Ok(known.verifier)
            }
            (Err(error), None) => Err(error),
        }
    }

    /// Has it asked for anew the next time.
    pub(super) fn forget(&self, instance: InstanceId, user: &str) {
        if let Some(users) = self.lock().get_mut(&instance) {
            users.remove(user);
        }
    }

    fn keep(&self, instance: InstanceId, user: &str, verifier: Option<Arc<Verifier>>) {
        let mut known = self.lock();
        let total: usize = known.values().map(HashMap::len).sum();
        if total >= MOST {
            known.clear();
        }
        known.entry(instance).or_default().insert(user.into(), Known { verifier, at: Instant::now() });
    }

    async fn ask(
        &self,
        shared: &Shared,
        instance: &Arc<Instance>,
        access: Access,
        user: &str,
    ) -> Result<Option<Arc<Verifier>>, Error> {
        let route = instance.route();
        let backend = match (access, &route.state) {
            (Access::ReadOnly, State::Open | State::Paused(_)) => route.reader(),
            (Access::ReadWrite, State::Open) => route.primary.as_ref(),
            (_, State::Paused(reason)) => return Err(Error::unavailable(format!("it is paused: {reason}"))),
            (_, State::Closed(reason)) => return Err(Error::unavailable(format!("it is not open: {reason}"))),
        };
        let Some(backend) = backend else { return Err(Error::unavailable("it has no primary now")) };
        let target = Target {
            instance,
            route: &route,
            backend,
            user: ROLE,
            database: DATABASE,
            credentials: Credentials::Certificate,
        };
        let pool = self.asking.of((instance.id(), backend.member), ASKING);
        let shelf = pool.shelf(ROLE, DATABASE);
        let is_primary = route.primary.as_ref().is_some_and(|primary| primary.member == backend.member);
        let least = if is_primary { route.epoch } else { 0 };
        // A kept connection may have ended a moment ago; a new one has not.
        for _ in 0..2 {
            let mut server = take(shared, target, &pool, shelf, least).await?;
            match server.run(&format!("SELECT windlass.verifier({})", literal(user))).await {
                Ok(Done::Well(stored)) => {
                    pool.put(shelf, server);
                    let stored = stored.and_then(|stored| String::from_utf8(stored).ok());
                    return Ok(stored.and_then(|stored| Verifier::parse(&stored).ok()).map(Arc::new));
                }
                Ok(Done::Failed(report)) => {
                    let message = Report::parse(&report)?.message.to_owned();
                    return Err(Error::unavailable(format!("its verifiers cannot be read: {message}")));
                }
                Err(error) => tracing::debug!(%error, "a connection for verifiers has ended"),
            }
        }
        Err(Error::unavailable("its verifiers cannot be read now"))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<InstanceId, HashMap<Box<str>, Known>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn take(
    shared: &Shared,
    target: Target<'_>,
    pool: &Pool<Box<Server>>,
    shelf: usize,
    least_epoch: u64,
) -> Result<Box<Server>, Error> {
    loop {
        let taken = match pool.take(shelf) {
            Taken::Wait(waiting) => waiting.await.ok_or_else(|| Error::unavailable("the pool was closed"))?,
            taken @ (Taken::Free(_) | Taken::Room(_)) => taken,
        };
        match taken {
            Taken::Free(server) if server.epoch >= least_epoch => return Ok(server),
            Taken::Free(_) | Taken::Wait(_) => {}
            Taken::Room(place) => return open(shared, target, place).await,
        }
    }
}

async fn open(shared: &Shared, target: Target<'_>, place: Place) -> Result<Box<Server>, Error> {
    Box::pin(server::connect(shared, target, place)).await.map_err(|refused| match refused {
        Refused::Unreachable(error) => error,
        Refused::ByServer(report) => {
            let message = Report::parse(&report).map(|report| report.message.to_owned()).unwrap_or_default();
            Error::unavailable(format!("the database server refuses the proxy: {message}"))
        }
    })
}
