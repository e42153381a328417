//! Bytes on the mounts of storage classes that no object refers to any more.

use std::time::{Duration, SystemTime};

use super::Lifecycle;
use crate::mounts::Sweeping;
use crate::namespaces::Namespace;
use crate::telemetry::metrics;

/// How long after a sweep of a bucket the next one comes.
const PAUSE: Duration = Duration::from_secs(24 * 60 * 60);
/// Of how many buckets it is remembered when they were swept: others are swept more often.
const MOST_REMEMBERED: usize = 10_000;

impl Lifecycle {
    /// Sweeps the storage classes of a bucket, if that has not been done within a day; how many were removed.
    pub(super) async fn sweep(&self, namespace: &Namespace, now: SystemTime) -> u64 {
        let table = namespace.mounts.load_full();
        if table.classes().is_empty() || !self.is_turn_to_sweep(&namespace.bucket.name, now) {
            return 0;
        }
        let mut removed = 0;
        for class in table.classes() {
            let mut sweeping = Sweeping::default();
            loop {
                let (began, seen) = (tokio::time::Instant::now(), sweeping.seen);
                // A table of now: what was mounted meanwhile may refer to what lies here.
                let table = namespace.mounts.load_full();
                match sweeping.page(&table, class, &namespace.bucket.name, now).await {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        tracing::warn!(bucket = namespace.bucket.name, class = %class.prefix, %error, "not swept");
                        break;
                    }
                }
                tokio::time::sleep_until(began + self.share(sweeping.seen - seen)).await;
            }
            removed += sweeping.removed;
        }
        metrics().lifecycle_did([("sweep", removed)]);
        removed
    }

    fn is_turn_to_sweep(&self, bucket: &str, now: SystemTime) -> bool {
        let mut swept = self.swept.lock();
        if swept.get(bucket).is_some_and(|last| now.duration_since(*last).unwrap_or_default() < PAUSE) {
            return false;
        }
        if swept.len() >= MOST_REMEMBERED {
            swept.clear();
        }
        swept.insert(bucket.to_owned(), now);
        true
    }
}
