//! What clients are told of their session before its first statement: the reported parameters.
//!
//! They depend on the user, the database and the settings of the start; the first client with these asks a server, and
//! those after it are told the same without one. So ten thousand idle clients need no connection, and a client can come
//! in while nobody leads.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use windlass_core::id::{InstanceId, MemberId};

use super::sql::Settings;

/// How long a greeting is given without looking again.
const FRESH: Duration = Duration::from_secs(600);
/// Most greetings that are kept.
const MOST: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    instance: InstanceId,
    user: Box<str>,
    database: Box<str>,
    settings: Arc<Settings>,
}

/// What a client is told.
#[derive(Debug)]
pub(super) struct Greeting {
    /// ParameterStatus messages.
    pub(super) parameters: Box<[u8]>,
    /// The settings of the start, shared by all who have these.
    pub(super) settings: Arc<Settings>,
    /// Who was asked.
    server: Asked,
    at: Instant,
}

/// Greetings. Shared by reference.
#[derive(Debug, Default)]
pub(crate) struct Greetings(Mutex<HashMap<Key, Arc<Greeting>>>);

/// The term and the member that a greeting is from.
pub(super) type Asked = (u64, Option<MemberId>);

/// Whose greeting.
#[derive(Debug, Clone, Copy)]
pub(super) struct Guest<'a> {
    pub(super) instance: InstanceId,
    pub(super) user: &'a str,
    pub(super) database: &'a str,
}

/// A greeting as it is known.
#[derive(Debug)]
pub(super) enum Known {
    Fresh(Arc<Greeting>),
    /// Good enough if nobody can be asked.
    Old(Arc<Greeting>),
    No,
}

impl Greetings {
    pub(super) fn find(&self, guest: Guest<'_>, settings: &Arc<Settings>, server: Asked) -> Known {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get(&key(guest, settings)) {
            None => Known::No,
            Some(greeting) if greeting.server == server && greeting.at.elapsed() < FRESH => {
                Known::Fresh(greeting.clone())
            }
            Some(greeting) => Known::Old(greeting.clone()),
        }
    }

    /// Keeps what a server reported.
    pub(super) fn keep(
        &self,
        guest: Guest<'_>,
        settings: &Arc<Settings>,
        server: Asked,
        parameters: &[(String, Vec<u8>)],
    ) -> Arc<Greeting> {
        let mut bytes = Vec::new();
        for (name, value) in parameters {
            windlass_wire_pg::backend::write_parameter_status(&mut bytes, name, value);
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.clear();
        }
        let key = key(guest, settings);
        // Sessions that have the former one share its settings.
        let settings = known.get(&key).map_or_else(|| settings.clone(), |former| former.settings.clone());
        let greeting = Arc::new(Greeting { parameters: bytes.into(), settings, server, at: Instant::now() });
        known.insert(key, greeting.clone());
        greeting
    }
}

fn key(guest: Guest<'_>, settings: &Arc<Settings>) -> Key {
    Key {
        instance: guest.instance,
        user: guest.user.into(),
        database: guest.database.into(),
        settings: settings.clone(),
    }
}
