//! Head and get.
//!
//! What memory holds is answered on the calling thread by system calls that do not wait: a hop to a blocking thread costs more
//! than the whole of a small read. Everything else goes to the pool.

use std::fs::File;
use std::io::IoSliceMut;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use bytes::Bytes;
use rustix::io::{Errno, ReadWriteFlags, pread, preadv2};
use sluice_provider::{Body, Error, ErrorKind, Key, Object, ObjectInfo, ReadOptions, Result};

use crate::error::{Sys, fault, missing};
use crate::name::KeyPath;
use crate::object::{Known, Opened};
use crate::store::Store;

/// Ranges up to this size are read here; larger ones leave as an open file, for the reader to move as it likes.
const SMALL_BYTES: u64 = 64 * 1024;

/// Reads until the buffer is full or the file ends; the number of bytes.
pub(crate) fn read_exact(file: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> Sys<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match pread(file, &mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(filled)
}

/// Reads a range if all of it is in the page cache.
fn read_cached(file: BorrowedFd<'_>, range: &Range<u64>) -> Option<Bytes> {
    let mut buffer = vec![0; usize::try_from(range.end - range.start).ok()?];
    if !buffer.is_empty() {
        let read = preadv2(file, &mut [IoSliceMut::new(&mut buffer)], range.start, ReadWriteFlags::NOWAIT).ok()?;
        if read < buffer.len() {
            return None;
        }
    }
    Some(buffer.into())
}

/// Reads a small range. Blocks.
fn read_range(file: BorrowedFd<'_>, range: &Range<u64>) -> Result<Bytes> {
    let mut buffer = vec![0; usize::try_from(range.end - range.start).unwrap_or(0)];
    let read = read_exact(file, &mut buffer, range.start).map_err(|e| fault("read", e))?;
    if read < buffer.len() {
        // Another program cut the file short after it was opened.
        return Err(Error::new(ErrorKind::Conflict, "read a file that shrinks"));
    }
    Ok(buffer.into())
}

pub(crate) fn check_match(info: &ObjectInfo, read: &ReadOptions) -> Result<()> {
    match &read.if_match {
        Some(etag) if *etag != info.etag => Err(Error::new(ErrorKind::PreconditionFailed, "read").with("etag", &info.etag)),
        _ => Ok(()),
    }
}

fn resolve(info: &ObjectInfo, read: &ReadOptions) -> Result<Range<u64>> {
    check_match(info, read)?;
    read.range.map_or(Ok(0..info.size), |range| range.resolve(info.size))
}

/// The answer without its body, when the range is small.
enum Ready {
    Object(Object),
    Read { opened: Opened, info: ObjectInfo, range: Range<u64> },
}

fn prepare(opened: Opened, info: ObjectInfo, read: &ReadOptions) -> Result<Ready> {
    let range = resolve(&info, read)?;
    if range.end - range.start <= SMALL_BYTES {
        return Ok(Ready::Read { opened, info, range });
    }
    let body = Body::File { file: Arc::new(File::from(opened.file)), range: range.clone() };
    Ok(Ready::Object(Object { info, range, body }))
}

/// What a first look found.
enum Found {
    Object(Object),
    /// Somebody else's file, whose ETag takes reading it.
    Foreign(Opened),
}

impl Store {
    pub(crate) async fn head(self: &Arc<Self>, key: &Key, read: &ReadOptions) -> Result<ObjectInfo> {
        let path = KeyPath::new(key.as_str());
        if let Some(found) = self.load_cached(&path)? {
            let Some((opened, Known::Ours { etag, attributes, .. })) = found else {
                return Err(missing("head", key));
            };
            let info = opened.info(key.clone(), etag, attributes);
            return check_match(&info, read).map(|()| info);
        }
        let (store, wanted) = (Arc::clone(self), key.clone());
        let (opened, known) = self.reads.run(move || store.load_key(&path)?.ok_or_else(|| missing("head", &wanted))).await?;
        let info = match known {
            Known::Ours { etag, attributes, .. } => opened.info(key.clone(), etag, attributes),
            Known::Foreign => self.foreign(key, opened).await?.1,
        };
        check_match(&info, read).map(|()| info)
    }

    pub(crate) async fn get(self: &Arc<Self>, key: &Key, read: &ReadOptions) -> Result<Object> {
        let path = KeyPath::new(key.as_str());
        if let Some(found) = self.load_cached(&path)? {
            let Some((opened, Known::Ours { etag, attributes, .. })) = found else {
                return Err(missing("get", key));
            };
            let info = opened.info(key.clone(), etag, attributes);
            return match prepare(opened, info, read)? {
                Ready::Object(object) => Ok(object),
                Ready::Read { opened, info, range } => match read_cached(opened.as_fd(), &range) {
                    Some(bytes) => Ok(Object { info, range, body: Body::Bytes(bytes) }),
                    None => {
                        let wanted = range.clone();
                        let bytes = self.reads.run(move || read_range(opened.as_fd(), &wanted)).await?;
                        Ok(Object { info, range, body: Body::Bytes(bytes) })
                    }
                },
            };
        }
        let (store, wanted, options) = (Arc::clone(self), key.clone(), read.clone());
        let found = self.reads.run(move || match store.load_key(&path)? {
            None => Err(missing("get", &wanted)),
            Some((opened, Known::Foreign)) => Ok(Found::Foreign(opened)),
            Some((opened, Known::Ours { etag, attributes, .. })) => {
                let info = opened.info(wanted, etag, attributes);
                read_now(opened, info, &options).map(Found::Object)
            }
        });
        match found.await? {
            Found::Object(object) => Ok(object),
            Found::Foreign(opened) => {
                let (opened, info) = self.foreign(key, opened).await?;
                let options = read.clone();
                self.reads.run(move || read_now(opened, info, &options)).await
            }
        }
    }

    /// The metadata of a foreign file. Few at a time: each reads a whole file.
    pub(crate) async fn foreign(self: &Arc<Self>, key: &Key, opened: Opened) -> Result<(Opened, ObjectInfo)> {
        let (store, key) = (Arc::clone(self), key.clone());
        self.hashes.run(move || store.info(&key, opened, Known::Foreign, false)).await
    }
}

pub(crate) fn read_now(opened: Opened, info: ObjectInfo, read: &ReadOptions) -> Result<Object> {
    match prepare(opened, info, read)? {
        Ready::Object(object) => Ok(object),
        Ready::Read { opened, info, range } => {
            let body = Body::Bytes(read_range(opened.as_fd(), &range)?);
            Ok(Object { info, range, body })
        }
    }
}
