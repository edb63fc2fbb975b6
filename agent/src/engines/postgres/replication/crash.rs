//! What a server died of, or waits for in vain, by its last words.

/// Whether a restart cures nothing: the disk is full or broken, or data is damaged.
pub fn incurable(last_words: &str) -> Option<&'static str> {
    const SIGNS: &[(&str, &str)] = &[
        ("No space left on device", "its disk is full"),
        ("Disk quota exceeded", "its disk quota is used up"),
        ("Input/output error", "its disk has errors"),
        ("Read-only file system", "its disk can only be read"),
        ("invalid page in block", "a page is damaged"),
        ("could not locate a valid checkpoint record", "its log is damaged"),
        ("PANIC:", "it found a state from which it cannot go on"),
    ];
    SIGNS.iter().find(|(sign, _)| last_words.contains(sign)).map(|(_, why)| *why)
}

/// Why a standby cannot start from its data any more, by its last words.
pub fn hopeless(last_words: &str) -> Option<&'static str> {
    const SIGNS: &[(&str, &str)] = &[
        ("does not contain minimum recovery point", "its data goes beyond where the leader's timeline left its own"),
        ("is not a child of this server's history", "the leader's history is another"),
    ];
    SIGNS.iter().find(|(sign, _)| last_words.contains(sign)).map(|(_, why)| *why)
}

/// Whom a starting standby follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follows {
    /// Nobody: all that it needs has to be there.
    Nobody,
    /// Somebody, who may be away for a while.
    Somebody,
}

/// Whether a starting standby waits for a part of the log that it will not get.
pub fn astray(log: &str, follows: Follows) -> Option<&'static str> {
    const SIGNS: &[(&str, &str)] = &[
        ("has already been removed", "the leader no longer has the log that it needs"),
        ("is not in this server's history", "the leader's history is another"),
        ("is not a child of this server's history", "the leader's history is another"),
        ("is behind recovery timeline", "the leader's timeline is older than its own"),
        ("forked off current database system timeline", "the leader's timeline left its own before its end"),
    ];
    const LACKS: (&str, &str) = ("waiting for WAL to become available", "the log that it needs is not there");
    let lacks = (follows == Follows::Nobody).then_some(&LACKS);
    SIGNS.iter().chain(lacks).find(|(sign, _)| log.contains(sign)).map(|(_, why)| *why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_named_before_the_panic_that_follows_it() {
        let words = "PANIC:  could not write to file \"pg_wal/xlogtemp.7\": No space left on device";
        assert_eq!(incurable(words), Some("its disk is full"));
        assert_eq!(incurable("LOG:  server process (PID 7) was terminated by signal 11"), None);
    }

    #[test]
    fn a_standby_that_was_started_behind_a_fork_is_told_from_one_that_crashed() {
        let words = "FATAL:  requested timeline 2 does not contain minimum recovery point 0/536EA00 on timeline 1";
        assert!(hopeless(words).is_some());
        assert_eq!(hopeless("LOG:  server process (PID 7) was terminated by signal 11"), None);
    }

    #[test]
    fn a_leader_that_is_away_is_waited_for() {
        let waits = "LOG:  waiting for WAL to become available at 0/3000018";
        assert_eq!(astray(waits, Follows::Somebody), None);
        assert!(astray(waits, Follows::Nobody).is_some());
        let gone =
            "FATAL:  could not receive data from WAL stream: requested WAL segment 0001 has already been removed";
        assert!(astray(gone, Follows::Somebody).is_some());
    }
}
