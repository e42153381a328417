//! What was read beside objects, kept as long as their inodes show that nothing changed.
//!
//! Every change of content, attributes, links or mode moves the change time of the inode, whoever makes it and however it sets
//! the modification time. Change times have ticks, so what was read from an inode that changed within the last few is not kept.
//!
//! It is true of an inode whichever root it was found below, so all roots share one cache, and a thousand of them hold no more than one does.
//! Whoever asks has the inode before it.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::SystemTime;

use parking_lot::Mutex;
use rustix::fs::Stat;
use sluice_provider::{Attributes, ETag};

use crate::directory::settled;
use crate::meta::Stamp;

/// Locks that readers share.
const SHARDS: usize = 16;
/// The most that one lock guards, 28 672 objects in all: what a table of 2048 places takes before it grows.
const MOST: usize = 1792;
/// Longer attributes are not kept, in bytes as stored: together at most 14 MiB are.
pub(crate) const KEPT_BYTES: usize = 512;

/// One state of one inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) stamp: Stamp,
    /// The change time: seconds, nanoseconds.
    pub(crate) changed: (i64, i64),
}

impl Version {
    #[allow(clippy::unnecessary_cast, reason = "the types of stat differ between platforms")]
    pub(crate) fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            stamp: Stamp::of(stat),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }

    /// Whether a change after `now` is sure to move the change time.
    pub(crate) fn settled(&self, now: SystemTime) -> bool {
        settled(self.changed, now)
    }
}

/// What is known of one state of an inode, which its device and number lead to.
#[derive(Debug)]
struct Kept {
    stamp: Stamp,
    changed: (i64, i64),
    etag: ETag,
    /// Most objects have none.
    attributes: Option<Box<Attributes>>,
}

type Shard = Mutex<HashMap<(u64, u64), Kept>>;

/// What lies beside objects that were read lately. Bounded.
#[derive(Debug)]
pub(crate) struct KnownCache(Vec<Shard>);

/// That of all roots.
pub(crate) fn cache() -> &'static KnownCache {
    static CACHE: LazyLock<KnownCache> = LazyLock::new(KnownCache::default);
    &CACHE
}

impl Default for KnownCache {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| Shard::default()).collect())
    }
}

impl KnownCache {
    pub(crate) fn get(&self, version: &Version) -> Option<(ETag, Attributes)> {
        let shard = self.shard(version)?.lock();
        let known = shard.get(&(version.device, version.inode))?;
        let same = (known.stamp, known.changed) == (version.stamp, version.changed);
        same.then(|| (known.etag.clone(), known.attributes.as_deref().cloned().unwrap_or_default()))
    }

    /// Keeps what was read. The inode must have been in this version before the reading, and settled then.
    pub(crate) fn put(&self, version: Version, etag: &ETag, attributes: &Attributes) {
        let Some(mut shard) = self.shard(&version).map(Mutex::lock) else { return };
        if shard.len() >= MOST {
            // Every second one, in no order.
            let mut stays = false;
            shard.retain(|_, _| {
                stays = !stays;
                stays
            });
        }
        let Version { device, inode, stamp, changed } = version;
        let attributes = (!attributes.is_empty()).then(|| Box::new(attributes.clone()));
        shard.insert((device, inode), Kept { stamp, changed, etag: etag.clone(), attributes });
    }

    fn shard(&self, version: &Version) -> Option<&Shard> {
        self.0.get(usize::try_from(version.inode % SHARDS as u64).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn no_more_is_kept_than_it_says() {
        let cache = KnownCache::default();
        let version =
            |inode| Version { device: 1, inode, stamp: Stamp { size: inode, seconds: 1, nanoseconds: 2 }, changed: (3, 4) };
        let etag = ETag::new("d41d8cd98f00b204e9800998ecf8427e").unwrap();
        for inode in 0..100_000 {
            cache.put(version(inode), &etag, &Attributes::new());
            assert_eq!(cache.get(&version(inode)), Some((etag.clone(), Attributes::new())));
        }
        let kept = (0..100_000).filter(|&inode| cache.get(&version(inode)).is_some()).count();
        assert!((1..=SHARDS * MOST).contains(&kept), "{kept}");
    }
}
