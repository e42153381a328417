//! An open root.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::available_parallelism;

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, XattrFlags, fsetxattr, fstat, fstatfs, fstatvfs, futimens, mkdirat, openat,
    statat, unlinkat,
};
use rustix::io::Errno;
use sluice_provider::{Error, ErrorKind, Result};

use crate::delete::Deletions;
use crate::error::{Sys, fault};
use crate::etag::EtagCache;
use crate::flush::Flush;
use crate::known::{self, KnownCache};
use crate::lock::KeyLocks;
use crate::meta::Stamp;
use crate::name::NAME_BYTES;
use crate::object::XATTR;
use crate::pool::{Gate, Pool};
use crate::settings::{Durability, Settings, Snapshots};
use crate::shelf::Shelf;
use crate::small::Puts;
use crate::space::{Space, Staged, subdirectory};
use crate::together::Together;
use crate::tree::Tree;
use crate::versions::Spares;

/// How many threads may wait for the disk on behalf of durable writers. jbd2 commits them together, so that 32 of them cost
/// little more than one.
const DURABLE_WRITERS: usize = 32;
/// How many threads make small puts where nothing is flushed, a batch at a time; half the processors, if that is more. Others would
/// fight for the lock of a directory.
const LEAST_PUTS: usize = 2;
/// How many threads delete, a batch of keys at a time: one makes its changes while others wait for the disk.
const DURABLE_DELETIONS: usize = 4;

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
    /// Whether attributes live in inodes that keep the times they are given, to the nanosecond.
    pub(crate) exact_times: bool,
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
    pub(crate) puts: Puts,
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
        let (putting, deleting) = if durable { (0, DURABLE_DELETIONS) } else { ((cores / 2).max(LEAST_PUTS), 1) };
        let store = Self {
            tree: Tree::new(settings.openat2),
            locks: KeyLocks::new(locks).map_err(failed("open locks"))?,
            flush: Flush::new(durable),
            own_times,
            exact_times: xattrs && own_times && keeps_times(&space)?,
            etags: EtagCache::default(),
            shelf: match settings.snapshots {
                Snapshots::Off => None,
                Snapshots::Times => Some(Shelf::new(false)),
                Snapshots::Auto => Some(Shelf::new(own_times)),
            },
            reads_of_directories: AtomicU64::new(0),
            reads: Pool::new(64),
            writes: Pool::new(if durable { DURABLE_WRITERS } else { 2 * cores } + putting + deleting),
            lists: Pool::new(2 * cores),
            hashes: Pool::new(cores),
            deletions: Together::new(deleting),
            puts: Together::new(putting),
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

    /// What is known of inodes, if attributes live in them and their times tell of every change.
    pub(crate) fn known(&self) -> Option<&'static KnownCache> {
        (self.xattrs && self.own_times).then(known::cache)
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

/// Whether a file keeps the times that it is given.
fn keeps_times(space: &Arc<Space>) -> Result<bool> {
    let failed = |e| fault("probe times", e);
    let staged: Staged = space.stage().map_err(failed)?;
    let (seconds, nanoseconds) = (1_777_777_777, 987_654_321);
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let set = futimens(staged.fd(), &Timestamps { last_access: time, last_modification: time }).and_then(|()| fstat(staged.fd()));
    staged.discard();
    let stat = Stamp::of(&set.map_err(failed)?);
    Ok(stat.seconds == seconds && i64::from(stat.nanoseconds) == nanoseconds)
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
