//! The hidden space: `.sluice` in the root, which no key can name.
//!
//! ```text
//! .sluice/staging/<process>/      content on its way to its place; `<process>.lock` is held as long as the process lives.
//!                                 On ext4 without a journal it lies in `lane-<xx>` beneath
//! .sluice/locks/<shard>           advisory locks of keys
//! .sluice/records/<xx>/<name>     attributes that do not fit into the inode
//! .sluice/uploads/<upload>/       parts of uploads
//! .sluice/versions/<key>/         older versions of a key
//! .sluice/spare/<process>-<n>/    second names of some of them, until the first ones are on disk
//! ```
//! All of it lies on the file system of the root, so that publication is a rename.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rustix::fs::{
    AtFlags, FlockOperation, IFlags, Mode, OFlags, flock, fsync, ioctl_getflags, ioctl_setflags, mkdirat, openat, unlinkat,
};
use rustix::io::Errno;
use sluice_provider::{Error, ErrorKind, Result};

use crate::error::{Sys, fault};
use crate::name::RESERVED;

const PRIVATE: Mode = Mode::from_raw_mode(0o700);
/// Objects are ordinary files: the umask of the process decides.
const OBJECT: Mode = Mode::from_raw_mode(0o666);

/// How many directories the staging takes turns with, and how many files it makes in one before the turn of the next.
///
/// ext4 puts a new inode near its directory, and without a journal it prefers not to take one that was freed in the last minutes
/// (`recently_deleted` in fs/ext4/ialloc.c): it passes over them one by one, from the beginning, for every file that is made. Where some thousand files were replaced or removed lately, to
/// make one costs 0.1 to 0.4 ms of processor time instead of 0.01. Directories beneath one that is marked as the top of a
/// hierarchy (`chattr +T`) are spread over the disk, and with them the files. A run of files stays together.
const LANES: u64 = 64;
/// How the names of these directories begin. Those of staged files are numbers.
pub(crate) const LANE: &str = "lane-";
const LANE_FILES: u64 = 256;

/// Where the next file is staged.
#[derive(Debug)]
struct Lanes {
    dir: Arc<OwnedFd>,
    /// Files made so far.
    files: u64,
}

/// The open hidden space of one process.
#[derive(Debug)]
pub(crate) struct Space {
    pub(crate) hidden: OwnedFd,
    pub(crate) staging_root: OwnedFd,
    pub(crate) records: OwnedFd,
    pub(crate) uploads: OwnedFd,
    pub(crate) versions: OwnedFd,
    pub(crate) spare: OwnedFd,
    staging: Arc<OwnedFd>,
    /// Only where the file system gains by them.
    lanes: Option<Mutex<Lanes>>,
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
    pub(crate) fn open(root: BorrowedFd<'_>, spread: bool) -> Result<Self> {
        let open = |parent, name| subdirectory(parent, name).map_err(|e| fault("open hidden space", e).with("name", name));
        let hidden = open(root, RESERVED)?;
        let staging_root = open(hidden.as_fd(), "staging")?;
        let (records, uploads) = (open(hidden.as_fd(), "records")?, open(hidden.as_fd(), "uploads")?);
        let (versions, spare) = (open(hidden.as_fd(), "versions")?, open(hidden.as_fd(), "spare")?);
        let process = hex::encode(random_id()?);
        let staging_failed = |e| fault("open staging directory", e);
        // A sweep holds this too, so that it never sees our lock file before it is locked.
        let entry = lock_file(staging_root.as_fd(), "lock").map_err(staging_failed)?;
        flock(&entry, FlockOperation::LockExclusive).map_err(staging_failed)?;
        let alive = lock_file(staging_root.as_fd(), &format!("{process}.lock")).map_err(staging_failed)?;
        flock(&alive, FlockOperation::NonBlockingLockExclusive).map_err(staging_failed)?;
        let staging = Arc::new(open(staging_root.as_fd(), &process)?);
        let spread = spread && passes_over(staging.as_fd()) && take_turns(staging.as_fd()).is_ok();
        let lanes = spread.then(|| Mutex::new(Lanes { dir: Arc::clone(&staging), files: 0 }));
        for dir in [root, hidden.as_fd(), staging_root.as_fd()] {
            fsync(dir).map_err(staging_failed)?;
        }
        let next = AtomicU64::new(0);
        Ok(Self { hidden, staging_root, records, uploads, versions, spare, staging, lanes, process, _alive: alive, next })
    }

    /// Begins a new file.
    pub(crate) fn stage(self: &Arc<Self>) -> Sys<Staged> {
        let name = format!("{:x}", self.next.fetch_add(1, Ordering::Relaxed));
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let dir = self.lane();
        let file = openat(&dir, &name, flags, OBJECT)?;
        Ok(Staged { space: Arc::clone(self), dir, name, file: Arc::new(File::from(file)), record: None, gone: false })
    }

    /// The directory of the next file.
    fn lane(&self) -> Arc<OwnedFd> {
        let Some(lanes) = &self.lanes else { return Arc::clone(&self.staging) };
        let mut lanes = lanes.lock();
        if lanes.files.is_multiple_of(LANE_FILES) {
            let name = lane_name(lanes.files / LANE_FILES % LANES);
            // When it cannot be made, the one before serves as well.
            if let Ok(next) = subdirectory(self.staging.as_fd(), &name) {
                lanes.dir = Arc::new(next);
            }
        }
        lanes.files += 1;
        Arc::clone(&lanes.dir)
    }

    /// A name in our staging directory for something that already is a file.
    pub(crate) fn reserve(self: &Arc<Self>, file: Arc<File>) -> Staged {
        let name = format!("{:x}", self.next.fetch_add(1, Ordering::Relaxed));
        Staged { space: Arc::clone(self), dir: Arc::clone(&self.staging), name, file, record: None, gone: false }
    }

    pub(crate) fn staging(&self) -> BorrowedFd<'_> {
        self.staging.as_fd()
    }

    /// Whether a process that had a staging directory of that name still uses it.
    pub(crate) fn is_alive(&self, process: &str) -> Sys<bool> {
        let name = format!("{process}.lock");
        let lock = match openat(&self.staging_root, &name, OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(lock) => lock,
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(errno),
        };
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(false),
            Err(Errno::WOULDBLOCK) => Ok(true),
            Err(errno) => Err(errno),
        }
    }

    /// The name of our staging directory.
    pub(crate) fn process(&self) -> &str {
        &self.process
    }
}

/// Whether the file system is ext4 without a journal (sysfs-fs-ext4: the task of the journal, a number, or `<none>`).
#[allow(clippy::unnecessary_cast, reason = "the type of st_dev differs between platforms")]
fn passes_over(dir: BorrowedFd<'_>) -> bool {
    let device = |stat: rustix::fs::Stat| (rustix::fs::major(stat.st_dev as u64), rustix::fs::minor(stat.st_dev as u64));
    let Ok((major, minor)) = rustix::fs::fstat(dir).map(device) else { return false };
    let Ok(device) = std::fs::read_link(format!("/sys/dev/block/{major}:{minor}")) else { return false };
    let Some(name) = device.file_name() else { return false };
    let task = std::path::Path::new("/sys/fs/ext4").join(name).join("journal_task");
    std::fs::read_to_string(task).is_ok_and(|task| task.trim() == "<none>")
}

/// Has the directories beneath this one spread over the disk.
fn take_turns(dir: BorrowedFd<'_>) -> Sys<()> {
    ioctl_setflags(dir, ioctl_getflags(dir)? | IFlags::TOPDIR)
}

fn lane_name(number: u64) -> String {
    format!("{LANE}{number:02x}")
}

impl Drop for Space {
    fn drop(&mut self) {
        let Ok(root) = self.staging_root.try_clone() else { return };
        let process = std::mem::take(&mut self.process);
        let staging = Arc::clone(&self.staging);
        let lanes = self.lanes.as_ref().map_or(0, |lanes| lanes.lock().files.div_ceil(LANE_FILES).min(LANES));
        // What is left when this fails is swept by the next one to open the root.
        in_background(move || {
            for number in 0..lanes {
                let _ = unlinkat(&staging, lane_name(number), AtFlags::REMOVEDIR);
            }
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
    dir: Arc<OwnedFd>,
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
        self.dir.as_fd()
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
        remove(&self.space, self.dir.as_fd(), &self.name, self.record.take().as_deref());
    }
}

fn remove(space: &Space, dir: BorrowedFd<'_>, name: &str, record: Option<&str>) {
    if let Some(record) = record {
        crate::record::remove(space, record);
    }
    if let Err(errno) = unlinkat(dir, name, AtFlags::empty())
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
        let (space, dir) = (Arc::clone(&self.space), Arc::clone(&self.dir));
        let (name, record) = (std::mem::take(&mut self.name), self.record.take());
        in_background(move || remove(&space, dir.as_fd(), &name, record.as_deref()));
    }
}
