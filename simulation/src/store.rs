//! The metadata: one row of one cluster, and the lease of whoever may change it.
//!
//! As the true one: a change counts only if the lease's term and (epoch, rev) are what the writer believes.

use std::time::Duration;

use windlass_logic::ha::Cluster;

use crate::server::Time;

/// How long a lease lasts without being renewed.
const LEASE: Duration = Duration::from_secs(2);

/// The database of the control plane.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    /// The stored row.
    pub(crate) row: Cluster,
    holder: Option<(usize, u64, Time)>,
    terms: u64,
    /// It does not answer.
    pub(crate) down: bool,
    /// Former rows, as an old backup has them.
    pub(crate) former: Vec<Cluster>,
}

impl Store {
    pub(crate) fn new(row: Cluster) -> Self {
        Self { row, holder: None, terms: 0, down: false, former: Vec::new() }
    }

    /// Takes or renews the lease; the term, if it is this node's.
    pub(crate) fn lease(&mut self, node: usize, now: Time) -> Option<u64> {
        if self.down {
            return None;
        }
        let free = self.holder.is_none_or(|(_, _, until)| until <= now);
        match &mut self.holder {
            Some((holder, term, until)) if *holder == node && !free => {
                *until = now + LEASE;
                Some(*term)
            }
            _ if free => {
                self.terms += 1;
                self.holder = Some((node, self.terms, now + LEASE));
                Some(self.terms)
            }
            _ => None,
        }
    }

    /// Stores the next value of the row. False if the writer's picture is not true any more.
    pub(crate) fn swap(&mut self, term: u64, before: (u64, u64), next: &Cluster) -> bool {
        let owns = self.holder.is_some_and(|(_, held, _)| held == term);
        if self.down || !owns || (self.row.epoch, self.row.rev) != before {
            return false;
        }
        self.former.push(std::mem::replace(&mut self.row, next.clone()));
        true
    }

    /// Loses the last changes, as a standby that took over too early does.
    pub(crate) fn roll_back(&mut self, changes: usize) {
        for _ in 0..changes {
            if let Some(former) = self.former.pop() {
                self.row = former;
            }
        }
    }
}
