//! Files that must survive a crash or stay private.
//!
//! Owns: atomic replacement and the permission rules of secrets. Invariants: a reader sees the old content or the new,
//! never a part; after `replace` returns, the content survives power loss; a secret file is never readable by others,
//! not even for a moment. A crash in the middle leaves the old file and perhaps a `.tmp` neighbour that the next
//! `replace` of the same file overwrites.
//!
//! All functions block for a disk write; call them by `spawn_blocking` where that matters.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use windlass_core::{Error, ErrorKind, Reason};

/// Who may read a file or enter a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Only the owner: 0600, directories 0700.
    Private,
    /// Everybody may read: 0644, directories 0755.
    Public,
}

impl Access {
    fn file_mode(self) -> u32 {
        match self {
            Self::Private => 0o600,
            Self::Public => 0o644,
        }
    }

    fn directory_mode(self) -> u32 {
        match self {
            Self::Private => 0o700,
            Self::Public => 0o755,
        }
    }
}

/// Puts `content` in the place of the file, or makes it.
///
/// # Errors
/// As [`failed`].
pub fn replace(path: &Path, content: &[u8], access: Access) -> Result<(), Error> {
    let directory = parent(path);
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let write = || -> io::Result<()> {
        // A leftover of a crash may have other permissions: make the file anew.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(access.file_mode()).open(&temporary)?;
        file.set_permissions(fs::Permissions::from_mode(access.file_mode()))?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_directory(directory)
    };
    write().map_err(|error| {
        // On a full disk the half-written neighbour would take room for nothing; if it cannot go, the first error counts.
        let _ = fs::remove_file(&temporary);
        failed("write", path, error)
    })
}

/// Makes the names in a directory survive power loss.
///
/// # Errors
/// What the operating system said.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Reads a text file that must exist.
///
/// # Errors
/// `INTERNAL` naming the path; also if it is not UTF-8.
pub fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|error| failed("read", path, error))
}

/// Reads a text file; `None` if there is none.
///
/// # Errors
/// As [`read`].
pub fn read_if_there(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path, error)),
    }
}

/// Refuses a secret file that others may read or write.
///
/// # Errors
/// `INTERNAL` naming the path, its mode and the remedy.
pub fn check_private(path: &Path) -> Result<(), Error> {
    let mode = fs::metadata(path).map_err(|error| failed("read", path, error))?.mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(Error::internal(format!(
        "{} has mode {mode:04o}, so others may read a secret; run: chmod 600 {}",
        path.display(),
        path.display()
    )))
}

/// Makes a directory and those above it, if it does not exist; an existing one gets the mode too.
///
/// # Errors
/// `INTERNAL` naming the path.
pub fn create_directory(path: &Path, access: Access) -> Result<(), Error> {
    let mode = access.directory_mode();
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .map_err(|error| failed("make", path, error))
}

/// Removes a file; that it does not exist is fine.
///
/// # Errors
/// `INTERNAL` naming the path.
pub fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path, error)),
        _ => Ok(()),
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// What could not be done with a path: `DISK_FULL` if there is no room, else `INTERNAL`. `verb` as in "cannot verb path".
pub fn failed(verb: &str, path: &Path, error: io::Error) -> Error {
    let message = format!("cannot {verb} {}: {error}", path.display());
    let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let failure = if full {
        Error::new(ErrorKind::ResourceExhausted, Reason::DiskFull, message)
    } else {
        Error::internal(message)
    };
    failure.with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("metadata").mode() & 0o777
    }

    #[test]
    fn a_file_is_replaced_whole_with_the_mode_asked_for() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("key.pem");
        replace(&path, b"one", Access::Public).expect("first");
        assert_eq!(mode(&path), 0o644);
        replace(&path, b"two", Access::Private).expect("second");
        assert_eq!((read(&path).expect("read").as_str(), mode(&path)), ("two", 0o600));
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_leftover_of_a_crash_does_not_leak_into_a_private_file() {
        let dir = tempfile::tempdir().expect("dir");
        let (path, leftover) = (dir.path().join("key"), dir.path().join("key.tmp"));
        fs::write(&leftover, "half").expect("leftover");
        fs::set_permissions(&leftover, fs::Permissions::from_mode(0o666)).expect("mode");
        replace(&path, b"secret", Access::Private).expect("replace");
        assert_eq!((read(&path).expect("read").as_str(), mode(&path)), ("secret", 0o600));
    }

    #[test]
    fn errors_name_the_path() {
        let error = replace(Path::new("/nonexistent/x"), b"", Access::Private).expect_err("no directory");
        assert!(error.message.starts_with("cannot write /nonexistent/x: "), "{error}");
        assert_eq!(read_if_there(Path::new("/nonexistent/x")).expect("absent"), None);
        remove(Path::new("/nonexistent/x")).expect("absent is fine");
    }

    #[test]
    fn a_full_disk_is_told_apart() {
        let error = failed("write", Path::new("/x"), io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!(error.reason, Reason::DiskFull);
        // A device that is always full, by way of a name that is not replaced.
        let full = fs::write("/dev/full", "x").expect_err("always full");
        assert_eq!(failed("write", Path::new("/dev/full"), full).reason, Reason::DiskFull);
    }

    #[test]
    fn a_failed_replacement_leaves_the_old_file_and_nothing_beside_it() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("taken");
        fs::create_dir(&path).expect("a directory in its place");
        replace(&path, b"x", Access::Private).expect_err("a directory cannot be replaced by a file");
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 1);
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("kek");
        replace(&path, b"", Access::Public).expect("write");
        let error = check_private(&path).expect_err("0644");
        assert!(error.message.contains("mode 0644") && error.message.contains("chmod 600"), "{error}");
        replace(&path, b"", Access::Private).expect("write");
        check_private(&path).expect("0600");
    }

    #[test]
    fn a_private_directory_is_private_even_if_it_was_not() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("a/b");
        create_directory(&path, Access::Public).expect("public");
        create_directory(&path, Access::Private).expect("private");
        assert_eq!(mode(&path), 0o700);
    }
}
