//! Sizes of files: one idea each.

use super::source::Source;

const LIMIT: usize = 600;

/// The breaches, one line each.
pub(crate) fn check(sources: &[Source]) -> Vec<String> {
    sources
        .iter()
        .filter(|source| source.lines > LIMIT)
        .map(|source| format!("{}: {} lines; split it by idea (limit {LIMIT})", source.path, source.lines))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_above_the_limit_is_a_breach() {
        let source = |lines| Source { path: "a.rs".to_owned(), lines, code: String::new() };
        assert_eq!(check(&[source(LIMIT), source(LIMIT + 1)]).len(), 1);
    }
}
