//! All sessions of this proxy, so that others can tap one on the shoulder: a cancellation, a change of the route, the
//! end of the process.
//!
//! A tap sets a flag and wakes the session's task, which looks when it runs; so a session pays nothing for it as long as
//! nothing happens. Invariant: a key belongs to one session at a time, and to none after the session ended.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicU8, Ordering},
    },
    task::Waker,
    time::Duration,
};

use futures::task::AtomicWaker;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use windlass_core::id::{InstanceId, MemberId};
use windlass_kit::random;
use windlass_wire_pg::startup::CancelKey;

use super::server::Server;
use crate::{
    Shared,
    drain::Stage,
    pool::Pools,
    routes::{Instance, Route},
};

/// Server connections that nobody used for so long are closed.
const IDLE: Duration = Duration::from_secs(300);
const TIDY_EVERY: Duration = Duration::from_secs(5);

/// Why a session is tapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Tap {
    /// The client wants its statement cancelled.
    Cancel = 1,
    /// Another server leads.
    Route = 2,
    /// The process ends.
    End = 4,
}

/// What a session and those who tap it share.
#[derive(Debug, Default)]
pub(crate) struct Handle {
    flags: AtomicU8,
    waker: AtomicWaker,
}

/// Taps since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taps(u8);

impl Taps {
    pub(crate) fn has(self, tap: Tap) -> bool {
        self.0 & tap as u8 != 0
    }
}

impl Handle {
    pub(crate) fn tap(&self, tap: Tap) {
        self.flags.fetch_or(tap as u8, Ordering::AcqRel);
        self.waker.wake();
    }

    /// Who is woken by the next tap. Has to come before [`Handle::take`].
    pub(crate) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    pub(crate) fn take(&self) -> Option<Taps> {
        if self.flags.load(Ordering::Acquire) == 0 {
            return None;
        }
        Some(Taps(self.flags.swap(0, Ordering::AcqRel)))
    }
}

/// All sessions. Shared by `Arc`.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    by_key: Mutex<HashMap<CancelKey, Arc<Handle>>>,
    /// Takes cancellations for sessions of the process before.
    former: OnceLock<mpsc::Sender<CancelKey>>,
    groups: Mutex<HashMap<InstanceId, Weak<Group>>>,
}

/// Sessions of one instance.
#[derive(Debug)]
struct Group {
    handles: Mutex<HashMap<CancelKey, Arc<Handle>>>,
    /// Ends the task that follows the route.
    _following: DropGuard,
}

/// A session's entry; it ends when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) key: CancelKey,
    pub(crate) handle: Arc<Handle>,
    sessions: Arc<Sessions>,
    group: Arc<Group>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sessions {
    /// Enters a session of the instance under a fresh key.
    pub(crate) fn enter(self: &Arc<Self>, shared: &Arc<Shared>, instance: &Arc<Instance>) -> Seat {
        let handle = Arc::new(Handle::default());
        let mut by_key = lock(&self.by_key);
        let key = loop {
            let (pid, secret) = (u32::from_be_bytes(random::bytes()), u32::from_be_bytes(random::bytes()));
            // Clients show it as the id of a process, which is positive.
            let key = CancelKey { pid: (pid >> 1).max(1), secret };
            if !by_key.contains_key(&key) {
                break key;
            }
        };
        by_key.insert(key, handle.clone());
        drop(by_key);
        let group = self.group(shared, instance);
        lock(&group.handles).insert(key, handle.clone());
        Seat { key, handle, sessions: self.clone(), group }
    }

    fn group(&self, shared: &Arc<Shared>, instance: &Arc<Instance>) -> Arc<Group> {
        let mut groups = lock(&self.groups);
        if let Some(group) = groups.get(&instance.id()).and_then(Weak::upgrade) {
            return group;
        }
        groups.retain(|_, group| group.strong_count() > 0);
        let ended = CancellationToken::new();
        let group = Arc::new(Group { handles: Mutex::default(), _following: ended.clone().drop_guard() });
        groups.insert(instance.id(), Arc::downgrade(&group));
        tokio::spawn(follow(shared.clone(), instance.clone(), Arc::downgrade(&group), ended));
        group
    }

    /// Hands cancellations under unknown keys on, from now on.
    pub(crate) fn hand_on(&self, former: mpsc::Sender<CancelKey>) {
        // The first one stays: a process has one before it.
        let _ = self.former.set(former);
    }

    /// Asks for a cancellation. A key that nobody knows is ignored, as PostgreSQL does.
    pub(crate) fn cancel(&self, key: CancelKey) {
        let known = lock(&self.by_key).get(&key).map(|handle| handle.tap(Tap::Cancel));
        if let (None, Some(former)) = (known, self.former.get()) {
            // It is gone, or somebody guesses keys faster than they are read.
            let _ = former.try_send(key);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.sessions.by_key).remove(&self.key);
        lock(&self.group.handles).remove(&self.key);
    }
}

impl Group {
    fn tap(&self, tap: Tap) {
        let handles: Vec<_> = lock(&self.handles).values().cloned().collect();
        for handle in handles {
            handle.tap(tap);
        }
    }
}

/// Who leads, for the question whether that changed.
fn leader(route: &Route) -> (u64, Option<MemberId>) {
    (route.epoch, route.primary.as_ref().map(|primary| primary.member))
}

/// Follows the route of an instance as long as it has sessions, and then until its free connections are closed.
async fn follow(shared: Arc<Shared>, instance: Arc<Instance>, group: Weak<Group>, ended: CancellationToken) {
    let pools: &Pools<Box<Server>> = shared.postgres.pools();
    let mut route = instance.watch();
    let mut known = leader(&route.borrow_and_update());
    let mut stage = shared.drain.watch();
    let mut ending = false;
    let mut tidy = interval(TIDY_EVERY);
    tidy.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = ended.cancelled(), if !ended.is_cancelled() => {}
            changed = route.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = route.borrow_and_update().clone();
                if leader(&now) == known {
                    continue;
                }
                known = leader(&now);
                let members: Vec<_> = now.primary.iter().chain(&now.replicas).map(|backend| backend.member).collect();
                pools.clear(instance.id(), &members);
                if let Some(group) = group.upgrade() {
                    group.tap(Tap::Route);
                }
            }
            // An error means that the process is gone.
            _ = stage.wait_for(|stage| *stage >= Stage::Ending), if !ending => {
                ending = true;
                if let Some(group) = group.upgrade() {
                    group.tap(Tap::End);
                }
            }
            _ = tidy.tick() => {
                pools.tidy(instance.id(), IDLE);
                let (open, free) = pools.count(instance.id());
                instance.metrics.backends.set(open);
                instance.metrics.backends_idle.set(free);
            }
        }
        if group.strong_count() == 0 && (ending || pools.is_empty(instance.id())) {
            return;
        }
    }
}
