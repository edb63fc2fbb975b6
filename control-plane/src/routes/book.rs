//! The book: every route with the version at which it last changed.
//!
//! A cursor is `BOOK:VERSION`: of another book, or older than what is remembered of removals, everything is told.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use uuid::Uuid;
use windlass_core::id::InstanceId;

use super::{Follower, Reports, Route, followers::Followers};

/// Removals that are remembered.
const REMOVALS: usize = 4096;

/// The routes of this node. Clones are the same.
#[derive(Debug, Clone)]
pub struct Routes {
    shared: Arc<Shared>,
    hints: mpsc::UnboundedSender<Hint>,
}

/// Hints for the keeper; belongs to it.
#[derive(Debug)]
pub struct Wakes(pub(super) mpsc::UnboundedReceiver<Hint>);

/// What is to be read anew.
#[derive(Debug)]
pub(super) enum Hint {
    /// One instance.
    Instance(InstanceId, Origin),
    /// Every instance, because a proxy came or went.
    Everything,
}

/// Where a change was made.
#[derive(Debug, Clone, Copy)]
pub(super) enum Origin {
    /// By this node: others are to be told.
    Here,
    /// By another node.
    Elsewhere,
}

#[derive(Debug)]
struct Shared {
    id: Uuid,
    book: Mutex<Book>,
    version: watch::Sender<u64>,
    reports: Reports,
    followers: Mutex<Followers>,
}

#[derive(Debug, Default)]
struct Book {
    /// 0 until everything was read once.
    version: u64,
    entries: HashMap<InstanceId, (u64, Arc<Route>)>,
    changes: BTreeMap<u64, InstanceId>,
    removals: VecDeque<(u64, InstanceId)>,
    /// Removals up to this version are forgotten.
    forgotten: u64,
}

/// What a proxy is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// To be shown next time.
    pub cursor: String,
    /// What is not in `routes` does not exist.
    pub full: bool,
    /// Routes that changed.
    pub routes: Vec<Arc<Route>>,
    /// Instances that are gone.
    pub removed: Vec<InstanceId>,
}

impl Routes {
    /// An empty book, and the end that belongs to its keeper.
    pub fn new() -> (Self, Wakes) {
        let (hints, wakes) = mpsc::unbounded_channel();
        let shared = Shared {
            id: Uuid::new_v4(),
            book: Mutex::default(),
            version: watch::Sender::new(0),
            reports: Reports::default(),
            followers: Mutex::default(),
        };
        (Self { shared: Arc::new(shared), hints }, Wakes(wakes))
    }

    /// What decides the route of this instance was changed. Call it after the commit; a hint that is lost costs one
    /// safety poll.
    pub fn changed(&self, instance: InstanceId) {
        self.hint(Hint::Instance(instance, Origin::Here));
    }

    /// A proxy came with another address, or went.
    pub fn proxies_changed(&self) {
        self.hint(Hint::Everything);
    }

    pub(super) fn hint(&self, hint: Hint) {
        // Fails only when the keeper is gone, and then nobody is to be told.
        let _ = self.hints.send(hint);
    }

    /// Which book it is, of all nodes and starts.
    pub(super) fn id(&self) -> Uuid {
        self.shared.id
    }

    /// A leader reported its followers.
    pub fn followers(&self, instance: InstanceId, seen: &[Follower]) {
        if self.behind().put(instance, seen) {
            self.hint(Hint::Instance(instance, Origin::Here));
        }
    }

    pub(super) fn behind(&self) -> MutexGuard<'_, Followers> {
        self.shared.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What proxies report.
    pub fn reports(&self) -> &Reports {
        &self.shared.reports
    }

    /// The route of an instance as this node knows it.
    pub fn get(&self, instance: InstanceId) -> Option<Arc<Route>> {
        self.book().entries.get(&instance).map(|(_, route)| route.clone())
    }

    /// Names of the projects that have routes, sorted.
    pub fn projects(&self) -> BTreeSet<String> {
        self.book().entries.values().map(|(_, route)| route.project.clone()).collect()
    }

    /// What changed since the cursor, as soon as something did; an empty answer after `hold`.
    pub async fn watch(&self, cursor: &str, hold: Duration) -> Answer {
        let seen = self.seen(cursor);
        let mut version = self.shared.version.subscribe();
        // An error means that the book is gone, which `self` rules out; the end of the time gives an empty answer.
        let _ = timeout(hold, version.wait_for(|now| *now > 0 && Some(*now) != seen)).await;
        self.since(seen)
    }

    /// Version of a cursor of this book.
    fn seen(&self, cursor: &str) -> Option<u64> {
        let (book, version) = cursor.split_once(':')?;
        (book.parse() == Ok(self.shared.id)).then(|| version.parse().ok())?
    }

    fn since(&self, seen: Option<u64>) -> Answer {
        let book = self.book();
        let cursor = format!("{}:{}", self.shared.id, book.version);
        match seen.filter(|seen| *seen >= book.forgotten && *seen > 0) {
            Some(seen) => Answer {
                cursor,
                full: false,
                routes: book
                    .changes
                    .range(seen + 1..)
                    .filter_map(|(_, id)| book.entries.get(id).map(|(_, route)| route.clone()))
                    .collect(),
                removed: book.removals.iter().filter(|(at, _)| *at > seen).map(|(_, id)| *id).collect(),
            },
            // Nothing was read yet: nothing is known, and that is not the same as that nothing exists.
            None if book.version == 0 => {
                Answer { cursor: String::new(), full: false, routes: Vec::new(), removed: Vec::new() }
            }
            None => Answer {
                cursor,
                full: true,
                routes: book.entries.values().map(|(_, route)| route.clone()).collect(),
                removed: Vec::new(),
            },
        }
    }

    /// Takes what was read: of each instance its route, or that it has none.
    pub(super) fn apply(&self, read: Vec<(InstanceId, Option<Route>)>) {
        let mut book = self.book();
        let before = book.version;
        for (id, route) in read {
            match route {
                Some(route) => book.put(route),
                None => book.remove(id),
            }
        }
        self.publish(&mut book, before);
    }

    /// Takes a reading of everything: what is neither in it nor in `kept` is gone.
    pub(super) fn replace(&self, routes: Vec<Route>, kept: &HashSet<InstanceId>) {
        let mut book = self.book();
        let before = book.version;
        let there: HashSet<_> = routes.iter().map(|route| route.instance).chain(kept.iter().copied()).collect();
        let gone: Vec<_> = book.entries.keys().filter(|id| !there.contains(id)).copied().collect();
        gone.into_iter().for_each(|id| book.remove(id));
        self.behind().retain(|id| there.contains(&id));
        routes.into_iter().for_each(|route| book.put(route));
        // An installation without instances has a book too.
        book.version = book.version.max(1);
        self.publish(&mut book, before);
    }

    fn publish(&self, book: &mut Book, before: u64) {
        if book.version != before {
            self.shared.version.send_replace(book.version);
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Valid after a panic: each change leaves the book whole.
        self.shared.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn put(&mut self, route: Route) {
        let id = route.instance;
        if let Some((at, former)) = self.entries.get(&id) {
            if **former == route || (route.epoch, route.rev) < (former.epoch, former.rev) {
                return;
            }
            self.changes.remove(at);
        }
        self.version += 1;
        self.changes.insert(self.version, id);
        self.entries.insert(id, (self.version, Arc::new(route)));
    }

    fn remove(&mut self, id: InstanceId) {
        let Some((at, _)) = self.entries.remove(&id) else { return };
        self.changes.remove(&at);
        self.version += 1;
        self.removals.push_back((self.version, id));
        if self.removals.len() > REMOVALS
            && let Some((at, _)) = self.removals.pop_front()
        {
            self.forgotten = at;
        }
    }
}

#[cfg(test)]
mod tests {
    use windlass_core::engine::Engine;

    use super::*;
    use crate::routes::State;

    fn route(instance: InstanceId, rev: u64) -> Route {
        Route {
            instance,
            project: "shop".to_owned(),
            name: "db".to_owned(),
            engine: Engine::Postgres,
            epoch: 1,
            rev,
            state: State::Open,
            primary: None,
            replicas: Vec::new(),
        }
    }

    fn ids(answer: &Answer) -> Vec<InstanceId> {
        answer.routes.iter().map(|route| route.instance).collect()
    }

    #[tokio::test]
    async fn a_proxy_gets_everything_once_and_then_what_changes() {
        let (routes, _wakes) = Routes::new();
        let (one, two) = (InstanceId::new(), InstanceId::new());
        let nothing = routes.watch("", Duration::ZERO).await;
        assert!(!nothing.full && nothing.cursor.is_empty(), "not read yet is not empty");
        routes.replace(vec![route(one, 1)], &HashSet::new());
        let all = routes.watch("", Duration::ZERO).await;
        assert!(all.full && ids(&all) == [one]);
        let none = routes.watch(&all.cursor, Duration::ZERO).await;
        assert!(!none.full && none.routes.is_empty());
        routes.apply(vec![(two, Some(route(two, 1)))]);
        let fresh = routes.watch(&none.cursor, Duration::from_secs(10)).await;
        assert!(!fresh.full && ids(&fresh) == [two]);
        routes.apply(vec![(one, None)]);
        let removed = routes.watch(&fresh.cursor, Duration::from_secs(10)).await;
        assert_eq!((removed.removed, removed.routes.len()), (vec![one], 0));
    }

    #[tokio::test]
    async fn an_older_reading_and_another_books_cursor_do_no_harm() {
        let (routes, _wakes) = Routes::new();
        let id = InstanceId::new();
        routes.replace(vec![route(id, 5)], &HashSet::new());
        let cursor = routes.watch("", Duration::ZERO).await.cursor;
        routes.apply(vec![(id, Some(route(id, 4)))]);
        assert!(routes.watch(&cursor, Duration::ZERO).await.routes.is_empty());
        for foreign in ["x", "x:1", &format!("{}:1", Uuid::new_v4()), &format!("{}:x", routes.shared.id)] {
            assert!(routes.watch(foreign, Duration::ZERO).await.full, "{foreign}");
        }
    }

    #[tokio::test]
    async fn forgotten_removals_make_the_answer_full() {
        let (routes, _wakes) = Routes::new();
        let first = InstanceId::new();
        routes.replace(vec![route(first, 1)], &HashSet::new());
        let cursor = routes.watch("", Duration::ZERO).await.cursor;
        for _ in 0..=REMOVALS {
            let id = InstanceId::new();
            routes.apply(vec![(id, Some(route(id, 1)))]);
            routes.apply(vec![(id, None)]);
        }
        let answer = routes.watch(&cursor, Duration::ZERO).await;
        assert!(answer.full && ids(&answer) == [first]);
    }
}
