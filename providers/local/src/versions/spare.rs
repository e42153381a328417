//! Spare names: what keeps an older version over a loss of power until its shelf is on disk, and is flushed by all writers together.
//!
//! ```text
//! .sluice/spare/<process>-<number>/<version>~<key>    a second name of what lies on the shelf of the key, `/` written `%2F`
//! .sluice/spare/<process>-<number>.settled/           the shelves of all these are on disk; what is left of it is removed
//! ```
//! A version must have a name on disk before a new object takes its place. Each key has a shelf of its own, so that to flush it serves one
//! writer; a directory of spare names is written by all of them, and [`Flush`](crate::flush::Flush) lets them share its flushes. When it
//! has taken [`NAMES`] it is closed and the next begun; one syncfs(2) puts all the shelves on disk, and the directory ends: first it is
//! renamed and that flushed, then emptied. What holds at any moment:
//!
//! - A spare name is made after the name on the shelf, and removed before it: while it is there, so is the other, but for a loss of power.
//! - A directory that was not renamed may be believed: whoever removes a version has removed its spare name on disk.
//! - So what lies in the directory of a process that has ended, and not on its shelf, is put there when the root is opened next.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};
use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, flock, fsync, linkat, mkdirat, openat, renameat, statat, syncfs, unlinkat,
};
use rustix::io::Errno;
use sluice_provider::{Key, Result, Slot};

use crate::directory::names_in;
use crate::error::{Sys, fault};
use crate::flush::Flush;
use crate::name::NAME_BYTES;
use crate::space::{Space, lock_file};
use crate::store::Store;

/// How many names a directory takes before it is closed.
pub(crate) const NAMES: usize = if cfg!(test) { 64 } else { 4096 };
/// How many names may wait for their shelves. With more, a writer flushes the shelf itself.
const MOST: usize = 8 * NAMES;
const SETTLED: &str = ".settled";
/// Held by who looks after the directories of processes that have ended.
const LOCK: &str = "lock";

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A directory of spare names, while this process adds to it or sees to its end.
#[derive(Debug)]
struct Generation {
    name: String,
    dir: OwnedFd,
    /// Held shared while a name is being added.
    closed: RwLock<bool>,
    names: AtomicUsize,
}

/// The spare names of one process on one root.
#[derive(Debug)]
pub(crate) struct Spares {
    /// Only where syncfs(2) is known to put everything on disk, and anything is to be flushed at all.
    used: bool,
    current: Mutex<Option<Arc<Generation>>>,
    next: AtomicU64,
    /// Names that the current directory has taken.
    fresh: AtomicUsize,
    /// Names in all directories that have not ended.
    names: AtomicUsize,
    /// Directories that are closed. Locked by who ends them.
    closed: Mutex<Vec<Arc<Generation>>>,
}

/// A spare name that was made, and may not be on disk yet.
#[derive(Debug)]
pub(super) struct Spare {
    generation: Arc<Generation>,
    name: String,
}

impl Spare {
    pub(super) fn dir(&self) -> BorrowedFd<'_> {
        self.generation.dir.as_fd()
    }

    /// Removes it again, before anybody relied on it.
    pub(super) fn remove(&self) {
        let _ = unlinkat(&self.generation.dir, &self.name, AtFlags::empty());
    }
}

/// What an older version is called among the spare names; `None` for a key that is too long.
fn spelled(key: &str, slot: Slot) -> Option<String> {
    let mut name = format!("{slot}~");
    for c in key.chars() {
        match c {
            '/' => name.push_str("%2F"),
            '%' => name.push_str("%25"),
            '\0' => name.push_str("%00"),
            c => name.push(c),
        }
    }
    (name.len() <= NAME_BYTES).then_some(name)
}

fn read(name: &str) -> Option<(Slot, Key)> {
    let (slot, key) = name.split_once('~')?;
    let key = key.replace("%2F", "/").replace("%00", "\0").replace("%25", "%");
    let (slot, key) = (Slot::parse(slot)?, Key::new(&key).ok()?);
    // Only what we write ourselves.
    (spelled(key.as_str(), slot).as_deref() == Some(name)).then_some((slot, key))
}

impl Spares {
    pub(crate) fn new(used: bool) -> Self {
        Self {
            used,
            current: Mutex::default(),
            next: AtomicU64::new(0),
            fresh: AtomicUsize::new(0),
            names: AtomicUsize::new(0),
            closed: Mutex::default(),
        }
    }

    /// Whether it is time to end a directory, and nobody does.
    pub(crate) fn are_many(&self) -> bool {
        self.fresh.load(Ordering::Relaxed) >= NAMES && !self.closed.is_locked()
    }

    #[cfg(test)]
    pub(crate) fn used(&self) -> bool {
        self.used
    }

    /// Gives what lies on a shelf a spare name. `None` when that is not to be had, and the shelf must be flushed. Under the lock of the key.
    pub(super) fn add(&self, store: &Store, key: &str, shelf: BorrowedFd<'_>, slot: Slot) -> Sys<Option<Spare>> {
        if !self.used || self.names.load(Ordering::Relaxed) >= MOST {
            return Ok(None);
        }
        let Some(name) = spelled(key, slot) else { return Ok(None) };
        loop {
            let generation = self.open(&store.space, &store.flush)?;
            let closed = generation.closed.read();
            if *closed {
                continue;
            }
            match linkat(shelf, slot.to_string(), &generation.dir, &name, AtFlags::empty()) {
                Ok(()) => {
                    generation.names.fetch_add(1, Ordering::Relaxed);
                    self.fresh.fetch_add(1, Ordering::Relaxed);
                    self.names.fetch_add(1, Ordering::Relaxed);
                }
                // Of a call that was cut short; of another file it could not be, and is not relied on.
                Err(Errno::EXIST) => {
                    let [spare, shelved] = [
                        statat(&generation.dir, &name, AtFlags::SYMLINK_NOFOLLOW)?,
                        statat(shelf, slot.to_string(), AtFlags::SYMLINK_NOFOLLOW)?,
                    ];
                    if spare.st_ino != shelved.st_ino {
                        return Ok(None);
                    }
                }
                Err(errno) => return Err(errno),
            }
            drop(closed);
            return Ok(Some(Spare { generation, name }));
        }
    }

    fn open(&self, space: &Space, flush: &Flush) -> Sys<Arc<Generation>> {
        let mut current = self.current.lock();
        if let Some(generation) = &*current {
            return Ok(Arc::clone(generation));
        }
        let name = format!("{}-{}", space.process(), self.next.fetch_add(1, Ordering::Relaxed));
        flush.make(space.spare.as_fd(), || mkdirat(&space.spare, &name, Mode::from_raw_mode(0o700)))?;
        let dir = openat(&space.spare, &name, DIRECTORY, Mode::empty())?;
        let generation = Arc::new(Generation { name, dir, closed: RwLock::new(false), names: AtomicUsize::new(0) });
        *current = Some(Arc::clone(&generation));
        Ok(generation)
    }

    /// From now on nobody adds to the current directory. Whatever has a name in it has its name on a shelf.
    fn close(&self) -> Option<Arc<Generation>> {
        let mut current = self.current.lock();
        let generation = current.take()?;
        *generation.closed.write() = true;
        self.fresh.store(0, Ordering::Relaxed);
        Some(generation)
    }
}

/// Removes the spare names of a version, on disk when it returns: before the version is removed, or put elsewhere. Under the lock of the
/// key.
pub(super) fn forget(space: &Space, flush: &Flush, key: &str, slot: Slot) -> Sys<()> {
    let Some(name) = spelled(key, slot) else { return Ok(()) };
    let root = space.spare.as_fd();
    for generation in names_in(root)? {
        if generation == LOCK {
            continue;
        }
        let dir = if generation.ends_with(SETTLED) { None } else { directory(root, &generation)? };
        match dir.map(|dir| (unlinkat(&dir, &name, AtFlags::empty()), dir)) {
            Some((Ok(()), dir)) => flush.directory(dir.as_fd())?,
            Some((Err(Errno::NOENT), _)) => {}
            Some((Err(errno), _)) => return Err(errno),
            // Its end must be on disk, or the name could come back with the directory.
            None => flush.directory(root)?,
        }
    }
    Ok(())
}

fn directory(root: BorrowedFd<'_>, name: &str) -> Sys<Option<OwnedFd>> {
    match openat(root, name, DIRECTORY, Mode::empty()) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Ends a directory that nobody adds to, once everything is on the shelves.
fn end(root: BorrowedFd<'_>, name: &str) -> Sys<()> {
    let Some(dir) = directory(root, name)? else { return Ok(()) };
    syncfs(&dir)?;
    // Without a journal, ext4 empties the cache of the device before it has written the last of it: once more.
    fsync(&dir)?;
    let settled = format!("{name}{SETTLED}");
    match renameat(root, name, root, &settled) {
        Ok(()) => {}
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno),
    }
    clear(root, &settled)
}

/// Removes a directory that has ended. Its names must not come back: that it has ended is on disk before the first one goes.
fn clear(root: BorrowedFd<'_>, settled: &str) -> Sys<()> {
    fsync(root)?;
    let Some(dir) = directory(root, settled)? else { return Ok(()) };
    for name in names_in(dir.as_fd())? {
        match unlinkat(&dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    match unlinkat(root, settled, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

impl Store {
    /// Puts the shelves on disk that spare names stand for, and removes those. Blocks, for as long as the file system takes to write
    /// what waits.
    pub(crate) fn settle_spares(&self) -> Result<()> {
        let Some(mut closed) = self.spares.closed.try_lock() else { return Ok(()) };
        closed.extend(self.spares.close());
        while let Some(generation) = closed.last() {
            end(self.space.spare.as_fd(), &generation.name).map_err(|e| fault("settle versions", e))?;
            self.spares.names.fetch_sub(generation.names.load(Ordering::Relaxed), Ordering::Relaxed);
            closed.pop();
        }
        Ok(())
    }

    /// Looks after the spare names of processes that have ended: how many versions got their place on a shelf back. With `wait`, not before
    /// another process that is at it has done it.
    pub(crate) fn recover_spares(&self, wait: bool) -> Result<usize> {
        let failed = |e| fault("recover versions", e);
        let root = self.space.spare.as_fd();
        if names_in(root).map_err(failed)?.iter().all(|name| name == LOCK) {
            return Ok(0);
        }
        let lock = lock_file(root, LOCK).map_err(failed)?;
        let how = if wait { FlockOperation::LockExclusive } else { FlockOperation::NonBlockingLockExclusive };
        match flock(&lock, how) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(0),
            Err(errno) => return Err(failed(errno)),
        }
        let mut recovered = 0;
        for name in names_in(root).map_err(failed)? {
            if name == LOCK {
                continue;
            }
            if name.ends_with(SETTLED) {
                clear(root, &name).map_err(failed)?;
                continue;
            }
            let process = name.rsplit_once('-').map_or(name.as_str(), |(process, _)| process);
            if process == self.space.process() || self.space.is_alive(process).map_err(failed)? {
                continue;
            }
            let (back, left) = self.recover_generation(root, &name)?;
            recovered += back;
            if left == 0 {
                end(root, &name).map_err(failed)?;
            } else {
                tracing::error!(versions = left, "older versions are kept, and not in their places: the next sweep tries again");
            }
        }
        if recovered > 0 {
            tracing::info!(versions = recovered, "put older versions back in their places after a loss of power");
        }
        Ok(recovered)
    }

    /// How many versions of a directory got their place back, and how many could not.
    fn recover_generation(&self, root: BorrowedFd<'_>, name: &str) -> Result<(usize, usize)> {
        let failed = |e| fault("recover versions", e);
        let Some(dir) = directory(root, name).map_err(failed)? else { return Ok((0, 0)) };
        let (mut recovered, mut left) = (0, 0);
        for name in names_in(dir.as_fd()).map_err(failed)? {
            match self.recover_version(dir.as_fd(), &name) {
                Ok(done) => recovered += usize::from(done),
                Err(error) => {
                    left += 1;
                    tracing::error!(%error, name, "an older version cannot be put back in its place");
                }
            }
        }
        Ok((recovered, left))
    }

    fn recover_version(&self, dir: BorrowedFd<'_>, name: &str) -> Result<bool> {
        let failed = |e| fault("recover a version", e);
        let (slot, key) = read(name).ok_or_else(|| failed(Errno::INVAL))?;
        let _lock = self.locks.lock(key.as_str())?;
        let shelved = match self.open_shelf(key.as_str())? {
            Some(shelf) => is_there(shelf.as_fd(), &slot.to_string()).map_err(failed)?,
            None => false,
        };
        // Another process may have removed it meanwhile, and the spare name before.
        if shelved || !is_there(dir, name).map_err(failed)? {
            return Ok(false);
        }
        let shelf = self.make_shelf(key.as_str())?;
        linkat(dir, name, &shelf, slot.to_string(), AtFlags::empty()).map_err(failed)?;
        Ok(true)
    }
}

fn is_there(dir: BorrowedFd<'_>, name: &str) -> Sys<bool> {
    match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use sluice_provider::Version;

    #[test]
    fn a_spare_name_tells_version_and_key() {
        let slot = Slot { order: Version::after(None).unwrap(), null: true, marker: false };
        for key in ["a", "a/b", "a%2Fb", "%", "%25", "\0", "~", "a~b", "ä/ö", "%00", "a\0b/%252F"] {
            let name = spelled(key, slot).unwrap();
            assert!(!name.contains(['/', '\0']), "{name:?}");
            assert_eq!(read(&name).map(|(slot, key)| (slot, key.to_string())), Some((slot, key.to_owned())), "{name:?}");
        }
        assert_eq!(spelled(&"k".repeat(250), slot), None);
        assert!(read(&format!("{slot}~a%2fb")).is_none(), "not as we write it");
    }
}
