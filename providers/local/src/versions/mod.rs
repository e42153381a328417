//! Older versions: `.sluice/versions`, where each key that has any has a directory, its *shelf*.
//!
//! ```text
//! .sluice/versions/a/b/.sluice%c.txt%00/<version>               an older version of `a/b/c.txt`: the very file that it was
//! .sluice/versions/a/b/.sluice%c.txt%00/<version>.marker        a delete marker, empty
//! .sluice/versions/a/b/.sluice%c.txt%00/<version>.null          the null version, by the name that it would have
//! ```
//! The current object lies at the key's own place, and a file name tells the order, so that reading and writing the newest costs what
//! it costs without versions. All changes of a key happen under its lock, in an order that loses nothing when it is cut short:
//!
//! - A write first gives the current file a second name on the shelf, then publishes as ever. Cut short in between, the file has both
//!   names; the one on the shelf is not seen ([`hidden_slots`]) and the sweep removes it. What keeps the version over a loss of power is a
//!   third one, which it has for a while ([`spare`]).
//! - A deletion moves the file to the shelf, then puts the marker beside it. Cut short in between, the key has no object, and the newest
//!   on its shelf is none of a marker: whoever looks next moves it back ([`Store::settle`]).
//! - The bytes of a version are given up by putting an empty file with all that lay beside them in its place, with one rename.
//! - A removal of the newest moves the next one back the same way.

mod change;
mod facet;
mod hollow;
mod list;
mod place;
mod shelf;
mod spare;

pub(crate) use place::{Newcomer, name as name_version};
#[cfg(test)]
pub(crate) use spare::NAMES as SPARES_OF_A_DIRECTORY;
pub(crate) use spare::Spares;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use sluice_provider::{Key, MARKER_ATTRIBUTE, ObjectInfo, Result, Slot, VERSION_ATTRIBUTE, VersionId, version_of};

use crate::name::KeyPath;
use crate::object::{Known, Opened};
use crate::store::Store;

/// How often a look-up or a change begins again because a version moved under it.
const RACES: usize = 64;

/// The version that was found at a place.
pub(crate) struct Held {
    pub(crate) opened: Opened,
    pub(crate) known: Known,
    /// Its shelf and its place there; `None` for the current object.
    pub(crate) shelved: Option<(OwnedFd, Slot)>,
}

/// Which version an object is, by what is stored beside it.
pub(crate) fn id_of(known: &Known) -> VersionId {
    match known {
        Known::Ours { attributes, .. } => version_of(attributes),
        Known::Foreign => VersionId::Null,
    }
}

impl Store {
    /// Finds a version: at the key's place, or on its shelf. It may move from the one to the other meanwhile. Blocks.
    pub(crate) fn find_version(&self, key: &Key, version: &VersionId) -> Result<Option<Held>> {
        let path = KeyPath::new(key.as_str());
        let mut seen = None;
        for _ in 0..RACES {
            let current = self.load_key(&path)?;
            let inode = current.as_ref().map(|(opened, _)| opened.inode);
            if let Some((opened, known)) = current
                && id_of(&known) == *version
            {
                return Ok(Some(Held { opened, known, shelved: None }));
            }
            if let Some(held) = self.find_shelved(key, version)? {
                return Ok(Some(held));
            }
            if seen == Some(inode) {
                break;
            }
            seen = Some(inode);
        }
        Ok(None)
    }

    fn find_shelved(&self, key: &Key, version: &VersionId) -> Result<Option<Held>> {
        let Some(shelf) = self.open_shelf(key.as_str())? else { return Ok(None) };
        let slots = match version {
            // Two names tell it, and no look at the others is needed.
            VersionId::Named(order) => [false, true].map(|marker| Slot { order: *order, null: false, marker }).to_vec(),
            VersionId::Null => sluice_provider::first_null(&self.slots(shelf.as_fd())?).into_iter().collect(),
            // All names here are the mount's own.
            VersionId::Foreign(_) => return Ok(None),
        };
        for slot in slots {
            if let Some((opened, known)) = self.load_shelved(shelf.as_fd(), slot)? {
                return Ok(Some(Held { opened, known, shelved: Some((shelf, slot)) }));
            }
        }
        Ok(None)
    }

    /// The metadata of a version. Blocks, and reads the file if it is a foreign one. `locked` as for [`Store::info`].
    pub(crate) fn version_info(&self, key: &Key, held: Held, locked: bool) -> Result<(Opened, ObjectInfo)> {
        match held.shelved {
            None => self.info(key, held.opened, held.known, locked),
            Some((_, slot)) => self.shelved_info(key, held.opened, held.known, slot),
        }
    }

    fn shelved_info(&self, key: &Key, opened: Opened, known: Known, slot: Slot) -> Result<(Opened, ObjectInfo)> {
        let (opened, mut info) = match known {
            known @ Known::Ours { .. } => self.info(key, opened, known, true)?,
            Known::Foreign => self.shelved_foreign(key, opened)?,
        };
        // The name on the shelf says what it is, whatever a copy with all its attributes may claim.
        info.attributes.remove(VERSION_ATTRIBUTE);
        if let VersionId::Named(order) = slot.id() {
            info.attributes.set(VERSION_ATTRIBUTE, order.to_string());
        }
        if slot.marker {
            info.attributes.set(MARKER_ATTRIBUTE, "true");
        }
        Ok((opened, info))
    }

    /// The newest version, settled: what is no marker is the current object. Blocks.
    pub(crate) fn newest(&self, key: &Key) -> Result<Option<Held>> {
        let path = KeyPath::new(key.as_str());
        for _ in 0..RACES {
            if let Some((opened, known)) = self.load_key(&path)? {
                return Ok(Some(Held { opened, known, shelved: None }));
            }
            let Some(shelf) = self.open_shelf(key.as_str())? else { return Ok(None) };
            let Some(slot) = self.slots(shelf.as_fd())?.first().copied() else { return Ok(None) };
            if !slot.marker {
                // Cut short, or just under way: the lock tells.
                self.settle(key)?;
            } else if let Some((opened, known)) = self.load_shelved(shelf.as_fd(), slot)? {
                return Ok(Some(Held { opened, known, shelved: Some((shelf, slot)) }));
            }
        }
        Ok(None)
    }
}

/// The directory that a shelf is opened, made and removed below.
fn base(store: &Store) -> BorrowedFd<'_> {
    store.space.versions.as_fd()
}
