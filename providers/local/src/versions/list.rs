//! Listing versions: two walks in key order, over the keys and over the shelves.
//!
//! The walks tell only which keys there are. Of each, first the current object is looked at and then the shelf: a version that moves
//! meanwhile moves from the one to the other, so that none is missed.

use std::os::fd::AsFd;

use sluice_provider::{Key, ListEntry, ListFrom, ListPage, ListQuery, Result, Slot, VersionId, hidden_slots, version_of};

use super::shelf::{key_of, prefix, spelled};
use super::{Held, base};
use crate::error::fault;
use crate::list::Walk;
use crate::name::KeyPath;
use crate::store::Store;

/// A line of the merged listing before its versions are looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    text: String,
    rolled: bool,
}

/// The keys that may have objects, or the shelves that may have versions.
struct Names<'a> {
    walk: Walk<'a>,
    shelves: bool,
    next: Option<Name>,
}

/// The longest prefix of a shelf: a key in which every byte has a companion, and the end.
const SHELF_BYTES: usize = 2 * sluice_provider::MAX_KEY_BYTES + 4;

impl Store {
    pub(super) fn versions_page(&self, query: &ListQuery) -> Result<ListPage> {
        let delimiter = query.delimiter.as_deref().filter(|delimiter| !delimiter.is_empty());
        let keys = ListFrom::clone(&query.from);
        let keys = match keys {
            // The rest of its versions is read from its shelf alone.
            ListFrom::AfterVersion(key, _) => ListFrom::After(key),
            from => from,
        };
        let shelves = match &query.from {
            ListFrom::Start => ListFrom::Start,
            ListFrom::After(key) => ListFrom::AfterPrefix(prefix(key)),
            ListFrom::AfterPrefix(prefix) => ListFrom::AfterPrefix(spelled(prefix)),
            ListFrom::AfterVersion(key, _) => ListFrom::AfterPrefix(prefix(key)),
        };
        let mut page = ListPage::default();
        let limit = query.limit.max(1);
        if let ListFrom::AfterVersion(key, version) = &query.from
            && key.starts_with(&query.prefix)
            && delimiter.is_none_or(|delimiter| !key[query.prefix.len()..].contains(delimiter))
            && self.push_versions(&mut page, key, Some(version), limit)?
        {
            return Ok(page);
        }
        let failed = |e| fault("list versions", e);
        let walked = ListQuery { prefix: query.prefix.clone(), delimiter: None, from: keys, limit: 1 };
        let spelled_prefix = spelled(&query.prefix);
        let kept = ListQuery { prefix: spelled_prefix, delimiter: None, from: shelves, limit: 1 };
        let walk = Walk::over_keys(self, &walked).map_err(failed)?;
        let mut objects = Names { walk, shelves: false, next: None };
        let walk = Walk::over_shelves(self, base(self), &kept, SHELF_BYTES).map_err(failed)?;
        let mut older = Names { walk, shelves: true, next: None };
        loop {
            objects.fill(&query.prefix, delimiter)?;
            older.fill(&query.prefix, delimiter)?;
            let Some(name) = objects.next.iter().chain(&older.next).min().cloned() else { return Ok(page) };
            let is_object = objects.next.take_if(|next| *next == name).is_some();
            older.next.take_if(|next| *next == name);
            if !name.rolled {
                if self.push_versions(&mut page, &name.text, None, limit)? {
                    return Ok(page);
                }
                continue;
            }
            // A directory without any object is no prefix.
            if is_object || self.any_version(&name.text)? {
                if page.entries.len() == limit {
                    page.more = true;
                    return Ok(page);
                }
                page.entries.push(ListEntry::Prefix(name.text));
            }
        }
    }

    /// Whether anything at all lies on the shelves beneath a prefix: shelves are removed with what was on them.
    fn any_version(&self, prefix: &str) -> Result<bool> {
        let query = ListQuery { prefix: spelled(prefix), delimiter: None, from: ListFrom::Start, limit: 1 };
        let found = Walk::over_shelves(self, base(self), &query, SHELF_BYTES).and_then(|mut walk| walk.next_name());
        found.map(|found| found.is_some()).map_err(|e| fault("list versions", e))
    }

    /// Brings all keys with versions in order, after calls that were cut short; how many needed it. One that cannot be brought in order
    /// does not keep the others.
    pub(crate) fn settle_all(&self) -> Result<usize> {
        let query = ListQuery { limit: 1, ..ListQuery::default() };
        let walk = Walk::over_shelves(self, base(self), &query, SHELF_BYTES).map_err(|e| fault("sweep versions", e))?;
        let mut shelves = Names { walk, shelves: true, next: None };
        let mut settled = 0;
        loop {
            shelves.fill("", None)?;
            let Some(name) = shelves.next.take() else { return Ok(settled) };
            let Ok(key) = Key::new(&name.text) else { continue };
            match self.is_settled(&key).and_then(|already| if already { Ok(false) } else { self.settle(&key) }) {
                Ok(changed) => settled += usize::from(changed),
                Err(error) => tracing::warn!(%error, ?key, "the versions of a key cannot be brought in order"),
            }
        }
    }

    /// A look without the lock: true only when there is nothing to do.
    fn is_settled(&self, key: &Key) -> Result<bool> {
        let current = self.load_key(&KeyPath::new(key.as_str()))?.map(|(_, known)| super::id_of(&known));
        let slots = self.slots_of(key.as_str())?;
        let newest = slots.first().is_none_or(|slot| slot.marker);
        Ok((current.is_some() || newest) && hidden_slots(current, &slots).next().is_none())
    }

    /// Adds the versions of a key that come after one of them. True when the page is full and there is more.
    fn push_versions(&self, page: &mut ListPage, key: &str, after: Option<&VersionId>, limit: usize) -> Result<bool> {
        let Ok(key) = Key::new(key) else { return Ok(false) };
        let current = self.load_key(&KeyPath::new(key.as_str()))?;
        let mut current_id = None;
        if let Some((opened, known)) = current {
            let (_, info) = self.info(&key, opened, known, false)?;
            current_id = Some(version_of(&info.attributes));
            if after.is_none() {
                if page.entries.len() == limit {
                    page.more = true;
                    return Ok(true);
                }
                page.entries.push(ListEntry::Object(info));
            }
        }
        let Some(shelf) = self.open_shelf(key.as_str())? else { return Ok(false) };
        let slots = self.slots(shelf.as_fd())?;
        let hidden: Vec<_> = hidden_slots(current_id, &slots).collect();
        let begin = match after {
            // No version has such a name.
            Some(VersionId::Foreign(_)) => slots.len(),
            None => 0,
            Some(VersionId::Named(order)) => slots.partition_point(|slot| slot.order <= *order),
            // Of a null version that is no longer there nobody knows where it was.
            Some(VersionId::Null) => {
                slots.iter().position(|slot| slot.null).filter(|_| current_id != Some(VersionId::Null)).map_or(0, |at| at + 1)
            }
        };
        for slot in slots.iter().skip(begin).filter(|slot| !hidden.contains(slot)) {
            if page.entries.len() == limit {
                page.more = true;
                return Ok(true);
            }
            if let Some(entry) = self.shelved_entry(&key, shelf.as_fd(), *slot)? {
                page.entries.push(entry);
            }
        }
        Ok(false)
    }

    fn shelved_entry(&self, key: &Key, shelf: std::os::fd::BorrowedFd<'_>, slot: Slot) -> Result<Option<ListEntry>> {
        let held = match self.load_shelved(shelf, slot)? {
            Some((opened, known)) => Some((opened, known)),
            // It has gone, or has become the current object since.
            None => self.find_version(key, &slot.id())?.map(|Held { opened, known, .. }| (opened, known)),
        };
        let Some((opened, known)) = held else { return Ok(None) };
        let (_, info) = self.shelved_info(key, opened, known, slot)?;
        Ok(Some(ListEntry::Object(info)))
    }
}

impl Names<'_> {
    /// Looks for the next name, if the last was used.
    fn fill(&mut self, prefix: &str, delimiter: Option<&str>) -> Result<()> {
        while self.next.is_none() {
            let Some(text) = self.walk.next_name().map_err(|e| fault("list versions", e))? else { return Ok(()) };
            let key = match self.shelves {
                true => key_of(&text),
                false => Some(text),
            };
            // Nothing but shelves is of any interest among the versions.
            let Some(key) = key else { continue };
            let rest = key.get(prefix.len()..).unwrap_or_default();
            let cut = delimiter.and_then(|d| rest.find(d).map(|at| prefix.len() + at + d.len()));
            self.next = Some(match cut.and_then(|cut| key.get(..cut)) {
                Some(rolled) => {
                    let skipped = if self.shelves { spelled(rolled) } else { rolled.to_owned() };
                    self.walk.skip_prefix(&skipped);
                    Name { text: rolled.to_owned(), rolled: true }
                }
                None => Name { text: key, rolled: false },
            });
        }
        Ok(())
    }
}
