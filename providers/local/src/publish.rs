//! From the staging directory to its place.
//!
//! A new name is taken with `RENAME_NOREPLACE`, an old one with `RENAME_EXCHANGE` and removal of what came back: replacing by
//! plain rename(2) makes ext4 write out the data then and there. Between look and rename, others may come; then look again.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::SystemTime;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps, XattrFlags, fsetxattr, fstat, futimens, linkat, openat,
    renameat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;
use sluice_provider::{Attributes, ETag, Error, ErrorKind, Key, ObjectInfo, PutWhen, Result, SIZE_ATTRIBUTE, Versioning};

use crate::create::{Dir, Spot, in_the_way, spot};
use crate::error::{Sys, fault};
use crate::meta::{Beside, Meta, Stamp};
use crate::name::{Form, KeyPath, encoded};
use crate::object::{INLINE_BYTES, XATTR};
use crate::record;
use crate::space::{Staged, random_id};
use crate::store::Store;
use crate::versions::Newcomer;

/// How often a publication begins again because directories or files came and went under it.
const RACES: usize = 256;

/// How one attempt to publish ended.
pub(crate) enum Placed {
    /// It is there. The directory that has its name, when it is not the one of the key.
    In(Option<OwnedFd>),
    /// Somebody was faster: look again.
    Again,
}

impl Store {
    /// Stores ETag and attributes with a staged file whose content is complete. Its modification time becomes now, to the
    /// nanosecond: the kernel's own stamps are coarser than two edits can be apart.
    pub(crate) fn seal(&self, staged: &mut Staged, key: &Key, etag: ETag, attributes: Attributes) -> Result<ObjectInfo> {
        self.seal_as_of(staged, key, (etag, attributes), now())
    }

    /// The same for a file whose size is known, because all of it was just written into a new one.
    pub(crate) fn seal_new(
        &self,
        staged: &mut Staged,
        key: &Key,
        (etag, attributes): (ETag, Attributes),
        size: u64,
    ) -> Result<ObjectInfo> {
        let now = now();
        if !self.exact_times {
            return self.seal_as_of(staged, key, (etag, attributes), now);
        }
        set_times(staged, now)?;
        // With extended attributes, no record is named by the inode.
        let nanoseconds = u32::try_from(now.tv_nsec).unwrap_or(0);
        self.seal_stamped(staged, key, (etag, attributes), (Stamp { size, seconds: now.tv_sec, nanoseconds }, 0))
    }

    /// The same with another modification time.
    pub(crate) fn seal_as_of(
        &self,
        staged: &mut Staged,
        key: &Key,
        content: (ETag, Attributes),
        now: Timespec,
    ) -> Result<ObjectInfo> {
        set_times(staged, now)?;
        // Read it back: the file system may keep less than nanoseconds.
        let stat = fstat(staged.fd()).map_err(|e| fault("store attributes", e))?;
        self.seal_stamped(staged, key, content, (Stamp::of(&stat), stat.st_ino))
    }

    fn seal_stamped(
        &self,
        staged: &mut Staged,
        key: &Key,
        (etag, attributes): (ETag, Attributes),
        (stamp, inode): (Stamp, u64),
    ) -> Result<ObjectInfo> {
        let meta = Meta { stamp, etag: etag.clone(), beside: Beside::Here(attributes.clone()), growing: false };
        staged.record = self.attach(staged.fd(), inode, key, meta)?;
        Ok(ObjectInfo { key: key.clone(), size: stamp.size, etag, modified: stamp.modified(), attributes })
    }

    /// Stores what belongs beside a file, in the inode or in a new record, whose name is returned.
    pub(crate) fn attach(&self, file: BorrowedFd<'_>, inode: u64, key: &Key, meta: Meta) -> Result<Option<String>> {
        let failed = |e| fault("store attributes", e);
        if !self.xattrs {
            let name = record::of_inode(inode);
            record::write(&self.space, &self.flush, &name, key.as_str(), &meta)?;
            return Ok(Some(name));
        }
        let bytes = meta.encode();
        if bytes.len() <= INLINE_BYTES {
            match fsetxattr(file, XATTR, &bytes, XattrFlags::empty()) {
                Ok(()) => return Ok(None),
                // Other attributes of the file (ACLs, security labels) may have left no room.
                Err(Errno::NOSPC | Errno::TOOBIG | Errno::RANGE) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        let id = random_id()?;
        let name = record::named(&id);
        record::write(&self.space, &self.flush, &name, key.as_str(), &meta)?;
        let size = match &meta.beside {
            Beside::Here(attributes) => attributes.get(SIZE_ATTRIBUTE).and_then(|size| size.parse().ok()),
            Beside::Record(_, size) => *size,
        };
        let pointer = Meta { beside: Beside::Record(id, size), ..meta }.encode();
        if let Err(errno) = fsetxattr(file, XATTR, &pointer, XattrFlags::empty()) {
            record::remove(&self.space, &name);
            return Err(failed(errno));
        }
        Ok(Some(name))
    }

    /// Publishes a sealed and flushed file as the object of the key, if the condition holds. What was staged is gone afterwards,
    /// whatever the answer.
    pub(crate) fn publish(&self, key: &Key, mut staged: Staged, when: &PutWhen, mut new: Newcomer) -> Result<ObjectInfo> {
        let result = self.publish_staged(key, &mut staged, when, &mut new).map(|()| new.info);
        if result.is_err() {
            staged.discard();
        }
        result
    }

    fn publish_staged(&self, key: &Key, staged: &mut Staged, when: &PutWhen, new: &mut Newcomer) -> Result<()> {
        let failed = |e| fault("publish", e);
        let path = KeyPath::new(key.as_str());
        let prefix = path.prefix();
        let versioned = new.versioning != Versioning::Off;
        if matches!(when, PutWhen::IfMatch(_) | PutWhen::IfNoneMatch(_)) {
            // Compute the ETag of a foreign file before the lock is taken, not under it.
            if let Some((opened, known)) = self.load_key(&path)? {
                self.info(key, opened, known, false)?;
            }
        }
        for _ in 0..RACES {
            let dir = self.create_directory(prefix)?;
            let placed = {
                let _lock = self.locks.lock(key.as_str())?;
                let busy = self.busy.enter();
                let mut current = if versioned || *when != PutWhen::Always { self.load_key(&path)? } else { None };
                if *when != PutWhen::Always {
                    let mut etag = None;
                    if let Some((opened, known)) = current.take() {
                        let (opened, info) = self.info(key, opened, known.clone(), true)?;
                        etag = Some(info.etag);
                        current = Some((opened, known));
                    }
                    if let Err(refused) = when.check(etag.as_ref()) {
                        self.prune(&path, Form::Plain);
                        return Err(refused);
                    }
                }
                if versioned {
                    let mut kept = self.keep(key, &path, current.as_ref(), staged, new)?;
                    // Others may come to share the flush.
                    drop(busy);
                    let flushed = self.flush_newcomer(staged, new).and_then(|()| self.flush_kept(&mut kept));
                    let placed = flushed.and_then(|()| {
                        let _busy = self.busy.enter();
                        self.place(&dir, &path, staged)
                    });
                    match placed {
                        Ok(placed @ Placed::In(_)) => {
                            self.after_keeping(key, kept);
                            placed
                        }
                        other => {
                            self.undo_keeping(key, kept);
                            other?
                        }
                    }
                } else {
                    self.place(&dir, &path, staged)?
                }
            };
            match placed {
                Placed::In(inner) => {
                    self.changed();
                    let dir = inner.as_ref().unwrap_or(&dir);
                    return self.flush.directory(dir.as_fd()).map_err(failed);
                }
                Placed::Again => {}
            }
        }
        Err(Error::new(ErrorKind::Conflict, "publish").with("key", format!("{key:?}")))
    }

    fn flush_newcomer(&self, staged: &Staged, new: &mut Newcomer) -> Result<()> {
        if !new.flushed {
            self.flush.file(staged.fd()).map_err(|e| fault("flush", e))?;
            new.flushed = true;
        }
        Ok(())
    }

    /// Puts the staged file where the key's object lies, or belongs. Under the lock of the key.
    pub(crate) fn place(&self, dir: &OwnedFd, key: &KeyPath, staged: &mut Staged) -> Result<Placed> {
        let failed = |e| fault("publish", e);
        // The directory was removed since it was opened, because it was empty.
        let racing = |e| if e == Errno::NOENT { Ok(None) } else { Err(failed(e)) };
        let (plain, side) = (encoded(key.leaf(), Form::Plain), encoded(key.leaf(), Form::Side));
        let Some((plain_dir, plain_name)) = self.leaf_directory(dir.as_fd(), &plain, true).map(Some).or_else(racing)? else {
            return Ok(Placed::Again);
        };
        let place = spot(plain_dir.as_fd(), plain_name).map_err(failed)?;
        let replaceable = place == Spot::File || (place == Spot::Link && self.settings.follow_symlinks);
        if replaceable {
            return self.exchange(plain_dir, plain_name, staged).map_err(failed);
        }
        let beside = match self.leaf_directory(dir.as_fd(), &side, place != Spot::Free) {
            Ok((side_dir, side_name)) => Some((spot(side_dir.as_fd(), side_name).map_err(failed)?, side_dir, side_name)),
            Err(Errno::NOENT) if place == Spot::Free => None,
            Err(Errno::NOENT) => return Ok(Placed::Again),
            Err(errno) => return Err(failed(errno)),
        };
        match (place, beside) {
            (_, Some((Spot::File, side_dir, side_name))) => self.exchange(side_dir, side_name, staged).map_err(failed),
            (Spot::Free, _) => take(plain_dir, plain_name, staged).map_err(failed),
            (_, Some((Spot::Free, side_dir, side_name))) => take(side_dir, side_name, staged).map_err(failed),
            _ => Err(in_the_way(key.key())),
        }
    }

    /// Whether no object of this root has a record: the directory of records has never had one in it. The link count of a
    /// directory tells on the file systems that we know; what btrfs shows is never 2.
    pub(crate) fn no_records(&self) -> bool {
        self.xattrs && self.own_times && fstat(&self.space.records).is_ok_and(|stat| stat.st_nlink == 2)
    }

    /// Swaps the staged file with the one at the name, and removes that.
    fn exchange(&self, dir: Dir<'_>, name: &[u8], staged: &mut Staged) -> Sys<Placed> {
        let swapped = match self.settings.exchange {
            true => renameat_with(staged.dir(), staged.name(), dir.as_fd(), name, RenameFlags::EXCHANGE),
            false => Err(Errno::OPNOTSUPP),
        };
        match swapped {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(Placed::Again),
            // NFS and some FUSE file systems cannot swap.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                let old = openat(dir.as_fd(), name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK, Mode::empty());
                // Held open until its record has gone: another object could get the inode, and a record of the same name.
                let old = old.ok();
                let record = old.as_ref().and_then(|old| self.record_of(old.try_clone().ok()?));
                renameat(staged.dir(), staged.name(), dir.as_fd(), name)?;
                staged.published();
                if let Some(record) = record {
                    record::remove(&self.space, &record);
                }
                drop(old);
                return Ok(Placed::In(dir.owned()));
            }
            Err(errno) => return Err(errno),
        }
        if self.no_records() {
            // Nothing to look for in what came back: four system calls less.
            match unlinkat(staged.dir(), staged.name(), AtFlags::empty()) {
                Err(Errno::ISDIR | Errno::PERM) => {}
                removed => {
                    staged.published();
                    if let Err(errno) = removed {
                        tracing::warn!(%errno, "a replaced object could not be removed; the next sweep will");
                    }
                    return Ok(Placed::In(dir.owned()));
                }
            }
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let old = openat(staged.dir(), staged.name(), flags, Mode::empty());
        let kind = match &old {
            Ok(old) => fstat(old)?,
            // A link, or a file that we may not read.
            Err(_) => statat(staged.dir(), staged.name(), AtFlags::SYMLINK_NOFOLLOW)?,
        };
        if FileType::from_raw_mode(kind.st_mode) == FileType::Directory {
            // Another program replaced the file by a directory between look and swap: give it back.
            renameat_with(staged.dir(), staged.name(), dir.as_fd(), name, RenameFlags::EXCHANGE)?;
            return Ok(Placed::Again);
        }
        staged.published();
        // The record goes first: once the inode is free, another object may get it, and a record of the same name.
        if let Ok(old) = old
            && let Some(record) = self.record_of(old)
        {
            record::remove(&self.space, &record);
        }
        if let Err(errno) = unlinkat(staged.dir(), staged.name(), AtFlags::empty()) {
            tracing::warn!(%errno, "a replaced object could not be removed; the next sweep will");
        }
        Ok(Placed::In(dir.owned()))
    }
}

fn now() -> Timespec {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timespec { tv_sec: now.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: now.subsec_nanos().into() }
}

fn set_times(staged: &Staged, now: Timespec) -> Result<()> {
    let times = Timestamps { last_access: now, last_modification: now };
    futimens(staged.fd(), &times).map_err(|e| fault("store attributes", e))
}

/// Gives the staged file a name that is free.
fn take(dir: Dir<'_>, name: &[u8], staged: &mut Staged) -> Sys<Placed> {
    match renameat_with(staged.dir(), staged.name(), dir.as_fd(), name, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        Err(Errno::EXIST | Errno::NOENT) => return Ok(Placed::Again),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            match linkat(staged.dir(), staged.name(), dir.as_fd(), name, AtFlags::empty()) {
                Ok(()) => {
                    // Both names are the object now; the one in the staging directory goes, or is swept.
                    let _ = unlinkat(staged.dir(), staged.name(), AtFlags::empty());
                }
                Err(Errno::EXIST | Errno::NOENT) => return Ok(Placed::Again),
                // No links either: the lock of the key keeps our own kind away, and we just looked.
                Err(_) => renameat(staged.dir(), staged.name(), dir.as_fd(), name)?,
            }
        }
        Err(errno) => return Err(errno),
    }
    staged.published();
    Ok(Placed::In(dir.owned()))
}
