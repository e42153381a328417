//! Delete markers, and versions that are removed for good.

use std::os::fd::AsFd;

use rustix::fs::{RenameFlags, renameat_with};
use rustix::io::Errno;
use sluice_provider::{
    Attributes, DeleteWhen, ETag, Error, ErrorKind, Guard, Key, MARKER_ATTRIBUTE, ObjectInfo, Plan, Result, Slot, VersionId,
    Versioning,
};

use super::{RACES, id_of, place};
use crate::error::{fault, missing};
use crate::name::{Form, KeyPath};
use crate::object::Known;
use crate::space::Staged;
use crate::store::Store;

/// The ETag of a delete marker, which nobody sees: the MD5 of nothing.
const MARKER_ETAG: &str = "d41d8cd98f00b204e9800998ecf8427e";

/// How an attempt to remove a version ended.
enum Removal {
    Done(Option<ObjectInfo>),
    /// It is gone, and the next one still lies on the shelf.
    Unsettled(ObjectInfo),
    /// The directory of the key must be made first. Nothing was changed.
    Again,
}

fn refused(key: &Key) -> Error {
    Error::new(ErrorKind::PreconditionFailed, "delete").with("key", format!("{key:?}"))
}

impl Store {
    pub(super) fn mark(&self, key: &Key, when: &DeleteWhen, versioning: Versioning) -> Result<ObjectInfo> {
        let path = KeyPath::new(key.as_str());
        if *when != DeleteWhen::Always
            && let Some((opened, known)) = self.load_key(&path)?
        {
            // The ETag of a foreign file is computed before the lock is taken, not under it.
            self.info(key, opened, known, false)?;
        }
        let mut staged = self.space.stage().map_err(|e| fault("stage", e))?;
        let sealed = self.seal(&mut staged, key, ETag::new(MARKER_ETAG)?, Attributes::new()).and_then(|info| {
            self.flush.file(staged.fd()).map_err(|e| fault("flush", e))?;
            self.mark_locked(key, &path, when, versioning, &mut staged, info)
        });
        if sealed.is_err() {
            staged.discard();
        }
        sealed
    }

    fn mark_locked(
        &self,
        key: &Key,
        path: &KeyPath,
        when: &DeleteWhen,
        versioning: Versioning,
        staged: &mut Staged,
        mut info: ObjectInfo,
    ) -> Result<ObjectInfo> {
        let failed = |e| fault("mark as deleted", e);
        let _lock = self.locks.lock(key.as_str())?;
        let mut current = self.load_key(path)?;
        if *when != DeleteWhen::Always {
            let (opened, known) = current.take().ok_or_else(|| missing("delete", key))?;
            let (opened, info) = self.info(key, opened, known.clone(), true)?;
            if !when.holds(Some(&info)) {
                return Err(refused(key));
            }
            current = Some((opened, known));
        }
        let shelf = self.make_shelf(key.as_str())?;
        let slots = self.slots(shelf.as_fd())?;
        let older = slots.first().map(|slot| slot.order);
        let plan = Plan::new(versioning, current.as_ref().map(|(_, known)| id_of(known)), older, None, true)?;
        let ends: Vec<_> = plan.ends(&slots).collect();
        if let (Some((opened, _)), Some(_)) = (&current, plan.keep)
            && opened.form == Form::Plain
        {
            // An older state may lie at the side, when another program made the plain file. It goes first, or it would come back.
            let dir = self.tree.directory(self.root(), &path.dir).map_err(failed)?;
            self.unlink(dir.as_fd(), path, Form::Side, None)?;
        }
        // A name first, then the marker: cut short in between, the object is found on the shelf and comes back.
        let left = match (&current, plan.keep) {
            (Some((opened, _)), Some(slot)) => Some(self.move_to_shelf(path, opened, shelf.as_fd(), slot)?),
            _ => None,
        };
        let marked = renameat_with(staged.dir(), staged.name(), &shelf, plan.new.to_string(), RenameFlags::NOREPLACE);
        match marked {
            Ok(()) => {}
            // The name is new: there is nothing that it could replace.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                rustix::fs::renameat(staged.dir(), staged.name(), &shelf, plan.new.to_string()).map_err(failed)?;
            }
            Err(errno) => return Err(failed(errno)),
        }
        staged.published();
        self.flush.directory(shelf.as_fd()).map_err(failed)?;
        if let (Some(_), None) = (&current, plan.keep) {
            // The null version ends, now that the marker stands for it.
            self.delete_locked(path, current.take())?;
        }
        for slot in ends {
            self.unshelve(key.as_str(), shelf.as_fd(), slot)?;
        }
        if let Some(dir) = left {
            self.flush.directory(dir.as_fd()).map_err(failed)?;
        }
        if let Some(dir) = self.prune(path, Form::Plain) {
            self.flush.directory(dir.as_fd()).map_err(failed)?;
        }
        place::name(&mut info.attributes, plan.name());
        info.attributes.set(MARKER_ATTRIBUTE, "true");
        Ok(info)
    }

    /// Removes the current object, of which nothing is kept. Under the lock of the key.
    fn delete_locked(&self, path: &KeyPath, current: Option<(crate::object::Opened, Known)>) -> Result<()> {
        let Some((opened, known)) = current else { return Ok(()) };
        let record = self.record_to_remove(&opened, &known);
        self.remove_object(path, opened.form, record).map(drop)
    }

    pub(super) fn remove(&self, key: &Key, version: &VersionId, when: &DeleteWhen, guard: &Guard) -> Result<Option<ObjectInfo>> {
        let path = KeyPath::new(key.as_str());
        if let Some(held) = self.find_version(key, version)? {
            // As above: a foreign file is read before the lock is taken.
            self.version_info(key, held, false)?;
        }
        let mut dir = self.tree.directory(self.root(), &path.dir).ok();
        let mut left = None;
        for _ in 0..RACES {
            {
                let _lock = self.locks.lock(key.as_str())?;
                match self.remove_locked(key, &path, version, (when, guard), dir.as_ref())? {
                    Removal::Done(removed) => return Ok(removed),
                    Removal::Unsettled(removed) => left = Some(removed),
                    Removal::Again => {}
                }
            }
            if let Some(removed) = left {
                self.settle(key)?;
                return Ok(Some(removed));
            }
            // Made without the lock: an object in the way steps aside under its own.
            dir = Some(self.create_directory(path.prefix())?);
        }
        Err(Error::new(ErrorKind::Conflict, "remove a version").with("key", format!("{key:?}")))
    }

    fn remove_locked(
        &self,
        key: &Key,
        path: &KeyPath,
        version: &VersionId,
        (when, guard): (&DeleteWhen, &Guard),
        dir: Option<&std::os::fd::OwnedFd>,
    ) -> Result<Removal> {
        let failed = |e| fault("remove a version", e);
        let current = self.load_key(path)?;
        let current_id = current.as_ref().map(|(_, known)| id_of(known));
        let Some(held) = self.find_version(key, version)? else {
            return if when.holds(None) { Ok(Removal::Done(None)) } else { Err(missing("delete", key)) };
        };
        let place = held.shelved.as_ref().map(|(_, slot)| *slot);
        let (opened, info) = self.version_info(key, held, true)?;
        if !when.holds(Some(&info)) {
            return Err(refused(key));
        }
        guard.check(&info)?;
        let slots = self.slots_of(key.as_str())?;
        // What is left on the shelf, without what is not to be seen, and whether its newest has to take the place of the key.
        let hidden: Vec<_> = sluice_provider::hidden_slots(current_id, &slots).collect();
        let next = slots.iter().copied().find(|slot| Some(*slot) != place && !hidden.contains(slot));
        let next = next.filter(|slot| !slot.marker && (place.is_none() || current.is_none()));
        let dir = match (next, dir) {
            (Some(_), None) => return Ok(Removal::Again),
            (_, dir) => dir,
        };
        let shelf = self.open_shelf(key.as_str())?;
        if let Some(shelf) = &shelf {
            // Another name of the one that goes would bring it back.
            let same = |slot: &Slot| Some(*slot) == place || (place.is_none() && hidden.contains(slot));
            for slot in slots.iter().copied().filter(same) {
                self.unshelve(key.as_str(), shelf.as_fd(), slot)?;
            }
        }
        let promoted = match (next, dir, &shelf) {
            (Some(slot), Some(dir), Some(shelf)) => Some(self.promote(path, dir, shelf.as_fd(), slot)?),
            _ => None,
        };
        match promoted {
            // The directory went, or came into the way.
            Some(false) if place.is_none() => return Ok(Removal::Again),
            Some(false) => return Ok(Removal::Unsettled(info)),
            None if place.is_none() => {
                let form = opened.form;
                // Its other name on the shelf, of a write that was cut short, has gone since it was looked at.
                let opened = opened.refresh().map_err(failed)?;
                let known = current.as_ref().map(|(_, known)| known);
                let record = opened.zip(known).and_then(|(opened, known)| self.record_to_remove(&opened, known));
                self.remove_object(path, form, record)?;
            }
            Some(true) | None => {}
        }
        if let Some(shelf) = shelf {
            self.flush.directory(shelf.as_fd()).map_err(failed)?;
            self.prune_shelf(key.as_str());
        }
        if let Some(dir) = self.prune(path, Form::Plain)
            && place.is_none()
        {
            self.flush.directory(dir.as_fd()).map_err(failed)?;
        }
        Ok(Removal::Done(Some(info)))
    }
}
