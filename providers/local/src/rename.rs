//! Another name for an object: one rename(2) from place to place, under the locks of both keys.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use async_trait::async_trait;
use rustix::fs::{AtFlags, renameat, unlinkat};
use rustix::io::Errno;
use sluice_provider::{Error, ErrorKind, Key, ObjectInfo, PutWhen, Rename, RenameOptions, Result};

use crate::Local;
use crate::create::{Dir, Spot, in_the_way, spot};
use crate::error::{fault, missing};
use crate::meta::{Beside, Meta};
use crate::name::{Form, KeyPath, encoded};
use crate::object::{Known, Opened};
use crate::record;
use crate::store::Store;

/// How often a rename begins again because directories came and went under it.
const RACES: usize = 256;

#[async_trait]
impl Rename for Local {
    async fn rename(&self, from: &Key, to: &Key, rename: &RenameOptions) -> Result<ObjectInfo> {
        let (store, from, to, rename) = (Arc::clone(&self.0), from.clone(), to.clone(), rename.clone());
        self.0.writes.run(move || store.rename_now(&from, &to, &rename)).await
    }
}

/// How one attempt ended.
enum Moved {
    In(ObjectInfo),
    /// Somebody was faster: look again.
    Again,
}

impl Store {
    fn rename_now(&self, from: &Key, to: &Key, rename: &RenameOptions) -> Result<ObjectInfo> {
        let (source, target) = (KeyPath::new(from.as_str()), KeyPath::new(to.as_str()));
        for (key, path) in [(from, &source), (to, &target)] {
            if let Some((opened, known @ Known::Foreign)) = self.load_key(path)? {
                // Compute and store its ETag before the locks are taken, not under them.
                self.info(key, opened, known, false)?;
            }
        }
        if self.load_key(&source)?.is_none() {
            return Err(missing("rename", from));
        }
        for _ in 0..RACES {
            let dir = self.create_directory(target.prefix())?;
            let moved = {
                let _locks = self.locks.lock_two(from.as_str(), to.as_str())?;
                self.rename_locked((from, &source), (to, &target), &dir, rename)
            };
            match moved {
                Ok(Moved::In(info)) => return Ok(info),
                Ok(Moved::Again) => {}
                Err(error) => {
                    // The directory that was made for it.
                    self.prune(&target, Form::Plain);
                    return Err(error);
                }
            }
        }
        Err(Error::new(ErrorKind::Conflict, "rename").with("key", from))
    }

    fn rename_locked(
        &self,
        (from, source): (&Key, &KeyPath),
        (to, target): (&Key, &KeyPath),
        dir: &OwnedFd,
        rename: &RenameOptions,
    ) -> Result<Moved> {
        let failed = |e| fault("rename", e);
        let (opened, known) = self.load_key(source)?.ok_or_else(|| missing("rename", from))?;
        let (opened, mut info) = self.info(from, opened, known.clone(), true)?;
        if rename.source_if_match.as_ref().is_some_and(|etag| *etag != info.etag) {
            return Err(Error::new(ErrorKind::PreconditionFailed, "rename").with("etag", &info.etag));
        }
        let there = match self.load_key(target)? {
            Some((there, known)) => Some((self.record_to_remove(&there, &known), self.info(to, there, known, true)?)),
            None => None,
        };
        if rename.when != PutWhen::Always {
            rename.when.check(there.as_ref().map(|(_, (_, info))| &info.etag))?;
        }
        if from == to {
            return Ok(Moved::In(info));
        }
        let form = opened.form;
        let Some((to_dir, to_name, name_is_taken)) = self.free_or_file(dir, target)? else { return Ok(Moved::Again) };
        let from_dir = self.tree.directory(self.root(), &source.dir).map_err(failed)?;
        let leaf = encoded(source.leaf(), form);
        let (from_dir, from_name) = self.leaf_directory(from_dir.as_fd(), &leaf, false).map_err(failed)?;
        if spot(from_dir.as_fd(), from_name).map_err(failed)? != Spot::File {
            // A link would lead elsewhere from another place.
            return Err(Error::new(ErrorKind::Unsupported, "rename what lies behind a symbolic link").with("key", from));
        }
        if !rename.set.is_empty() {
            self.change_on_the_way(from, &opened, &known, &mut info, rename)?;
        }
        if form == Form::Plain {
            // An older state at the side would come back.
            let above = self.tree.directory(self.root(), &source.dir).map_err(failed)?;
            self.unlink(above.as_fd(), source, Form::Side, None)?;
        }
        // Held open until its record has gone: another object could get the inode, and a record of the same name.
        let old = there.map(|(record, (old, _))| (record, old));
        match renameat(from_dir.as_fd(), from_name, to_dir.as_fd(), &to_name) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(Moved::Again),
            Err(errno) => return Err(failed(errno)),
        }
        if old.as_ref().is_some_and(|(_, old)| (old.device, old.inode) == (opened.device, opened.inode)) {
            // Two names of one inode: rename(2) has done nothing.
            unlinkat(from_dir.as_fd(), from_name, AtFlags::empty()).map_err(failed)?;
        } else if name_is_taken && let Some((Some(record), _)) = &old {
            record::remove(&self.space, record);
        }
        drop(old);
        self.changed();
        self.flush.directory(to_dir.as_fd()).map_err(failed)?;
        if let Some(above) = self.prune(source, form) {
            self.flush.directory(above.as_fd()).map_err(failed)?;
        }
        Ok(Moved::In(ObjectInfo { key: to.clone(), ..info }))
    }

    /// Where the object of a key goes: the name of the file that it replaces, or a free one. `None` when the directory is gone.
    fn free_or_file<'a>(&self, dir: &'a OwnedFd, key: &KeyPath) -> Result<Option<(Dir<'a>, Vec<u8>, bool)>> {
        let failed = |e| fault("rename", e);
        let mut free = None;
        for form in [Form::Plain, Form::Side] {
            let leaf = encoded(key.leaf(), form);
            let (above, name) = match self.leaf_directory(dir.as_fd(), &leaf, form == Form::Plain || free.is_none()) {
                Ok((above, name)) => (above.owned(), name.to_vec()),
                Err(Errno::NOENT) if free.is_some() => continue,
                Err(Errno::NOENT) => return Ok(None),
                Err(errno) => return Err(failed(errno)),
            };
            let above = above.map_or(Dir::Borrowed(dir.as_fd()), Dir::Owned);
            match spot(above.as_fd(), &name).map_err(failed)? {
                Spot::File => return Ok(Some((above, name, true))),
                Spot::Free => free = free.or(Some((above, name, false))),
                Spot::Directory | Spot::Link | Spot::Other => {}
            }
        }
        match free {
            Some(place) => Ok(Some(place)),
            None => Err(in_the_way(key.key())),
        }
    }

    fn change_on_the_way(
        &self,
        key: &Key,
        opened: &Opened,
        known: &Known,
        info: &mut ObjectInfo,
        rename: &RenameOptions,
    ) -> Result<()> {
        for (name, value) in &rename.set {
            match value {
                Some(value) => info.attributes.set(name, value),
                None => drop(info.attributes.remove(name)),
            }
        }
        let beside = Beside::Here(info.attributes.clone());
        let meta = Meta { stamp: opened.stamp, etag: info.etag.clone(), beside, growing: opened.growing };
        let new = self.attach(opened.as_fd(), opened.inode, key, meta)?;
        self.flush.file(opened.as_fd()).map_err(|e| fault("flush attributes", e))?;
        if let Known::Ours { record: Some(old), .. } = known
            && new.as_ref() != Some(old)
        {
            record::remove(&self.space, old);
        }
        Ok(())
    }
}
