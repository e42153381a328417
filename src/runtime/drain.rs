//! The drain signal. It only moves forward, and whoever holds a [`Tracked`] is waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};

/// How far the stop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Work is taken.
    Running,
    /// Work is still taken, but whoever asks is told to send it elsewhere.
    Leaving,
    /// No new work; what is under way may finish.
    Draining,
    /// What is under way is broken off.
    Aborting,
}

/// The signal, and the count of those it waits for. Clones are the same signal.
#[derive(Clone, Debug)]
pub struct Drain(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    phase: watch::Sender<Phase>,
    tracked: AtomicUsize,
    aborted: AtomicUsize,
    none_left: Notify,
}

/// Somebody who is waited for, until dropped.
#[derive(Debug)]
pub struct Tracked(Arc<Inner>);

// === impl Drain ===

impl Drain {
    /// A signal at rest.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            phase: watch::Sender::new(Phase::Running),
            tracked: AtomicUsize::new(0),
            aborted: AtomicUsize::new(0),
            none_left: Notify::new(),
        }))
    }

    /// How far it is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.0.phase.borrow()
    }

    /// Moves to leaving. Does nothing when already there or beyond.
    pub fn leave(&self) {
        self.advance(Phase::Leaving);
    }

    /// Moves to draining. Does nothing when already there or beyond.
    pub fn begin(&self) {
        self.advance(Phase::Draining);
    }

    /// Moves to aborting.
    pub fn abort(&self) {
        self.advance(Phase::Aborting);
    }

    /// Resolves when draining (or aborting) has begun; at once if it has.
    pub async fn draining(&self) {
        self.reached(Phase::Draining).await;
    }

    /// Resolves when aborting has begun.
    pub async fn aborting(&self) {
        self.reached(Phase::Aborting).await;
    }

    /// Counts the caller among those that a drain waits for.
    #[must_use]
    pub fn track(&self) -> Tracked {
        self.0.tracked.fetch_add(1, Ordering::AcqRel);
        Tracked(Arc::clone(&self.0))
    }

    /// How many are waited for.
    #[must_use]
    pub fn tracked(&self) -> usize {
        self.0.tracked.load(Ordering::Acquire)
    }

    /// Notes that somebody was broken off in the middle of its work.
    pub fn note_aborted(&self) {
        self.0.aborted.fetch_add(1, Ordering::AcqRel);
    }

    /// How many were broken off.
    #[must_use]
    pub fn aborted(&self) -> usize {
        self.0.aborted.load(Ordering::Acquire)
    }

    /// Resolves when nobody is waited for.
    pub async fn idle(&self) {
        loop {
            let changed = self.0.none_left.notified();
            tokio::pin!(changed);
            // Registered before the count is read, so that the last drop in between is not missed.
            changed.as_mut().enable();
            if self.tracked() == 0 {
                return;
            }
            changed.await;
        }
    }

    /// The whole stop: begins to drain, waits until nobody is left or `limit` is over or somebody else aborts, then aborts and
    /// gives those that remain `grace` to let go. True when nobody had to be broken off.
    pub async fn finish(&self, limit: Duration, grace: Duration) -> bool {
        self.begin();
        tokio::select! {
            () = self.idle() => {}
            () = self.aborting() => {}
            () = tokio::time::sleep(limit) => {}
        }
        self.abort();
        if tokio::time::timeout(grace, self.idle()).await.is_err() {
            return false;
        }
        self.aborted() == 0
    }

    fn advance(&self, to: Phase) {
        self.0.phase.send_if_modified(|phase| {
            let further = *phase < to;
            if further {
                *phase = to;
            }
            further
        });
    }

    async fn reached(&self, phase: Phase) {
        let mut seen = self.0.phase.subscribe();
        // An error would mean that the sender is gone, but `self` holds it.
        let _ = seen.wait_for(|now| *now >= phase).await;
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Tracked ===

impl Drop for Tracked {
    fn drop(&mut self) {
        if self.0.tracked.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none_left.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn phases_only_move_forward() {
        let drain = Drain::new();
        assert_eq!(drain.phase(), Phase::Running);
        drain.leave();
        assert_eq!(drain.phase(), Phase::Leaving);
        drain.abort();
        drain.begin();
        assert_eq!(drain.phase(), Phase::Aborting);
        drain.draining().await;
        drain.aborting().await;
    }

    #[tokio::test]
    async fn a_drain_waits_for_the_tracked_and_is_clean_when_they_end() {
        let drain = Drain::new();
        let tracked = drain.track();
        let other = drain.clone();
        let waiting = tokio::spawn(async move { other.finish(Duration::from_secs(30), Duration::from_secs(1)).await });
        drain.draining().await;
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(tracked);
        assert!(waiting.await.unwrap_or(false));
    }

    #[tokio::test]
    async fn a_drain_that_takes_too_long_aborts_and_says_so() {
        let drain = Drain::new();
        let tracked = drain.track();
        let other = drain.clone();
        tokio::spawn(async move {
            other.aborting().await;
            other.note_aborted();
            drop(tracked);
        });
        let began = std::time::Instant::now();
        assert!(!drain.finish(Duration::from_millis(50), Duration::from_secs(5)).await);
        assert!(began.elapsed() >= Duration::from_millis(50));
        assert!(began.elapsed() < Duration::from_secs(5));
    }

    #[tokio::test]
    async fn a_second_signal_aborts_at_once() {
        let drain = Drain::new();
        let _stuck = drain.track();
        let other = drain.clone();
        let began = std::time::Instant::now();
        tokio::spawn(async move {
            other.draining().await;
            other.abort();
        });
        assert!(!drain.finish(Duration::from_secs(30), Duration::from_millis(10)).await);
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}
