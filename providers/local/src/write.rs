//! Put.
//!
//! A body that fits into one batch is collected in memory and takes one hop to a blocking thread, which does everything; small ones
//! share it ([`crate::small`]). A larger one is written batch by batch while the next is collected: no thread waits for a slow sender.
//!
//! A publication that has begun goes on when its caller is gone. The body is kept until it has ended, because whoever made the body
//! may have put into it what must last as long: the right to publish.

use std::io::IoSlice;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::fstat;
use rustix::io::{Errno, pwritev};
use sluice_provider::{
    Attributes, BodyFault, Error, ErrorKind, Key, ObjectInfo, PutBody, PutOptions, PutWhen, Result, Seal, Version, Versioning,
};

use crate::error::{Sys, fault};
use crate::pool::Running;
use crate::small::{Putting, fits};
use crate::space::Staged;
use crate::store::Store;
use crate::versions::{Newcomer, name_version};

/// Bodies up to this size are collected in memory; larger ones are written in batches of it.
const BATCH_BYTES: usize = 1 << 20;
/// The most slices one system call takes (IOV_MAX).
const SLICES: usize = 1024;

/// Writes all slices at an offset.
pub(crate) fn write_all<B: AsRef<[u8]>>(file: BorrowedFd<'_>, chunks: &[B], mut offset: u64) -> Sys<()> {
    let mut slices: Vec<IoSlice<'_>> = chunks.iter().map(|c| IoSlice::new(c.as_ref())).filter(|s| !s.is_empty()).collect();
    let mut left = slices.as_mut_slice();
    while !left.is_empty() {
        match pwritev(file, &left[..left.len().min(SLICES)], offset) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => {
                offset += written as u64;
                IoSlice::advance_slices(&mut left, written);
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Part of a body.
pub(crate) struct Batch {
    pub(crate) chunks: Vec<Bytes>,
    pub(crate) bytes: usize,
    /// The body has ended cleanly.
    pub(crate) last: bool,
}

pub(crate) async fn collect(body: &mut PutBody) -> Result<Batch> {
    collect_after(Vec::new(), body).await
}

/// The same, beginning with what the batch before it left.
async fn collect_after(left: Vec<Bytes>, body: &mut PutBody) -> Result<Batch> {
    let bytes = left.iter().map(Bytes::len).sum();
    let mut batch = Batch { chunks: left, bytes, last: false };
    while batch.bytes <= BATCH_BYTES {
        match body.chunk().await? {
            Some(chunk) => {
                batch.bytes += chunk.len();
                batch.chunks.push(chunk);
            }
            None => {
                batch.last = true;
                break;
            }
        }
    }
    Ok(batch)
}

impl Batch {
    /// Cuts off what reaches beyond the last multiple of a batch's size in a file in which it begins at `offset`; nothing of the last
    /// batch, nor of one that reaches no multiple.
    ///
    /// The page cache holds what is written at once in pieces of memory (folios) as large as it can, which begin at multiples of their
    /// own size: whoever reads the file pays less for one of 1 MiB than for several of some KiB, and so does who writes it.
    fn cut(&mut self, offset: u64) -> Vec<Bytes> {
        let mut beyond = ((offset + self.bytes as u64) % BATCH_BYTES as u64) as usize;
        let mut left = Vec::new();
        if self.last || beyond >= self.bytes {
            return left;
        }
        self.bytes -= beyond;
        while beyond > 0
            && let Some(mut chunk) = self.chunks.pop()
        {
            if chunk.len() > beyond {
                let kept = chunk.split_to(chunk.len() - beyond);
                self.chunks.push(kept);
            }
            beyond -= chunk.len();
            left.push(chunk);
        }
        left.reverse();
        left
    }
}

/// The attributes of the caller, and those of the seal, which win.
pub(crate) fn joined(put: &PutOptions, seal: &Seal) -> Attributes {
    let mut attributes = put.attributes.clone();
    attributes.extend(seal.attributes.iter());
    attributes
}

/// Where the bytes of a body go: a file, from an offset on, at most so many.
pub(crate) struct Target<F> {
    /// Keeps the file open, and whatever else must live until the last write has ended.
    pub(crate) file: F,
    pub(crate) offset: u64,
    pub(crate) room: u64,
}

impl Store {
    pub(crate) async fn put(
        self: &Arc<Self>,
        key: &Key,
        mut body: PutBody,
        put: &PutOptions,
        versioning: Versioning,
    ) -> Result<ObjectInfo> {
        let first = collect(&mut body).await?;
        let (store, key, when) = (Arc::clone(self), key.clone(), put.when.clone());
        if first.last {
            check_size(&body, first.bytes as u64)?;
            let seal = body.seal()?;
            let attributes = joined(put, &seal);
            if self.xattrs && !self.flush.durable() && fits(first.bytes, &attributes, &when, versioning) {
                let content = (first.chunks, first.bytes);
                return self.put_together(Putting::new(key, content, seal.etag, attributes, when, body)).await;
            }
            return self
                .writes
                .run(move || {
                    let stored = store.put_whole(&key, &first, seal, attributes, (&when, versioning));
                    drop(body);
                    stored
                })
                .await;
        }
        let space = Arc::clone(&self.space);
        let staged = self.writes.run(move || space.stage().map_err(|e| fault("stage", e))).await?;
        // Shared with the writes under way; whoever drops it last removes the file.
        let staged = Arc::new(staged);
        let target = Target { file: Arc::clone(&staged), offset: 0, room: u64::MAX };
        self.write_body(first, &mut body, target, |staged, chunks, offset| write_all(staged.fd(), chunks, offset)).await?;
        let seal = body.seal()?;
        let attributes = joined(put, &seal);
        let staged = Arc::into_inner(staged).ok_or_else(|| Error::new(ErrorKind::Internal, "a write is still under way"))?;
        self.writes
            .run(move || {
                let stored = store.finish(&key, staged, seal, attributes, &when, versioning);
                drop(body);
                stored
            })
            .await
    }

    fn put_whole(
        &self,
        key: &Key,
        body: &Batch,
        seal: Seal,
        attributes: Attributes,
        (when, versioning): (&PutWhen, Versioning),
    ) -> Result<ObjectInfo> {
        let busy = self.busy.enter();
        let staged = self.space.stage().map_err(|e| fault("stage", e))?;
        if let Err(errno) = write_all(staged.fd(), &body.chunks, 0) {
            staged.discard();
            return Err(fault("write", errno));
        }
        drop(busy);
        self.finish(key, staged, seal, attributes, when, versioning)
    }

    /// Seals, flushes and publishes a file whose content is complete. Blocks.
    pub(crate) fn finish(
        &self,
        key: &Key,
        mut staged: Staged,
        seal: Seal,
        mut attributes: Attributes,
        when: &PutWhen,
        versioning: Versioning,
    ) -> Result<ObjectInfo> {
        // Named before it is published; should something newer be there by then, it is named again.
        let version = if versioning == Versioning::Enabled { Some(Version::after(None)?) } else { None };
        name_version(&mut attributes, version);
        // A small version is flushed while somebody flushes what it replaces: under the lock of its key, where a large one would keep others
        // waiting.
        let sealed = self.seal(&mut staged, key, seal.etag, attributes).and_then(|info| {
            let flushed = versioning == Versioning::Off || info.size > BATCH_BYTES as u64;
            if flushed {
                self.flush.file(staged.fd()).map_err(|e| fault("flush", e))?;
            }
            Ok(Newcomer { versioning, info, flushed })
        });
        match sealed {
            Ok(new) => self.publish(key, staged, when, new),
            Err(error) => {
                staged.discard();
                Err(error)
            }
        }
    }

    /// Collects and writes a whole body from `offset` on; the number of bytes. One batch is being written while the next is
    /// collected, so that an upload holds two of them at most.
    pub(crate) async fn write_rest<F, W>(self: &Arc<Self>, body: &mut PutBody, target: Target<Arc<F>>, write: W) -> Result<u64>
    where
        F: Send + Sync + 'static,
        W: Fn(&F, &[Bytes], u64) -> Sys<()> + Copy + Send + 'static,
    {
        let first = collect(body).await?;
        self.write_body(first, body, target, write).await
    }

    pub(crate) async fn write_body<F, W>(
        self: &Arc<Self>,
        mut batch: Batch,
        body: &mut PutBody,
        target: Target<Arc<F>>,
        write: W,
    ) -> Result<u64>
    where
        F: Send + Sync + 'static,
        W: Fn(&F, &[Bytes], u64) -> Sys<()> + Copy + Send + 'static,
    {
        let mut written = 0;
        let mut running: Option<Running<()>> = None;
        let result = loop {
            let left = batch.cut(target.offset + written);
            let (bytes, last) = (batch.bytes as u64, batch.last);
            if let Some(running) = running.take()
                && let Err(error) = running.wait().await
            {
                break Err(error);
            }
            if written + bytes > target.room {
                break Err(Error::new(ErrorKind::Body(BodyFault::TooLong), "write"));
            }
            let (file, offset) = (Arc::clone(&target.file), target.offset + written);
            let started = self.writes.start(move || {
                let done = write(&file, &batch.chunks, offset).map_err(|e| fault("write", e));
                drop(file);
                done
            });
            running = Some(started?);
            written += bytes;
            if last {
                break Ok(written);
            }
            batch = match collect_after(left, body).await {
                Ok(batch) => batch,
                Err(error) => break Err(error),
            };
        };
        // Even after an error: the caller shall find nobody writing any more.
        if let Some(running) = running {
            let waited = running.wait().await;
            if result.is_ok() {
                waited?;
            }
        }
        let written = result?;
        check_size(body, written)?;
        Ok(written)
    }
}

/// The contract says that a body is as long as declared or ends in an error; a file says it too late.
pub(crate) fn check_size(body: &PutBody, written: u64) -> Result<()> {
    match body.size() {
        Some(size) if written < size => Err(Error::new(ErrorKind::Body(BodyFault::Incomplete), "write")),
        Some(size) if written > size => Err(Error::new(ErrorKind::Body(BodyFault::TooLong), "write")),
        _ => Ok(()),
    }
}

/// The size of an open file in bytes.
pub(crate) fn size_of(file: BorrowedFd<'_>) -> Sys<u64> {
    Ok(u64::try_from(fstat(file)?.st_size).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_batch_ends_where_a_large_folio_may(
            offset in 0..3 * BATCH_BYTES as u64,
            sizes in proptest::collection::vec(1..BATCH_BYTES, 1..6),
            last in any::<bool>(),
        ) {
            let whole: Vec<u8> = (0..sizes.iter().sum::<usize>()).map(|at| (at % 251) as u8).collect();
            let mut rest = Bytes::from(whole.clone());
            let chunks = sizes.iter().map(|size| rest.split_to(*size)).collect();
            let mut batch = Batch { chunks, bytes: whole.len(), last };
            let left = batch.cut(offset);
            prop_assert_eq!(batch.bytes, batch.chunks.iter().map(Bytes::len).sum::<usize>());
            prop_assert_eq!([batch.chunks.concat(), left.concat()].concat(), whole);
            prop_assert!(!batch.chunks.is_empty() && left.iter().all(|chunk| !chunk.is_empty()));
            let multiple = BATCH_BYTES as u64;
            let (begin, end) = (offset / multiple, (offset + batch.bytes as u64 + left.concat().len() as u64) / multiple);
            if last || begin == end {
                prop_assert!(left.is_empty());
            } else {
                prop_assert_eq!(offset + batch.bytes as u64, end * multiple);
            }
        }
    }
}
