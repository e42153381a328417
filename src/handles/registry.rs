//! The registry and its guards.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;

use super::entry::{Entry, Purpose};
use super::{Settings, Sweep};

/// Locks that openers share: with one lock, threads that open and close at the same time queue for it.
pub(super) const SHARDS: usize = 64;

/// The registry: 64 shards. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    handles: DashMap<u64, Arc<Entry>>,
    settings: Settings,
    began: Instant,
    /// The id of the next handle: also how many were opened.
    next: AtomicU64,
    reaped: AtomicU64,
}

/// What happened since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Handles opened.
    pub opened: u64,
    /// Handles that the sweep closed.
    pub reaped: u64,
}

/// An open handle, as operators see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenHandle {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// What it is for.
    pub purpose: Purpose,
    /// How long it has been open.
    pub age: Duration,
}

/// An open handle. Closed on drop, wherever that happens.
#[derive(Debug)]
pub struct Guard {
    registry: Registry,
    id: u64,
    entry: Arc<Entry>,
}

/// I/O under way on a handle, until it is dropped.
#[derive(Debug)]
pub struct Busy<'a>(&'a Guard);

// === impl Registry ===

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Shared {
            handles: DashMap::with_shard_amount(SHARDS),
            settings,
            began: Instant::now(),
            next: AtomicU64::new(0),
            reaped: AtomicU64::new(0),
        }))
    }

    /// Opens a handle on a key of a bucket.
    #[must_use]
    pub fn open(&self, bucket: &str, key: &str, purpose: Purpose) -> Guard {
        let entry = Arc::new(Entry::new(bucket, key, purpose, self.now()));
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.0.handles.insert(id, Arc::clone(&entry));
        Guard { registry: self.clone(), id, entry }
    }

    /// How many are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.handles.len()
    }

    /// Whether none is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.handles.is_empty()
    }

    /// Closes all handles, also those in the middle of I/O; answers how many there were. For the end of a drain: every owner
    /// hears of it in [`Guard::closed`].
    pub fn close_all(&self) -> usize {
        let mut all = Vec::with_capacity(self.len());
        self.0.handles.retain(|_, entry| {
            all.push(Arc::clone(entry));
            false
        });
        for entry in &all {
            entry.close();
            entry.wake();
        }
        all.len()
    }

    /// At most `limit` handles, the oldest first. Costs a look at every open handle.
    #[must_use]
    pub fn snapshot(&self, limit: usize) -> Vec<OpenHandle> {
        let now = self.now();
        let mut all: Vec<Arc<Entry>> = self.0.handles.iter().map(|entry| Arc::clone(entry.value())).collect();
        if limit < all.len() {
            all.select_nth_unstable_by_key(limit, |entry| entry.opened);
            all.truncate(limit);
        }
        all.sort_unstable_by_key(|entry| entry.opened);
        all.iter()
            .map(|entry| {
                let (bucket, key) = entry.bucket_and_key();
                let age = Duration::from_millis(now.saturating_sub(entry.opened));
                OpenHandle { bucket: bucket.to_owned(), key: key.to_owned(), purpose: entry.purpose, age }
            })
            .collect()
    }

    /// What happened since the start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters { opened: self.0.next.load(Ordering::Relaxed), reaped: self.0.reaped.load(Ordering::Relaxed) }
    }

    /// Starts the one sweep over all handles, at the settings' interval. It stops when the answer is dropped.
    ///
    /// Must be called on a tokio runtime.
    #[must_use]
    pub fn start_sweep(&self) -> Sweep {
        let seconds = |s: u64| Duration::from_secs(s.max(1));
        Sweep::start(self.clone(), seconds(self.0.settings.sweep_secs), seconds(self.0.settings.idle_secs))
    }

    /// Milliseconds since the registry began.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// First phase: what looks idle, under read locks.
    pub(super) fn identify(&self, now: u64, idle: u64) -> Vec<u64> {
        self.0.handles.iter().filter(|entry| entry.is_idle(now, idle)).map(|entry| *entry.key()).collect()
    }

    /// Second phase: takes out what is still idle, under the write lock of its shard.
    pub(super) fn remove_idle(&self, candidates: &[u64], now: u64, idle: u64) -> Vec<Arc<Entry>> {
        let remove = |id| self.0.handles.remove_if(id, |_, entry| entry.close_if_idle(now, idle)).map(|(_, entry)| entry);
        let removed: Vec<_> = candidates.iter().filter_map(remove).collect();
        self.0.reaped.fetch_add(removed.len() as u64, Ordering::Relaxed);
        removed
    }

    #[cfg(test)]
    pub(super) fn shard_sizes(&self) -> Vec<usize> {
        self.0.handles.shards().iter().map(|shard| shard.read().len()).collect()
    }

    /// Bytes of all tables: a slot and a control byte per bucket, of which seven in eight may be full.
    #[cfg(test)]
    pub(super) fn slot_bytes(&self) -> usize {
        let buckets = |capacity: usize| (capacity * 8 / 7).next_power_of_two();
        self.0.handles.shards().iter().map(|shard| buckets(shard.read().capacity()) * (size_of::<(u64, Arc<Entry>)>() + 1)).sum()
    }
}

// === impl Guard ===

impl Guard {
    /// Notes that bytes moved, so that the sweep leaves the handle alone.
    pub fn touch(&self) {
        self.entry.touch(self.registry.now());
    }

    /// Notes that I/O is under way: until the answer is dropped the sweep leaves the handle alone, however long it takes. Meant
    /// for one call of a provider, never for a wait for the client.
    #[must_use]
    pub fn busy(&self) -> Busy<'_> {
        self.entry.begin(self.registry.now());
        Busy(self)
    }

    /// Resolves when the sweep (or a forced shutdown) has closed the handle from outside: the owner must stop.
    pub async fn closed(&self) {
        self.entry.closed().await;
    }

    /// Whether the sweep has closed it.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.entry.is_closed()
    }

    #[cfg(test)]
    pub(super) fn entry(&self) -> &Entry {
        &self.entry
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Nothing to find when it was closed from outside.
        self.registry.0.handles.remove(&self.id);
        self.entry.release();
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.entry.end(self.0.registry.now());
    }
}
