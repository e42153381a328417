//! Giving up the bytes of a version, and keeping all that lay beside them.
//!
//! An empty file takes the place of the one with the bytes, in one rename, with the same modification time. A reader that has opened the
//! old one reads on.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Timespec, renameat};
use sluice_provider::{AttributeChange, Error, ErrorKind, Guard, Key, ObjectInfo, Result, VersionId};

use super::{Held, RACES};
use crate::error::{fault, missing};
use crate::name::{Form, KeyPath};
use crate::object::Known;
use crate::publish::Placed;
use crate::record;
use crate::space::Staged;
use crate::store::Store;

impl Store {
    pub(super) fn hollow(&self, key: &Key, version: &VersionId, change: &AttributeChange, guard: &Guard) -> Result<ObjectInfo> {
        let path = KeyPath::new(key.as_str());
        let held = self.find_version(key, version)?.ok_or_else(|| missing("give up bytes", key))?;
        // The ETag of a foreign file is computed before the lock is taken, not under it.
        self.version_info(key, held, false)?;
        let mut staged = self.space.stage().map_err(|e| fault("stage", e))?;
        for _ in 0..RACES {
            let done = self.create_directory(path.prefix()).and_then(|dir| {
                let _lock = self.locks.lock(key.as_str())?;
                let done = self.hollow_locked((key, version), &path, &dir, &mut staged, (change, guard));
                self.prune(&path, Form::Plain);
                done
            });
            match done {
                Ok(Some(info)) => return Ok(info),
                Ok(None) => {}
                Err(error) => {
                    staged.discard();
                    return Err(error);
                }
            }
        }
        staged.discard();
        Err(Error::new(ErrorKind::Conflict, "give up bytes").with("key", format!("{key:?}")))
    }

    /// `None` when the directory of the key must be made anew.
    fn hollow_locked(
        &self,
        (key, version): (&Key, &VersionId),
        path: &KeyPath,
        dir: &OwnedFd,
        staged: &mut Staged,
        (change, guard): (&AttributeChange, &Guard),
    ) -> Result<Option<ObjectInfo>> {
        let failed = |e| fault("give up bytes", e);
        let held = self.find_version(key, version)?;
        // A marker has no bytes.
        let held = held.filter(|held| held.shelved.as_ref().is_none_or(|(_, slot)| !slot.marker));
        let Held { opened, known, shelved } = held.ok_or_else(|| missing("give up bytes", key))?;
        let record = match &known {
            Known::Ours { record, .. } => record.clone(),
            Known::Foreign => None,
        };
        let (opened, info) = match &shelved {
            None => self.info(key, opened, known, true)?,
            Some((_, slot)) => self.shelved_info(key, opened, known, *slot)?,
        };
        guard.check(&info)?;
        if change.if_match.as_ref().is_some_and(|etag| *etag != info.etag) {
            return Err(Error::new(ErrorKind::PreconditionFailed, "give up bytes").with("etag", &info.etag));
        }
        let mut attributes = info.attributes;
        attributes.apply(change);
        let time = Timespec { tv_sec: opened.stamp.seconds, tv_nsec: opened.stamp.nanoseconds.into() };
        if let Some(earlier) = staged.record.take() {
            // Of an attempt before this one.
            record::remove(&self.space, &earlier);
        }
        let info = self.seal_as_of(staged, key, (info.etag, attributes), time)?;
        self.flush.file(staged.fd()).map_err(failed)?;
        let Some((shelf, slot)) = shelved else {
            return match self.place(dir, path, staged)? {
                Placed::In(inner) => {
                    self.changed();
                    self.flush.directory(inner.as_ref().unwrap_or(dir).as_fd()).map_err(failed)?;
                    Ok(Some(info))
                }
                Placed::Again => Ok(None),
            };
        };
        renameat(staged.dir(), staged.name(), &shelf, slot.to_string()).map_err(failed)?;
        staged.published();
        self.flush.directory(shelf.as_fd()).map_err(failed)?;
        // Not before: until then it is what keeps the version.
        super::spare::forget(&self.space, &self.flush, key.as_str(), slot).map_err(failed)?;
        if let Some(record) = record {
            // The old file is open still: nobody else has its inode, or a record of that name.
            record::remove(&self.space, &record);
        }
        drop(opened);
        Ok(Some(info))
    }
}
