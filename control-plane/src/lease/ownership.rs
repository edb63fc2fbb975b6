//! What the rest of the node sees of the lease: whether it holds it now, and under which epoch.

use std::time::Instant;

use tokio::sync::watch;
use windlass_db::Guard;

/// A term and how long this node may believe in it without asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Term {
    pub(crate) guard: Guard,
    pub(crate) trusted_until: Instant,
}

/// The view. Clones see the same.
#[derive(Debug, Clone)]
pub struct Ownership {
    term: watch::Receiver<Option<Term>>,
}

impl Ownership {
    pub(crate) fn new(term: watch::Receiver<Option<Term>>) -> Self {
        Self { term }
    }

    /// The proof of ownership, if this node holds the lease and may still trust it.
    pub fn current(&self) -> Option<Guard> {
        self.term.borrow().as_ref().filter(|term| Instant::now() < term.trusted_until).map(|term| term.guard.clone())
    }

    /// Whether another node has the lease, as far as this one knows. False also while this one holds it and cannot
    /// renew it, because the metadata does not answer.
    pub fn is_elsewhere(&self) -> bool {
        self.term.borrow().is_none()
    }

    /// Waits until this node holds the lease. Never ends when the keeper is gone.
    pub async fn held(&mut self) -> Guard {
        loop {
            if let Some(guard) = self.current() {
                return guard;
            }
            if self.term.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
