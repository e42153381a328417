//! One writer per key, across threads and processes.
//!
//! Every publication, deletion and change of attributes of a key happens under its lock, so that a condition and the change it
//! guards are one step. Keys share a fixed number of locks. Only a rename holds
//! two, and takes them in the order of their numbers. What is done under a lock is short: data is
//! written and flushed before it, the directory is flushed after it.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use sluice_provider::{Error, ErrorKind, Result};

use crate::error::{Sys, fault};
use crate::space::lock_file;

/// Part of the format on disk: processes that share a root must agree on it.
const SHARDS: u64 = 64;
/// How long another process may hold a lock before the caller is told to come back later.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long whoever has others behind it waits.
const SOON: Duration = Duration::from_millis(2);

/// The locks of a root.
#[derive(Debug)]
pub(crate) struct KeyLocks {
    dir: OwnedFd,
    shards: Vec<Mutex<Option<OwnedFd>>>,
}

impl KeyLocks {
    /// Locks that live in `dir`. Their files are all made now: on a full disk objects can still be deleted, and no file be made.
    pub(crate) fn new(dir: OwnedFd) -> Sys<Self> {
        for shard in 0..SHARDS {
            lock_file(dir.as_fd(), &name(shard))?;
        }
        Ok(Self { dir, shards: (0..SHARDS).map(|_| Mutex::new(None)).collect() })
    }

    /// Closes the files of locks that nobody holds now. A root that is used takes one for each shard, and of many roots few are
    /// used at a time.
    pub(crate) fn close_idle(&self) {
        for slot in &self.shards {
            if let Some(mut file) = slot.try_lock() {
                *file = None;
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn open_files(&self) -> usize {
        self.shards.iter().filter(|slot| slot.lock().is_some()).count()
    }

    /// Waits for the lock of a key. Blocks.
    pub(crate) fn lock(&self, key: &str) -> Result<KeyLock<'_>> {
        self.lock_shard(fnv1a(key.as_bytes()) % SHARDS, PATIENCE)
    }

    /// Waits for the lock of a key no longer than others do anything under it, as a rule; `None` when it takes longer.
    pub(crate) fn lock_soon(&self, key: &str) -> Result<Option<KeyLock<'_>>> {
        match self.lock_shard(fnv1a(key.as_bytes()) % SHARDS, SOON) {
            Ok(lock) => Ok(Some(lock)),
            Err(error) if *error.kind() == ErrorKind::Busy => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits for the locks of two keys, which may be one. Blocks.
    pub(crate) fn lock_two(&self, one: &str, other: &str) -> Result<(KeyLock<'_>, Option<KeyLock<'_>>)> {
        let (one, other) = (fnv1a(one.as_bytes()) % SHARDS, fnv1a(other.as_bytes()) % SHARDS);
        let first = self.lock_shard(one.min(other), PATIENCE)?;
        let second = if one == other { None } else { Some(self.lock_shard(one.max(other), PATIENCE)?) };
        Ok((first, second))
    }

    fn lock_shard(&self, shard: u64, patience: Duration) -> Result<KeyLock<'_>> {
        let until = Instant::now() + patience;
        let busy = || Error::new(ErrorKind::Busy, "key lock").with("shard", shard);
        let slot = self.shards.get(usize::try_from(shard).unwrap_or(0)).ok_or_else(busy)?;
        let mut file = slot.try_lock_until(until).ok_or_else(busy)?;
        if file.is_none() {
            *file = Some(lock_file(self.dir.as_fd(), &name(shard)).map_err(|e| fault("open lock file", e))?);
        }
        let fd = file.as_ref().ok_or_else(busy)?;
        loop {
            match flock(fd, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(KeyLock(file)),
                Err(Errno::INTR) => {}
                // A blocking flock cannot be given up; another process that was stopped would hang us for good.
                Err(Errno::WOULDBLOCK) if Instant::now() < until => std::thread::sleep(Duration::from_micros(500)),
                Err(Errno::WOULDBLOCK) => return Err(busy()),
                Err(errno) => return Err(fault("lock", errno)),
            }
        }
    }
}

fn name(shard: u64) -> String {
    format!("{shard:02x}")
}

/// Holds the lock of a key until dropped.
pub(crate) struct KeyLock<'a>(MutexGuard<'a, Option<OwnedFd>>);

impl Drop for KeyLock<'_> {
    fn drop(&mut self) {
        if let Some(fd) = self.0.as_ref() {
            // Unlocking a lock that is held does not fail; if it did, closing the file gives it back.
            if flock(fd, FlockOperation::Unlock).is_err() {
                *self.0 = None;
            }
        }
    }
}

/// FNV-1a, 64 bits: a hash that never changes between versions.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
