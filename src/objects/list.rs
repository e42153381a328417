//! One listing over all mounts.
//!
//! Mounts cut the keys into stretches ([`MountTable::segments`]), each served by one mount, so the merged listing is their
//! concatenation in key order: each mount is asked when its stretch comes, for no more than the page still needs. What a mount
//! answers beyond its stretch waits for its next one, unless another mount hides it.
//!
//! Roll-ups need care at the borders. A provider that rolls up keys does not know that some of them are hidden, and a common prefix
//! can span mounts: a prefix that has a mount within is believed only after a key was found beneath it.

use std::collections::{HashMap, VecDeque};

use sluice_provider::{Key, ListEntry, ListFrom, ListPage, ListQuery, ObjectInfo, known_size, version_of};

use super::Objects;
use crate::error::{Error, MOUNT, Result};
use crate::mounts::{Mount, MountTable, Segment, Until};
use crate::namespaces::Namespace;

impl Objects {
    /// A page of the listing, merged over the mounts in key order.
    ///
    /// # Errors
    /// The provider's of any mount that the page touches.
    pub async fn list(&self, ns: &Namespace, query: &ListQuery) -> Result<ListPage> {
        page(ns, query, What::Objects).await
    }

    /// Whether the namespace holds no object at all, on any mount, hidden ones included.
    ///
    /// # Errors
    /// The provider's of a mount that cannot be asked.
    pub async fn is_empty(&self, ns: &Namespace) -> Result<bool> {
        ns.is_empty().await
    }
}

/// What is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// The current objects.
    Objects,
    /// All versions and delete markers.
    Versions,
}

impl What {
    async fn ask(self, mount: &Mount, query: &ListQuery) -> Result<ListPage> {
        let page = match mount.provider.versions().filter(|_| self == Self::Versions) {
            Some(versions) => versions.list_versions(query).await,
            None => mount.provider.list(query).await,
        };
        // A listing spans mounts: whoever reads of its failure wants to know whose it is.
        page.map_err(|error| Error::from(error).with(MOUNT, &mount.prefix))
    }

    /// Where a listing goes on after an object.
    fn after(self, at: String, entry: &ListEntry) -> ListFrom {
        match entry {
            ListEntry::Object(info) if self == Self::Versions => ListFrom::AfterVersion(at, version_of(&info.attributes)),
            _ => ListFrom::After(at),
        }
    }
}

/// A page of the merged listing.
pub(super) async fn page(ns: &Namespace, query: &ListQuery, what: What) -> Result<ListPage> {
    let table = ns.mounts.load_full();
    let delimiter = query.delimiter.clone().filter(|d| !d.is_empty());
    let query = ListQuery { delimiter, ..query.clone() };
    if query.limit == 0 {
        return Ok(ListPage::default());
    }
    if let Some(mount) = only_mount(&table, &query) {
        return list_one(mount, &query, what).await;
    }
    merge(&table, &query, what).await
}

/// The one mount that serves all keys of the listing, when the query can be put to it as it is.
fn only_mount<'a>(table: &'a MountTable, query: &ListQuery) -> Option<&'a Mount> {
    let mut segments = table.segments(&query.prefix, &query.from);
    let first = segments.next()?;
    let mount = table.get(first.mount)?;
    (segments.next().is_none() && query.prefix.starts_with(&*mount.prefix)).then_some(mount)
}

async fn list_one(mount: &Mount, query: &ListQuery, what: What) -> Result<ListPage> {
    let Some(from) = inside(&query.from, &mount.prefix) else { return Ok(ListPage::default()) };
    let prefix = query.prefix[mount.prefix.len()..].to_owned();
    let page = what.ask(mount, &ListQuery { prefix, from, ..query.clone() }).await?;
    let entries = page.entries.into_iter().map(|entry| outside(entry, mount)).collect::<Result<_>>()?;
    Ok(ListPage { entries, more: page.more })
}

/// An entry that a mount answered.
struct Candidate {
    /// Its place in the mount: its key, also when it was rolled up here, or the common prefix that the provider made.
    at: String,
    entry: ListEntry,
    /// Whether its place alone tells that it is seen. A prefix that the provider made may stand for hidden keys only.
    sure: bool,
}

/// What a mount answered beyond what was needed.
#[derive(Default)]
struct Ahead {
    candidates: VecDeque<Candidate>,
    /// Nothing comes behind the entries.
    exhausted: bool,
}

/// A merged listing in progress.
struct Merge<'a> {
    table: &'a MountTable,
    query: &'a ListQuery,
    what: What,
    ahead: HashMap<usize, Ahead>,
}

async fn merge(table: &MountTable, query: &ListQuery, what: What) -> Result<ListPage> {
    let mut merge = Merge { table, query, what, ahead: HashMap::new() };
    let mut entries: Vec<ListEntry> = Vec::new();
    let mut from = query.from.clone();
    // Each turn ends with the listing, or behind a common prefix, from which it goes on.
    'turns: loop {
        for segment in table.segments(&query.prefix, &from) {
            let mut position = segment.from.clone();
            loop {
                let wanted = query.limit.saturating_add(1) - entries.len();
                let candidate = match merge.next(&segment, &position, wanted).await {
                    Ok(Some(candidate)) => candidate,
                    Ok(None) => break,
                    // The page is full: whoever goes on from it meets the error, this page does without that mount.
                    Err(_) if entries.len() == query.limit => return Ok(ListPage { entries, more: true }),
                    Err(error) => return Err(error),
                };
                let after = what.after(candidate.at.clone(), &candidate.entry);
                let jump = match &candidate.entry {
                    ListEntry::Prefix(prefix) => Some(ListFrom::AfterPrefix(prefix.clone())),
                    ListEntry::Object(_) => None,
                };
                if candidate.sure || has_keys(table, candidate.entry.name(), &query.from, what).await? {
                    if entries.len() == query.limit {
                        return Ok(ListPage { entries, more: true });
                    }
                    entries.push(candidate.entry);
                }
                match jump {
                    None => position = after,
                    Some(jump) => {
                        from = jump;
                        continue 'turns;
                    }
                }
            }
            if segment.until == Until::End {
                merge.ahead.remove(&segment.mount);
            }
        }
        return Ok(ListPage { entries, more: false });
    }
}

/// Whether any key that begins with the prefix is seen, at or after `from`.
async fn has_keys(table: &MountTable, prefix: &str, from: &ListFrom, what: What) -> Result<bool> {
    let query = ListQuery { prefix: prefix.to_owned(), delimiter: None, from: from.clone(), limit: 1 };
    // Without a delimiter there is no prefix to look beneath: this does not come back here.
    let page = Box::pin(merge(table, &query, what)).await?;
    Ok(!page.entries.is_empty())
}

impl Merge<'_> {
    /// The next entry of a segment behind a position, asking its mount for at most `wanted` when none is at hand.
    async fn next(&mut self, segment: &Segment<'_>, position: &ListFrom, wanted: usize) -> Result<Option<Candidate>> {
        let Some(mount) = self.table.get(segment.mount) else { return Ok(None) };
        let ahead = self.ahead.entry(segment.mount).or_default();
        while ahead.candidates.front().is_some_and(|candidate| position.skips(&candidate.at)) {
            ahead.candidates.pop_front();
        }
        if ahead.candidates.is_empty() && !ahead.exhausted {
            *ahead = fetch((self.table, self.what), mount, self.query, position, wanted).await?;
        }
        match ahead.candidates.front() {
            Some(candidate) if !segment.ends_before(&candidate.at) => Ok(ahead.candidates.pop_front()),
            _ => Ok(None),
        }
    }
}

/// Asks a mount for entries of the merged listing behind a position.
async fn fetch(
    (table, what): (&MountTable, What),
    mount: &Mount,
    query: &ListQuery,
    position: &ListFrom,
    wanted: usize,
) -> Result<Ahead> {
    let Some(from) = inside(position, &mount.prefix) else { return Ok(Ahead { exhausted: true, ..Ahead::default() }) };
    // The mount's part of the query's prefix, or what the mount's prefix adds to it.
    let (prefix, added) = match query.prefix.strip_prefix(&*mount.prefix) {
        Some(rest) => (rest.to_owned(), ""),
        None => (String::new(), mount.prefix.strip_prefix(query.prefix.as_str()).unwrap_or_default()),
    };
    let delimiter = query.delimiter.as_deref().unwrap_or_default();
    let (delimiter, limit) = match rolling(added, delimiter) {
        Rolling::Provider => (query.delimiter.clone(), wanted),
        // The first key tells the common prefix, and with it where to go on.
        Rolling::Whole => (None, 1),
        Rolling::Here => (None, wanted.min(16)),
    };
    let page = what.ask(mount, &ListQuery { prefix, delimiter, from, limit }).await?;
    let candidate = |entry| {
        let entry = outside(entry, mount)?;
        let at = entry.name().to_owned();
        let sure = matches!(entry, ListEntry::Object(_)) || !table.any_within(&at);
        Ok(Candidate { at, entry: roll_up(entry, query), sure })
    };
    let candidates = page.entries.into_iter().map(candidate).collect::<Result<_>>()?;
    Ok(Ahead { candidates, exhausted: !page.more })
}

/// Who rolls up the keys of a mount.
enum Rolling {
    /// The provider: the delimiter can only be found in its part of the key.
    Provider,
    /// All keys of the mount are under one common prefix.
    Whole,
    /// A delimiter may begin in the mount's prefix and end in the provider's part of the key, so that only the whole key tells.
    Here,
}

fn rolling(added: &str, delimiter: &str) -> Rolling {
    if delimiter.is_empty() {
        return Rolling::Provider;
    }
    if added.contains(delimiter) {
        return Rolling::Whole;
    }
    let straddles = delimiter.char_indices().skip(1).any(|(at, _)| added.ends_with(&delimiter[..at]));
    if straddles { Rolling::Here } else { Rolling::Provider }
}

/// An object whose key contains the delimiter becomes its common prefix.
fn roll_up(entry: ListEntry, query: &ListQuery) -> ListEntry {
    let rolled = match (&entry, &query.delimiter) {
        (ListEntry::Object(info), Some(delimiter)) => {
            let (key, after) = (info.key.as_str(), query.prefix.len());
            key.get(after..).and_then(|rest| rest.find(delimiter)).map(|at| key[..after + at + delimiter.len()].to_owned())
        }
        _ => None,
    };
    rolled.map_or(entry, ListEntry::Prefix)
}

/// A position among the namespace's keys as one among the mount's; `None` when all the mount's keys lie before it.
fn inside(from: &ListFrom, mount: &str) -> Option<ListFrom> {
    let name = match from {
        ListFrom::Start => return Some(ListFrom::Start),
        ListFrom::After(name) | ListFrom::AfterPrefix(name) | ListFrom::AfterVersion(name, _) => name,
    };
    match (name.strip_prefix(mount), from) {
        (Some(""), ListFrom::AfterPrefix(_)) => None,
        (Some(""), _) => Some(ListFrom::Start),
        (Some(rest), ListFrom::AfterPrefix(_)) => Some(ListFrom::AfterPrefix(rest.to_owned())),
        (Some(rest), ListFrom::AfterVersion(_, version)) => Some(ListFrom::AfterVersion(rest.to_owned(), *version)),
        (Some(rest), _) => Some(ListFrom::After(rest.to_owned())),
        (None, ListFrom::AfterPrefix(_)) if mount.starts_with(name.as_str()) => None,
        (None, _) => (name.as_str() < mount).then_some(ListFrom::Start),
    }
}

/// An entry of a mount under its full name, with the size that it is known by.
fn outside(entry: ListEntry, mount: &Mount) -> Result<ListEntry> {
    let entry = match entry {
        ListEntry::Object(info) if !info.attributes.is_empty() => {
            ListEntry::Object(ObjectInfo { size: known_size(&info), ..info })
        }
        entry => entry,
    };
    if mount.prefix.is_empty() {
        return Ok(entry);
    }
    Ok(match entry {
        ListEntry::Object(info) => {
            ListEntry::Object(ObjectInfo { key: Key::new(format!("{}{}", mount.prefix, info.key))?, ..info })
        }
        ListEntry::Prefix(prefix) => ListEntry::Prefix(format!("{}{prefix}", mount.prefix)),
    })
}

#[cfg(test)]
mod tests;
