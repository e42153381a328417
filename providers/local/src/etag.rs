//! ETags of files that somebody else wrote: the MD5 of their content, computed once.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime};

use md5::{Digest, Md5};
use parking_lot::Mutex;
use rustix::fs::{XattrFlags, fsetxattr};
use sluice_provider::{Attributes, ETag, Error, ErrorKind, Key, ObjectInfo, Result};

use crate::error::fault;
use crate::meta::{Beside, Meta, Stamp};
use crate::name::KeyPath;
use crate::object::{Known, Opened, XATTR};
use crate::record;
use crate::store::Store;

/// A file that was written this recently may be written again within the same tick of the file system's clock, which no stamp
/// would show. Its ETag is answered, but not stored.
const SETTLED: Duration = Duration::from_millis(50);
/// The same where the clock of the file system counts whole seconds.
const SETTLED_COARSE: Duration = Duration::from_secs(2);
/// How far the clock of a file server may be ahead of ours. A stamp that is further ahead was set on purpose, and the next write
/// will move it back.
const AHEAD: Duration = Duration::from_secs(5);
/// How often a file that changes while it is read is read again.
const TRIES: usize = 3;
const BUFFER_BYTES: usize = 256 * 1024;
const CACHED: usize = 16 * 1024;

/// Device and inode.
type Inode = (u64, u64);

/// The content an ETag is of, with the time of the last change of its inode.
type Seen = (Stamp, (i64, i64), ETag);

/// ETags that cannot be stored with their file, such as one on which we may not write. Bounded; the latest are kept.
#[derive(Debug, Default)]
pub(crate) struct EtagCache(Mutex<HashMap<Inode, Seen>>);

impl EtagCache {
    fn get(&self, opened: &Opened) -> Option<ETag> {
        let cache = self.0.lock();
        let (stamp, changed, etag) = cache.get(&(opened.device, opened.inode))?;
        (*stamp == opened.stamp && *changed == opened.changed).then(|| etag.clone())
    }

    fn put(&self, opened: &Opened, etag: &ETag) {
        let mut cache = self.0.lock();
        if cache.len() >= CACHED {
            cache.clear();
        }
        cache.insert((opened.device, opened.inode), (opened.stamp, opened.changed, etag.clone()));
    }
}

impl Store {
    /// The metadata of an open object, computing the ETag of a foreign one. Blocks as long as reading the file takes. `locked`
    /// tells whether the caller holds the lock of the key.
    pub(crate) fn info(&self, key: &Key, opened: Opened, known: Known, locked: bool) -> Result<(Opened, ObjectInfo)> {
        match known {
            Known::Ours { etag, attributes, .. } => {
                let info = opened.info(key.clone(), etag, attributes);
                Ok((opened, info))
            }
            Known::Foreign => {
                let (opened, etag) = self.foreign_etag(key, opened, locked)?;
                let info = opened.info(key.clone(), etag, Attributes::new());
                Ok((opened, info))
            }
        }
    }

    fn foreign_etag(&self, key: &Key, mut opened: Opened, locked: bool) -> Result<(Opened, ETag)> {
        let failed = |e| fault("read a foreign file", e);
        let gone = || Error::new(ErrorKind::Unavailable, "a file became something else");
        for _ in 0..TRIES {
            if let Some(etag) = self.etags.get(&opened) {
                return Ok((opened, etag));
            }
            let before = (opened.stamp, opened.changed);
            let etag = digest(&opened)?;
            opened = opened.refresh().map_err(failed)?.ok_or_else(gone)?;
            if opened.stamp != before.0 {
                continue;
            }
            if settled(opened.stamp) {
                if self.store_etag(key, &opened, &etag, locked).is_err() {
                    self.etags.put(&opened, &etag);
                }
                opened = opened.refresh().map_err(failed)?.ok_or_else(gone)?;
            }
            return Ok((opened, etag));
        }
        Err(Error::new(ErrorKind::Conflict, "a foreign file keeps changing").with("key", format!("{key:?}")))
    }

    fn store_etag(&self, key: &Key, opened: &Opened, etag: &ETag, locked: bool) -> Result<()> {
        // Without the lock we could overwrite attributes that somebody set while we were reading.
        let _lock = if locked { None } else { Some(self.locks.lock(key.as_str())?) };
        let current = self.load_key(&KeyPath::new(key.as_str()))?;
        match current {
            Some((now, Known::Foreign)) if now.inode == opened.inode && now.stamp == opened.stamp => {}
            _ => return Ok(()),
        }
        let beside = Beside::Here(Attributes::new());
        let meta = Meta { stamp: opened.stamp, etag: etag.clone(), beside, growing: false };
        if self.xattrs {
            fsetxattr(&opened.file, XATTR, &meta.encode(), XattrFlags::empty()).map_err(|e| fault("store etag", e))
        } else {
            record::write(&self.space, &self.flush, &record::of_inode(opened.inode), key.as_str(), &meta)
        }
    }
}

fn settled(stamp: Stamp) -> bool {
    let least = if stamp.nanoseconds == 0 { SETTLED_COARSE } else { SETTLED };
    match SystemTime::now().duration_since(stamp.modified()) {
        Ok(age) => age >= least,
        Err(ahead) => ahead.duration() >= AHEAD,
    }
}

fn digest(opened: &Opened) -> Result<ETag> {
    let file = opened.file.as_fd();
    digest_of(opened.stamp.size, |buffer, at| {
        crate::read::read_exact(file, buffer, at).map_err(|e| fault("read a foreign file", e))
    })
}

/// The digest of what `read` fills buffers with, of about `size` bytes: less than a buffer is the end.
fn digest_of(size: u64, mut read: impl FnMut(&mut [u8], u64) -> Result<usize>) -> Result<ETag> {
    let mut md5 = Md5::new();
    // One byte more than it has: the first read meets the end then.
    let bytes = usize::try_from(size).unwrap_or(usize::MAX).saturating_add(1);
    let mut buffer = vec![0; bytes.min(BUFFER_BYTES)];
    let mut at = 0;
    loop {
        let read = read(&mut buffer, at)?;
        md5.update(&buffer[..read]);
        at += read as u64;
        if read < buffer.len() {
            return ETag::new(hex::encode(md5.finalize()));
        }
        // Somebody still writes it, or its size is not told.
        buffer.resize(BUFFER_BYTES, 0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_file_that_grows_is_read_in_large_steps_and_a_small_one_at_once() {
        let content = vec![7; 1 << 20];
        for (told, there, most) in [(0, content.len(), 6), (9, 9, 1), (0, 0, 1), (content.len(), content.len(), 5)] {
            let mut reads = 0;
            let etag = digest_of(told as u64, |buffer, at| {
                reads += 1;
                let left = &content[..there][at as usize..];
                let bytes = left.len().min(buffer.len());
                buffer[..bytes].copy_from_slice(&left[..bytes]);
                Ok(bytes)
            });
            assert_eq!(etag.unwrap().as_str(), hex::encode(Md5::digest(&content[..there])));
            assert!(reads <= most, "{reads} reads of {there} bytes that were told to be {told}");
        }
    }
}
