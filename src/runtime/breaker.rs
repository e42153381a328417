//! The circuit breaker in front of something that may fail (the database, a mount): when it is down, calls fail at once instead of
//! each waiting for it.
//!
//! CLOSED lets calls through and counts failures in a row; at the threshold it is OPEN and refuses for a while; then HALF-OPEN: one call
//! is let through as a probe, and its outcome closes or opens it again.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// When it opens, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BreakerLimits {
    /// Failures in a row that open it.
    pub(crate) failures: u32,
    /// How long it stays open before it lets a probe through.
    pub(crate) recovery: Duration,
}

/// What a breaker does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CircuitState {
    /// Calls go through.
    #[default]
    Closed,
    /// Calls are refused.
    Open,
    /// One call is under way to see whether it is back.
    HalfOpen,
}

/// A breaker as it is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Circuit {
    /// What it does.
    pub state: CircuitState,
    /// How often it has opened.
    pub opened: u64,
    /// How many calls it has refused.
    pub refused: u64,
}

#[derive(Debug)]
enum State {
    Closed { failures: u32 },
    Open { since: Instant },
    HalfOpen,
}

/// The breaker.
#[derive(Debug)]
pub(crate) struct Breaker {
    of: &'static str,
    limits: BreakerLimits,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: State,
    opened: u64,
    refused: u64,
}

/// Leave to call. Dropped without a word about the outcome (the caller left), it counts as nothing; a probe is then free again.
#[derive(Debug)]
pub(crate) struct Leave<'a> {
    breaker: &'a Breaker,
    probe: bool,
    told: bool,
}

impl Breaker {
    /// In front of `of`, as a log names it.
    pub(crate) fn new(of: &'static str, limits: BreakerLimits) -> Self {
        Self { of, limits, inner: Mutex::new(Inner { state: State::Closed { failures: 0 }, opened: 0, refused: 0 }) }
    }

    /// Leave to call; `None` while it is open, or while a probe is under way.
    pub(crate) fn enter(&self) -> Option<Leave<'_>> {
        let mut inner = self.inner.lock();
        let probe = match inner.state {
            State::Closed { .. } => false,
            State::Open { since } if since.elapsed() >= self.limits.recovery => {
                inner.state = State::HalfOpen;
                true
            }
            State::Open { .. } | State::HalfOpen => {
                inner.refused += 1;
                return None;
            }
        };
        Some(Leave { breaker: self, probe, told: false })
    }

    /// As it is now.
    pub(crate) fn circuit(&self) -> Circuit {
        let inner = self.inner.lock();
        let state = match inner.state {
            State::Closed { .. } => CircuitState::Closed,
            State::Open { .. } => CircuitState::Open,
            State::HalfOpen => CircuitState::HalfOpen,
        };
        Circuit { state, opened: inner.opened, refused: inner.refused }
    }
}

impl Leave<'_> {
    /// It answered.
    pub(crate) fn succeeded(mut self) {
        self.told = true;
        let mut inner = self.breaker.inner.lock();
        // One who entered before it opened says nothing about now.
        if self.probe || matches!(inner.state, State::Closed { .. }) {
            inner.state = State::Closed { failures: 0 };
        }
    }

    /// It did not answer. True when calls are refused from now on.
    pub(crate) fn failed(mut self) -> bool {
        self.told = true;
        let mut inner = self.breaker.inner.lock();
        let opens = match &mut inner.state {
            State::Closed { failures } => {
                *failures += 1;
                *failures >= self.breaker.limits.failures
            }
            State::HalfOpen => self.probe,
            State::Open { .. } => false,
        };
        if opens {
            inner.state = State::Open { since: Instant::now() };
            inner.opened += 1;
            tracing::warn!("{} does not answer: calls are refused for {:?}", self.breaker.of, self.breaker.limits.recovery);
        }
        opens
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if self.probe && !self.told {
            let mut inner = self.breaker.inner.lock();
            if matches!(inner.state, State::HalfOpen) {
                // Long enough ago, so that the next call is the probe.
                let since = Instant::now().checked_sub(self.breaker.limits.recovery).unwrap_or_else(Instant::now);
                inner.state = State::Open { since };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    const RECOVERY: Duration = Duration::from_secs(30);

    fn breaker() -> Breaker {
        Breaker::new("the test", BreakerLimits { failures: 5, recovery: RECOVERY })
    }

    fn fail(breaker: &Breaker, times: usize) {
        for _ in 0..times {
            breaker.enter().unwrap().failed();
        }
    }

    fn state(breaker: &Breaker) -> CircuitState {
        breaker.circuit().state
    }

    #[tokio::test(start_paused = true)]
    async fn starts_closed_and_opens_at_the_threshold() {
        let breaker = breaker();
        fail(&breaker, 4);
        assert_eq!(state(&breaker), CircuitState::Closed);
        fail(&breaker, 1);
        assert_eq!(state(&breaker), CircuitState::Open);
        assert!(breaker.enter().is_none());
        assert_eq!(breaker.circuit(), Circuit { state: CircuitState::Open, opened: 1, refused: 1 });
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_resets_the_count() {
        let breaker = breaker();
        fail(&breaker, 4);
        breaker.enter().unwrap().succeeded();
        fail(&breaker, 4);
        assert_eq!(state(&breaker), CircuitState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn one_probe_after_the_recovery_and_a_success_closes() {
        let breaker = breaker();
        fail(&breaker, 5);
        tokio::time::advance(RECOVERY - Duration::from_millis(1)).await;
        assert!(breaker.enter().is_none());
        tokio::time::advance(Duration::from_millis(1)).await;
        let probe = breaker.enter().unwrap();
        assert_eq!(state(&breaker), CircuitState::HalfOpen);
        assert!(breaker.enter().is_none(), "one at a time");
        probe.succeeded();
        assert_eq!(state(&breaker), CircuitState::Closed);
        fail(&breaker, 4);
        assert_eq!(state(&breaker), CircuitState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_probe_opens_again_for_as_long() {
        let breaker = breaker();
        fail(&breaker, 5);
        tokio::time::advance(RECOVERY).await;
        breaker.enter().unwrap().failed();
        assert_eq!(breaker.circuit().opened, 2);
        tokio::time::advance(RECOVERY - Duration::from_millis(1)).await;
        assert!(breaker.enter().is_none());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(breaker.enter().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_whose_caller_left_is_free_for_the_next() {
        let breaker = breaker();
        fail(&breaker, 5);
        tokio::time::advance(RECOVERY).await;
        drop(breaker.enter().unwrap());
        breaker.enter().unwrap().succeeded();
        assert_eq!(state(&breaker), CircuitState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn who_entered_before_it_opened_does_not_close_it() {
        let breaker = breaker();
        let early = breaker.enter().unwrap();
        fail(&breaker, 5);
        early.succeeded();
        assert_eq!(state(&breaker), CircuitState::Open);
    }
}
