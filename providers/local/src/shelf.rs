//! Snapshots that are still true.
//!
//! Two things can prove that. Where the kernel tells of every change in a directory ([`crate::watch`]), the names that it tells of
//! are looked at again before the snapshot is used, and put in or taken out: that costs what changed, whoever changed it.
//! Elsewhere (network file systems, or too many watches) the times of the directory must be what they were; every creation,
//! removal and rename moves them. Times have ticks, so a snapshot of a directory that changed within the last few is used once and
//! not kept.

use std::collections::{HashMap, HashSet};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rustix::fs::Stat;

use crate::error::Sys;
use crate::meta::Stamp;
use crate::seen::{self, HOLDS};
use crate::snapshot::Snapshot;
use crate::watch::{Told, Watch};

/// The most entries of one directory that are held at once; of a larger one, those that the page needs next.
const WINDOW: usize = 1 << 22;
const DEFAULT_BYTES: usize = 64 << 20;
/// Directories of one root that are kept, and watched.
const MOST_KEPT: usize = 8192;
/// Names that changed since the last listing: with more, reading the directory again is no dearer.
const MOST_DIRTY: usize = 16 * 1024;
/// After so many changes of our own the queue of events is read, which holds 16 384 and takes up to three each.
const POKES: usize = 1024;

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
pub(crate) type Inode = (u64, u64);

/// What proves that a snapshot is true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    Times(Version),
    /// The number of a watch.
    Watch(i32),
}

#[derive(Debug)]
struct Kept {
    /// `None` while it is being read.
    snapshot: Option<Arc<Snapshot>>,
    proof: Proof,
    /// Names to look at again.
    dirty: HashSet<Box<[u8]>>,
    used: u64,
    weight: usize,
}

/// The most that the snapshots of all roots may weigh together, in bytes.
static LIMIT: AtomicUsize = AtomicUsize::new(DEFAULT_BYTES);
/// What they weigh now, without what was seen of the objects.
static WEIGHT: AtomicUsize = AtomicUsize::new(0);
static DIRECTORIES: AtomicUsize = AtomicUsize::new(0);
static READS: AtomicU64 = AtomicU64::new(0);
static HITS: AtomicU64 = AtomicU64::new(0);

/// What the sorted directories of all local mounts take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotUsage {
    /// Directories that are kept.
    pub directories: usize,
    /// Bytes of their names, and of what listings saw of their objects.
    pub bytes: usize,
    /// How often a directory was read.
    pub reads: u64,
    /// How often a listing found it kept.
    pub hits: u64,
}

/// What the sorted directories of all local mounts take now.
#[must_use]
pub fn snapshot_usage() -> SnapshotUsage {
    SnapshotUsage {
        directories: DIRECTORIES.load(Ordering::Relaxed),
        bytes: WEIGHT.load(Ordering::Relaxed) + seen::weight(),
        reads: READS.load(Ordering::Relaxed),
        hits: HITS.load(Ordering::Relaxed),
    }
}

/// Bounds what the sorted directories of all local mounts of the process take together, in bytes (default 64 MiB). Three quarters
/// of it are the most for the names of one directory; of a larger one only a part is held.
pub fn limit_snapshots(bytes: usize) {
    LIMIT.store(bytes, Ordering::Relaxed);
}

#[derive(Debug, Default)]
struct Inner {
    kept: HashMap<Inode, Kept>,
    watched: HashMap<i32, Inode>,
    watch: Option<Watch>,
    /// No queue was to be had: not asked again before the next sweep.
    refused: bool,
    /// Directories that somebody reads now.
    reading: HashSet<Inode>,
    /// The clock at the last [`forget_unused`](Shelf::forget_unused).
    swept: u64,
}

impl Inner {
    fn remove(&mut self, id: &Inode) {
        let Some(old) = self.kept.remove(id) else { return };
        WEIGHT.fetch_sub(old.weight, Ordering::Relaxed);
        DIRECTORIES.fetch_sub(1, Ordering::Relaxed);
        if let Proof::Watch(number) = old.proof {
            self.watched.remove(&number);
            if let Some(watch) = &self.watch {
                watch.remove(number);
            }
        }
    }

    fn insert(&mut self, id: Inode, kept: Kept) {
        self.remove(&id);
        if let Proof::Watch(number) = kept.proof {
            self.watched.insert(number, id);
        }
        WEIGHT.fetch_add(kept.weight, Ordering::Relaxed);
        DIRECTORIES.fetch_add(1, Ordering::Relaxed);
        self.kept.insert(id, kept);
    }

    /// Notes what changed since the last time.
    fn drain(&mut self) {
        let Self { kept, watched, watch: Some(watch), .. } = self else { return };
        let (mut ended, mut lost) = (Vec::new(), false);
        watch.drain(|told| match told {
            Told::Lost => lost = true,
            Told::Ended(number) => ended.extend(watched.get(&number).copied()),
            Told::Name(number, name) => {
                let Some(id) = watched.get(&number) else { return };
                let Some(entry) = kept.get_mut(id) else { return };
                if !entry.dirty.contains(name) {
                    entry.dirty.insert(name.into());
                    if entry.dirty.len() > MOST_DIRTY {
                        ended.push(*id);
                    }
                }
            }
        });
        if lost {
            tracing::debug!("directories changed faster than listings took note: they are read again");
            ended = kept.keys().copied().collect();
        }
        for id in ended {
            self.remove(&id);
        }
    }

    /// Watches a directory that is about to be read.
    fn begin_watch(&mut self, dir: BorrowedFd<'_>) -> Option<i32> {
        if self.watch.is_none() && !self.refused {
            match Watch::new() {
                Ok(watch) => self.watch = Some(watch),
                Err(errno) => {
                    self.refused = true;
                    tracing::info!(%errno, "the kernel does not tell what changes in directories; their times will");
                }
            }
        }
        let number = self.watch.as_ref()?.add(dir).ok()?;
        // One that has another number of ours is the same directory under another device number: leave it alone.
        (!self.watched.contains_key(&number)).then_some(number)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for entry in self.kept.values() {
            WEIGHT.fetch_sub(entry.weight, Ordering::Relaxed);
            DIRECTORIES.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The snapshots of one root.
#[derive(Debug)]
pub(crate) struct Shelf {
    inner: Mutex<Inner>,
    /// Somebody has read a directory.
    done: Condvar,
    /// Whether changes are told.
    watches: bool,
    watching: AtomicBool,
    pokes: AtomicUsize,
    clock: AtomicU64,
    /// Whether somebody will come by to forget what was seen.
    forgetting: AtomicBool,
    pub(crate) window: AtomicUsize,
    /// How long what was seen is held at least, in milliseconds.
    pub(crate) holds: AtomicU64,
}

/// The right to read a directory, which one thread has at a time.
pub(crate) struct Turn<'a> {
    shelf: &'a Shelf,
    id: Inode,
    number: Option<i32>,
}

/// How an attempt to keep a snapshot ended.
pub(crate) enum Ended {
    /// It is true as of now.
    True(Arc<Snapshot>),
    /// Something changed that only reading again tells.
    Again(Snapshot),
}

impl Shelf {
    pub(crate) fn new(watches: bool) -> Self {
        Self {
            inner: Mutex::default(),
            done: Condvar::new(),
            watches,
            watching: AtomicBool::new(false),
            pokes: AtomicUsize::new(0),
            clock: AtomicU64::new(0),
            forgetting: AtomicBool::new(false),
            window: AtomicUsize::new(WINDOW),
            holds: AtomicU64::new(u64::try_from(HOLDS.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// The most that the names of one directory may weigh.
    pub(crate) fn most_bytes(&self) -> usize {
        LIMIT.load(Ordering::Relaxed) / 4 * 3
    }

    /// A snapshot with what follows `from`. `look` looks at a name again and says whether that was enough.
    pub(crate) fn get(
        &self,
        id: Inode,
        version: Version,
        from: &str,
        mut look: impl FnMut(&mut Snapshot, &[u8]) -> Sys<bool>,
    ) -> Sys<Option<Arc<Snapshot>>> {
        let mut inner = self.inner.lock();
        inner.drain();
        let Some(entry) = inner.kept.get_mut(&id) else { return Ok(None) };
        if matches!(entry.proof, Proof::Times(then) if then != version) {
            return Ok(None);
        }
        let Some(snapshot) = entry.snapshot.as_mut() else { return Ok(None) };
        if !entry.dirty.is_empty() {
            let shared = Arc::make_mut(snapshot);
            let mut enough = Ok(true);
            for name in entry.dirty.drain() {
                enough = look(shared, &name);
                if !matches!(enough, Ok(true)) {
                    break;
                }
            }
            if !matches!(enough, Ok(true)) {
                inner.remove(&id);
                return enough.map(|_| None);
            }
            let weight = shared.weight();
            WEIGHT.fetch_add(weight, Ordering::Relaxed);
            WEIGHT.fetch_sub(std::mem::replace(&mut entry.weight, weight), Ordering::Relaxed);
        }
        if !snapshot.covers(from) {
            return Ok(None);
        }
        entry.used = self.clock.fetch_add(1, Ordering::Relaxed);
        HITS.fetch_add(1, Ordering::Relaxed);
        Ok(Some(Arc::clone(snapshot)))
    }

    /// Whether anything is told at all.
    pub(crate) fn is_watching(&self) -> bool {
        self.watching.load(Ordering::Relaxed)
    }

    /// A snapshot with what follows `from`, if nothing has to be looked at again and nobody has to be waited for.
    pub(crate) fn at_hand(&self, id: Inode, from: &str) -> Option<Arc<Snapshot>> {
        let mut inner = self.inner.try_lock()?;
        inner.drain();
        let entry = inner.kept.get_mut(&id).filter(|entry| entry.dirty.is_empty() && matches!(entry.proof, Proof::Watch(_)))?;
        let snapshot = entry.snapshot.as_ref().filter(|snapshot| snapshot.covers(from))?;
        entry.used = self.clock.fetch_add(1, Ordering::Relaxed);
        HITS.fetch_add(1, Ordering::Relaxed);
        Some(Arc::clone(snapshot))
    }

    /// Takes the turn to read a directory. When somebody else has it, waits for its end and answers `None`: look again then.
    pub(crate) fn begin(&self, id: Inode, dir: BorrowedFd<'_>) -> Option<Turn<'_>> {
        let mut inner = self.inner.lock();
        if inner.reading.contains(&id) {
            while inner.reading.contains(&id) {
                self.done.wait(&mut inner);
            }
            return None;
        }
        inner.remove(&id);
        inner.reading.insert(id);
        let number = if self.watches { inner.begin_watch(dir) } else { None };
        if let Some(number) = number {
            self.watching.store(true, Ordering::Relaxed);
            inner.insert(id, Kept { snapshot: None, proof: Proof::Watch(number), dirty: HashSet::new(), used: 0, weight: 0 });
        }
        READS.fetch_add(1, Ordering::Relaxed);
        Some(Turn { shelf: self, id, number })
    }

    /// Tells of a change of our own: when there were many, their events are taken note of before the queue is full.
    pub(crate) fn poke(&self) {
        if self.watching.load(Ordering::Relaxed)
            && self.pokes.fetch_add(1, Ordering::Relaxed).is_multiple_of(POKES)
            && let Some(mut inner) = self.inner.try_lock()
        {
            inner.drain();
        }
    }

    /// Keeps to the limit.
    pub(crate) fn trim(&self) {
        let limit = LIMIT.load(Ordering::Relaxed);
        if WEIGHT.load(Ordering::Relaxed) + seen::weight() > limit {
            self.trim_to(&mut self.inner.lock(), limit);
        }
    }

    /// Of its own only, down to none: a root cannot reach into another's. What those hold and do not use goes with their sweep.
    fn trim_to(&self, inner: &mut Inner, limit: usize) {
        let over = |inner: &Inner, limit| inner.kept.len() > MOST_KEPT || WEIGHT.load(Ordering::Relaxed) + seen::weight() > limit;
        if !over(inner, limit) {
            return;
        }
        // What was seen is sooner seen again than a directory is read again. What was used since the last time may stay, at first.
        for _ in 0..2 {
            if seen::weight() > limit / 4 {
                inner.kept.values().filter_map(|entry| entry.snapshot.as_ref()).for_each(|snapshot| snapshot.forget_unseen());
            }
        }
        if !over(inner, limit) {
            return;
        }
        let ready = inner.kept.iter().filter(|(_, entry)| entry.snapshot.is_some());
        let mut oldest: Vec<_> = ready.map(|(id, entry)| (entry.used, *id)).collect();
        oldest.sort_unstable();
        // An eighth more than is needed, so that this does not come with every directory.
        let spare = oldest.len().min(MOST_KEPT / 8);
        for (at, (_, id)) in oldest.iter().enumerate() {
            if !over(inner, limit / 8 * 7) && (inner.kept.len() + spare <= MOST_KEPT || at >= spare) {
                break;
            }
            inner.remove(id);
        }
    }

    /// How long what was seen is held at least.
    pub(crate) fn holds(&self) -> Duration {
        Duration::from_millis(self.holds.load(Ordering::Relaxed))
    }

    /// Whether the caller has to see to it that [`forget_old`](Self::forget_old) is called again and again: something was seen that nobody else
    /// will come by to forget.
    pub(crate) fn is_to_forget(&self) -> bool {
        seen::weight() > 0 && !self.forgetting.load(Ordering::Relaxed) && !self.forgetting.swap(true, Ordering::Relaxed)
    }

    /// Forgets what was seen too long ago to be shown. Answers whether the caller has to come by again.
    pub(crate) fn forget_old(&self) -> bool {
        self.forgetting.store(false, Ordering::Relaxed);
        // Listings need not wait for this.
        let snapshots: Vec<_> = self.inner.lock().kept.values().filter_map(|entry| entry.snapshot.clone()).collect();
        let left = snapshots.into_iter().filter(|snapshot| snapshot.forget_older(self.holds())).count();
        left > 0 && self.is_to_forget()
    }

    /// Forgets what was not used since the last call.
    pub(crate) fn forget_unused(&self) {
        let mut inner = self.inner.lock();
        let since = std::mem::replace(&mut inner.swept, self.clock.load(Ordering::Relaxed));
        let unused = inner.kept.iter().filter(|(_, entry)| entry.snapshot.is_some() && entry.used < since);
        let unused: Vec<_> = unused.map(|(id, _)| *id).collect();
        unused.iter().for_each(|id| inner.remove(id));
        inner.refused = false;
        if inner.kept.is_empty() {
            inner.watch = None;
            self.watching.store(false, Ordering::Relaxed);
        }
    }
}

impl Turn<'_> {
    /// Whether changes are told while the directory is read.
    pub(crate) fn is_told(&self) -> bool {
        self.number.is_some()
    }

    /// Brings a snapshot up to the changes that were told while it was read, and keeps it if it can be kept.
    pub(crate) fn finish_told(
        self,
        mut snapshot: Snapshot,
        mut look: impl FnMut(&mut Snapshot, &[u8]) -> Sys<bool>,
    ) -> Sys<Ended> {
        let mut inner = self.shelf.inner.lock();
        inner.drain();
        let mine = |entry: &&mut Kept| Some(entry.proof) == self.number.map(Proof::Watch);
        let Some(entry) = inner.kept.get_mut(&self.id).filter(mine) else { return Ok(Ended::Again(snapshot)) };
        let mut enough = Ok(true);
        for name in entry.dirty.drain() {
            enough = look(&mut snapshot, &name);
            if !matches!(enough, Ok(true)) {
                break;
            }
        }
        if snapshot.unsteady || !matches!(enough, Ok(true)) {
            inner.remove(&self.id);
            return enough.map(|enough| if enough { Ended::True(Arc::new(snapshot)) } else { Ended::Again(snapshot) });
        }
        snapshot.told = true;
        let proof = entry.proof;
        Ok(Ended::True(self.keep(&mut inner, snapshot, proof)))
    }

    /// Keeps a snapshot that the times of its directory prove.
    pub(crate) fn finish_timed(self, snapshot: Snapshot, version: Version) -> Arc<Snapshot> {
        let mut inner = self.shelf.inner.lock();
        self.keep(&mut inner, snapshot, Proof::Times(version))
    }

    fn keep(&self, inner: &mut Inner, snapshot: Snapshot, proof: Proof) -> Arc<Snapshot> {
        let snapshot = Arc::new(snapshot);
        let weight = snapshot.weight();
        let used = self.shelf.clock.fetch_add(1, Ordering::Relaxed);
        let kept = Kept { snapshot: Some(Arc::clone(&snapshot)), proof, dirty: HashSet::new(), used, weight };
        match inner.kept.get_mut(&self.id) {
            // The watch goes on.
            Some(entry) if entry.proof == proof => {
                WEIGHT.fetch_add(weight, Ordering::Relaxed);
                WEIGHT.fetch_sub(entry.weight, Ordering::Relaxed);
                *entry = kept;
            }
            _ => inner.insert(self.id, kept),
        }
        self.shelf.trim_to(inner, LIMIT.load(Ordering::Relaxed));
        snapshot
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut inner = self.shelf.inner.lock();
        inner.reading.remove(&self.id);
        // What was begun and not kept is watched no more.
        if inner.kept.get(&self.id).is_some_and(|entry| entry.snapshot.is_none()) {
            inner.remove(&self.id);
        }
        drop(inner);
        self.shelf.done.notify_all();
    }
}
