//! Delete, and the directories that it leaves empty.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, fstat, openat, renameat, unlinkat};
use rustix::io::Errno;
use sluice_provider::{DeleteKey, DeleteOutcome, DeleteWhen, Error, ErrorKind, Key, Result};

use crate::create::{Spot, spot};
use crate::error::{fault, missing};
use crate::name::{Form, KeyPath, encoded, split};
use crate::object::Known;
use crate::record;
use crate::store::Store;

impl Store {
    pub(crate) async fn delete(self: &Arc<Self>, keys: &[DeleteKey]) -> Vec<Result<DeleteOutcome>> {
        let (store, wanted) = (Arc::clone(self), keys.to_vec());
        match self.writes.run(move || Ok(store.delete_all(&wanted))).await {
            Ok(outcomes) => outcomes,
            Err(error) => {
                let again = || Error::new(*error.kind(), "delete").with("cause", &error);
                keys.iter().map(|_| Err(again())).collect()
            }
        }
    }

    /// Deletes all keys, then flushes each directory that changed once.
    fn delete_all(&self, keys: &[DeleteKey]) -> Vec<Result<DeleteOutcome>> {
        let mut changed = Vec::with_capacity(keys.len());
        let mut outcomes: Vec<_> = keys
            .iter()
            .map(|wanted| {
                let (outcome, dir) = self.delete_one(&wanted.key, &wanted.when)?;
                changed.push(dir);
                Ok(outcome)
            })
            .collect();
        let mut flushed = HashSet::new();
        for dir in changed.into_iter().flatten() {
            let done = fstat(&dir).and_then(|stat| {
                if flushed.insert((stat.st_dev, stat.st_ino)) { self.flush.directory(dir.as_fd()) } else { Ok(()) }
            });
            if let Err(errno) = done {
                // Which of the keys it was is not worth telling apart: none of them is surely gone.
                outcomes.iter_mut().filter(|o| o.is_ok()).for_each(|o| *o = Err(fault("flush a deletion", errno)));
            }
        }
        outcomes
    }

    fn delete_one(&self, key: &Key, when: &DeleteWhen) -> Result<(DeleteOutcome, Option<OwnedFd>)> {
        let path = KeyPath::new(key.as_str());
        if *when != DeleteWhen::Always
            && let Some((opened, known)) = self.load_key(&path)?
        {
            // The ETag of a foreign file is computed before the lock is taken, not under it.
            self.info(key, opened, known, false)?;
        }
        let _lock = self.locks.lock(key.as_str())?;
        let Some((opened, known)) = self.load_key(&path)? else {
            return match when {
                DeleteWhen::Always => Ok((DeleteOutcome::Absent, None)),
                DeleteWhen::IfMatch { .. } => Err(missing("delete", key)),
            };
        };
        let record = match &known {
            // Another name of the inode still needs it.
            _ if opened.links > 1 => None,
            Known::Ours { record, .. } => record.clone(),
            Known::Foreign if !self.xattrs => Some(record::of_inode(opened.inode)),
            Known::Foreign => None,
        };
        let size = opened.stamp.size;
        let form = opened.form;
        if *when != DeleteWhen::Always {
            let (_, info) = self.info(key, opened, known, true)?;
            if !when.holds(Some(&info)) {
                return Err(Error::new(ErrorKind::PreconditionFailed, "delete").with("key", format!("{key:?}")));
            }
        }
        let dir = match self.tree.directory(self.root(), &path.dir) {
            Ok(dir) => Some(dir),
            Err(Errno::NOENT | Errno::NOTDIR) => None,
            Err(errno) => return Err(fault("delete", errno)),
        };
        if let Some(dir) = &dir {
            if form == Form::Plain {
                // An older state may lie at the side, when another program made the plain file. It goes first, or it would come
                // back.
                self.unlink(dir.as_fd(), &path, Form::Side, None)?;
            }
            self.unlink(dir.as_fd(), &path, form, record)?;
            self.changed();
        }
        Ok((DeleteOutcome::Deleted { size }, self.prune_from(&path, form, dir)))
    }

    /// Removes a file and its record. With a record it is moved to the staging directory first, which is when the object is gone
    /// for readers; then the record is removed, and the inode last: once it is free, another object may get it, and a record of
    /// the same name.
    fn unlink(&self, dir: BorrowedFd<'_>, path: &KeyPath, form: Form, record: Option<String>) -> Result<()> {
        let failed = |e| fault("delete", e);
        let leaf = encoded(path.leaf(), form);
        let (dir, name) = match self.leaf_directory(dir, &leaf, false) {
            Ok(found) => found,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(errno) => return Err(failed(errno)),
        };
        // To look takes no lock of the directory; nearly always there is nothing at the side.
        if form == Form::Side && spot(dir.as_fd(), name).is_ok_and(|spot| spot == Spot::Free) {
            return Ok(());
        }
        let removed = match record {
            None => unlinkat(dir.as_fd(), name, AtFlags::empty()),
            // No new file is needed for that: on a full disk there could be none, and deleting is what helps.
            Some(record) => {
                openat(dir.as_fd(), name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).and_then(|file| {
                    let mut going = self.space.reserve(Arc::new(File::from(file)));
                    let moved = renameat(dir.as_fd(), name, going.dir(), going.name());
                    match moved {
                        Ok(()) => {
                            going.record = Some(record);
                            going.discard();
                        }
                        Err(_) => going.published(),
                    }
                    moved
                })
            }
        };
        match removed {
            // Another program was faster, or a directory has the name that we look at the side of.
            Ok(()) | Err(Errno::NOENT | Errno::ISDIR | Errno::NOTDIR) => Ok(()),
            Err(errno) => Err(failed(errno)),
        }
    }

    /// Removes the directories above a key that are empty, from the lowest up. The lowest that stays above `form` is returned.
    pub(crate) fn prune(&self, path: &KeyPath, form: Form) -> Option<OwnedFd> {
        self.prune_from(path, form, None)
    }

    /// The same with the directory of the key at hand, if it is open.
    fn prune_from(&self, path: &KeyPath, form: Form, dir: Option<OwnedFd>) -> Option<OwnedFd> {
        let (plain, side) = (path.path(Form::Plain), path.path(Form::Side));
        let (this, other) = if form == Form::Plain { (plain, side) } else { (side, plain) };
        // They differ where a long last segment has directories of its own.
        if split(&this).0 != split(&other).0 {
            self.prune_above(&other, None);
        }
        self.prune_above(&this, dir.map(|dir| (path.dir.as_slice(), dir)))
    }

    fn prune_above(&self, path: &[u8], mut open: Option<(&[u8], OwnedFd)>) -> Option<OwnedFd> {
        let mut opened = |path: &[u8]| match open.take() {
            Some((known, dir)) if known == path => Some(dir),
            _ => self.tree.directory(self.root(), path).ok(),
        };
        let (mut above, _) = split(path);
        while let Some(dir) = above {
            let (parent, name) = split(dir);
            let removed = match parent {
                None => unlinkat(self.root(), name, AtFlags::REMOVEDIR),
                Some(parent) => match self.tree.directory(self.root(), parent) {
                    Ok(fd) => unlinkat(&fd, name, AtFlags::REMOVEDIR),
                    Err(Errno::NOENT) => Err(Errno::NOENT),
                    Err(_) => return None,
                },
            };
            match removed {
                Ok(()) | Err(Errno::NOENT) => {}
                // Not empty, or a mount point, or not ours to remove.
                Err(_) => return opened(dir),
            }
            above = split(dir).0;
        }
        opened(b"")
    }
}
