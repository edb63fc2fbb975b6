//! Data that is put aside instead of being deleted.
//!
//! Owns: `<member>/quarantine/<number>/`. Invariants: a fresh number for each, so that nothing is written over; nothing
//! is removed before the member has a whole copy again that follows its leader, and then only what is old, or more than
//! the newest few. A crash leaves at most an empty directory.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use windlass_core::Error;

use crate::host::files;

/// How long it is kept.
const RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);
/// More than these are not kept, however new.
const MOST: usize = 3;

/// A fresh directory.
///
/// # Errors
/// `DISK_FULL`, `INTERNAL`.
pub(super) fn add(root: &Path) -> Result<PathBuf, Error> {
    let all = root.join("quarantine");
    files::make_directory(&all, 0o700)?;
    let next = numbers(&all)?.last().map_or(1, |newest| newest + 1);
    let path = all.join(next.to_string());
    files::make_directory(&path, 0o700)?;
    Ok(path)
}

/// What may go now that the member has a whole copy.
///
/// # Errors
/// `INTERNAL`.
pub(super) fn expired(root: &Path) -> Result<Vec<PathBuf>, Error> {
    let all = root.join("quarantine");
    let numbers = numbers(&all)?;
    let many = numbers.len().saturating_sub(MOST);
    let old = |path: &PathBuf| {
        let changed = path.metadata().and_then(|metadata| metadata.modified()).ok();
        changed.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > RETENTION)
    };
    let paths = numbers.into_iter().map(|number| all.join(number.to_string()));
    Ok(paths.enumerate().filter(|(index, path)| *index < many || old(path)).map(|(_, path)| path).collect())
}

fn numbers(all: &Path) -> Result<Vec<u32>, Error> {
    let mut numbers: Vec<u32> = files::names_in(all)?.iter().filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_new_and_the_newest_few_stay() {
        let dir = tempfile::tempdir().expect("dir");
        assert!(expired(dir.path()).expect("none").is_empty());
        let made: Vec<PathBuf> = (0..12).map(|_| add(dir.path()).expect("add")).collect();
        assert!(made.last().expect("last").ends_with("quarantine/12"));
        assert_eq!(expired(dir.path()).expect("expired"), made[..12 - MOST]);
    }
}
