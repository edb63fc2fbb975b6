//! Whether one member's history is a part of another's.
//!
//! A timeline's number is no identity: after two crashes two servers may both have made timeline 3. So histories are
//! compared by where each timeline ended, and in the end by the newest barrier row, whose nonce was drawn for its epoch.

use std::path::Path;

use windlass_core::Error;

use super::Lsn;
use crate::host::files;

/// A timeline that was left, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ancestor {
    /// Its number.
    pub timeline: u32,
    /// Its last position that counts.
    pub end: Lsn,
}

/// A place in a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// System identifier.
    pub system: String,
    /// The timeline.
    pub timeline: u32,
    /// Those before it.
    pub history: Vec<Ancestor>,
    /// The end of the log.
    pub end: Lsn,
}

/// Whether the newest barrier row of one is among the other's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shared {
    /// It is, with the same nonce; or there is none yet.
    Yes,
    /// It is not.
    No,
}

/// How a follower's data stands to its leader's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// All that it has, the leader has.
    Part,
    /// It went its own way behind the position.
    Diverged(Lsn),
    /// It has more than the leader on the leader's own timeline: the leader lost something.
    Ahead,
    /// It cannot be told apart by positions; or a rewind cannot see the difference.
    Collision,
    /// It is of another cluster.
    Foreign,
}

/// Compares.
pub fn relation(mine: &Position, leader: &Position, shared: Shared) -> Relation {
    if mine.system != leader.system {
        return Relation::Foreign;
    }
    let (mine, leader) = (mine.pieces(), leader.pieces());
    for index in 0.. {
        let (Some(own), Some(theirs)) = (mine.get(index), leader.get(index)) else { break };
        let fork = own.end.min(theirs.end);
        if own.timeline != theirs.timeline {
            // The numbers differ at the same place: both left the former timeline there, one of them earlier in time.
            let former = index.checked_sub(1).and_then(|former| mine.get(former));
            return former.map_or(Relation::Foreign, |former| Relation::Diverged(former.end));
        }
        let (last_own, last_theirs) = (index + 1 == mine.len(), index + 1 == leader.len());
        match (last_own, last_theirs) {
            (true, _) if own.end <= theirs.end => {
                return if shared == Shared::Yes { Relation::Part } else { Relation::Collision };
            }
            (true, true) => return if shared == Shared::Yes { Relation::Ahead } else { Relation::Collision },
            (true, false) => return Relation::Diverged(fork),
            (false, _) if own.end == theirs.end && !last_theirs => {}
            (false, _) => {
                let number = |pieces: &[Ancestor]| pieces.get(index + 1).map(|next| next.timeline);
                let collides = leader.iter().any(|piece| Some(piece.timeline) == number(&mine));
                return if collides { Relation::Collision } else { Relation::Diverged(fork) };
            }
        }
    }
    Relation::Foreign
}

impl Position {
    /// The history with the present timeline at its end.
    fn pieces(&self) -> Vec<Ancestor> {
        let own = Ancestor { timeline: self.timeline, end: self.end };
        self.history.iter().copied().chain([own]).collect()
    }

    /// Where this timeline left its parent; 0 for the first.
    pub fn fork(&self) -> Lsn {
        self.history.last().map_or(Lsn(0), |parent| parent.end)
    }
}

/// Parses a history file: a line for each ancestor, oldest first.
pub(super) fn parse_history(text: &str) -> Vec<Ancestor> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        Some(Ancestor { timeline: words.next()?.parse().ok()?, end: words.next()?.parse().ok()? })
    };
    text.lines().filter_map(line).collect()
}

/// The name of a history file.
pub(super) fn history_file(timeline: u32) -> String {
    format!("{timeline:08X}.history")
}

/// Reads the history of a timeline from a data directory. The first one has none.
///
/// # Errors
/// `INTERNAL` if it cannot be read or is missing.
pub fn read_history(data: &Path, timeline: u32) -> Result<Vec<Ancestor>, Error> {
    if timeline <= 1 {
        return Ok(Vec::new());
    }
    let path = data.join("pg_wal").join(history_file(timeline));
    let text = files::read_text(&path)?;
    text.map(|text| parse_history(&text)).ok_or_else(|| Error::internal(format!("{} is missing", path.display())))
}

/// The timeline of the log at a position of a standby: the newest that has a segment there. The server does not tell.
///
/// # Errors
/// `INTERNAL` if the directory cannot be listed.
pub fn local_timeline(data: &Path, end: Lsn, segment: u64) -> Result<Option<u32>, Error> {
    let suffix = segment_name(end, segment);
    let names = files::names_in(&data.join("pg_wal"))?;
    let found = names.iter().filter(|name| name.len() == 24 && name.ends_with(&suffix));
    Ok(found.filter_map(|name| u32::from_str_radix(name.get(..8)?, 16).ok()).max())
}

/// The last 16 digits of the name of the segment with the byte before the position.
pub(super) fn segment_name(end: Lsn, segment: u64) -> String {
    let segment = segment.max(1);
    let (number, per_file) = (end.0.saturating_sub(1) / segment, 0x1_0000_0000 / segment);
    format!("{:08X}{:08X}", number / per_file.max(1), number % per_file.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(timeline: u32, history: &[(u32, u64)], end: u64) -> Position {
        let history = history.iter().map(|(timeline, end)| Ancestor { timeline: *timeline, end: Lsn(*end) }).collect();
        Position { system: "7".into(), timeline, history, end: Lsn(end) }
    }

    fn compare(mine: &Position, leader: &Position) -> Relation {
        relation(mine, leader, Shared::Yes)
    }

    #[test]
    fn a_part_ends_before_the_fork() {
        let leader = at(2, &[(1, 100)], 200);
        assert_eq!(compare(&at(1, &[], 100), &leader), Relation::Part);
        assert_eq!(compare(&at(1, &[], 40), &leader), Relation::Part);
        assert_eq!(compare(&at(2, &[(1, 100)], 200), &leader), Relation::Part);
        assert_eq!(compare(&at(1, &[], 101), &leader), Relation::Diverged(Lsn(100)));
    }

    #[test]
    fn more_than_the_leader_on_its_own_timeline_is_told_apart() {
        assert_eq!(compare(&at(1, &[], 201), &at(1, &[], 200)), Relation::Ahead);
        assert_eq!(relation(&at(1, &[], 201), &at(1, &[], 200), Shared::No), Relation::Collision);
    }

    #[test]
    fn the_same_number_made_twice_is_a_collision() {
        let leader = at(3, &[(1, 100), (2, 150)], 300);
        assert_eq!(compare(&at(2, &[(1, 90)], 95), &leader), Relation::Collision);
        assert_eq!(compare(&at(3, &[(1, 100), (2, 140)], 200), &leader), Relation::Collision);
        // Same number, same fork: only the barrier tells.
        assert_eq!(relation(&at(3, &[(1, 100), (2, 150)], 160), &leader, Shared::No), Relation::Collision);
    }

    #[test]
    fn an_own_timeline_that_the_leader_skipped_can_be_rewound() {
        let leader = at(3, &[(1, 100)], 300);
        assert_eq!(compare(&at(2, &[(1, 90)], 95), &leader), Relation::Diverged(Lsn(90)));
        assert_eq!(compare(&at(2, &[(1, 100)], 110), &leader), Relation::Diverged(Lsn(100)));
        assert_eq!(compare(&at(2, &[(1, 90)], 95), &at(1, &[], 300)), Relation::Diverged(Lsn(90)));
    }

    #[test]
    fn another_cluster_is_foreign() {
        let other = Position { system: "8".into(), ..at(1, &[], 5) };
        assert_eq!(compare(&other, &at(1, &[], 100)), Relation::Foreign);
    }

    #[test]
    fn segments_are_named_as_the_server_names_them() {
        const MEGABYTES: u64 = 16 << 20;
        assert_eq!(segment_name(Lsn(0x150_0148), MEGABYTES), "0000000000000001");
        assert_eq!(segment_name(Lsn(0x200_0000), MEGABYTES), "0000000000000001");
        assert_eq!(segment_name(Lsn(0x1_0000_0001), MEGABYTES), "0000000100000000");
        assert_eq!(
            parse_history("1\t0/1500148\tno recovery target\n\n"),
            [Ancestor { timeline: 1, end: Lsn(0x150_0148) }]
        );
    }
}
