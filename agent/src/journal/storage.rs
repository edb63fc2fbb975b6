//! Where the journal's bytes lie: a file, or memory for simulated agents.
//!
//! Invariant: what `append` or `replace` answered `Ok` for survives a crash of the machine; `replace` is all or
//! nothing.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use windlass_kit::files::{self, Access};

/// Bytes that outlive the process.
pub trait Storage: Send + 'static {
    /// Everything that is stored; empty if nothing ever was.
    ///
    /// # Errors
    /// If it cannot be read.
    fn load(&mut self) -> io::Result<Vec<u8>>;

    /// Adds bytes at the end, durably.
    ///
    /// # Errors
    /// If it fails, for example for want of room; then any part of the bytes may be there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Cuts everything behind `length` bytes off, durably.
    ///
    /// # Errors
    /// If it fails; then nothing is known about what lies behind `length`.
    fn truncate(&mut self, length: u64) -> io::Result<()>;

    /// Replaces everything, durably and atomically.
    ///
    /// # Errors
    /// If it fails; then the old bytes are still there.
    fn replace(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// One file, mode 0600.
pub struct FileStorage {
    path: PathBuf,
    file: Option<File>,
}

impl FileStorage {
    /// The file at this path, which is made when something is first stored. Its directory must exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), file: None }
    }

    fn file(&mut self) -> io::Result<&mut File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => OpenOptions::new().append(true).open(&self.path)?,
        };
        Ok(self.file.insert(file))
    }
}

impl Storage for FileStorage {
    fn load(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match File::open(&self.path) {
            Ok(mut file) => file.read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        Ok(bytes)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = self.file()?;
        file.write_all(bytes)?;
        file.sync_data()
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        let file = self.file()?;
        file.set_len(length)?;
        file.sync_all()
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file = None;
        files::replace(&self.path, bytes, Access::Private).map_err(|error| {
            let below = error.source.and_then(|source| source.downcast::<io::Error>().ok());
            below.map_or_else(|| io::Error::other(error.message), |io| *io)
        })
    }
}

/// Memory that outlives a simulated agent: clones share the bytes. Who loads it last owns it: a journal that was killed
/// cannot write behind the back of its successor. It can be given a size, to play a full disk.
#[derive(Clone, Default)]
pub struct MemoryStorage {
    disk: Arc<Mutex<Disk>>,
    owner: u64,
}

#[derive(Default)]
struct Disk {
    bytes: Vec<u8>,
    room: Option<usize>,
    owner: u64,
}

impl MemoryStorage {
    /// Storage that holds these bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { disk: Arc::new(Mutex::new(Disk { bytes, ..Disk::default() })), owner: 0 }
    }

    /// What is stored.
    pub fn bytes(&self) -> Vec<u8> {
        self.disk().bytes.clone()
    }

    /// Limits the storage to this many bytes; `None` lifts the limit.
    pub fn limit(&self, room: Option<usize>) {
        self.disk().room = room;
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn owned(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let disk = self.disk();
        if disk.owner == self.owner { Ok(disk) } else { Err(io::Error::other("another journal took over")) }
    }
}

impl Storage for MemoryStorage {
    fn load(&mut self) -> io::Result<Vec<u8>> {
        let mut disk = self.disk();
        disk.owner += 1;
        let (bytes, owner) = (disk.bytes.clone(), disk.owner);
        drop(disk);
        self.owner = owner;
        Ok(bytes)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.owned()?;
        let free = disk.room.map_or(usize::MAX, |room| room.saturating_sub(disk.bytes.len()));
        disk.bytes.extend_from_slice(&bytes[..bytes.len().min(free)]);
        if bytes.len() > free { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.owned()?.bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        Ok(())
    }

    fn replace(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.owned()?;
        if disk.room.is_some_and(|room| bytes.len() > room) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        disk.bytes = bytes.to_vec();
        Ok(())
    }
}
