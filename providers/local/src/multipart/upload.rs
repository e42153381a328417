//! The directory of an upload, and the names of its parts.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FallocateFlags, FlockOperation, Mode, OFlags, fallocate, flock, fstat, openat, statat, unlinkat};
use rustix::io::Errno;
use sluice_provider::{Error, ErrorKind, PartNumber, Result, UploadId};

use crate::directory::names_in;
use crate::error::{Sys, fault};
use crate::space::{lock_file, subdirectory};
use crate::store::Store;
use crate::write::write_all;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
pub(super) const DATA: OFlags = OFlags::RDWR.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
pub(super) const OBJECT: Mode = Mode::from_raw_mode(0o666);

/// A token, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// At its place in the data file.
    Placed { number: u16, size: u64 },
    /// A file of its own.
    Own(String),
}

impl Token {
    pub(super) fn read(token: &str) -> Option<Self> {
        let (kind, rest) = token.split_once('.')?;
        let (number, rest) = rest.split_once('.')?;
        let number = PartNumber::new(number.parse().ok()?)?.get();
        match kind {
            "c" => Some(Self::Placed { number, size: rest.parse().ok()? }),
            "p" if rest.len() == 32 && rest.bytes().all(|b| b.is_ascii_hexdigit()) => Some(Self::Own(token.to_owned())),
            _ => None,
        }
    }
}

pub(super) fn gone(upload: &UploadId) -> Error {
    Error::new(ErrorKind::NotFound, "upload").with("upload", upload)
}

pub(super) fn part_gone(token: &str) -> Error {
    Error::new(ErrorKind::NotFound, "part").with("token", format!("{token:?}"))
}

/// Whether a part lies at its place, and was not discarded.
pub(super) fn claimed(dir: BorrowedFd<'_>, number: u16) -> Sys<bool> {
    match statat(dir, format!("c.{number}"), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(stat.st_size == 0),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

impl Store {
    pub(super) fn open_upload(&self, upload: &UploadId) -> Result<OwnedFd> {
        match openat(&self.space.uploads, upload.as_str(), DIRECTORY, Mode::empty()) {
            Ok(dir) => Ok(dir),
            Err(Errno::NOENT) => Err(gone(upload)),
            Err(errno) => Err(fault("open upload", errno)),
        }
    }

    pub(super) fn create_upload(&self, upload: &UploadId) -> Result<()> {
        let made = subdirectory(self.space.uploads.as_fd(), upload.as_str()).and_then(|dir| {
            let flags = DATA | OFlags::CREATE;
            openat(&dir, "data", flags, OBJECT)?;
            lock_file(dir.as_fd(), "lock")?;
            self.flush.directory(dir.as_fd())?;
            self.flush.directory(self.space.uploads.as_fd())
        });
        made.map_err(|e| fault("create upload", e))
    }

    pub(super) fn discard_part(&self, upload: &UploadId, token: &str) -> Result<()> {
        let Some(token) = Token::read(token) else { return Ok(()) };
        let dir = match self.open_upload(upload) {
            Ok(dir) => dir,
            Err(error) if *error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let discarded = match token {
            Token::Own(name) => unlinkat(&dir, &name, AtFlags::empty()),
            // The place stays claimed: whoever still holds the token must not find another part there.
            Token::Placed { number, size } => openat(&dir, format!("c.{number}"), DATA, Mode::empty()).and_then(|claim| {
                write_all(claim.as_fd(), &[b"discarded"], 0)?;
                self.flush.file(claim.as_fd())?;
                self.free_place(dir.as_fd(), number, size)
            }),
        };
        match discarded {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(fault("discard part", errno)),
        }
    }

    /// Gives the blocks of a discarded part back, if the file system can and the data file is still only the upload's.
    pub(super) fn free_place(&self, dir: BorrowedFd<'_>, number: u16, size: u64) -> Sys<()> {
        let lock = lock_file(dir, "lock")?;
        if flock(&lock, FlockOperation::NonBlockingLockShared).is_err() {
            return Ok(());
        }
        let data = openat(dir, "data", DATA, Mode::empty())?;
        if let Some(unit) = self.unit(dir, 0)?
            && size <= unit
            && fstat(&data)?.st_nlink == 1
        {
            let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            // Only room is lost where this fails, until the upload ends.
            let _ = fallocate(&data, how, unit * (u64::from(number) - 1), size);
        }
        Ok(())
    }

    pub(super) fn remove_upload(&self, upload: &UploadId) -> Result<()> {
        let failed = |e| fault("remove upload", e);
        for _ in 0..16 {
            let dir = match self.open_upload(upload) {
                Ok(dir) => dir,
                Err(error) if *error.kind() == ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            };
            for name in names_in(dir.as_fd()).map_err(failed)? {
                match unlinkat(&dir, &name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(errno) => return Err(failed(errno)),
                }
            }
            match unlinkat(&self.space.uploads, upload.as_str(), AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                // A part came in between.
                Err(Errno::NOTEMPTY | Errno::EXIST) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        Err(Error::new(ErrorKind::Conflict, "remove upload").with("upload", upload))
    }
}
