//! One pool: connections to one member, by user and database.

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::place::Place;

/// What is pooled.
pub trait Pooled: Send + 'static {
    /// The round of its place.
    fn round(&self) -> u64;
    /// Whether it can be used; looks without waiting and without asking the other end.
    fn is_usable(&mut self) -> bool;
    /// Ends it, free as it is. Its place is given back at once.
    fn dispose(self);
}

/// Connections to one member. Cloning gives another handle.
#[derive(Debug)]
pub struct Pool<C: Pooled>(Arc<Inner<C>>);

impl<C: Pooled> Clone for Pool<C> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

#[derive(Debug)]
pub(super) struct Inner<C: Pooled> {
    me: Weak<Inner<C>>,
    state: Mutex<State<C>>,
}

#[derive(Debug)]
struct State<C> {
    shelves: Vec<Shelf<C>>,
    by_name: HashMap<(Box<str>, Box<str>), usize>,
    /// Connections that are open or being opened.
    open: u32,
    most: u32,
    round: u64,
    /// Who waits, oldest first, over all shelves; those who left are skipped.
    waiting: VecDeque<(usize, oneshot::Sender<Given<C>>)>,
}

#[derive(Debug)]
struct Shelf<C> {
    /// Free connections; the one used last is taken first, so that few are warm and the others end by idleness.
    free: Vec<(C, Instant)>,
}

#[derive(Debug)]
enum Given<C> {
    Free(C),
    Room(Place),
}

/// What asking for a connection gave.
#[derive(Debug)]
pub enum Taken<C: Pooled> {
    /// A free one.
    Free(C),
    /// Room for a new one.
    Room(Place),
    /// Neither; wait for it.
    Wait(Waiting<C>),
}

/// A place in the queue. Dropping it leaves the queue; what was given meanwhile goes to the next.
#[derive(Debug)]
pub struct Waiting<C: Pooled> {
    pool: Pool<C>,
    shelf: usize,
    given: oneshot::Receiver<Given<C>>,
}

impl<C: Pooled> Pool<C> {
    /// An empty pool of at most `most` connections.
    #[must_use]
    pub fn new(most: u32) -> Self {
        let state = State {
            shelves: Vec::new(),
            by_name: HashMap::new(),
            open: 0,
            most: most.max(1),
            round: 0,
            waiting: VecDeque::new(),
        };
        Self(Arc::new_cyclic(|me| Inner { me: me.clone(), state: Mutex::new(state) }))
    }

    /// The shelf of a user and a database, made when missing. It stays the same as long as the pool lives.
    #[must_use]
    pub fn shelf(&self, user: &str, database: &str) -> usize {
        let mut state = self.0.lock();
        let name = (user.into(), database.into());
        if let Some(shelf) = state.by_name.get(&name) {
            return *shelf;
        }
        let shelf = state.shelves.len();
        state.shelves.push(Shelf { free: Vec::new() });
        state.by_name.insert(name, shelf);
        shelf
    }

    /// Asks for a connection of a shelf.
    #[must_use]
    pub fn take(&self, shelf: usize) -> Taken<C> {
        loop {
            let mut state = self.0.lock();
            if let Some((mut connection, _)) = state.shelves[shelf].free.pop() {
                // Out of the lock: closing and looking at a socket take time.
                drop(state);
                if connection.is_usable() {
                    return Taken::Free(connection);
                }
                drop(connection);
                continue;
            }
            if state.open < state.most {
                state.open += 1;
                return Taken::Room(self.0.place(state.round));
            }
            // Another shelf's free connection makes room: the one that was free longest.
            if let Some(victim) = state.oldest_free() {
                drop(state);
                victim.dispose();
                continue;
            }
            let (give, given) = oneshot::channel();
            state.waiting.push_back((shelf, give));
            return Taken::Wait(Waiting { pool: self.clone(), shelf, given });
        }
    }

    /// Puts a connection back: to who waits for one of this shelf, or on the shelf.
    pub fn put(&self, shelf: usize, connection: C) {
        let mut connection = connection;
        let mut state = self.0.lock();
        if connection.round() != state.round || state.open > state.most {
            drop(state);
            return connection.dispose();
        }
        while let Some((wants, _)) = state.waiting.front() {
            if *wants != shelf {
                // The oldest wants another shelf: it gets the room instead.
                drop(state);
                return connection.dispose();
            }
            let Some((_, give)) = state.waiting.pop_front() else { break };
            match give.send(Given::Free(connection)) {
                Ok(()) => return,
                Err(Given::Free(back)) => connection = back,
                Err(Given::Room(_)) => return,
            }
        }
        state.shelves[shelf].free.push((connection, Instant::now()));
    }

    /// Closes free connections, and those in use when they are put back.
    pub fn clear(&self) {
        let mut state = self.0.lock();
        state.round += 1;
        let free: Vec<_> = state.shelves.iter_mut().flat_map(|shelf| shelf.free.drain(..)).collect();
        drop(state);
        free.into_iter().for_each(|(connection, _)| connection.dispose());
    }

    /// Closes connections that were free for longer than `idle`.
    pub fn close_idle(&self, idle: Duration) {
        let now = Instant::now();
        let mut state = self.0.lock();
        let mut old = Vec::new();
        for shelf in &mut state.shelves {
            // Oldest first, for the last one put back is the last in the list.
            let fresh = shelf.free.partition_point(|(_, since)| now.duration_since(*since) > idle);
            old.extend(shelf.free.drain(..fresh));
        }
        drop(state);
        old.into_iter().for_each(|(connection, _)| connection.dispose());
    }

    /// Sets the bound; connections above it end when they are put back.
    pub fn set_most(&self, most: u32) {
        self.0.lock().most = most.max(1);
    }

    /// Connections open, and those of them that are free.
    #[must_use]
    pub fn count(&self) -> (u32, usize) {
        let state = self.0.lock();
        (state.open, state.shelves.iter().map(|shelf| shelf.free.len()).sum())
    }

    /// Those who wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.lock().waiting.iter().filter(|(_, give)| !give.is_closed()).count()
    }

    /// Whether nobody but the one who asks has the pool, and it has no connection.
    #[must_use]
    pub fn is_forgotten(&self) -> bool {
        Arc::strong_count(&self.0) == 1 && self.0.lock().open == 0
    }
}

impl<C: Pooled> Inner<C> {
    fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, round: u64) -> Place {
        Place::new(self.me.clone(), round)
    }

    /// A connection was closed: its room goes to who waits longest.
    pub(super) fn give_room(&self) {
        let mut state = self.lock();
        state.open -= 1;
        while state.open < state.most {
            let Some((_, give)) = state.waiting.pop_front() else { return };
            if give.is_closed() {
                continue;
            }
            state.open += 1;
            let place = self.place(state.round);
            drop(state);
            // One who left just now gives the room back, and it goes on from here to the next.
            drop(give.send(Given::Room(place)));
            return;
        }
    }
}

impl<C> State<C> {
    fn oldest_free(&mut self) -> Option<C> {
        let oldest = self
            .shelves
            .iter_mut()
            .filter(|shelf| !shelf.free.is_empty())
            .min_by_key(|shelf| shelf.free.first().map(|(_, since)| *since))?;
        Some(oldest.free.remove(0).0)
    }
}

impl<C: Pooled> Future for Waiting<C> {
    /// `None` if the pool is gone.
    type Output = Option<Taken<C>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.given).poll(context).map(|given| match given {
            Ok(Given::Free(connection)) => Some(Taken::Free(connection)),
            Ok(Given::Room(place)) => Some(Taken::Room(place)),
            Err(_) => None,
        })
    }
}

impl<C: Pooled> Drop for Waiting<C> {
    fn drop(&mut self) {
        self.given.close();
        // Room is given back by being dropped.
        if let Ok(Given::Free(connection)) = self.given.try_recv() {
            self.pool.put(self.shelf, connection);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake {
        place: Place,
        name: u32,
        usable: bool,
    }

    impl Pooled for Fake {
        fn round(&self) -> u64 {
            self.place.round()
        }

        fn dispose(self) {}

        fn is_usable(&mut self) -> bool {
            self.usable
        }
    }

    fn open(taken: Taken<Fake>, name: u32) -> Fake {
        let Taken::Room(place) = taken else { panic!("there is room") };
        Fake { place, name, usable: true }
    }

    fn wait(taken: Taken<Fake>) -> Waiting<Fake> {
        let Taken::Wait(waiting) = taken else { panic!("there is neither a free one nor room") };
        waiting
    }

    #[test]
    fn the_last_one_put_back_is_taken_first_and_unusable_ones_are_closed() {
        let pool = Pool::new(3);
        let shelf = pool.shelf("ada", "loom");
        assert_eq!(shelf, pool.shelf("ada", "loom"));
        let (one, mut two) = (open(pool.take(shelf), 1), open(pool.take(shelf), 2));
        two.usable = false;
        pool.put(shelf, one);
        pool.put(shelf, two);
        assert!(matches!(pool.take(shelf), Taken::Free(Fake { name: 1, .. })));
        assert_eq!(pool.count(), (0, 0), "both are closed");
    }

    #[tokio::test]
    async fn those_who_wait_are_served_in_order_and_who_left_is_skipped() {
        let pool = Pool::new(1);
        let shelf = pool.shelf("ada", "loom");
        let one = open(pool.take(shelf), 1);
        let (first, left, second) = (wait(pool.take(shelf)), wait(pool.take(shelf)), wait(pool.take(shelf)));
        drop(left);
        pool.put(shelf, one);
        let Some(Taken::Free(one)) = first.await else { panic!("the first gets it") };
        pool.put(shelf, one);
        let Some(Taken::Free(one)) = second.await else { panic!("then the second") };
        assert_eq!(one.name, 1);
    }

    #[tokio::test]
    async fn what_was_given_to_one_who_left_goes_to_the_next() {
        let pool = Pool::new(1);
        let shelf = pool.shelf("ada", "loom");
        let one = open(pool.take(shelf), 1);
        let (first, second) = (wait(pool.take(shelf)), wait(pool.take(shelf)));
        pool.put(shelf, one);
        drop(first);
        let Some(Taken::Free(one)) = second.await else { panic!("the second gets it") };
        let third = wait(pool.take(shelf));
        let fourth = wait(pool.take(shelf));
        drop(one);
        drop(third);
        assert!(matches!(fourth.await, Some(Taken::Room(_))), "room of a closed one, too");
        assert_eq!(pool.count(), (0, 0));
    }

    #[tokio::test]
    async fn a_free_connection_of_another_user_makes_room() {
        let pool = Pool::new(1);
        let (ada, eve) = (pool.shelf("ada", "loom"), pool.shelf("eve", "loom"));
        let one = open(pool.take(ada), 1);
        pool.put(ada, one);
        let two = open(pool.take(eve), 2);
        let waiting = wait(pool.take(ada));
        pool.put(eve, two);
        assert!(matches!(waiting.await, Some(Taken::Room(_))), "eve's is closed for ada, who waits");
    }

    #[test]
    fn after_a_clear_nothing_old_is_used_again() {
        let pool = Pool::new(2);
        let shelf = pool.shelf("ada", "loom");
        let (one, two) = (open(pool.take(shelf), 1), open(pool.take(shelf), 2));
        pool.put(shelf, one);
        pool.clear();
        pool.put(shelf, two);
        assert_eq!(pool.count(), (0, 0));
    }

    #[test]
    fn a_lower_bound_and_idleness_close_connections() {
        let pool = Pool::new(3);
        let shelf = pool.shelf("ada", "loom");
        let all: Vec<_> = (0..3).map(|name| open(pool.take(shelf), name)).collect();
        pool.set_most(2);
        for connection in all {
            pool.put(shelf, connection);
        }
        assert_eq!(pool.count(), (2, 2));
        pool.close_idle(Duration::from_secs(3600));
        assert_eq!(pool.count(), (2, 2));
        pool.close_idle(Duration::ZERO);
        assert_eq!(pool.count(), (0, 0));
        assert!(pool.is_forgotten());
    }
}
