//! Prepared statements: one number for each text in the whole proxy, and which of them a server connection has.
//!
//! Clients choose names as they like; on servers a statement is named by its number, so that a connection can be shared
//! by clients with texts that are equal and mean the same, and a client finds its statements on whatever connection it
//! gets. Texts are shared and forgotten with the last client that has them.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use windlass_wire_pg::frontend::Parse;

use super::Reading;
use crate::protocols::postgres::sql::Effects;

/// Statements that one connection keeps, beyond which the one prepared first is closed.
const MOST_ON_A_SERVER: usize = 500;

/// A statement as a client prepared it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) number: u64,
    query: Box<[u8]>,
    types: Box<[u8]>,
    pub(crate) effects: Effects,
    /// How its text is read; `None` if that was not certain when it was prepared, and then it is nobody else's.
    pub(crate) reading: Option<Reading>,
}

impl Statement {
    /// Its name on servers.
    pub(crate) fn name(&self) -> String {
        format!("windlass_{}", self.number)
    }

    pub(crate) fn parse(&self) -> Parse<'_> {
        Parse { name: b"", query: &self.query, types: &self.types }
    }
}

/// The texts in use. Shared by reference.
#[derive(Debug, Default)]
pub(crate) struct Statements {
    next: AtomicU64,
    hasher: RandomState,
    known: Mutex<HashMap<u64, Vec<Weak<Statement>>>>,
}

impl Statements {
    /// The statement of this text read in this way, whatever it is called.
    pub(crate) fn of(&self, parse: &Parse<'_>, effects: Effects, reading: Option<Reading>) -> Arc<Statement> {
        let hash = self.hasher.hash_one((parse.query, parse.types, &reading));
        let unshared = reading.is_none();
        let make = |effects, reading| {
            Arc::new(Statement {
                number: self.next.fetch_add(1, Ordering::Relaxed),
                query: parse.query.into(),
                types: parse.types.into(),
                effects,
                reading,
            })
        };
        if unshared {
            return make(effects, reading);
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= 1024 && known.len() == known.capacity() {
            known.retain(|_, alike| alike.iter().any(|statement| statement.strong_count() > 0));
        }
        let alike = known.entry(hash).or_default();
        alike.retain(|statement| statement.strong_count() > 0);
        // Effects name other statements as their client does.
        let same = |statement: &Arc<Statement>| {
            statement.parse() == unnamed(parse) && statement.reading == reading && statement.effects == effects
        };
        let same = alike.iter().filter_map(Weak::upgrade).find(same);
        same.unwrap_or_else(|| {
            let statement = make(effects, reading);
            alike.push(Arc::downgrade(&statement));
            statement
        })
    }
}

fn unnamed<'a>(parse: &Parse<'a>) -> Parse<'a> {
    Parse { name: b"", ..*parse }
}

/// What one server connection has prepared.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    /// In the order of preparing.
    numbers: VecDeque<u64>,
}

impl Prepared {
    pub(crate) fn has(&self, number: u64) -> bool {
        self.numbers.contains(&number)
    }

    /// Notes one; gives the one that has to be closed for it.
    pub(crate) fn add(&mut self, number: u64) -> Option<u64> {
        self.numbers.push_back(number);
        if self.numbers.len() > MOST_ON_A_SERVER { self.numbers.pop_front() } else { None }
    }

    pub(crate) fn remove(&mut self, number: u64) {
        self.numbers.retain(|known| *known != number);
    }

    pub(crate) fn clear(&mut self) {
        self.numbers.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one_statement_as_long_as_somebody_has_it() {
        let statements = Statements::default();
        let parse = |name: &'static [u8], query: &'static [u8]| Parse { name, query, types: &[0, 0] };
        let one = statements.of(&parse(b"a", b"SELECT 1"), Effects::default(), Some(Reading::default()));
        let same = statements.of(&parse(b"b", b"SELECT 1"), Effects::default(), Some(Reading::default()));
        let other = statements.of(&parse(b"a", b"SELECT 2"), Effects::default(), Some(Reading::default()));
        assert!(Arc::ptr_eq(&one, &same) && one.number != other.number);
        let number = one.number;
        drop((one, same));
        assert_ne!(
            statements.of(&parse(b"a", b"SELECT 1"), Effects::default(), Some(Reading::default())).number,
            number
        );
    }

    #[test]
    fn a_text_that_may_mean_something_else_is_not_shared() {
        let statements = Statements::default();
        let parse = Parse { name: b"", query: b"SELECT 1", types: &[0, 0] };
        let of = |reading| statements.of(&parse, Effects::default(), reading);
        let shared = of(Some(Reading::default()));
        let (one, other) = (of(None), of(None));
        assert!(shared.number != one.number && one.number != other.number);
    }

    #[test]
    fn a_connection_keeps_a_bounded_number() {
        let mut prepared = Prepared::default();
        let dropped: Vec<_> = (0..=MOST_ON_A_SERVER as u64).filter_map(|number| prepared.add(number)).collect();
        assert_eq!(dropped, [0]);
        prepared.remove(1);
        assert!(!prepared.has(0) && !prepared.has(1) && prepared.has(2));
    }
}
