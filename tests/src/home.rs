//! The directory of a stack: short, open, and gone at the end with everything that runs below it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use uuid::Uuid;

use crate::database;

/// The directory of a stack. Dropped last, it ends whatever still runs below it, databases included.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) path: PathBuf,
    pub(crate) worth_keeping: bool,
}

impl Home {
    pub(crate) fn make() -> Result<Self> {
        // Short, because unix sockets lie below it, and open, because the databases' user passes through.
        let path = std::env::temp_dir().join(format!("wl-{}", &Uuid::new_v4().simple().to_string()[..10]));
        make_directory(&path)?;
        Ok(Self { path, worth_keeping: true })
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        database::end_below(&self.path);
        if self.worth_keeping {
            remove_data(&self.path);
            eprintln!("the test did not finish; its logs are in {}", self.path.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Removes what is big and tells nothing: the databases' files.
fn remove_data(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if ["data", "warm", "retained"].iter().any(|name| path.ends_with(name)) {
            let _ = std::fs::remove_dir_all(&path);
        } else {
            remove_data(&path);
        }
    }
}

/// A directory that every user may enter.
pub(crate) fn make_directory(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?)
}
