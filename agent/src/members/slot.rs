//! One member in memory: its lock, its connection, its facts.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use windlass_core::id::MemberId;
use windlass_proto::agent::v1::{self as pb, member_facts};

use super::goal::{Goal, Stored};
use crate::engines::Session;

/// A process that lived this long did not crash because of its start.
const SETTLED: Duration = Duration::from_secs(60);
const FIRST_DELAY: Duration = Duration::from_millis(500);
const LONGEST_DELAY: Duration = Duration::from_secs(30);

/// One member in memory.
pub(super) struct Slot {
    pub(super) id: MemberId,
    /// One change at a time.
    pub(super) work: Arc<tokio::sync::Mutex<Work>>,
    facts: Mutex<pb::MemberFacts>,
    /// The goal as others may see it without the lock; None while the member is being made or removed.
    published: Mutex<Option<Arc<Goal>>>,
    /// Of a replicated member: who runs its server.
    keeper: Mutex<Option<Keeper>>,
    /// A process that is to be replaced by another, for who runs the server.
    pub(super) restart: watch::Sender<Option<(i32, i64)>>,
}

/// A hold on who runs the server of a replicated member.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keeper {
    /// Asks it to let go.
    pub(crate) leave: CancellationToken,
    /// It did.
    pub(crate) left: CancellationToken,
}

/// What a change of a member needs.
#[derive(Default)]
pub(super) struct Work {
    /// What is on disk; None before the member is made and after it is removed.
    pub(super) stored: Option<Stored>,
    /// The agent's connection to the running server.
    pub(super) session: Option<Box<dyn Session>>,
    pub(super) crashes: Crashes,
    /// Size of the data directory and when it was measured.
    pub(super) disk: Option<(Instant, u64)>,
}

/// How often the process ended in short order, to restart it at once the first time and then ever more slowly.
#[derive(Debug, Default)]
pub(super) struct Crashes {
    count: u32,
    /// The last start or failed attempt.
    last: Option<Instant>,
    /// Whether the present absence was told.
    told: bool,
}

/// Whether something is told for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Now,
    Before,
}

impl Slot {
    pub(super) fn new(id: MemberId, stored: Option<Stored>) -> Self {
        let facts = pb::MemberFacts {
            member_id: id.to_string(),
            process: member_facts::Process::Absent.into(),
            ..pb::MemberFacts::default()
        };
        let work = Arc::new(tokio::sync::Mutex::new(Work { stored, ..Work::default() }));
        Self {
            id,
            work,
            facts: Mutex::new(facts),
            published: Mutex::default(),
            keeper: Mutex::default(),
            restart: watch::Sender::new(None),
        }
    }

    /// Shows the goal to others, or that there is none to act on.
    pub(super) fn publish(&self, goal: Option<Goal>) {
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = goal.map(Arc::new);
    }

    /// The goal that others may act on.
    pub(super) fn published(&self) -> Option<Arc<Goal>> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on somebody else starts and stops the server; None if somebody does already.
    pub(super) fn take_over(&self) -> Option<Keeper> {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        if keeper.as_ref().is_some_and(|keeper| !keeper.left.is_cancelled()) {
            return None;
        }
        Some(keeper.insert(Keeper::default()).clone())
    }

    /// Makes whoever starts and stops the server let go of it, and waits for that.
    pub(super) async fn release(&self) {
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(keeper) = keeper {
            keeper.leave.cancel();
            keeper.left.cancelled().await;
        }
    }

    /// What is known of it.
    pub(super) fn facts(&self) -> pb::MemberFacts {
        self.lock().clone()
    }

    /// Changes what is known of it.
    pub(super) fn update(&self, change: impl FnOnce(&mut pb::MemberFacts)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, pb::MemberFacts> {
        // Facts are replaced field by field; a panic in between leaves facts that the next look corrects.
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Crashes {
    /// How long to wait before the next start.
    pub(super) fn delay(&self, now: Instant) -> Duration {
        let Some(last) = self.last else { return Duration::ZERO };
        let since = now.saturating_duration_since(last);
        if self.count == 0 || since >= SETTLED {
            return Duration::ZERO;
        }
        let delay = FIRST_DELAY.saturating_mul(2u32.saturating_pow(self.count - 1)).min(LONGEST_DELAY);
        delay.saturating_sub(since)
    }

    /// It is started by supervision.
    pub(super) fn starting(&mut self, now: Instant) {
        let settled = self.last.is_some_and(|last| now.saturating_duration_since(last) >= SETTLED);
        self.count = if settled { 1 } else { self.count.saturating_add(1) };
        self.last = Some(now);
    }

    /// It runs.
    pub(super) fn runs(&mut self) {
        self.told = false;
    }

    /// An order started it: what was before does not count.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// It was found ended.
    pub(super) fn ended(&mut self) -> Told {
        if std::mem::replace(&mut self.told, true) { Told::Before } else { Told::Now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_at_once_and_later_ones_slow_down_until_it_stays_up() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut crashes = Crashes::default();
        assert_eq!(crashes.delay(at(0)), Duration::ZERO);
        crashes.starting(at(0));
        assert_eq!(crashes.delay(at(100)), Duration::from_millis(400));
        crashes.starting(at(500));
        assert_eq!(crashes.delay(at(500)), Duration::from_secs(1));
        for _ in 0..20 {
            crashes.starting(at(600));
        }
        assert_eq!(crashes.delay(at(600)), LONGEST_DELAY);
        assert_eq!(crashes.delay(at(60_600)), Duration::ZERO);
        crashes.starting(at(60_600));
        assert_eq!(crashes.delay(at(60_600)), FIRST_DELAY);
    }

    #[test]
    fn an_end_is_told_once() {
        let mut crashes = Crashes::default();
        assert_eq!((crashes.ended(), crashes.ended()), (Told::Now, Told::Before));
        crashes.runs();
        assert_eq!(crashes.ended(), Told::Now);
    }
}
