//! Parts become an object.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, fstat, ftruncate, linkat, openat};
use rustix::io::Errno;
use sluice_provider::{Attributes, ETag, Key, ObjectInfo, PutOptions, Result, Seal, UploadId, Versioning};

use super::upload::{DATA, Token, claimed, gone, part_gone};
use crate::copy::copy_range;
use crate::directory::names_in;
use crate::error::{Sys, fault};
use crate::space::{Staged, lock_file};
use crate::store::Store;
use crate::write::size_of;

impl Store {
    pub(super) fn complete_upload(
        self: &Arc<Self>,
        key: &Key,
        upload: &UploadId,
        parts: &[(String, u64)],
        etag: &ETag,
        (put, versioning): (&PutOptions, Versioning),
    ) -> Result<ObjectInfo> {
        // Somebody else completed or aborted it meanwhile.
        let failed = |e| if e == Errno::NOENT { gone(upload) } else { fault("complete upload", e) };
        let dir = self.open_upload(upload)?;
        let lock = lock_file(dir.as_fd(), "lock").map_err(failed)?;
        // Somebody may still be writing to the data file; then the object is assembled elsewhere.
        let exclusive = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
        // Under the lock: a part that is discarded from here on keeps its bytes, one that was discarded before is noticed.
        let listed = parts;
        let parts = self.check_parts(dir.as_fd(), upload, listed)?;
        let total = parts.last().map_or(0, |part| part.target + part.size);
        let staged = if exclusive && self.in_place(dir.as_fd(), &parts).map_err(failed)? {
            self.fill(dir.as_fd(), &parts, total).map_err(failed)?
        } else {
            None
        };
        let staged = match staged {
            Some(staged) => staged,
            None => {
                let staged = self.assemble(dir.as_fd(), &parts).map_err(failed)?;
                // Without the lock a part may have been discarded, and its bytes freed, while they were copied.
                if !exclusive && let Err(error) = self.check_parts(dir.as_fd(), upload, listed) {
                    staged.discard();
                    return Err(error);
                }
                staged
            }
        };
        let seal = Seal { etag: etag.clone(), attributes: Attributes::new() };
        let info = self.finish(key, staged, seal, put.attributes.clone(), &put.when, versioning)?;
        if let Err(error) = self.remove_upload(upload) {
            tracing::warn!(%error, %upload, "a completed upload could not be removed");
        }
        // Until here, so that no late part is written to what is an object now.
        drop(lock);
        Ok(info)
    }

    /// The parts with their sources, after making sure that each is there and as long as it is said to be.
    fn check_parts(&self, dir: BorrowedFd<'_>, upload: &UploadId, parts: &[(String, u64)]) -> Result<Vec<Part>> {
        // What vanishes between two looks was completed or aborted by somebody else.
        let failed = |e| if e == Errno::NOENT { gone(upload) } else { fault("complete upload", e) };
        let unit = match openat(dir, "unit", OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Ok(_) => self.unit(dir, 0).map_err(failed)?,
            Err(_) => None,
        };
        let mut target = 0;
        let mut checked = Vec::with_capacity(parts.len());
        for (token, size) in parts {
            let source = match Token::read(token).ok_or_else(|| part_gone(token))? {
                Token::Placed { number, size: stored } => {
                    let claimed = claimed(dir, number).map_err(failed)?;
                    let unit = unit.filter(|_| claimed && stored == *size).ok_or_else(|| part_gone(token))?;
                    Source::Data { number, offset: unit * (u64::from(number) - 1) }
                }
                Token::Own(name) => {
                    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let file = match openat(dir, &name, flags, Mode::empty()) {
                        Ok(file) => file,
                        Err(Errno::NOENT) => return Err(part_gone(token)),
                        Err(errno) => return Err(failed(errno)),
                    };
                    if size_of(file.as_fd()).map_err(failed)? != *size {
                        return Err(part_gone(token));
                    }
                    Source::Own(name)
                }
            };
            checked.push(Part { source, target, size: *size });
            target += size;
        }
        Ok(checked)
    }

    /// Whether the data file can become the object: every claimed place is used, and where the object wants it. What is not
    /// listed would be overwritten or cut off, and must still be there if the completion fails.
    fn in_place(&self, dir: BorrowedFd<'_>, parts: &[Part]) -> Sys<bool> {
        let placed = |part: &&Part| matches!(part.source, Source::Data { offset, .. } if offset == part.target);
        let used: HashSet<u16> = parts.iter().filter(placed).filter_map(Part::number).collect();
        let all_placed = parts.iter().all(|part| part.number().is_none() || placed(&part));
        let claims = names_in(dir)?;
        for number in claims.iter().filter_map(|name| name.strip_prefix("c.")?.parse::<u16>().ok()) {
            if !used.contains(&number) && claimed(dir, number)? {
                return Ok(false);
            }
        }
        Ok(!used.is_empty() && all_placed)
    }

    /// Copies the parts with files of their own to their places in the data file and links it into the staging directory. The
    /// upload keeps the file, so that a completion cut short by a crash can be repeated. `None` without links.
    fn fill(&self, dir: BorrowedFd<'_>, parts: &[Part], total: u64) -> Sys<Option<Staged>> {
        let data = openat(dir, "data", DATA, Mode::empty())?;
        if fstat(&data)?.st_nlink != 1 {
            // An earlier completion was cut short after it had published the file: it is not ours to touch any more.
            return Ok(None);
        }
        for part in parts {
            if let Source::Own(name) = &part.source {
                copy_own(dir, name, data.as_fd(), part)?;
            }
        }
        ftruncate(&data, total)?;
        let staged = self.space.reserve(Arc::new(File::from(data)));
        match linkat(dir, "data", staged.dir(), staged.name(), AtFlags::empty()) {
            Ok(()) => Ok(Some(staged)),
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Copies all parts to a new file.
    fn assemble(self: &Arc<Self>, dir: BorrowedFd<'_>, parts: &[Part]) -> Sys<Staged> {
        let staged = self.space.stage()?;
        let copied = (|| {
            let data = openat(dir, "data", OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
            for part in parts {
                match &part.source {
                    Source::Own(name) => copy_own(dir, name, staged.fd(), part)?,
                    Source::Data { offset, .. } => {
                        let copied = copy_range(data.as_fd(), *offset, staged.fd(), part.target, part.size)?;
                        whole(copied, part)?;
                    }
                }
            }
            Ok(())
        })();
        match copied {
            Ok(()) => Ok(staged),
            Err(errno) => {
                staged.discard();
                Err(errno)
            }
        }
    }
}

/// A listed part: where it is, and where the object wants it.
struct Part {
    source: Source,
    target: u64,
    size: u64,
}

enum Source {
    Data { number: u16, offset: u64 },
    Own(String),
}

impl Part {
    fn number(&self) -> Option<u16> {
        match self.source {
            Source::Data { number, .. } => Some(number),
            Source::Own(_) => None,
        }
    }
}

fn copy_own(dir: BorrowedFd<'_>, name: &str, to: BorrowedFd<'_>, part: &Part) -> Sys<()> {
    let file = openat(dir, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    whole(copy_range(file.as_fd(), 0, to, part.target, part.size)?, part)
}

fn whole(copied: u64, part: &Part) -> Sys<()> {
    if copied == part.size { Ok(()) } else { Err(Errno::IO) }
}
