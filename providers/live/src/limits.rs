//! What is bounded over all objects of a mount. Given back by Drop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use sluice_provider::{Error, ErrorKind, Result};

/// The most entries of one page, which is made under a lock.
pub(crate) const MAX_PAGE_ENTRIES: usize = 10_000;

/// What a mount holds. The counters guard nothing but themselves.
#[derive(Debug)]
pub(crate) struct Limits {
    bytes: AtomicU64,
    quota: u64,
    followers: AtomicUsize,
    most: usize,
}

impl Limits {
    pub(crate) fn new(quota: u64, most: usize) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicU64::new(0), quota, followers: AtomicUsize::new(0), most })
    }

    /// Takes bytes, all or none.
    pub(crate) fn take(self: &Arc<Self>, bytes: u64) -> Result<Held> {
        let room = |used: u64| used.checked_add(bytes).filter(|total| *total <= self.quota);
        match self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room) {
            Ok(_) => Ok(Held { limits: Arc::clone(self), bytes }),
            Err(used) => {
                let error = Error::new(ErrorKind::QuotaExceeded, "live mount").with("bytes", bytes).with("used", used);
                Err(error.with("quota", self.quota))
            }
        }
    }

    pub(crate) fn follower(self: &Arc<Self>) -> Result<Following> {
        let room = |count: usize| (count < self.most).then_some(count + 1);
        let taken = self.followers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room);
        taken.map_err(|_| Error::new(ErrorKind::Busy, "follow").with("followers", self.most))?;
        Ok(Following(Arc::clone(self)))
    }
}

/// Bytes of the quota.
#[derive(Debug)]
pub(crate) struct Held {
    limits: Arc<Limits>,
    bytes: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.limits.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The place of a follower.
#[derive(Debug)]
pub(crate) struct Following(Arc<Limits>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.followers.fetch_sub(1, Ordering::Relaxed);
    }
}
