//! Files and directories of members.
//!
//! Two ways to write: [`write_durably`] for what cannot be made again (goals), with the fsyncs that takes;
//! [`write_derived`] for what is rendered from a goal and compared with it before every start, so that an fsync would
//! buy nothing. Both replace whole files. Running out of space is told apart as `DISK_FULL` everywhere.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown},
    path::{Path, PathBuf},
};

use windlass_core::{Error, ErrorKind, Reason, size::format_bytes};
use windlass_kit::files::{Access, replace, sync_directory};

use super::account::Accounts;

/// Whose a file is.
#[derive(Debug, Clone, Copy)]
pub enum Owner<'a> {
    /// The agent's.
    Agent,
    /// The database user's.
    Database(&'a Accounts),
}

/// What could not be done with a path, with lack of space told apart.
pub fn failed(verb: &str, path: &Path, error: io::Error) -> Error {
    let message = format!("cannot {verb} {}: {error}", path.display());
    let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    if full { disk_full(message) } else { Error::internal(message) }.with_source(error)
}

/// The disk has no room.
pub fn disk_full(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::ResourceExhausted, Reason::DiskFull, message)
}

/// Whether a program says that it lacks space: the kernel's words, and those that the engines put in their place.
pub fn says_disk_full(text: &str) -> bool {
    [
        "No space left on device",
        "Disk quota exceeded",
        "Check free disk space",
        "Disk full",
        "Disk is full",
        "errno: 28",
        "error 28",
    ]
    .iter()
    .any(|sign| text.contains(sign))
}

/// Replaces a private file so that the new content survives power loss.
///
/// # Errors
/// `DISK_FULL`, `INTERNAL`.
pub fn write_durably(path: &Path, content: &[u8]) -> Result<(), Error> {
    replace(path, content, Access::Private).map_err(|error| {
        let full = error
            .source
            .as_ref()
            .and_then(|source| source.downcast_ref::<io::Error>())
            .is_some_and(|io| matches!(io.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded));
        if full { disk_full(error.message.clone()).with_source(error) } else { error }
    })
}

/// Replaces a file that can be made again, with this mode, for this owner. The directory may belong to the owner: links
/// in it are not followed.
///
/// # Errors
/// `DISK_FULL`, `INTERNAL`.
pub fn write_derived(path: &Path, content: &[u8], mode: u32, owner: Owner<'_>) -> Result<(), Error> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = Path::new(&temporary);
    let write = || {
        ignore_missing(fs::remove_file(temporary))?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(temporary)?;
        if let Owner::Database(accounts) = owner
            && accounts.agent != accounts.database
        {
            fchown(&file, Some(accounts.database.uid), Some(accounts.database.gid))?;
        }
        file.write_all(content)?;
        fs::rename(temporary, path)
    };
    write().map_err(|error| failed("write", path, error))
}

/// Makes a directory with this mode if there is none. The parent must exist.
///
/// # Errors
/// `DISK_FULL`, `INTERNAL`.
pub fn make_directory(path: &Path, mode: u32) -> Result<(), Error> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed("make", path, error)),
        _ => Ok(()),
    }
}

/// Renames within one file system so that the move survives power loss.
///
/// # Errors
/// `INTERNAL` naming the path.
pub fn move_durably(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(|error| failed("move", from, error))?;
    for parent in [to.parent(), from.parent()].into_iter().flatten() {
        sync_directory(parent).map_err(|error| failed("sync", parent, error))?;
    }
    Ok(())
}

/// Removes a tree; that it does not exist is fine.
///
/// # Errors
/// `INTERNAL` naming the path.
pub fn remove_tree(path: &Path) -> Result<(), Error> {
    ignore_missing(fs::remove_dir_all(path)).map_err(|error| failed("remove", path, error))
}

/// Removes a tree without holding up other tasks: a data directory may have very many files.
///
/// # Errors
/// `INTERNAL` naming the path.
pub async fn remove_large_tree(path: PathBuf) -> Result<(), Error> {
    let removed = tokio::task::spawn_blocking(move || remove_tree(&path)).await;
    removed.map_err(|error| Error::internal("a removal broke off").with_source(error))?
}

/// Puts a log aside when it is larger than `most` bytes, also while its writer has it open for appending. One old log is
/// kept; what is written between the copy and the cut is lost.
///
/// # Errors
/// `DISK_FULL`, `INTERNAL`.
pub fn cap_log(log: &Path, most: u64) -> Result<(), Error> {
    if length(log) <= most {
        return Ok(());
    }
    let mut old = log.as_os_str().to_owned();
    old.push(".1");
    let cut = || fs::copy(log, &old).and_then(|_| OpenOptions::new().write(true).open(log)?.set_len(0));
    cut().map_err(|error| failed("rotate", log, error))
}

/// Text of a file; None if it does not exist.
///
/// # Errors
/// `INTERNAL` naming the path.
pub fn read_text(path: &Path) -> Result<Option<String>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path, error)),
    }
}

/// Names in a directory, sorted; none if it does not exist.
///
/// # Errors
/// `INTERNAL` naming the path.
pub fn names_in(path: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("list", path, error)),
    };
    let mut names: Vec<String> =
        entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect();
    names.sort();
    Ok(names)
}

/// Bytes on disk below a directory. What vanishes meanwhile counts nothing.
pub fn tree_size(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    entries
        .flatten()
        .filter_map(|entry| Some((entry.metadata().ok()?, entry.path())))
        .map(|(metadata, path)| {
            // `blocks` counts 512 bytes each, whatever the file system's block size (stat(2)).
            metadata.blocks() * 512 + if metadata.is_dir() { tree_size(&path) } else { 0 }
        })
        .sum()
}

/// Bytes that an unprivileged process may still write below the path.
///
/// # Errors
/// `INTERNAL` naming the path.
pub fn free_space(path: &Path) -> Result<u64, Error> {
    let stat = rustix::fs::statvfs(path).map_err(|error| failed("measure", path, error.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Checks that more than `floor` bytes are free below the path.
///
/// # Errors
/// `DISK_FULL` with the figures.
pub fn check_space(path: &Path, floor: u64) -> Result<(), Error> {
    let free = free_space(path)?;
    if free >= floor {
        return Ok(());
    }
    Err(disk_full(format!(
        "{} has {} free, less than the {} that a new member needs; free some space or add a disk",
        path.display(),
        format_bytes(free),
        format_bytes(floor)
    )))
}

/// Length of a file, 0 if there is none.
pub fn length(path: &Path) -> u64 {
    fs::metadata(path).map(|metadata| metadata.len()).unwrap_or(0)
}

/// The last lines of a file that were written after `from`, at most `lines` of them and 4 KiB.
pub fn tail(path: &Path, from: u64, lines: usize) -> String {
    const MOST: u64 = 4096;
    let read = || -> io::Result<String> {
        let mut file = fs::File::open(path)?;
        let end = file.metadata()?.len();
        // A log that was put aside meanwhile is read from its start.
        let from = if from > end { 0 } else { from };
        file.seek(SeekFrom::Start(from.max(end.saturating_sub(MOST))))?;
        let mut bytes = Vec::new();
        file.take(MOST).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    last_lines(&read().unwrap_or_default(), lines)
}

/// The last non-empty lines of a text, joined by ` | `.
pub fn last_lines(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    all[all.len().saturating_sub(lines)..].join(" | ")
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_starts_where_it_is_told_and_is_short() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("log");
        fs::write(&path, "old\none\n\ntwo\nthree\n").expect("write");
        assert_eq!(tail(&path, 4, 2), "two | three");
        assert_eq!(tail(&path, 4, 9), "one | two | three");
        assert_eq!(tail(&path, 99, 1), "three");
    }

    #[test]
    fn a_log_is_capped_while_it_is_written() {
        let dir = tempfile::tempdir().expect("dir");
        let log = dir.path().join("log");
        let mut writer = OpenOptions::new().create(true).append(true).open(&log).expect("open");
        writer.write_all(b"0123456789").expect("write");
        cap_log(&log, 10).expect("small enough");
        assert_eq!(length(&log), 10);
        writer.write_all(b"x").expect("write");
        cap_log(&log, 10).expect("cut");
        writer.write_all(b"new").expect("write");
        assert_eq!(read_text(&log).expect("read").as_deref(), Some("new"));
        assert_eq!(names_in(dir.path()).expect("list"), ["log", "log.1"]);
    }

    #[test]
    fn lack_of_space_is_told_apart() {
        let error = failed("write", Path::new("/x"), io::Error::from_raw_os_error(28));
        assert_eq!(error.reason, Reason::DiskFull);
        assert_eq!(check_space(Path::new("/"), u64::MAX).expect_err("too much").reason, Reason::DiskFull);
    }

    #[test]
    fn a_derived_file_is_replaced_with_its_mode() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("conf");
        write_derived(&path, b"one", 0o644, Owner::Agent).expect("first");
        write_derived(&path, b"two", 0o600, Owner::Agent).expect("second");
        assert_eq!(fs::metadata(&path).expect("stat").mode() & 0o777, 0o600);
        assert_eq!(read_text(&path).expect("read").as_deref(), Some("two"));
        assert_eq!(names_in(dir.path()).expect("list"), ["conf"]);
    }
}
