//! What all PostgreSQL sessions of this proxy share.

use std::sync::Arc;

use windlass_kit::random;
use windlass_wire_pg::scram::Verifier;

use super::{
    greeting::Greetings,
    server::{Server, Statements},
    sessions::Sessions,
    verifiers::Verifiers,
};
use crate::pool::Pools;

/// Pools, sessions and caches. All of it is in memory only.
#[derive(Debug)]
pub struct Postgres {
    pools: Pools<Box<Server>>,
    sessions: Arc<Sessions>,
    statements: Statements,
    verifiers: Verifiers,
    greetings: Greetings,
    /// From which salts for unknown users are made.
    secret: [u8; 32],
}

impl Postgres {
    /// Nobody is in.
    #[must_use]
    pub fn new() -> Self {
        Self {
            pools: Pools::default(),
            sessions: Arc::default(),
            statements: Statements::default(),
            verifiers: Verifiers::default(),
            greetings: Greetings::default(),
            secret: random::bytes(),
        }
    }

    pub(crate) fn pools(&self) -> &Pools<Box<Server>> {
        &self.pools
    }

    pub(crate) fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    pub(crate) fn statements(&self) -> &Statements {
        &self.statements
    }

    pub(super) fn verifiers(&self) -> &Verifiers {
        &self.verifiers
    }

    pub(super) fn greetings(&self) -> &Greetings {
        &self.greetings
    }

    /// A verifier for somebody who is not known.
    pub(super) fn doomed(&self, user: &str) -> Verifier {
        Verifier::doomed(&self.secret, user)
    }
}

impl Default for Postgres {
    fn default() -> Self {
        Self::new()
    }
}
