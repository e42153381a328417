//! Shelves: the directories of the older versions of a key.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use sluice_provider::{Error, ErrorKind, Key, ObjectInfo, Result, Slot};

use super::{RACES, base};
use crate::directory::names_in;
use crate::error::{Sys, fault};
use crate::meta::{Beside, Meta};
use crate::name::{directory, split};
use crate::object::{Known, Opened};
use crate::store::Store;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A key as the shelves spell it. NUL gets a companion, so that no key is another one with the end of a shelf's name, and the order
/// of the shelves is that of the keys.
pub(super) fn spelled(key: &str) -> String {
    key.replace('\0', "\u{0}0")
}

/// What the names on a shelf begin with, as keys of the tree of versions.
pub(super) fn prefix(key: &str) -> String {
    format!("{}\u{0}/", spelled(key))
}

/// The key whose shelf has this prefix.
pub(super) fn key_of(prefix: &str) -> Option<String> {
    Some(prefix.strip_suffix("\u{0}/")?.replace("\u{0}0", "\u{0}"))
}

fn path(key: &str) -> Vec<u8> {
    directory(&prefix(key))
}

impl Store {
    pub(super) fn open_shelf(&self, key: &str) -> Result<Option<OwnedFd>> {
        match self.tree.directory(base(self), &path(key)) {
            Ok(shelf) => Ok(Some(shelf)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(fault("open versions", errno)),
        }
    }

    /// Opens a shelf, making it when it is missing. Under the lock of the key: nobody else removes it meanwhile, but what lies above
    /// may go with the shelves of others.
    pub(super) fn make_shelf(&self, key: &str) -> Result<OwnedFd> {
        let failed = |e| fault("make a place for versions", e);
        if let Some(shelf) = self.open_shelf(key)? {
            return Ok(shelf);
        }
        let path = path(key);
        'again: for _ in 0..RACES {
            let mut at = self.tree.directory(base(self), b"").map_err(failed)?;
            let mut names = path.split(|&b| b == b'/').peekable();
            while let Some(name) = names.next() {
                at = match self.step_into(at.as_fd(), name, names.peek().is_none()) {
                    Ok(next) => next,
                    Err(Errno::NOENT) => continue 'again,
                    Err(errno) => return Err(failed(errno)),
                };
            }
            return Ok(at);
        }
        Err(Error::new(ErrorKind::Conflict, "make a place for versions"))
    }

    fn step_into(&self, parent: BorrowedFd<'_>, name: &[u8], is_shelf: bool) -> Sys<OwnedFd> {
        match openat(parent, name, DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) => {}
            // Without a journal a loss of power can leave the name of a directory that was not flushed on whatever has its inode now,
            // and the check of the file system gives it that type. Nobody but us has names here, and what we keep has another one.
            Err(Errno::NOTDIR | Errno::LOOP) => {
                tracing::warn!(name = %String::from_utf8_lossy(name), "what is in the place of older versions is no directory: removed");
                match unlinkat(parent, name, AtFlags::empty()) {
                    // Others may have been faster.
                    Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => {}
                    Err(errno) => return Err(errno),
                }
            }
            answer => return answer,
        }
        let make = || mkdirat(parent, name, Mode::from_raw_mode(0o700));
        // The shelf itself is found by nobody but who has the lock of the key.
        let made = if is_shelf { self.flush.make_own(parent, make) } else { self.flush.make(parent, make) };
        match made {
            Ok(()) | Err(Errno::EXIST) => openat(parent, name, DIRECTORY, Mode::empty()),
            Err(errno) => Err(errno),
        }
    }

    /// Removes an empty shelf, and the directories above it that are empty.
    pub(super) fn prune_shelf(&self, key: &str) {
        let path = path(key);
        let mut at = Some(path.as_slice());
        while let Some(dir) = at {
            let (parent, name) = split(dir);
            let removed = self
                .tree
                .directory(base(self), parent.unwrap_or_default())
                .and_then(|fd| unlinkat(&fd, name, AtFlags::REMOVEDIR));
            if removed.is_err_and(|errno| errno != Errno::NOENT) {
                return;
            }
            at = parent;
        }
    }

    /// What lies on a shelf, from the newest to the oldest.
    pub(super) fn slots(&self, shelf: BorrowedFd<'_>) -> Result<Vec<Slot>> {
        let names = names_in(shelf).map_err(|e| fault("read versions", e))?;
        let mut slots: Vec<_> = names.iter().filter_map(|name| Slot::parse(name)).collect();
        slots.sort_unstable();
        Ok(slots)
    }

    /// The same, of a key that may have no shelf.
    pub(super) fn slots_of(&self, key: &str) -> Result<Vec<Slot>> {
        self.open_shelf(key)?.map_or(Ok(Vec::new()), |shelf| self.slots(shelf.as_fd()))
    }

    pub(super) fn load_shelved(&self, shelf: BorrowedFd<'_>, slot: Slot) -> Result<Option<(Opened, Known)>> {
        self.load_whole(shelf, |_| slot.to_string().into_bytes())
    }

    /// Computes the ETag of a foreign file on a shelf once, and keeps it with the file, which nobody will touch any more.
    pub(super) fn shelved_foreign(&self, key: &Key, opened: Opened) -> Result<(Opened, ObjectInfo)> {
        let (opened, info) = self.info(key, opened, Known::Foreign, true)?;
        let beside = Beside::Here(info.attributes.clone());
        let meta = Meta { stamp: opened.stamp, etag: info.etag.clone(), beside, growing: opened.growing };
        if let Err(error) = self.attach(opened.as_fd(), opened.inode, key, meta) {
            tracing::warn!(%error, "the ETag of a foreign file is computed again when it is asked for again");
        }
        Ok((opened, info))
    }

    /// Takes a file from a shelf, with its record. The record goes when the inode has no other name.
    pub(super) fn unshelve(&self, key: &str, shelf: BorrowedFd<'_>, slot: Slot) -> Result<()> {
        let name = slot.to_string();
        super::spare::forget(&self.space, &self.flush, key, slot).map_err(|e| fault("remove a version", e))?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let record = match openat(shelf, &name, flags, Mode::empty()) {
            Ok(file) => self.record_of(file),
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(fault("remove a version", errno)),
        };
        let removed = self.unlink_with(shelf, name.as_bytes(), record);
        match removed {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(fault("remove a version", errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shelves_sort_as_their_keys_do() {
        let mut keys = vec!["a", "a\x00", "a\x00b", "a\x000", "a\x00/", "a/", "a-b", "a/b", "ab", "a0", "\x00", "/", "a\u{1}"];
        keys.sort_unstable();
        let mut shelves: Vec<_> = keys.iter().map(|key| prefix(key)).collect();
        shelves.sort_unstable();
        assert_eq!(shelves.iter().filter_map(|prefix| key_of(prefix)).collect::<Vec<_>>(), keys);
    }
}
