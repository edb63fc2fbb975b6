//! What must hold, looked at after each event. The first breach ends a schedule.

use std::collections::{BTreeMap, BTreeSet};

use crate::log::Log;

/// A rule that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    /// Its name in the specification.
    pub rule: &'static str,
    /// What happened.
    pub what: String,
}

/// Remembers what was promised.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    /// Acknowledged commits, with the epoch under which that was.
    acknowledged: BTreeMap<u32, u64>,
    /// Who was promoted in each epoch, and the commits that it began with.
    promoted: BTreeMap<u64, (usize, BTreeSet<u32>)>,
    /// Highest (epoch, rev) of each proxy's route.
    routes: BTreeMap<usize, (u64, u64)>,
    /// Highest epoch and rev of the orders that each agent obeyed.
    obeyed: BTreeMap<usize, (u64, u64)>,
    /// The last copies of acknowledged commits may be destroyed on purpose.
    destroys: bool,
    /// The first breach.
    pub(crate) breach: Option<Breach>,
}

impl Checker {
    /// Of a schedule that may destroy the last copies of acknowledged commits on purpose, or not.
    pub(crate) fn new(destroys: bool) -> Self {
        Self { destroys, ..Self::default() }
    }

    /// Notes a breach.
    pub(crate) fn fail(&mut self, rule: &'static str, what: String) {
        self.breach.get_or_insert(Breach { rule, what });
    }

    /// How many commits were acknowledged.
    pub(crate) fn acknowledgements(&self) -> usize {
        self.acknowledged.len()
    }

    /// How many epochs had a leader.
    pub(crate) fn epochs(&self) -> usize {
        self.promoted.len()
    }

    /// P1: a client was told that its commit is done.
    pub(crate) fn acknowledge(&mut self, commit: u32, epoch: u64, member: usize) {
        self.acknowledged.insert(commit, epoch);
        if self.destroys {
            return;
        }
        let later = self.promoted.range(epoch + 1..).find(|(_, (_, has))| !has.contains(&commit));
        if let Some((later, (leader, _))) = later {
            let what = format!(
                "member {member} acknowledged commit {commit} in epoch {epoch}, and member {leader} leads epoch {later} without it"
            );
            self.fail("P1", what);
        }
    }

    /// P1 and P4: a member became the leader of an epoch with this data.
    pub(crate) fn promote(&mut self, epoch: u64, member: usize, log: &Log) {
        if let Some((former, _)) = self.promoted.get(&epoch)
            && *former != member
        {
            return self.fail("P4", format!("members {former} and {member} were both promoted in epoch {epoch}"));
        }
        let lost: Vec<_> =
            self.acknowledged.iter().filter(|(id, of)| **of < epoch && !log.has(**id)).map(|(id, _)| *id).collect();
        if !lost.is_empty() && !self.destroys {
            return self
                .fail("P1", format!("member {member} leads epoch {epoch} without acknowledged commits {lost:?}"));
        }
        let has = log.records.iter().filter_map(|record| match record.kind {
            crate::log::Kind::Commit(id) => Some(id),
            crate::log::Kind::Timeline | crate::log::Kind::Barrier(_) | crate::log::Kind::Shutdown => None,
        });
        self.promoted.entry(epoch).or_insert_with(|| (member, has.collect()));
    }

    /// P1 at the end: the last leader has everything.
    pub(crate) fn finish(&mut self, member: usize, log: &Log) {
        let lost: Vec<_> = self.acknowledged.keys().filter(|id| !log.has(**id)).copied().collect();
        if !lost.is_empty() && !self.destroys {
            self.fail("P1", format!("member {member} leads at the end without acknowledged commits {lost:?}"));
        }
    }

    /// P11: a proxy took a route.
    pub(crate) fn route(&mut self, proxy: usize, route: (u64, u64)) {
        let known = self.routes.entry(proxy).or_default();
        if route < *known {
            let what = format!("proxy {proxy} went back from route {known:?} to {route:?}");
            return self.fail("P11", what);
        }
        *known = route;
    }

    /// P10: an agent took an order.
    pub(crate) fn obey(&mut self, member: usize, order: (u64, u64)) {
        let known = self.obeyed.entry(member).or_default();
        if order <= *known {
            let what = format!("member {member} obeyed {order:?} after {known:?}");
            return self.fail("P10", what);
        }
        *known = order;
    }

    /// An agent's memory is gone.
    pub(crate) fn forget(&mut self, member: usize) {
        self.obeyed.remove(&member);
    }
}
