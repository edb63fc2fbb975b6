//! Lists that only grow: every read is a prefix of the list as it is in the end, and whoever was told that an element was
//! appended, or saw one, sees it from then on.
//!
//! Reads at a primary that nobody follows any more may be stale, so a read is only held against what the same session
//! had seen before; that each is a prefix holds without exception.

use std::collections::BTreeMap;
use std::time::Duration;

/// One append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// Which list.
    pub key: i32,
    /// What, unique in the run.
    pub element: i64,
    /// When the client knew; None if it was never told of a success.
    pub acked: Option<Duration>,
}

/// One read of a whole list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Which list.
    pub key: i32,
    /// The connection; never used again after it broke.
    pub session: u64,
    /// What was seen.
    pub list: Vec<i64>,
}

/// The lists as they are in the end, by key.
pub type Lists = BTreeMap<i32, Vec<i64>>;

/// Holds appends and reads (in the order of each session) against the lists.
pub fn check(appends: &[Append], reads: &[Read], last: &Lists) -> Vec<String> {
    let empty = Vec::new();
    let of = |key: &i32| last.get(key).unwrap_or(&empty);
    let mut found = Vec::new();
    for append in appends {
        let count = of(&append.key).iter().filter(|element| **element == append.element).count();
        match (count, append.acked) {
            (1, _) | (0, None) => {}
            (0, Some(at)) => {
                found.push(format!(
                    "element {} of list {}, acknowledged at {at:?}, is lost",
                    append.element, append.key
                ));
            }
            (count, _) => found.push(format!("element {} is {count} times in list {}", append.element, append.key)),
        }
    }
    let mut seen: BTreeMap<(u64, i32), usize> = BTreeMap::new();
    for read in reads {
        if !of(&read.key).starts_with(&read.list) {
            let end = of(&read.key);
            let at = read.list.iter().zip(end).take_while(|(left, right)| left == right).count();
            found.push(format!(
                "a read of list {} differs from its end from place {at} on: {:?}",
                read.key,
                read.list.get(at)
            ));
        }
        let before = seen.insert((read.session, read.key), read.list.len()).unwrap_or(0);
        if read.list.len() < before {
            found.push(format!(
                "session {} saw list {} shrink from {before} to {}",
                read.session,
                read.key,
                read.list.len()
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(element: i64, acked: bool) -> Append {
        Append { key: 1, element, acked: acked.then_some(Duration::from_millis(1)) }
    }

    fn read(session: u64, list: &[i64]) -> Read {
        Read { key: 1, session, list: list.to_vec() }
    }

    fn lists(list: &[i64]) -> Lists {
        Lists::from([(1, list.to_vec())])
    }

    #[test]
    fn prefixes_that_grow_are_good() {
        let appends = [append(1, true), append(2, false), append(3, true), append(4, false)];
        let reads = [read(1, &[]), read(1, &[1]), read(2, &[1, 2, 3]), read(1, &[1, 2])];
        assert_eq!(check(&appends, &reads, &lists(&[1, 2, 3])), Vec::<String>::new());
    }

    #[test]
    fn a_lost_and_a_double_element_are_named() {
        let found = check(&[append(1, true), append(2, true)], &[], &lists(&[2, 2]));
        assert_eq!(found, ["element 1 of list 1, acknowledged at 1ms, is lost", "element 2 is 2 times in list 1"]);
    }

    #[test]
    fn a_read_of_another_history_is_named() {
        let found = check(&[append(1, true)], &[read(1, &[1, 7])], &lists(&[1, 8]));
        assert_eq!(found, ["a read of list 1 differs from its end from place 1 on: Some(7)"]);
    }

    #[test]
    fn a_session_that_goes_back_is_named() {
        let found = check(&[append(1, true)], &[read(4, &[1]), read(4, &[])], &lists(&[1]));
        assert_eq!(found, ["session 4 saw list 1 shrink from 1 to 0"]);
    }
}
