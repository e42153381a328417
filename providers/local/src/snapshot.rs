//! Directories, read once and sorted by key.
//!
//! The entries of a directory come in no useful order, so a page in the middle would cost reading all of them. A sorted snapshot
//! is kept instead, as long as the directory's change times stay what they were; every creation, removal and rename in it moves
//! them, whoever does it. Change times have ticks, so a snapshot of a directory that changed within the last few is used once
//! and not kept.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use rustix::fs::Stat;

use crate::meta::Stamp;
use crate::name::Form;

/// The most entries of one directory that are held at once; of a larger one, those that the page needs next.
const WINDOW: usize = 1 << 20;
/// What all kept snapshots of all roots in the process may weigh together, in bytes.
const CACHE_BYTES: usize = 64 << 20;
const CACHE_COUNT: usize = 1024;
/// An entry: part of [`Snapshot::names`].
#[derive(Clone, Copy, Debug)]
struct Slot {
    start: u32,
    end: u32,
    form: Form,
}

/// The entries of a directory as parts of keys: `name` for an object, `name/` for a directory, sorted by bytes.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    names: String,
    slots: Vec<Slot>,
    /// Of a directory too large to be held: the last name up to which it is complete. Further ones follow.
    end: Option<String>,
    /// Parts of it lie in directories of their own, whose changes its times do not show.
    pub(crate) composed: bool,
}

impl Snapshot {
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The name at a position, ending with `/` for a directory.
    pub(crate) fn name(&self, at: usize) -> Option<&str> {
        self.slots.get(at).map(|slot| self.text(slot))
    }

    /// The first position whose name `before` denies; it must hold for all names up to there.
    pub(crate) fn seek(&self, mut before: impl FnMut(&str) -> bool) -> usize {
        self.slots.partition_point(|slot| before(self.text(slot)))
    }

    /// Where to read on, when the directory is too large to be held.
    pub(crate) fn end(&self) -> Option<&str> {
        self.end.as_deref()
    }

    fn text(&self, slot: &Slot) -> &str {
        &self.names[slot.start as usize..slot.end as usize]
    }

    pub(crate) fn push(&mut self, name: &str, directory: bool, form: Form) {
        let start = self.names.len();
        self.names.push_str(name);
        if directory {
            self.names.push('/');
        }
        // A window is far smaller than 4 GiB: it holds at most 2^20 names of at most 1025 bytes.
        if self.end.as_ref().is_some_and(|end| self.names[start..] > **end) {
            self.names.truncate(start);
        } else if let (Ok(start), Ok(end)) = (u32::try_from(start), u32::try_from(self.names.len())) {
            self.slots.push(Slot { start, end, form });
        }
    }

    /// Sorts, and of an object that lies at both places keeps one.
    pub(crate) fn sort(&mut self) {
        let names = std::mem::take(&mut self.names);
        let text = |slot: &Slot| &names.as_bytes()[slot.start as usize..slot.end as usize];
        self.slots.sort_unstable_by(|a, b| text(a).cmp(text(b)).then((a.form == Form::Side).cmp(&(b.form == Form::Side))));
        self.slots.dedup_by(|b, a| text(a) == text(b));
        self.names = names;
    }

    /// Keeps the smaller half of what is not before `from`.
    pub(crate) fn shrink(&mut self, from: &str, window: usize) {
        self.sort();
        let begin = self.seek(|name| name < from);
        let end = self.slots.len().min(begin + (window / 2).max(1));
        let last = if end < self.slots.len() { self.slots.get(end - 1).map(|slot| self.text(slot).to_owned()) } else { None };
        let mut kept = Self { end: last.or(self.end.take()), composed: self.composed, ..Self::default() };
        for slot in &self.slots[begin..end] {
            let name = self.text(slot);
            let (name, directory) = name.strip_suffix('/').map_or((name, false), |name| (name, true));
            kept.push(name, directory, slot.form);
        }
        *self = kept;
    }

    fn weight(&self) -> usize {
        self.names.capacity() + self.slots.capacity() * size_of::<Slot>() + 128
    }
}

/// When a directory last changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) modified: Stamp,
    pub(crate) changed: (i64, i64),
}

impl Version {
    #[allow(clippy::unnecessary_cast, reason = "the types of stat differ between platforms")]
    pub(crate) fn of(stat: &Stat) -> Self {
        Self { modified: Stamp::of(stat), changed: (stat.st_ctime as i64, stat.st_ctime_nsec as i64) }
    }
}

/// Device and inode of a directory.
type Inode = (u64, u64);

#[derive(Debug)]
struct Kept {
    snapshot: Arc<Snapshot>,
    version: Version,
    used: u64,
}

/// What the snapshots of all roots weigh now.
static WEIGHT: AtomicUsize = AtomicUsize::new(0);

#[derive(Debug, Default)]
struct Shelf {
    kept: HashMap<Inode, Kept>,
    /// The clock at the last [`forget_unused`](SnapshotCache::forget_unused).
    swept: u64,
}

impl Shelf {
    fn remove(&mut self, id: &Inode) {
        if let Some(old) = self.kept.remove(id) {
            WEIGHT.fetch_sub(old.snapshot.weight(), Ordering::Relaxed);
        }
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        let weight: usize = self.kept.values().map(|entry| entry.snapshot.weight()).sum();
        WEIGHT.fetch_sub(weight, Ordering::Relaxed);
    }
}

/// Snapshots that are still true.
#[derive(Debug)]
pub(crate) struct SnapshotCache {
    kept: Mutex<Shelf>,
    clock: AtomicU64,
    /// How often the kernel was asked for entries (getdents64), the measure of what a listing costs.
    pub(crate) calls: AtomicU64,
    pub(crate) window: AtomicUsize,
}

impl Default for SnapshotCache {
    fn default() -> Self {
        Self { kept: Mutex::default(), clock: AtomicU64::new(0), calls: AtomicU64::new(0), window: AtomicUsize::new(WINDOW) }
    }
}

impl SnapshotCache {
    pub(crate) fn get(&self, id: Inode, version: Version) -> Option<Arc<Snapshot>> {
        let mut shelf = self.kept.lock();
        let entry = shelf.kept.get_mut(&id).filter(|entry| entry.version == version)?;
        entry.used = self.clock.fetch_add(1, Ordering::Relaxed);
        Some(Arc::clone(&entry.snapshot))
    }

    pub(crate) fn put(&self, id: Inode, version: Version, snapshot: &Arc<Snapshot>) {
        if snapshot.weight() > CACHE_BYTES {
            return;
        }
        let mut shelf = self.kept.lock();
        let used = self.clock.fetch_add(1, Ordering::Relaxed);
        shelf.remove(&id);
        WEIGHT.fetch_add(snapshot.weight(), Ordering::Relaxed);
        shelf.kept.insert(id, Kept { snapshot: Arc::clone(snapshot), version, used });
        // Of its own only, down to none: a root cannot reach into another's. What those hold and do not use goes with their sweep.
        while !shelf.kept.is_empty() && (shelf.kept.len() > CACHE_COUNT || WEIGHT.load(Ordering::Relaxed) > CACHE_BYTES) {
            let Some(oldest) = shelf.kept.iter().min_by_key(|(_, entry)| entry.used).map(|(id, _)| *id) else { break };
            shelf.remove(&oldest);
        }
    }

    /// Forgets what was not used since the last call.
    pub(crate) fn forget_unused(&self) {
        let mut shelf = self.kept.lock();
        let since = std::mem::replace(&mut shelf.swept, self.clock.load(Ordering::Relaxed));
        let unused: Vec<_> = shelf.kept.iter().filter(|(_, entry)| entry.used < since).map(|(id, _)| *id).collect();
        unused.iter().for_each(|id| shelf.remove(id));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn what_is_not_used_between_two_sweeps_is_forgotten() {
        let cache = SnapshotCache::default();
        let stamp = Stamp { size: 0, seconds: 1, nanoseconds: 0 };
        let version = Version { modified: stamp, changed: (1, 0) };
        let mut snapshot = Snapshot::default();
        snapshot.push("a", false, Form::Plain);
        let snapshot = Arc::new(snapshot);
        cache.put((1, 1), version, &snapshot);
        cache.put((1, 2), version, &snapshot);
        cache.forget_unused();
        assert!(cache.get((1, 1), version).is_some());
        cache.forget_unused();
        assert!(cache.get((1, 1), version).is_some() && cache.get((1, 2), version).is_none());
    }

    #[test]
    fn all_roots_together_have_one_budget() {
        let caches: Vec<_> = (0..4).map(|_| SnapshotCache::default()).collect();
        let stamp = Stamp { size: 0, seconds: 1, nanoseconds: 0 };
        let version = Version { modified: stamp, changed: (1, 0) };
        let mut snapshot = Snapshot::default();
        snapshot.push(&"x".repeat(CACHE_BYTES / 3), false, Form::Plain);
        let snapshot = Arc::new(snapshot);
        for cache in &caches {
            cache.put((1, 1), version, &snapshot);
        }
        let kept = |cache: &&SnapshotCache| cache.get((1, 1), version).is_some();
        assert!(caches.iter().filter(kept).count() <= 3);
        drop(caches);
        // What is dropped is given back: others keep theirs again.
        let cache = SnapshotCache::default();
        cache.put((1, 1), version, &snapshot);
        assert!(cache.get((1, 1), version).is_some());
    }
}
