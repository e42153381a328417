//! An open root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::available_parallelism;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, XattrFlags, fsetxattr, fstatfs, fstatvfs, mkdirat, openat, statat, unlinkat};
use rustix::io::Errno;
use sluice_provider::{Error, ErrorKind, Result};

use crate::delete::Deletions;
use crate::error::{Sys, fault};
use crate::etag::EtagCache;
use crate::flush::Flush;
use crate::known::KnownCache;
use crate::lock::KeyLocks;
use crate::name::NAME_BYTES;
use crate::object::XATTR;
use crate::pool::{Gate, Pool};
use crate::settings::{Durability, Settings, Snapshots};
use crate::shelf::Shelf;
use crate::space::{Space, Staged, subdirectory};
use crate::tree::Tree;
use crate::versions::Spares;

/// How many threads may wait for the disk on behalf of durable writers. jbd2 commits them together, so that 32 of them cost
/// little more than one.
const DURABLE_WRITERS: usize = 32;

/// Everything the operations share. Its methods block; they run on the pools.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) settings: Settings,
    pub(crate) tree: Tree,
    root: OwnedFd,
    pub(crate) space: Arc<Space>,
    pub(crate) locks: KeyLocks,
    pub(crate) flush: Flush,
    /// Whether attributes live in the inode.
    pub(crate) xattrs: bool,
    /// Whether a file can have two names, without which no versions are kept.
    pub(crate) links: bool,
    /// Whether this kernel itself keeps the times of the inodes: a file server's may be shown late.
    pub(crate) own_times: bool,
    pub(crate) known: KnownCache,
    pub(crate) etags: EtagCache,
    /// Sorted directories, unless they are not to be kept.
    pub(crate) shelf: Option<Shelf>,
    /// How often the kernel was asked for entries (getdents64), the measure of what a listing costs.
    pub(crate) reads_of_directories: AtomicU64,
    pub(crate) reads: Pool,
    pub(crate) writes: Pool,
    pub(crate) lists: Pool,
    pub(crate) hashes: Pool,
    pub(crate) deletions: Deletions,
    /// What keeps older versions until their shelves are on disk.
    pub(crate) spares: Spares,
    /// For writers that use a processor. More of them would only fight for the lock of a directory.
    pub(crate) busy: Gate,
}

impl Store {
    pub(crate) fn open(settings: Settings) -> Result<Self> {
        let failed = |operation| move |e| fault(operation, e);
        std::fs::create_dir_all(&settings.root)
            .map_err(|e| Error::new(ErrorKind::Unavailable, "create root").with("root", settings.root.display()).caused_by(e))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, &settings.root, flags, Mode::empty()).map_err(failed("open root"))?;
        let longest = fstatvfs(&root).map_err(failed("statvfs of the root"))?.f_namemax;
        if longest < NAME_BYTES as u64 {
            return Err(Error::new(ErrorKind::Unsupported, "a file system with short names").with("bytes", longest));
        }
        let space = Arc::new(Space::open(root.as_fd(), settings.spread)?);
        refuse_merging(space.staging())?;
        let xattrs = settings.xattrs && has_xattrs(&space)?;
        let links = Self::has_links(&space)?;
        let locks = subdirectory(space.hidden.as_fd(), "locks").map_err(failed("open locks"))?;
        let cores = available_parallelism().map_or(2, usize::from);
        let durable = settings.durability == Durability::Fsync;
        let own_times = own_times(&root).map_err(failed("statfs of the root"))?;
        let store = Self {
            tree: Tree::new(settings.openat2),
            locks: KeyLocks::new(locks).map_err(failed("open locks"))?,
            flush: Flush::new(durable),
            own_times,
            known: KnownCache::default(),
            etags: EtagCache::default(),
            shelf: match settings.snapshots {
                Snapshots::Off => None,
                Snapshots::Times => Some(Shelf::new(false)),
                Snapshots::Auto => Some(Shelf::new(own_times)),
            },
            reads_of_directories: AtomicU64::new(0),
            reads: Pool::new(64),
            writes: Pool::new(if durable { DURABLE_WRITERS } else { 2 * cores }),
            lists: Pool::new(2 * cores),
            hashes: Pool::new(cores),
            deletions: Deletions::new(durable),
            spares: Spares::new(durable && links && own_times),
            busy: Gate::new(2 * cores),
            settings,
            root,
            space,
            xattrs,
            links,
        };
        if let Err(error) = store.recover_spares(true) {
            // They keep their spare names, and the next sweep tries again. Everything else is there.
            tracing::error!(%error, "some older versions of objects are not in their places");
        }
        if let Err(error) = store.sweep() {
            // Room is lost, and nothing else: no reason to keep all objects from their readers.
            tracing::warn!(%error, "a root was not swept");
        }
        Ok(store)
    }

    /// Tells the shelf of a change in a directory.
    pub(crate) fn changed(&self) {
        if let Some(shelf) = &self.shelf {
            shelf.poke();
        }
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

/// Whether the file system is one of those of the kernel's own, statfs(2).
#[allow(clippy::unnecessary_cast, reason = "the type of f_type differs between platforms")]
fn own_times(root: &OwnedFd) -> Sys<bool> {
    const EXT4: u64 = 0xef53;
    const XFS: u64 = 0x5846_5342;
    const BTRFS: u64 = 0x9123_683e;
    const F2FS: u64 = 0xf2f5_2010;
    const TMPFS: u64 = 0x0102_1994;
    Ok([EXT4, XFS, BTRFS, F2FS, TMPFS].contains(&u64::from(fstatfs(root)?.f_type as u32)))
}

/// Refuses a file system that takes two names for one: keys that differ would be one object.
fn refuse_merging(dir: BorrowedFd<'_>) -> Result<()> {
    for (made, looked_up, why) in [
        ("Probe-Case", "probe-case", "a file system that ignores case"),
        ("probe-\u{e9}", "probe-e\u{301}", "a file system that normalises Unicode"),
        ("probe-e\u{301}", "probe-\u{e9}", "a file system that normalises Unicode"),
    ] {
        let failed = |e| fault("probe the file system", e);
        match mkdirat(dir, made, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let found = statat(dir, looked_up, AtFlags::SYMLINK_NOFOLLOW);
        unlinkat(dir, made, AtFlags::REMOVEDIR).map_err(failed)?;
        match found {
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed(errno)),
            Ok(_) => return Err(Error::new(ErrorKind::Unsupported, why)),
        }
    }
    Ok(())
}

fn has_xattrs(space: &Arc<Space>) -> Result<bool> {
    let failed = |e| fault("probe extended attributes", e);
    let staged: Staged = space.stage().map_err(failed)?;
    let answer: Sys<()> = fsetxattr(staged.fd(), XATTR, b"probe", XattrFlags::empty());
    staged.discard();
    match answer {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM) => {
            tracing::warn!("the file system has no user extended attributes; attributes go to records in the hidden space");
            Ok(false)
        }
        Err(errno) => Err(failed(errno)),
    }
}
