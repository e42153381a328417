//! Between the place of a key and its shelf. Everything here happens under the lock of the key.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, fstat, linkat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;
use sluice_provider::{
    Attributes, Error, ErrorKind, Key, ObjectInfo, Plan, Result, Slot, VERSION_ATTRIBUTE, Version, VersionId, Versioning,
    hidden_slots,
};

use super::id_of;
use super::spare::{self, Spare};
use crate::error::{Sys, fault};
use crate::flush::Changed;
use crate::name::{Form, KeyPath};
use crate::object::{Known, Opened};
use crate::publish::Placed;
use crate::space::Staged;
use crate::store::Store;

/// A version that is on its way to its place: what `finish` made, and may have to name again.
pub(crate) struct Newcomer {
    pub(crate) versioning: Versioning,
    pub(crate) info: ObjectInfo,
    /// Whether its content and attributes are on disk.
    pub(crate) flushed: bool,
}

/// What a write has done to the shelf before it publishes.
pub(crate) struct Kept<'a> {
    plan: Plan,
    /// The shelf, when something lies on it for this write.
    shelf: Option<OwnedFd>,
    /// The slot that this write made.
    linked: Option<Slot>,
    /// What is to be flushed for it in place of the shelf.
    spare: Option<Spare>,
    change: Option<Changed<'a>>,
}

/// Gives a version its name, or takes it away.
pub(crate) fn name(attributes: &mut Attributes, version: Option<Version>) {
    match version {
        Some(version) => attributes.set(VERSION_ATTRIBUTE, version.to_string()),
        None => drop(attributes.remove(VERSION_ATTRIBUTE)),
    }
}

impl Store {
    /// Keeps the current object as the plan says, before it is replaced, and makes sure that the new one has a newer name. It is on disk
    /// after [`flush_kept`](Self::flush_kept).
    pub(crate) fn keep(
        &self,
        key: &Key,
        path: &KeyPath,
        current: Option<&(Opened, Known)>,
        staged: &mut Staged,
        new: &mut Newcomer,
    ) -> Result<Kept<'_>> {
        let wanted = match sluice_provider::version_of(&new.info.attributes) {
            VersionId::Named(version) => Some(version),
            VersionId::Null | VersionId::Foreign(_) => None,
        };
        let current_id = current.map(|(_, known)| id_of(known));
        // A name was given before the lock was taken: others may have written, and deleted what they wrote, since.
        let older = match current_id {
            Some(VersionId::Named(_)) => None,
            _ => self.slots_of(key.as_str())?.first().map(|slot| slot.order),
        };
        let plan = Plan::new(new.versioning, current_id, older, wanted, false)?;
        if plan.name() != wanted {
            name(&mut new.info.attributes, plan.name());
            self.seal_again(key, staged, &mut new.info)?;
            new.flushed = false;
        }
        let mut kept = Kept { plan, shelf: None, linked: None, spare: None, change: None };
        if let (Some(slot), Some((opened, _))) = (kept.plan.keep, current) {
            let shelf = self.make_shelf(key.as_str())?;
            if self.shelve(path, opened, shelf.as_fd(), slot).map_err(|e| fault("keep a version", e))? {
                kept.linked = Some(slot);
            }
            kept.spare = self.spares.add(self, key.as_str(), shelf.as_fd(), slot).unwrap_or_else(|errno| {
                tracing::debug!(%errno, "a version gets no spare name: its shelf is flushed");
                None
            });
            if self.flush.durable() {
                let dir = kept.spare.as_ref().map_or(shelf.as_fd(), Spare::dir);
                kept.change = Some(self.flush.changed(dir).map_err(|e| fault("keep a version", e))?);
            }
            kept.shelf = Some(shelf);
        } else if kept.plan.ends_null {
            kept.shelf = self.open_shelf(key.as_str())?;
        }
        Ok(kept)
    }

    /// What a write keeps must not be lost with the power while the new object is there. Under the lock of the key.
    pub(crate) fn flush_kept(&self, kept: &mut Kept<'_>) -> Result<()> {
        let dir = kept.spare.as_ref().map(Spare::dir).or(kept.shelf.as_ref().map(AsFd::as_fd));
        match (kept.change.take(), dir) {
            (Some(change), Some(dir)) => self.flush.reach(change, dir).map_err(|e| fault("flush a version", e)),
            _ => Ok(()),
        }
    }

    fn seal_again(&self, key: &Key, staged: &mut Staged, info: &mut ObjectInfo) -> Result<()> {
        let old = staged.record.take();
        let sealed = self.seal(staged, key, info.etag.clone(), info.attributes.clone());
        if let Some(old) = old.filter(|old| staged.record.as_ref() != Some(old)) {
            crate::record::remove(&self.space, &old);
        }
        *info = sealed?;
        Ok(())
    }

    /// The write is published: what it ends, ends.
    pub(crate) fn after_keeping(&self, key: &Key, kept: Kept<'_>) {
        let Some(shelf) = kept.shelf else { return };
        if !kept.plan.ends_null {
            return;
        }
        let ended = self
            .slots(shelf.as_fd())
            .and_then(|slots| kept.plan.ends(&slots).try_for_each(|slot| self.unshelve(key.as_str(), shelf.as_fd(), slot)));
        if let Err(error) = ended {
            // It is not seen any more.
            tracing::warn!(%error, "a null version that ended could not be removed; the next sweep will");
        }
        self.prune_shelf(key.as_str());
    }

    /// The write was not published: the current object has one name again.
    pub(crate) fn undo_keeping(&self, key: &Key, kept: Kept<'_>) {
        if let (Some(shelf), Some(slot)) = (kept.shelf, kept.linked) {
            if let Some(spare) = &kept.spare {
                spare.remove();
            }
            let _ = unlinkat(&shelf, slot.to_string(), AtFlags::empty());
            self.prune_shelf(key.as_str());
        }
    }

    /// Gives the current file a second name on its shelf; whether it has got one just now.
    fn shelve(&self, path: &KeyPath, opened: &Opened, shelf: BorrowedFd<'_>, slot: Slot) -> Sys<bool> {
        let name = slot.to_string();
        let linked = if self.settings.follow_symlinks {
            // By the open file, wherever a link led to.
            use std::os::fd::AsRawFd;
            let path = PathBuf::from(format!("/proc/self/fd/{}", opened.file.as_raw_fd()));
            linkat(CWD, &path, shelf, &name, AtFlags::SYMLINK_FOLLOW)
        } else {
            let (dir, leaf) = self.place_of(path, opened.form)?;
            linkat(&dir, leaf.as_slice(), shelf, &name, AtFlags::empty())
        };
        match linked {
            Ok(()) => Ok(true),
            // A write that was cut short has done it already.
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// The directory of an object, and its name there.
    fn place_of(&self, path: &KeyPath, form: Form) -> Sys<(OwnedFd, Vec<u8>)> {
        let whole = path.path(form);
        let (dir, name) = crate::name::split(&whole);
        Ok((self.tree.directory(self.root(), dir.unwrap_or_default())?, name.to_vec()))
    }

    /// Moves the current file to its shelf. The directory that it was in is returned, to be flushed.
    pub(super) fn move_to_shelf(&self, path: &KeyPath, opened: &Opened, shelf: BorrowedFd<'_>, slot: Slot) -> Result<OwnedFd> {
        let failed = |e| fault("keep a version", e);
        if self.settings.follow_symlinks {
            self.shelve(path, opened, shelf, slot).map_err(failed)?;
            let (dir, leaf) = self.place_of(path, opened.form).map_err(failed)?;
            unlinkat(&dir, leaf.as_slice(), AtFlags::empty()).map_err(failed)?;
            self.changed();
            return Ok(dir);
        }
        let (dir, leaf) = self.place_of(path, opened.form).map_err(failed)?;
        let name = slot.to_string();
        // Both names of one file already, after a write that was cut short: rename(2) would leave them both.
        if statat(shelf, &name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            unlinkat(&dir, leaf.as_slice(), AtFlags::empty()).map_err(failed)?;
        } else {
            renameat(&dir, leaf.as_slice(), shelf, &name).map_err(failed)?;
        }
        self.changed();
        Ok(dir)
    }

    /// Makes a version on the shelf the object of the key, in place of the one that is there. `dir` is the key's directory; `false`
    /// when it must be made anew.
    pub(super) fn promote(&self, path: &KeyPath, dir: &OwnedFd, shelf: BorrowedFd<'_>, slot: Slot) -> Result<bool> {
        let failed = |e| fault("restore a version", e);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(shelf, slot.to_string(), flags, Mode::empty()).map_err(failed)?;
        let mut staged = self.space.reserve(Arc::new(File::from(file)));
        if let Err(errno) = linkat(shelf, slot.to_string(), staged.dir(), staged.name(), AtFlags::empty()) {
            staged.published();
            return Err(failed(errno));
        }
        match self.place(dir, path, &mut staged) {
            Ok(Placed::In(inner)) => {
                self.changed();
                self.flush.directory(inner.as_ref().unwrap_or(dir).as_fd()).map_err(failed)?;
                spare::forget(&self.space, &self.flush, path.key(), slot).map_err(failed)?;
                unlinkat(shelf, slot.to_string(), AtFlags::empty()).map_err(failed)?;
                Ok(true)
            }
            // Dropping what was staged removes a second name, and no record.
            Ok(Placed::Again) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Brings a key in order after a call that was cut short: the newest version is the object unless it is a marker, and nothing
    /// lies on the shelf that is not to be seen. Takes the lock. Answers whether there was anything to do.
    pub(crate) fn settle(&self, key: &Key) -> Result<bool> {
        let path = KeyPath::new(key.as_str());
        let prefix = path.prefix();
        for _ in 0..super::RACES {
            let dir = match self.open_shelf(key.as_str())? {
                None => return Ok(false),
                Some(_) => self.create_directory(prefix)?,
            };
            let _lock = self.locks.lock(key.as_str())?;
            let done = self.settle_locked(key, &path, &dir);
            self.prune(&path, Form::Plain);
            if let Some(changed) = done? {
                return Ok(changed);
            }
        }
        Err(Error::new(ErrorKind::Conflict, "settle versions").with("key", format!("{key:?}")))
    }

    /// `None` when it must begin again.
    fn settle_locked(&self, key: &Key, path: &KeyPath, dir: &OwnedFd) -> Result<Option<bool>> {
        let Some(shelf) = self.open_shelf(key.as_str())? else { return Ok(Some(false)) };
        let current = self.load_key(path)?.map(|(_, known)| id_of(&known));
        let slots = self.slots(shelf.as_fd())?;
        let mut changed = false;
        for slot in hidden_slots(current, &slots) {
            self.unshelve(key.as_str(), shelf.as_fd(), slot)?;
            changed = true;
        }
        if current.is_none()
            && let Some(slot) = slots.first().copied().filter(|slot| !slot.marker)
        {
            if !self.promote(path, dir, shelf.as_fd(), slot)? {
                return Ok(None);
            }
            changed = true;
        }
        self.prune_shelf(key.as_str());
        Ok(Some(changed))
    }

    /// Whether a staged file can have a second name, which is what versions are kept by.
    pub(crate) fn has_links(space: &Arc<crate::space::Space>) -> Result<bool> {
        let staged = space.stage().map_err(|e| fault("probe links", e))?;
        let other = format!("{}.link", staged.name());
        let linked = linkat(staged.dir(), staged.name(), staged.dir(), &other, AtFlags::empty());
        let answer = match linked {
            Ok(()) => fstat(staged.fd()).map(|stat| stat.st_nlink == 2).unwrap_or(false),
            Err(_) => false,
        };
        if linked.is_ok() {
            let _ = unlinkat(staged.dir(), &other, AtFlags::empty());
        }
        staged.discard();
        Ok(answer)
    }
}
