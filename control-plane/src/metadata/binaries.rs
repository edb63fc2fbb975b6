//! Finding a PostgreSQL on this machine. Names no version: what is newest wins, what a data directory was made by
//! is kept.

use std::path::{Path, PathBuf};

use tokio::process::Command;
use windlass_core::{Error, Reason};

/// Oldest major version whose SQL the metadata needs.
pub const OLDEST_MAJOR: u32 = 15;

/// A PostgreSQL installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// Directory with `postgres`, `initdb` and `pg_ctl`.
    pub dir: PathBuf,
    /// Major version.
    pub major: u32,
}

/// The newest usable installation, or the one of `wanted` when a data directory was made by that major version.
///
/// # Errors
/// `UNAVAILABLE` saying what was found and what to install.
pub async fn find(search: &[PathBuf], wanted: Option<u32>) -> Result<Binaries, Error> {
    let mut found = Vec::new();
    for dir in candidates(search) {
        if let Some(major) = major_of(&dir).await {
            found.push(Binaries { dir, major });
        }
    }
    choose(found, wanted)
}

fn choose(found: Vec<Binaries>, wanted: Option<u32>) -> Result<Binaries, Error> {
    let majors = found.iter().map(|b| b.major.to_string()).collect::<Vec<_>>().join(", ");
    let usable = |b: &Binaries| wanted.map_or(b.major >= OLDEST_MAJOR, |major| b.major == major);
    // The first of equals: configured directories come before the usual ones.
    found.into_iter().filter(usable).rev().max_by_key(|b| b.major).ok_or_else(|| {
        let there = if majors.is_empty() { "no PostgreSQL server is installed here".to_owned() } else { format!("only PostgreSQL {majors} is installed here") };
        let (need, package) = match wanted {
            Some(major) => (format!("the metadata was made by PostgreSQL {major}"), major),
            None => (format!("the embedded metadata needs PostgreSQL {OLDEST_MAJOR} or newer"), OLDEST_MAJOR),
        };
        Error::precondition(
            Reason::Unavailable,
            format!("{need}, but {there}; install the package postgresql-{package}, name its directory in metadata.search_dirs, or set metadata.url"),
        )
    })
}

/// Directories that may hold the programs, configured ones first.
fn candidates(search: &[PathBuf]) -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = search.to_vec();
    for (parent, prefix) in
        [("/usr/lib/postgresql", ""), ("/usr", "pgsql-"), ("/opt", "pgsql-"), ("/usr/local", "pgsql")]
    {
        let Ok(entries) = std::fs::read_dir(parent) else { continue };
        let mut named: Vec<_> = entries
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
            .map(|entry| entry.path().join("bin"))
            .collect();
        named.sort();
        dirs.extend(named);
    }
    if let Some(path) = std::env::var_os("PATH") {
        dirs.extend(std::env::split_paths(&path));
    }
    dirs.retain(|dir| ["postgres", "initdb", "pg_ctl"].iter().all(|program| dir.join(program).is_file()));
    dirs
}

async fn major_of(dir: &Path) -> Option<u32> {
    let output = Command::new(dir.join("postgres")).arg("--version").output().await.ok()?;
    parse_major(&String::from_utf8_lossy(&output.stdout))
}

/// `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` → 15; also `17beta1` → 17.
fn parse_major(text: &str) -> Option<u32> {
    let version = text.split_whitespace().nth(2)?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(dir: &str, major: u32) -> Binaries {
        Binaries { dir: dir.into(), major }
    }

    #[test]
    fn versions_are_read_as_the_programs_print_them() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 17beta1"), Some(17));
        assert_eq!(parse_major("what?"), None);
    }

    #[test]
    fn the_newest_is_chosen_unless_the_data_wants_another() {
        let found = vec![at("/mine", 16), at("/a", 15), at("/b", 16), at("/old", 9)];
        assert_eq!(choose(found.clone(), None).expect("some"), at("/mine", 16));
        assert_eq!(choose(found.clone(), Some(15)).expect("15"), at("/a", 15));
        let error = choose(found, Some(14)).expect_err("14 is gone");
        assert!(error.message.contains("made by PostgreSQL 14, but only PostgreSQL 16, 15, 16, 9"), "{error}");
        let error = choose(vec![], None).expect_err("none");
        assert!(error.message.contains("install the package postgresql-15"), "{error}");
    }
}
