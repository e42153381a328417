//! The idle sweep: identify, remove, close.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::task::{AbortHandle, JoinSet};

use super::Registry;
use super::entry::Entry;

/// How long the sweep waits for the owner of a closed handle to let go before it says so in the log.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The running sweep. Stops on drop.
#[derive(Debug)]
pub struct Sweep(AbortHandle);

// === impl Sweep ===

impl Sweep {
    pub(super) fn start(registry: Registry, interval: Duration, idle: Duration) -> Self {
        let task = tokio::spawn(async move {
            // An owner that does not let go holds up no later sweep. Each ends at its timeout, so that there are never more of them than
            // sweeps in that time.
            let mut closing = JoinSet::new();
            loop {
                tokio::time::sleep(jittered(interval)).await;
                while closing.try_join_next().is_some() {}
                let removed = take(&registry, registry.now(), idle);
                if !removed.is_empty() {
                    tracing::info!(closed = removed.len(), open = registry.len(), "closed idle handles");
                    closing.spawn(async move { close(&removed, CLOSE_TIMEOUT).await });
                }
            }
        });
        Self(task.abort_handle())
    }

    /// Whether it has stopped.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    #[cfg(test)]
    pub(super) fn handle(&self) -> AbortHandle {
        self.0.clone()
    }
}

impl Drop for Sweep {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The first two phases: what was idle and is out of the registry.
fn take(registry: &Registry, now: u64, idle: Duration) -> Vec<Arc<Entry>> {
    let idle = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
    let candidates = registry.identify(now, idle);
    registry.remove_idle(&candidates, now, idle)
}

/// One sweep, until all owners have let go or `timeout` is over; answers how many handles it closed.
#[cfg(test)]
pub(super) async fn once(registry: &Registry, now: u64, idle: Duration, timeout: Duration) -> usize {
    let removed = take(registry, now, idle);
    close(&removed, timeout).await;
    removed.len()
}

/// Third phase, outside any lock: tells all owners, then waits for them together.
pub(super) async fn close(removed: &[Arc<Entry>], timeout: Duration) {
    removed.iter().for_each(|entry| entry.wake());
    let wait = |entry| async move { tokio::time::timeout(timeout, Entry::released(entry)).await.is_err().then_some(entry) };
    let mut owners: FuturesUnordered<_> = removed.iter().map(|entry| wait(&**entry)).collect();
    while let Some(outcome) = owners.next().await {
        if let Some(entry) = outcome {
            let (bucket, key) = entry.bucket_and_key();
            tracing::warn!(bucket, key, purpose = entry.purpose.name(), "a closed handle was not let go");
        }
    }
}

/// Within a tenth of the interval, so that gateways that started together do not sweep together.
fn jittered(interval: Duration) -> Duration {
    let tenths = getrandom::u32().map_or(0.0, |r| f64::from(r) / f64::from(u32::MAX));
    interval.mul_f64(0.95 + tenths / 10.0)
}
