//! One process for each state directory.
//!
//! Why: two agents on one journal would carry commands out twice. The kernel drops the lock with the process, however it
//! ends.

use std::{fs::File, path::Path, time::Duration};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use tokio::time::sleep;
use windlass_core::{Error, Reason};

/// Held while the process runs.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
}

impl StateLock {
    /// Takes the lock; `None` if another process has it.
    ///
    /// # Errors
    /// `INTERNAL` if the lock file cannot be made.
    pub fn try_take(state_dir: &Path) -> Result<Option<Self>, Error> {
        let path = state_dir.join("lock");
        let failed =
            |what: std::io::Error| Error::internal(format!("cannot lock {}: {what}", path.display())).with_source(what);
        let file = File::options().write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(failed(errno.into())),
        }
    }

    /// Takes the lock; waits up to a second for it.
    ///
    /// # Errors
    /// `STATE_FORBIDS` if another process runs on the directory; `INTERNAL` as [`StateLock::try_take`].
    pub async fn take(state_dir: &Path) -> Result<Self, Error> {
        // A process that is just ending, or a look at the status, has it for a moment only.
        for _ in 0..20 {
            if let Some(lock) = Self::try_take(state_dir)? {
                return Ok(lock);
            }
            sleep(Duration::from_millis(50)).await;
        }
        Err(Error::precondition(
            Reason::StateForbids,
            format!(
                "another process runs on {}; stop it, or give this one a state_dir of its own",
                state_dir.display()
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_process_is_refused_until_the_first_is_gone() {
        let directory = tempfile::tempdir().expect("directory");
        let first = StateLock::take(directory.path()).await.expect("free");
        let error = StateLock::take(directory.path()).await.expect_err("taken");
        assert!(error.message.contains("another process runs"), "{error}");
        drop(first);
        StateLock::take(directory.path()).await.expect("free again");
    }
}
