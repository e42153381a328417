//! Finding a place for a part, and keeping it.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, fdatasync, flock, fstat, linkat, openat, unlinkat};
use rustix::io::Errno;
use sluice_provider::{Error, ErrorKind, PartNumber, Result, UploadId};

use super::upload::{DATA, OBJECT, gone};
use crate::create::{Spot, spot};
use crate::error::{Sys, fault};
use crate::space::{in_background, lock_file, random_id};
use crate::store::Store;
use crate::write::write_all;

/// Places end here, at the size of the largest object: a part that belongs beyond (a large unit and a high number) could not be
/// part of one in place, and few file systems have files of unit times 10 000.
const PLACES_END: u64 = 5 << 40;

/// Where a part is being written. Dropped before it is [`kept`](Self::keep), it gives its place back.
pub(super) struct Room {
    store: Arc<Store>,
    upload: Arc<OwnedFd>,
    pub(super) file: File,
    /// The claim, or the part's own file.
    name: String,
    pub(super) offset: u64,
    /// Held while we may write to the data file.
    _writing: Option<OwnedFd>,
    kept: bool,
}

impl Room {
    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let (store, upload, name) = (Arc::clone(&self.store), Arc::clone(&self.upload), std::mem::take(&mut self.name));
        let give_back = move || {
            let _store = store;
            if let Err(errno) = unlinkat(&*upload, &name, AtFlags::empty())
                && errno != Errno::NOENT
            {
                tracing::warn!(%errno, name, "a part that failed could not be removed; it goes with its upload");
            }
        };
        in_background(give_back);
    }
}

impl Store {
    /// Finds a place for a part.
    pub(super) fn room(self: &Arc<Self>, upload: &UploadId, part: PartNumber, size: Option<u64>) -> Result<Room> {
        let failed = |e| fault("store part", e);
        let dir = Arc::new(self.open_upload(upload)?);
        if self.settings.parts_in_place
            && let Some(size) = size.filter(|size| *size > 0)
            && let Some(unit) = self.unit(dir.as_fd(), size).map_err(failed)?
            && size <= unit
            && let Some(offset) = unit.checked_mul(u64::from(part.get()) - 1)
            && offset.checked_add(size).is_some_and(|end| end <= PLACES_END)
            && let Some(room) = self.claim(&dir, part, offset).map_err(failed)?
        {
            return Ok(room);
        }
        let name = format!("p.{part}.{}", hex::encode(random_id()?));
        let flags = DATA | OFlags::CREATE | OFlags::EXCL;
        let file = match openat(&*dir, &name, flags, OBJECT) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Err(gone(upload)),
            Err(errno) => return Err(failed(errno)),
        };
        Ok(Room { store: Arc::clone(self), upload: dir, file, name, offset: 0, _writing: None, kept: false })
    }

    /// The unit of an upload; `size` becomes it when there is none.
    pub(super) fn unit(&self, dir: BorrowedFd<'_>, size: u64) -> Sys<Option<u64>> {
        for _ in 0..2 {
            match openat(dir, "unit", OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
                Ok(file) => {
                    let mut digits = [0; 20];
                    let read = crate::read::read_exact(file.as_fd(), &mut digits, 0)?;
                    return Ok(std::str::from_utf8(&digits[..read]).ok().and_then(|digits| digits.parse().ok()));
                }
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
            // Written whole before it has its name, so that nobody reads half of it.
            let mut staged = self.space.stage()?;
            let digits = size.to_string();
            let named = write_all(staged.fd(), &[digits.as_bytes()], 0)
                .and_then(|()| self.flush.file(staged.fd()))
                .and_then(|()| linkat(staged.dir(), staged.name(), dir, "unit", AtFlags::empty()));
            staged.record = None;
            staged.discard();
            match named {
                Ok(()) | Err(Errno::EXIST) => {}
                // A file system without links: every part is a file of its own.
                Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(None),
                Err(errno) => return Err(errno),
            }
        }
        Ok(None)
    }

    /// Claims the place of a part in the data file; `None` when it is taken, or being published.
    pub(super) fn claim(self: &Arc<Self>, dir: &Arc<OwnedFd>, part: PartNumber, offset: u64) -> Sys<Option<Room>> {
        let writing = lock_file(dir.as_fd(), "lock")?;
        match flock(&writing, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(errno) => return Err(errno),
        }
        // Only now, and only while it is nobody's object: a published file is never modified.
        let data = match openat(&**dir, "data", DATA, Mode::empty()) {
            Ok(data) => data,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        if fstat(&data)?.st_nlink != 1 {
            return Ok(None);
        }
        let name = format!("c.{part}");
        match openat(&**dir, &name, DATA | OFlags::CREATE | OFlags::EXCL, OBJECT) {
            Ok(_) => {}
            Err(Errno::EXIST) => return Ok(None),
            Err(errno) => return Err(errno),
        }
        let (store, upload) = (Arc::clone(self), Arc::clone(dir));
        let room = Room { store, upload, file: File::from(data), name, offset, _writing: Some(writing), kept: false };
        Ok(Some(room))
    }

    pub(super) fn keep_part(&self, room: Room, size: u64) -> Result<String> {
        let failed = |e| fault("flush part", e);
        if self.flush.durable() {
            fdatasync(&room.file).map_err(failed)?;
            self.flush.directory(room.upload.as_fd()).map_err(failed)?;
        }
        let token = if room.name.starts_with('c') { format!("{}.{size}", room.name) } else { room.name.clone() };
        // An abort may have come while we wrote: nobody would ever free what we keep now.
        match spot(room.upload.as_fd(), room.name.as_bytes()).map_err(failed)? {
            Spot::File => {}
            _ => return Err(Error::new(ErrorKind::NotFound, "upload")),
        }
        room.keep();
        Ok(token)
    }
}
