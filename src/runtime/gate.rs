//! Admission: at most so many at once, and whoever comes too late is told at once instead of queued.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The gate. Clones are the same gate.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: AtomicUsize,
    inside: AtomicUsize,
}

/// A place inside, given back on drop.
#[derive(Debug)]
pub struct Permit(Arc<Inner>);

impl Gate {
    /// A gate for `limit` at once.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Inner { limit: AtomicUsize::new(limit), inside: AtomicUsize::new(0) }))
    }

    /// A place, or `None` when all are taken.
    #[must_use]
    pub fn enter(&self) -> Option<Permit> {
        if self.0.inside.fetch_add(1, Ordering::AcqRel) < self.0.limit.load(Ordering::Relaxed) {
            return Some(Permit(Arc::clone(&self.0)));
        }
        self.0.inside.fetch_sub(1, Ordering::AcqRel);
        None
    }

    /// Exchanges the limit. Those inside stay.
    pub fn set_limit(&self, limit: usize) {
        self.0.limit.store(limit, Ordering::Relaxed);
    }

    /// How many are inside.
    #[must_use]
    pub fn inside(&self) -> usize {
        self.0.inside.load(Ordering::Acquire)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_limit_gets_in_and_places_come_back() {
        let gate = Gate::new(3);
        let permits: Vec<_> = (0..10).filter_map(|_| gate.enter()).collect();
        assert_eq!(permits.len(), 3);
        assert_eq!(gate.inside(), 3);
        drop(permits);
        assert_eq!(gate.inside(), 0);
        assert!(gate.enter().is_some());
        gate.set_limit(0);
        assert!(gate.enter().is_none());
    }
}
