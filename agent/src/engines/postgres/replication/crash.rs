//! What a server died of, by its last words.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_named_before_the_panic_that_follows_it() {
        let words = "PANIC:  could not write to file \"pg_wal/xlogtemp.7\": No space left on device";
        assert_eq!(incurable(words), Some("its disk is full"));
        assert_eq!(incurable("LOG:  server process (PID 7) was terminated by signal 11"), None);
    }
}
