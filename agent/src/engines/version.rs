//! Asking programs for their version.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use crate::host::{
    account::Account,
    files,
    helper::{Helper, Priority},
};

const LIMIT: Duration = Duration::from_secs(10);

/// What `program --version` says; None if it cannot be run.
pub(super) async fn ask(program: &Path, account: &Account) -> Option<String> {
    let helper = Helper {
        program,
        arguments: vec![OsString::from("--version")],
        directory: Path::new("/"),
        account,
        priority: Priority::Normal,
        limit: LIMIT,
    };
    let finished = helper.run(&CancellationToken::new()).await.ok()?;
    finished.success.then_some(finished.output)
}

/// The first word that starts with a digit, up to what is not a digit or a dot: `10.11.14-MariaDB` gives `10.11.14`.
pub(super) fn number_in(text: &str) -> Option<&str> {
    let word = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let end = word.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(word.len());
    Some(word[..end].trim_end_matches('.'))
}

/// Directories whose path is `parent/<any name><suffix>`, newest name first.
pub(super) fn below(parent: &str, suffix: &str) -> Vec<PathBuf> {
    let names = files::names_in(Path::new(parent)).unwrap_or_default();
    names.iter().rev().map(|name| Path::new(parent).join(name).join(suffix)).collect()
}

/// The directories of the search path.
pub(super) fn search_path() -> Vec<PathBuf> {
    std::env::var_os("PATH").iter().flat_map(std::env::split_paths).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_found_in_what_programs_say() {
        for (text, number) in [
            ("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)", "15.14"),
            ("postgres (PostgreSQL) 18beta2", "18"),
            ("mariadbd  Ver 10.11.14-MariaDB-0+deb12u2 for debian-linux-gnu on x86_64 (Debian 12)", "10.11.14"),
        ] {
            assert_eq!(number_in(text), Some(number));
        }
        assert_eq!(number_in("no number"), None);
    }
}
