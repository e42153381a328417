//! The idle sweep: identify, remove, close.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::task::AbortHandle;

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
            loop {
                tokio::time::sleep(jittered(interval)).await;
                let closed = once(&registry, registry.now(), idle, CLOSE_TIMEOUT).await;
                if closed > 0 {
                    tracing::info!(closed, open = registry.len(), "closed idle handles");
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

/// One sweep; answers how many handles it closed.
pub(super) async fn once(registry: &Registry, now: u64, idle: Duration, timeout: Duration) -> usize {
    let idle = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
    let candidates = registry.identify(now, idle);
    let removed = registry.remove_idle(&candidates, now, idle);
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
