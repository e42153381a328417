//! The files of a log.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, openat, unlinkat};
use rustix::io::Errno;
use sluice_provider::{Error, ErrorKind, Result};

use super::record::LogId;

/// Bytes before the first record: what the file is, the identity of the log, and a checksum.
pub(crate) const HEADER: usize = 48;
const MAGIC: &[u8; 16] = b"sluice topics 1\n";
const LOCK: &str = "topics.lock";
const SUFFIX: &str = ".topics";
/// How long another owner may take to let go of the directory: a mount that was just removed, or a gateway that is ending.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// One file, as far as its bytes are counted. The counters guard nothing but themselves.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    /// Its length.
    bytes: AtomicU64,
    /// How much of it are messages that are kept.
    live: AtomicU64,
}

impl Segment {
    pub(crate) fn new(number: u64, bytes: u64) -> Arc<Self> {
        Arc::new(Self { number, bytes: AtomicU64::new(bytes), live: AtomicU64::new(0) })
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn live(&self) -> u64 {
        self.live.load(Ordering::Relaxed)
    }

    pub(crate) fn grown(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }
}

/// Where a message that is kept lies. When it is dropped, so many bytes of the segment are wanted by nobody.
#[derive(Debug)]
pub(crate) struct Stored {
    segment: Arc<Segment>,
    bytes: u64,
}

impl Stored {
    pub(crate) fn new(segment: &Arc<Segment>, bytes: u64) -> Self {
        segment.live.fetch_add(bytes, Ordering::Relaxed);
        Self { segment: Arc::clone(segment), bytes }
    }

    pub(crate) fn is_in(&self, segment: &Segment) -> bool {
        self.segment.number == segment.number
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.segment.live.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// An error of the file system. `ENOENT` is no missing topic.
pub(crate) fn fault(operation: &'static str, error: std::io::Error) -> Error {
    let kind = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOSPC) => ErrorKind::NoSpace,
        Some(Errno::DQUOT) => ErrorKind::QuotaExceeded,
        Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => ErrorKind::PermissionDenied,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => ErrorKind::Busy,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, operation).caused_by(error)
}

/// The name of a segment. No topic has a part in it.
pub(crate) fn name(number: u64) -> String {
    format!("{number:016x}{SUFFIX}")
}

/// The number that a name says, if it is one of ours.
pub(crate) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX).filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok().filter(|number| self::name(*number) == name)
}

/// Opens a file of the directory.
pub(crate) fn open(dir: BorrowedFd<'_>, name: &str, flags: OFlags) -> std::io::Result<File> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(File::from(openat(dir, name, flags, Mode::from_raw_mode(0o600))?))
}

pub(crate) fn remove(dir: BorrowedFd<'_>, name: &str) -> std::io::Result<()> {
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Makes the log that of this process alone, as long as the answer lives.
pub(crate) fn lock(dir: BorrowedFd<'_>, patience: Duration) -> Result<OwnedFd> {
    let failed = |error| fault("lock the log", error);
    let file = OwnedFd::from(open(dir, LOCK, OFlags::RDWR | OFlags::CREATE).map_err(failed)?);
    let until = Instant::now() + patience;
    loop {
        match flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
            Err(Errno::WOULDBLOCK) => {
                return Err(Error::new(ErrorKind::Busy, "lock the log").with("reason", "another gateway or mount uses it"));
            }
            Err(errno) => return Err(failed(errno.into())),
        }
    }
}

/// The beginning of a segment.
pub(crate) fn header(log: LogId, number: u64) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..16].copy_from_slice(MAGIC);
    header[16..32].copy_from_slice(&log.0);
    header[32..40].copy_from_slice(&number.to_le_bytes());
    let check = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &header[..40]);
    header[40..].copy_from_slice(&check.to_le_bytes());
    header
}

/// Whose segment of what number this is; `None` where the beginning is none.
pub(crate) fn identity(bytes: &[u8]) -> Option<(LogId, u64)> {
    let found = bytes.get(..HEADER)?;
    let log = LogId(found[16..32].try_into().ok()?);
    let number = u64::from_le_bytes(found[32..40].try_into().ok()?);
    (header(log, number) == found).then_some((log, number))
}
