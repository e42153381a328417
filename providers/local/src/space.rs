//! The hidden space: `.sluice` in the root, which no key can name.
//!
//! ```text
//! .sluice/staging/<process>/      content on its way to its place; `<process>.lock` is held as long as the process lives
//! .sluice/locks/<shard>           advisory locks of keys
//! .sluice/records/<xx>/<name>     attributes that do not fit into the inode
//! .sluice/uploads/<upload>/       parts of uploads
//! .sluice/versions/<key>/         older versions of a key
//! ```
//! All of it lies on the file system of the root, so that publication is a rename.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, fsync, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use sluice_provider::{Error, ErrorKind, Result};

use crate::error::{Sys, fault};
use crate::name::RESERVED;

const PRIVATE: Mode = Mode::from_raw_mode(0o700);
/// Objects are ordinary files: the umask of the process decides.
const OBJECT: Mode = Mode::from_raw_mode(0o666);

/// The open hidden space of one process.
#[derive(Debug)]
pub(crate) struct Space {
    pub(crate) hidden: OwnedFd,
    pub(crate) staging_root: OwnedFd,
    pub(crate) records: OwnedFd,
    pub(crate) uploads: OwnedFd,
    pub(crate) versions: OwnedFd,
    staging: OwnedFd,
    process: String,
    /// Locked as long as this process uses its staging directory.
    _alive: OwnedFd,
    next: AtomicU64,
}

/// Opens a directory, making it when it is missing.
pub(crate) fn subdirectory(parent: BorrowedFd<'_>, name: &str) -> Sys<OwnedFd> {
    match mkdirat(parent, name, PRIVATE) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    openat(parent, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// A name that nobody else has.
pub(crate) fn random_id() -> Result<[u8; 16]> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|e| Error::new(ErrorKind::Unavailable, "random").with("cause", e))?;
    Ok(id)
}

/// Opens, or makes, a lock file.
pub(crate) fn lock_file(dir: BorrowedFd<'_>, name: &str) -> Sys<OwnedFd> {
    openat(dir, name, OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::from_raw_mode(0o600))
}

impl Space {
    /// Opens the hidden space of a root and a staging directory of our own in it.
    pub(crate) fn open(root: BorrowedFd<'_>) -> Result<Self> {
        let open = |parent, name| subdirectory(parent, name).map_err(|e| fault("open hidden space", e).with("name", name));
        let hidden = open(root, RESERVED)?;
        let staging_root = open(hidden.as_fd(), "staging")?;
        let (records, uploads) = (open(hidden.as_fd(), "records")?, open(hidden.as_fd(), "uploads")?);
        let versions = open(hidden.as_fd(), "versions")?;
        let process = hex::encode(random_id()?);
        let staging_failed = |e| fault("open staging directory", e);
        // A sweep holds this too, so that it never sees our lock file before it is locked.
        let entry = lock_file(staging_root.as_fd(), "lock").map_err(staging_failed)?;
        flock(&entry, FlockOperation::LockExclusive).map_err(staging_failed)?;
        let alive = lock_file(staging_root.as_fd(), &format!("{process}.lock")).map_err(staging_failed)?;
        flock(&alive, FlockOperation::NonBlockingLockExclusive).map_err(staging_failed)?;
        let staging = open(staging_root.as_fd(), &process)?;
        for dir in [root, hidden.as_fd(), staging_root.as_fd()] {
            fsync(dir).map_err(staging_failed)?;
        }
        Ok(Self { hidden, staging_root, records, uploads, versions, staging, process, _alive: alive, next: AtomicU64::new(0) })
    }

    /// Begins a new file.
    pub(crate) fn stage(self: &Arc<Self>) -> Sys<Staged> {
        let name = format!("{:x}", self.next.fetch_add(1, Ordering::Relaxed));
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = openat(&self.staging, &name, flags, OBJECT)?;
        Ok(Staged { space: Arc::clone(self), name, file: Arc::new(File::from(file)), record: None, gone: false })
    }

    /// A name in our staging directory for something that already is a file.
    pub(crate) fn reserve(self: &Arc<Self>, file: Arc<File>) -> Staged {
        let name = format!("{:x}", self.next.fetch_add(1, Ordering::Relaxed));
        Staged { space: Arc::clone(self), name, file, record: None, gone: false }
    }

    pub(crate) fn staging(&self) -> BorrowedFd<'_> {
        self.staging.as_fd()
    }

    /// The name of our staging directory.
    pub(crate) fn process(&self) -> &str {
        &self.process
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let Ok(root) = self.staging_root.try_clone() else { return };
        let process = std::mem::take(&mut self.process);
        // What is left when this fails is swept by the next one to open the root.
        in_background(move || {
            let emptied = unlinkat(&root, &process, AtFlags::REMOVEDIR);
            if emptied.is_ok() {
                let _ = unlinkat(&root, format!("{process}.lock"), AtFlags::empty());
            }
        });
    }
}

/// Does what may wait for the disk: the last owner of a thing may be a future that is being dropped on a reactor thread.
pub(crate) fn in_background(work: impl FnOnce() + Send + 'static) {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(work)),
        Err(_) => work(),
    }
}

/// A file on its way to its place. Dropping it removes it, and the record that was written for it.
#[derive(Debug)]
pub(crate) struct Staged {
    space: Arc<Space>,
    name: String,
    pub(crate) file: Arc<File>,
    /// The record that belongs to this file and to no published one yet.
    pub(crate) record: Option<String>,
    gone: bool,
}

impl Staged {
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.space.staging()
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// It lies at its place now, with its record; the name in the staging directory is free.
    pub(crate) fn published(&mut self) {
        self.gone = true;
        self.record = None;
    }

    /// Removes it now. Blocks; [`Drop`] does not.
    pub(crate) fn discard(mut self) {
        self.gone = true;
        remove(&self.space, &self.name, self.record.take().as_deref());
    }
}

fn remove(space: &Space, name: &str, record: Option<&str>) {
    if let Some(record) = record {
        crate::record::remove(space, record);
    }
    if let Err(errno) = unlinkat(space.staging(), name, AtFlags::empty())
        && errno != Errno::NOENT
    {
        tracing::warn!(%errno, name, "a staged file could not be removed; the next sweep will");
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.gone {
            return;
        }
        let (space, name, record) = (Arc::clone(&self.space), std::mem::take(&mut self.name), self.record.take());
        in_background(move || remove(&space, &name, record.as_deref()));
    }
}
