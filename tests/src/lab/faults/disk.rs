//! FULL and HANG: a small file system of a host's own that can be filled, or whose writes can be made to wait.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::database;

/// A small ext4 in a file. Dropped, it is unmounted and its file is removed.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    mount: PathBuf,
}

impl Disk {
    /// Makes and mounts one.
    ///
    /// # Errors
    /// The system has no loop devices, or refused.
    pub fn mount(image: &Path, mount: &Path, mebibytes: u64) -> Result<Self> {
        std::fs::create_dir_all(mount)?;
        std::fs::File::create(image)?.set_len(mebibytes << 20)?;
        let disk = Self { image: image.to_owned(), mount: mount.to_owned() };
        database::output(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(image))?;
        database::output(Command::new("mount").args(["-o", "loop"]).arg(image).arg(mount))?;
        Ok(disk)
    }

    /// Fills it to the last byte.
    ///
    /// # Errors
    /// The system refused, but for want of space.
    pub fn fill(&self) -> Result<Full> {
        let ballast = self.mount.join("ballast");
        let full = Full(ballast.clone());
        let mut command = Command::new("dd");
        command.args(["if=/dev/zero", "bs=64k"]).arg(format!("of={}", ballast.display()));
        // That it ends for want of space is what is wanted.
        command.output()?;
        Ok(full)
    }

    /// Lets every write wait.
    ///
    /// # Errors
    /// The system refused.
    pub fn hang(&self) -> Result<Hang> {
        database::output(Command::new("fsfreeze").arg("-f").arg(&self.mount))?;
        Ok(Hang(self.mount.clone()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("-u").arg(&self.mount).output();
        // Lazily: whoever still holds a file keeps it until it ends.
        let _ = Command::new("umount").arg("-l").arg(&self.mount).output();
        let _ = std::fs::remove_file(&self.image);
    }
}

/// A disk without space.
#[derive(Debug)]
pub struct Full(PathBuf);

impl Drop for Full {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A disk whose writes wait.
#[derive(Debug)]
pub struct Hang(PathBuf);

impl Drop for Hang {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("-u").arg(&self.0).output();
    }
}
