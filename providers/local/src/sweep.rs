//! Clearing what the dead left behind.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, openat, unlinkat};
use rustix::io::Errno;
use sluice_provider::Result;

use crate::directory::names_in;
use crate::error::{Sys, fault};
use crate::space::{LANE, lock_file};
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
    /// Removes the staging directories whose process no longer holds their lock, and lets go of what nobody used since the last
    /// sweep. Blocks.
    pub(crate) fn sweep(&self) -> Result<Swept> {
        self.locks.close_idle();
        if let Some(shelf) = &self.shelf {
            shelf.forget_unused();
        }
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
            let process = name.strip_suffix(".lock").unwrap_or(&name);
            if name == "lock" || process == self.space.process() {
                continue;
            }
            // One that cannot be cleared must not keep the others.
            if let Err(errno) = self.sweep_process(root, &name, process, &mut swept) {
                tracing::warn!(%errno, process, "what an ended process left in staging cannot be removed");
            }
        }
        if swept.files > 0 {
            tracing::info!(files = swept.files, processes = swept.processes, "removed what ended processes left in staging");
        }
        Ok(swept)
    }

    fn sweep_process(&self, root: BorrowedFd<'_>, name: &str, process: &str, swept: &mut Swept) -> Sys<()> {
        if name == process {
            // A directory without a lock file is what a sweep that was cut short left.
            if !exists(root, &format!("{name}.lock")) {
                swept.processes += usize::from(self.clear(root, name, swept)?);
            }
            return Ok(());
        }
        let lock = lock_file(root, name)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(()),
            Err(errno) => return Err(errno),
        }
        swept.processes += usize::from(self.clear(root, process, swept)?);
        unlinkat(root, name, AtFlags::empty())
    }

    /// Removes a staging directory with its files and their records; false when there is none, or something that is not ours keeps it.
    fn clear(&self, root: BorrowedFd<'_>, name: &str, swept: &mut Swept) -> Sys<bool> {
        let dir: OwnedFd = match openat(root, name, DIRECTORY, Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(errno),
        };
        for file in names_in(dir.as_fd())? {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            if let Ok(open) = openat(&dir, &file, flags, Mode::empty())
                && let Some(record) = self.record_of(open)
            {
                crate::record::remove(&self.space, &record);
            }
            match unlinkat(&dir, &file, AtFlags::empty()) {
                Ok(()) => swept.files += 1,
                Err(Errno::ISDIR) if file.starts_with(LANE) => {
                    self.clear(dir.as_fd(), &file, swept)?;
                }
                // A directory of somebody else's that a publication was giving back when its process ended.
                Err(errno) => tracing::warn!(%errno, process = name, file, "something in staging cannot be removed"),
            }
        }
        match unlinkat(root, name, AtFlags::REMOVEDIR) {
            Ok(()) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
            Err(errno) => Err(errno),
        }
    }
}

fn exists(dir: BorrowedFd<'_>, name: &str) -> bool {
    !matches!(crate::create::spot(dir, name.as_bytes()), Ok(crate::create::Spot::Free))
}
