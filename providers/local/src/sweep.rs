//! Clearing what the dead left behind.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, openat, unlinkat};
use rustix::io::Errno;
use sluice_provider::Result;

use crate::directory::names_in;
use crate::error::{Sys, fault};
use crate::space::lock_file;
use crate::store::Store;

/// What a sweep removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Staging directories of processes that have ended.
    pub processes: usize,
    /// Files in them: writes that were never published, and old objects that were replaced and not yet removed.
    pub files: usize,
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Store {
    /// Removes the staging directories whose process no longer holds their lock. Blocks.
    pub(crate) fn sweep(&self) -> Result<Swept> {
        self.sweep_staging().map_err(|e| fault("sweep", e))
    }

    fn sweep_staging(&self) -> Sys<Swept> {
        let mut swept = Swept::default();
        let root = self.space.staging_root.as_fd();
        // Whoever makes a staging directory holds this until its lock is held.
        let entry = lock_file(root, "lock")?;
        if let Err(errno) = flock(&entry, FlockOperation::NonBlockingLockExclusive) {
            return if errno == Errno::WOULDBLOCK { Ok(swept) } else { Err(errno) };
        }
        for name in names_in(root)? {
            let Some(process) = name.strip_suffix(".lock") else {
                // A directory without a lock file is what a sweep that was cut short left.
                // Nor is it there any more when its lock file came first.
                let orphaned = || !exists(root, &format!("{name}.lock")) && exists(root, &name);
                if name != "lock" && name != self.space.process() && orphaned() {
                    swept.files += self.clear(root, &name)?;
                    swept.processes += 1;
                }
                continue;
            };
            if process == self.space.process() {
                continue;
            }
            let lock = lock_file(root, &name)?;
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => continue,
                Err(errno) => return Err(errno),
            }
            swept.files += self.clear(root, process)?;
            swept.processes += 1;
            unlinkat(root, &name, AtFlags::empty())?;
        }
        if swept.files > 0 {
            tracing::info!(files = swept.files, processes = swept.processes, "removed what ended processes left in staging");
        }
        Ok(swept)
    }

    /// Removes a staging directory with its files and their records.
    fn clear(&self, root: BorrowedFd<'_>, name: &str) -> Sys<usize> {
        let dir: OwnedFd = match openat(root, name, DIRECTORY, Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(0),
            Err(errno) => return Err(errno),
        };
        let mut files = 0;
        for file in names_in(dir.as_fd())? {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            if let Ok(open) = openat(&dir, &file, flags, Mode::empty())
                && let Some(record) = self.record_of(open)
            {
                crate::record::remove(&self.space, &record);
            }
            match unlinkat(&dir, &file, AtFlags::empty()) {
                Ok(()) => files += 1,
                Err(Errno::ISDIR) => files += self.clear(dir.as_fd(), &file)?,
                Err(errno) => return Err(errno),
            }
        }
        unlinkat(root, name, AtFlags::REMOVEDIR)?;
        Ok(files)
    }
}

fn exists(dir: BorrowedFd<'_>, name: &str) -> bool {
    !matches!(crate::create::spot(dir, name.as_bytes()), Ok(crate::create::Spot::Free))
}
