//! What listings saw of the objects of a directory.
//!
//! It holds as long as somebody tells when an object changes ([`crate::watch`]), with two gaps: a change through another hard
//! link, and one through a mapping before the file is closed. An object with other links is not kept, and nothing for longer than
//! [`HOLDS`].

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sluice_provider::{Attributes, ETag, Key, ObjectInfo};

use crate::meta::Stamp;

/// How long what was seen is shown without looking again.
pub(crate) const HOLDS: Duration = Duration::from_secs(30);

static CLOCK: LazyLock<Instant> = LazyLock::new(Instant::now);
/// What is kept now weighs, over all roots.
static WEIGHT: AtomicUsize = AtomicUsize::new(0);

/// In bytes, over all roots.
pub(crate) fn weight() -> usize {
    WEIGHT.load(Ordering::Relaxed)
}

/// The metadata of an object.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    stamp: Stamp,
    etag: ETag,
    attributes: Option<Box<Attributes>>,
}

/// The most characters of attributes that are kept with an object: what takes 512 bytes as stored, with the names written out.
const KEPT_CHARACTERS: usize = 1024;

fn characters(attributes: &Attributes) -> usize {
    attributes.iter().map(|(name, value)| name.len() + value.len()).sum()
}

impl Seen {
    /// `None` for more than is worth keeping.
    pub(crate) fn new(stamp: Stamp, info: &ObjectInfo) -> Option<Self> {
        let any = info.attributes.iter().next().is_some();
        (characters(&info.attributes) <= KEPT_CHARACTERS).then(|| Self {
            stamp,
            etag: info.etag.clone(),
            attributes: any.then(|| Box::new(info.attributes.clone())),
        })
    }

    pub(crate) fn info(&self, key: Key) -> ObjectInfo {
        let attributes = self.attributes.as_deref().cloned().unwrap_or_default();
        ObjectInfo { key, size: self.stamp.size, etag: self.etag.clone(), modified: self.stamp.modified(), attributes }
    }

    /// An estimate, in bytes.
    fn weight(&self) -> usize {
        size_of::<Option<Self>>() + 64 + self.attributes.as_deref().map_or(0, |attributes| 512 + characters(attributes))
    }
}

#[derive(Debug)]
struct Kept {
    of: Vec<Option<Seen>>,
    weight: usize,
    /// When the oldest of them was seen.
    since: Duration,
}

impl Kept {
    fn clear(&mut self, at: usize) {
        if let Some(seen) = self.of.get_mut(at).and_then(Option::take) {
            self.weight -= seen.weight();
            WEIGHT.fetch_sub(seen.weight(), Ordering::Relaxed);
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        WEIGHT.fetch_sub(self.weight, Ordering::Relaxed);
    }
}

/// What was seen of the objects of a chunk, by their positions.
#[derive(Debug, Default)]
pub(crate) struct SeenPart {
    kept: Mutex<Option<Box<Kept>>>,
    used: AtomicBool,
}

impl SeenPart {
    /// A copy, which weighs again.
    pub(crate) fn copied(&self) -> Self {
        let kept = self.kept.lock();
        let copy = kept.as_ref().map(|kept| {
            WEIGHT.fetch_add(kept.weight, Ordering::Relaxed);
            Box::new(Kept { of: kept.of.clone(), weight: kept.weight, since: kept.since })
        });
        Self { kept: Mutex::new(copy), used: AtomicBool::new(self.used.load(Ordering::Relaxed)) }
    }

    pub(crate) fn get<T>(&self, at: usize, use_it: impl FnOnce(&Seen) -> T) -> Option<T> {
        let kept = self.kept.lock();
        let seen = kept.as_ref()?.of.get(at)?.as_ref()?;
        Some(use_it(seen))
    }

    /// Says that a page begins to look here: what is too old goes.
    pub(crate) fn touch(&self) {
        self.used.store(true, Ordering::Relaxed);
        self.forget_older(HOLDS);
    }

    /// Forgets what is older. Answers whether something is left.
    pub(crate) fn forget_older(&self, than: Duration) -> bool {
        let mut kept = self.kept.lock();
        if kept.as_ref().is_some_and(|kept| CLOCK.elapsed().saturating_sub(kept.since) > than) {
            *kept = None;
        }
        kept.is_some()
    }

    pub(crate) fn put(&self, at: usize, names: usize, seen: Seen) {
        let mut kept = self.kept.lock();
        let kept = kept.get_or_insert_with(|| Box::new(Kept { of: Vec::new(), weight: 0, since: CLOCK.elapsed() }));
        kept.of.resize_with(names.max(at + 1), || None);
        let weight = seen.weight();
        kept.clear(at);
        if let Some(slot) = kept.of.get_mut(at) {
            *slot = Some(seen);
            kept.weight += weight;
            WEIGHT.fetch_add(weight, Ordering::Relaxed);
        }
    }

    pub(crate) fn clear(&mut self, at: usize) {
        if let Some(kept) = self.kept.get_mut() {
            kept.clear(at);
        }
    }

    pub(crate) fn insert(&mut self, at: usize) {
        if let Some(kept) = self.kept.get_mut().as_mut().filter(|kept| at <= kept.of.len()) {
            kept.of.insert(at, None);
        }
    }

    pub(crate) fn remove(&mut self, at: usize) {
        if let Some(kept) = self.kept.get_mut().as_mut().filter(|kept| at < kept.of.len()) {
            kept.clear(at);
            kept.of.remove(at);
        }
    }

    /// Forgets what nobody looked at since the last call.
    pub(crate) fn age(&self) {
        if !self.used.swap(false, Ordering::Relaxed) {
            *self.kept.lock() = None;
        }
    }
}
