//! The bytes that a mount may hold. Taken before memory is allocated, given back by Drop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sluice_provider::{Error, ErrorKind, Result};

/// The quota of a mount.
#[derive(Debug)]
pub(crate) struct Quota {
    limit: u64,
    used: AtomicU64,
}

impl Quota {
    pub(crate) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0) })
    }

    /// How many bytes are held now.
    pub(crate) fn used(&self) -> u64 {
        // The counter guards nothing but itself: relaxed is enough, here and below.
        self.used.load(Ordering::Relaxed)
    }

    /// Takes `bytes`, all or none.
    ///
    /// # Errors
    /// [`ErrorKind::QuotaExceeded`].
    pub(crate) fn take(self: &Arc<Self>, bytes: u64) -> Result<Hold> {
        let room = |used: u64| used.checked_add(bytes).filter(|total| *total <= self.limit);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room) {
            Ok(_) => Ok(Hold { quota: self.clone(), bytes }),
            Err(used) => Err(self.exceeded(bytes, used)),
        }
    }

    /// Refuses what cannot fit beside what is held now, before any of it is read.
    ///
    /// # Errors
    /// [`ErrorKind::QuotaExceeded`].
    pub(crate) fn foresee(&self, bytes: u64) -> Result<()> {
        let used = self.used();
        match used.checked_add(bytes) {
            Some(total) if total <= self.limit => Ok(()),
            _ => Err(self.exceeded(bytes, used)),
        }
    }

    fn exceeded(&self, bytes: u64, used: u64) -> Error {
        let error = Error::new(ErrorKind::QuotaExceeded, "memory mount");
        error.with("bytes", bytes).with("used", used).with("quota", self.limit)
    }
}

/// Bytes taken from a quota.
#[derive(Debug)]
pub(crate) struct Hold {
    quota: Arc<Quota>,
    bytes: u64,
}

impl Hold {
    /// Gives back all but `bytes`.
    pub(crate) fn shrink_to(&mut self, bytes: u64) {
        if let Some(excess) = self.bytes.checked_sub(bytes) {
            self.bytes = bytes;
            self.quota.used.fetch_sub(excess, Ordering::Relaxed);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.quota.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn what_is_taken_is_given_back() {
        let quota = Quota::new(100);
        let mut a = quota.take(60).unwrap();
        assert_eq!(*quota.take(41).unwrap_err().kind(), ErrorKind::QuotaExceeded);
        let b = quota.take(40).unwrap();
        assert_eq!(quota.used(), 100);
        a.shrink_to(10);
        a.shrink_to(50);
        assert_eq!(quota.used(), 50);
        drop((a, b));
        assert_eq!(quota.used(), 0);
        assert!(quota.take(u64::MAX).is_err());
        assert!(quota.foresee(101).is_err() && quota.foresee(100).is_ok());
    }

    #[test]
    fn many_takers_never_exceed_the_limit() {
        let quota = Quota::new(1000);
        std::thread::scope(|scope| {
            for n in 1..=8 {
                let quota = &quota;
                scope.spawn(move || {
                    for _ in 0..1000 {
                        let held = quota.take(n * 50);
                        assert!(quota.used() <= 1000);
                        drop(held);
                    }
                });
            }
        });
        assert_eq!(quota.used(), 0);
    }
}
