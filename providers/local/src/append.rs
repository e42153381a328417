//! Growing at the end, without a copy of what is there.
//!
//! A body is taken in whole before anything happens to the object. Then, under the lock of the key:
//!
//! 1. The attribute of the file says that it is growing: from now on the object is what the attribute says, however long the file is.
//! 2. The bytes are written beyond the end, and flushed.
//! 3. The attribute says the new size, ETag and attributes. That one system call is when the object has grown.
//!
//! Readers that opened the file before go on with the size that they found; its bytes do not change. When a process dies between 1
//! and 3, the object is what it was, and the next append cuts off what lies behind its end.
//!
//! A file with another name (a hard link of somebody else), one behind a symbolic link, one whose attributes do not fit into its inode and
//! one on a file system without extended attributes is replaced by a longer copy instead.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{OFlags, Stat, Timespec, Timestamps, XattrFlags, fsetxattr, fstat, ftruncate, futimens};
use sluice_provider::{
    Append, AppendOptions, Appended, Attributes, ETag, Error, ErrorKind, Key, ObjectInfo, PutBody, PutWhen, Result, Seal,
    Versioning,
};

use crate::Local;
use crate::copy::copy_range;
use crate::error::{Sys, fault};
use crate::meta::{Beside, Meta, Stamp};
use crate::name::KeyPath;
use crate::object::{INLINE_BYTES, Known, Opened, XATTR};
use crate::record;
use crate::space::Staged;
use crate::store::Store;
use crate::write::{Target, check_size, collect, size_of, write_all};

/// How often an append begins again because another writer was faster.
const RACES: usize = 16;

/// Bytes to be appended.
enum Tail {
    Memory(Vec<Bytes>),
    File(Arc<Staged>),
}

impl Tail {
    /// Writes them into a file, at an offset.
    fn write(&self, file: BorrowedFd<'_>, offset: u64, bytes: u64) -> Sys<()> {
        match self {
            Self::Memory(chunks) => write_all(file, chunks, offset),
            Self::File(staged) => match copy_range(staged.fd(), 0, file, offset, bytes)? {
                copied if copied == bytes => Ok(()),
                _ => Err(rustix::io::Errno::IO),
            },
        }
    }
}

#[async_trait]
impl Append for Local {
    async fn append(&self, key: &Key, mut body: PutBody, append: &AppendOptions) -> Result<ObjectInfo> {
        let store = &self.0;
        let first = collect(&mut body).await?;
        let (tail, bytes) = if first.last {
            check_size(&body, first.bytes as u64)?;
            (Tail::Memory(first.chunks), first.bytes as u64)
        } else {
            let space = Arc::clone(&store.space);
            let staged = Arc::new(store.writes.run(move || space.stage().map_err(|e| fault("stage", e))).await?);
            let target = Target { file: Arc::clone(&staged), offset: 0, room: u64::MAX };
            let write = |staged: &Staged, chunks: &[Bytes], offset| write_all(staged.fd(), chunks, offset);
            let bytes = store.write_body(first, &mut body, target, write).await?;
            (Tail::File(staged), bytes)
        };
        let appended = Appended { bytes, seal: body.seal()? };
        let (store, key, append) = (Arc::clone(store), key.clone(), append.clone());
        let grow = move || {
            let grown = store.append_now(&key, &tail, &appended, &append);
            if let Tail::File(staged) = tail
                && let Some(staged) = Arc::into_inner(staged)
            {
                staged.discard();
            }
            // Kept until now, with whatever it holds: the right to publish.
            drop(body);
            grown
        };
        self.0.writes.run(grow).await
    }
}

impl Store {
    /// Appends bytes that are at hand. Blocks.
    fn append_now(&self, key: &Key, tail: &Tail, appended: &Appended, append: &AppendOptions) -> Result<ObjectInfo> {
        let path = KeyPath::new(key.as_str());
        let when = &append.put.when;
        for _ in 0..RACES {
            if let Some((opened, known @ Known::Foreign)) = self.load_key(&path)? {
                // Compute and store its ETag before the lock is taken, not under it.
                self.info(key, opened, known, false)?;
            }
            let lock = self.locks.lock(key.as_str())?;
            let Some((opened, known)) = self.load_key(&path)? else {
                drop(lock);
                when.check(None)?;
                if append.offset != 0 {
                    return Err(Error::new(ErrorKind::WriteOffset { size: 0 }, "append").with("key", key));
                }
                let mut attributes = append.put.attributes.clone();
                attributes.extend(appended.seal.attributes.iter());
                let seal = Seal { etag: appended.seal.etag.clone(), attributes };
                match self.replaced(key, None, (tail, appended.bytes), seal, &PutWhen::IfAbsent) {
                    Err(error) if *error.kind() == ErrorKind::PreconditionFailed => continue,
                    answer => return answer,
                }
            };
            let record = if let Known::Ours { record, .. } = &known { record.clone() } else { None };
            let (opened, info) = self.info(key, opened, known, true)?;
            when.check(Some(&info.etag))?;
            if append.offset != info.size {
                return Err(Error::new(ErrorKind::WriteOffset { size: info.size }, "append").with("key", key));
            }
            let seal = append.growth.of(&info, appended)?;
            if let Some(grown) = self.grow(&path, &opened, &info, (tail, appended.bytes), &seal)? {
                // The record of the attributes that it had.
                if let Some(record) = record {
                    record::remove(&self.space, &record);
                }
                self.changed();
                return Ok(grown);
            }
            drop(lock);
            let unchanged = PutWhen::IfMatch(info.etag.clone());
            match self.replaced(key, Some((&opened, info.size)), (tail, appended.bytes), seal, &unchanged) {
                Err(error) if matches!(error.kind(), ErrorKind::PreconditionFailed | ErrorKind::NotFound) => {}
                answer => return answer,
            }
        }
        Err(Error::new(ErrorKind::Conflict, "append").with("key", key))
    }

    /// Grows the file where it lies, under the lock of the key; `None` for one that must not be changed.
    fn grow(
        &self,
        path: &KeyPath,
        opened: &Opened,
        info: &ObjectInfo,
        (tail, bytes): (&Tail, u64),
        seal: &Seal,
    ) -> Result<Option<ObjectInfo>> {
        let failed = |e| fault("append", e);
        if !self.xattrs || opened.links != 1 {
            return Ok(None);
        }
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOCTTY;
        let Ok(file) = self.tree.open(self.root(), &path.path(opened.form), flags) else { return Ok(None) };
        let stat = fstat(&file).map_err(failed)?;
        let same = Opened::of(file.try_clone().map_err(|e| Error::new(ErrorKind::Busy, "append").caused_by(e))?, opened.form);
        let same = same.map_err(failed)?.is_some_and(|now| (now.device, now.inode) == (opened.device, opened.inode));
        let inline = |etag: &ETag, attributes: &Attributes, stamp, growing| {
            let meta = Meta { stamp, etag: etag.clone(), beside: Beside::Here(attributes.clone()), growing }.encode();
            (meta.len() <= INLINE_BYTES).then_some(meta)
        };
        let Some(growing) = inline(&info.etag, &info.attributes, opened.stamp, true) else { return Ok(None) };
        // A stamp is shorter than 30 bytes; what the last step stores must fit as this does.
        let fits = inline(&seal.etag, &seal.attributes, opened.stamp, false).is_some_and(|meta| meta.len() + 30 <= INLINE_BYTES);
        if !same || !fits || fsetxattr(&file, XATTR, &growing, XattrFlags::empty()).is_err() {
            return Ok(None);
        }
        let end = info.size + bytes;
        let written = (|| {
            if size_of(file.as_fd())? > info.size {
                // What somebody died while appending.
                ftruncate(&file, info.size)?;
            }
            tail.write(file.as_fd(), info.size, bytes)?;
            self.flush.file(file.as_fd())?;
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let now = Timespec { tv_sec: now.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: now.subsec_nanos().into() };
            futimens(&file, &Timestamps { last_access: now, last_modification: now })?;
            let stamp = Stamp::of(&fstat(&file)?);
            let meta = Meta { stamp, etag: seal.etag.clone(), beside: Beside::Here(seal.attributes.clone()), growing: false };
            // Another program that writes into the same file makes it foreign: the stamp will not be the one that is stored.
            let meta = if stamp.size == end { meta } else { Meta { stamp: opened.stamp, ..meta } };
            fsetxattr(&file, XATTR, &meta.encode(), XattrFlags::empty())?;
            Ok(stamp)
        })();
        let stamp = match written {
            Ok(stamp) => stamp,
            Err(errno) => {
                self.give_back(file.as_fd(), info, opened.stamp, &stat);
                return Err(failed(errno));
            }
        };
        self.flush.file(file.as_fd()).map_err(|e| fault("flush attributes", e))?;
        if stamp.size != end {
            return Err(Error::new(ErrorKind::Conflict, "append to a file that changes"));
        }
        let ObjectInfo { key, .. } = info;
        let (etag, attributes) = (seal.etag.clone(), seal.attributes.clone());
        Ok(Some(ObjectInfo { key: key.clone(), size: end, etag, modified: stamp.modified(), attributes }))
    }

    /// Undoes what an append has begun. What cannot be undone is no harm: the object is what it was.
    #[allow(clippy::unnecessary_cast, reason = "the types of stat differ between platforms")]
    fn give_back(&self, file: BorrowedFd<'_>, info: &ObjectInfo, stamp: Stamp, was: &Stat) {
        let undone = (|| -> Sys<()> {
            ftruncate(file, info.size)?;
            let modified = Timespec { tv_sec: stamp.seconds, tv_nsec: stamp.nanoseconds.into() };
            let accessed = Timespec { tv_sec: was.st_atime as i64, tv_nsec: 0 };
            futimens(file, &Timestamps { last_access: accessed, last_modification: modified })?;
            if Stamp::of(&fstat(file)?) != stamp {
                return Ok(());
            }
            let beside = Beside::Here(info.attributes.clone());
            let meta = Meta { stamp, etag: info.etag.clone(), beside, growing: false };
            fsetxattr(file, XATTR, &meta.encode(), XattrFlags::empty())
        })();
        if let Err(errno) = undone {
            tracing::warn!(%errno, key = %info.key, "an append that failed could not be undone; the next one will");
        }
    }

    /// Publishes a copy of what is there with the tail behind it.
    fn replaced(
        &self,
        key: &Key,
        there: Option<(&Opened, u64)>,
        (tail, bytes): (&Tail, u64),
        seal: Seal,
        when: &PutWhen,
    ) -> Result<ObjectInfo> {
        let staged = self.space.stage().map_err(|e| fault("stage", e))?;
        let size = there.map_or(0, |(_, size)| size);
        let written = (|| {
            if let Some((opened, size)) = there
                && copy_range(opened.as_fd(), 0, staged.fd(), 0, size)? < size
            {
                return Err(rustix::io::Errno::IO);
            }
            tail.write(staged.fd(), size, bytes)
        })();
        if let Err(errno) = written {
            staged.discard();
            return Err(fault("append", errno));
        }
        let Seal { etag, attributes } = seal;
        self.finish(key, staged, Seal { etag, attributes: Attributes::new() }, attributes, when, Versioning::Off)
    }
}
