//! Files without a name that a process started by us can read.
//!
//! The file is unlinked before its content is written, so it vanishes with the last process that has it open, however
//! that ends. The descriptor survives `exec`; the path under `/dev/fd` opens it anew.

use std::{
    fs::{File, Permissions},
    io::{Seek as _, Write as _},
    os::{fd::AsRawFd as _, unix::fs::PermissionsExt as _},
};

use rustix::io::{FdFlags, fcntl_setfd};

use crate::failure::Failure;

/// An open file without a name.
pub(super) struct Inherited(File);

impl Inherited {
    /// A file with this content, readable by this user only.
    pub(super) fn new(content: &str) -> Result<Self, Failure> {
        let make = || {
            let mut file = tempfile::tempfile()?;
            // No name does not mean no door: others may reach it through /proc while it is open.
            file.set_permissions(Permissions::from_mode(0o600))?;
            file.write_all(content.as_bytes())?;
            file.rewind()?;
            fcntl_setfd(&file, FdFlags::empty())?;
            Ok(Self(file))
        };
        make().map_err(|error: std::io::Error| Failure::Local(format!("cannot make a temporary file: {error}")))
    }

    /// Where this process and its successors find it.
    pub(super) fn path(&self) -> String {
        format!("/dev/fd/{}", self.0.as_raw_fd())
    }
}
