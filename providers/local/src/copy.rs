//! Copies inside the root: shared extents where the file system has them, the kernel's copy otherwise.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::fs::{copy_file_range, ftruncate, ioctl_ficlone};
use rustix::io::Errno;
use sluice_provider::{
    Attributes, CopyOptions, Error, ErrorKind, Key, ObjectInfo, Result, Seal, VersionId, Versioning, is_marker,
};

use crate::error::{Sys, fault, missing};
use crate::name::KeyPath;
use crate::object::{Known, Opened};
use crate::store::Store;

/// How much is copied in one piece of work, so that a dropped copy ends soon.
const PIECE_BYTES: u64 = 64 << 20;
const BUFFER_BYTES: usize = 1 << 20;

/// Copies a range between files; the number of bytes, which is less only where the source ends. Blocks.
pub(crate) fn copy_range(from: BorrowedFd<'_>, mut at: u64, to: BorrowedFd<'_>, mut into: u64, bytes: u64) -> Sys<u64> {
    let mut left = bytes;
    while left > 0 {
        let step = usize::try_from(left.min(1 << 30)).unwrap_or(usize::MAX);
        match copy_file_range(from, Some(&mut at), to, Some(&mut into), step) {
            Ok(0) => return Ok(bytes - left),
            Ok(copied) => left -= copied as u64,
            Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                return Ok(bytes - left + copy_through_memory(from, at, to, into, left)?);
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(bytes)
}

fn copy_through_memory(from: BorrowedFd<'_>, at: u64, to: BorrowedFd<'_>, into: u64, bytes: u64) -> Sys<u64> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut copied = 0;
    while copied < bytes {
        let step = usize::try_from(bytes - copied).unwrap_or(usize::MAX).min(buffer.len());
        let read = crate::read::read_exact(from, &mut buffer[..step], at + copied)?;
        crate::write::write_all(to, &[&buffer[..read]], into + copied)?;
        copied += read as u64;
        if read < step {
            break;
        }
    }
    Ok(copied)
}

impl Store {
    /// Copies the current object, or a version.
    pub(crate) async fn copy(
        self: &Arc<Self>,
        (from, version): (&Key, Option<&VersionId>),
        to: &Key,
        copy: &CopyOptions,
        versioning: Versioning,
    ) -> Result<ObjectInfo> {
        let (opened, info) = match version {
            Some(version) => self.look(from, Some(version)).await?,
            None => self.current(from).await?,
        };
        if is_marker(&info) {
            return Err(missing("copy", from));
        }
        if copy.source_if_match.as_ref().is_some_and(|etag| *etag != info.etag) {
            return Err(Error::new(ErrorKind::PreconditionFailed, "copy").with("etag", &info.etag));
        }
        let (space, opened) = (Arc::clone(&self.space), Arc::new(opened));
        let source = Arc::clone(&opened);
        let (staged, cloned) = self
            .writes
            .run(move || {
                let staged = space.stage().map_err(|e| fault("stage", e))?;
                let cloned = ioctl_ficlone(staged.fd(), source.as_fd()).is_ok();
                Ok((Arc::new(staged), cloned))
            })
            .await?;
        let mut at = if cloned { info.size } else { 0 };
        while at < info.size {
            let (source, target, bytes) = (Arc::clone(&opened), Arc::clone(&staged), PIECE_BYTES.min(info.size - at));
            let copied = self
                .writes
                .run(move || {
                    let copied = copy_range(source.as_fd(), at, target.fd(), at, bytes).map_err(|e| fault("copy", e));
                    drop(target);
                    copied
                })
                .await?;
            if copied < bytes {
                return Err(Error::new(ErrorKind::Conflict, "copy of a file that shrinks"));
            }
            at += bytes;
        }
        let staged = Arc::into_inner(staged).ok_or_else(|| Error::new(ErrorKind::Internal, "a copy is still under way"))?;
        let attributes = copy.attributes.clone().unwrap_or(info.attributes);
        let seal = Seal { etag: info.etag, attributes: Attributes::new() };
        let (store, to, when, stamp) = (Arc::clone(self), to.clone(), copy.when.clone(), opened.stamp);
        self.writes
            .run(move || {
                // The ETag is of the content we opened; another program may have changed it meanwhile.
                let same = opened.is_unchanged().map_err(|e| fault("copy", e))?;
                let mut size = crate::write::size_of(staged.fd()).map_err(|e| fault("copy", e))?;
                if cloned && size > stamp.size {
                    // What was being appended when all of the file was cloned.
                    ftruncate(staged.fd(), stamp.size).map_err(|e| fault("copy", e))?;
                    size = stamp.size;
                }
                if !same || size != stamp.size {
                    staged.discard();
                    return Err(Error::new(ErrorKind::Conflict, "copy of a file that changes"));
                }
                store.finish(&to, staged, seal, attributes, &when, versioning)
            })
            .await
    }

    /// The current object, opened.
    async fn current(self: &Arc<Self>, key: &Key) -> Result<(Opened, ObjectInfo)> {
        let (store, wanted) = (Arc::clone(self), key.clone());
        let load = move || store.load_key(&KeyPath::new(wanted.as_str()))?.ok_or_else(|| missing("copy", &wanted));
        match self.reads.run(load).await? {
            (opened, Known::Foreign) => self.foreign(key, opened).await,
            (opened, Known::Ours { etag, attributes, .. }) => {
                let info = opened.info(key.clone(), etag, attributes);
                Ok((opened, info))
            }
        }
    }
}
