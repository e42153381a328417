//! Older versions, beside the index. Everything happens under the one lock, so that no state is ever half way.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use sluice_provider::{
    AttributeChange, Attributes, Body, CopyOptions, DeleteWhen, ETag, Error, ErrorKind, Guard, Key, ListEntry, ListFrom,
    ListPage, ListQuery, MARKER_ATTRIBUTE, Object, ObjectInfo, Plan, PutBody, PutOptions, ReadOptions, Result, Slot, UploadId,
    VERSION_ATTRIBUTE, Version, VersionId, Versioning, Versions, end_of_prefix, is_marker, version_of,
};

use crate::blocks::Blocks;
use crate::index::{MAX_PAGE_ENTRIES, Stored};
use crate::provider::{Memory, State, expect_etag, hold_for};

/// The ETag of a delete marker, which nobody sees: the MD5 of nothing.
const MARKER_ETAG: &str = "d41d8cd98f00b204e9800998ecf8427e";

/// The older versions of a key, from the newest to the oldest.
pub(crate) type Shelf = BTreeMap<Slot, Arc<Stored>>;

/// What a change took out of the state, to be dropped when the lock is gone.
pub(crate) type Removed = Vec<Arc<Stored>>;

impl State {
    fn shelf(&mut self, key: &Key) -> &mut Shelf {
        self.older.entry(key.clone()).or_default()
    }

    fn slots(&self, key: &Key) -> Vec<Slot> {
        self.older.get(key).map(|shelf| shelf.keys().copied().collect()).unwrap_or_default()
    }

    /// The newest of the older versions and markers of a key.
    pub(crate) fn newest_older(&self, key: &Key) -> Option<Version> {
        Some(self.older.get(key)?.keys().next()?.order)
    }

    fn tidy(&mut self, key: &Key) {
        if self.older.get(key).is_some_and(Shelf::is_empty) {
            self.older.remove(key);
        }
    }

    /// Makes room for a write: keeps what is there as the plan says. The current object is gone afterwards.
    pub(crate) fn make_room(&mut self, key: &Key, plan: &Plan) -> Removed {
        let mut removed = Removed::new();
        let ends: Vec<_> = plan.ends(&self.slots(key)).collect();
        if let Some(old) = self.objects.remove(key) {
            match plan.keep {
                Some(slot) => drop(self.shelf(key).insert(slot, old)),
                None => removed.push(old),
            }
        }
        for slot in ends {
            removed.extend(self.shelf(key).remove(&slot));
        }
        self.tidy(key);
        removed
    }

    /// Where a version lies: `None` for the place of the current object.
    fn find(&self, key: &Key, version: &VersionId) -> Option<(Option<Slot>, &Arc<Stored>)> {
        let current = self.objects.get(key).filter(|stored| version_of(&stored.info.attributes) == *version);
        if let Some(stored) = current {
            return Some((None, stored));
        }
        let shelf = self.older.get(key)?;
        shelf.iter().find(|(slot, _)| slot.id() == *version).map(|(slot, stored)| (Some(*slot), stored))
    }

    /// Makes the newest version the current object, if it is one.
    fn promote(&mut self, key: &Key) {
        if self.objects.contains_key(key) {
            return;
        }
        let newest = self.older.get_mut(key).and_then(|shelf| shelf.first_entry()).filter(|entry| !entry.key().marker);
        if let Some(newest) = newest.map(std::collections::btree_map::OccupiedEntry::remove) {
            self.objects.insert(key.clone(), newest);
        }
        self.tidy(key);
    }
}

/// Names an object as the plan says.
pub(crate) fn name(attributes: &mut Attributes, plan: &Plan) {
    match plan.name() {
        Some(version) => attributes.set(VERSION_ATTRIBUTE, version.to_string()),
        None => drop(attributes.remove(VERSION_ATTRIBUTE)),
    }
}

fn missing(key: &Key) -> Error {
    Error::new(ErrorKind::NotFound, "version").with("key", key)
}

impl Memory {
    fn version(&self, key: &Key, version: Option<&VersionId>, if_match: Option<&ETag>) -> Result<Arc<Stored>> {
        let state = self.state().read();
        let stored = match version {
            Some(version) => state.find(key, version).map(|(_, stored)| stored),
            None => state.objects.get(key).or_else(|| state.older.get(key)?.values().next()),
        };
        let stored = stored.cloned().ok_or_else(|| missing(key))?;
        drop(state);
        expect_etag(&stored.info, if_match)?;
        Ok(stored)
    }
}

impl Memory {
    /// Puts another state of a version in its place, with the bytes that `blocks` makes of those that it has.
    fn change(
        &self,
        key: &Key,
        version: Option<&VersionId>,
        (change, guard): (&AttributeChange, &Guard),
        blocks: impl FnOnce(&Blocks) -> Blocks,
    ) -> Result<ObjectInfo> {
        let mut state = self.state().write();
        let found = match version {
            Some(version) => state.find(key, version),
            None => state.objects.get(key).map(|stored| (None, stored)),
        };
        let Some((slot, current)) = found.filter(|(_, stored)| !is_marker(&stored.info)) else { return Err(missing(key)) };
        expect_etag(&current.info, change.if_match.as_ref())?;
        guard.check(&current.info)?;
        let blocks = blocks(&current.blocks);
        let mut info = ObjectInfo { size: blocks.size(), ..current.info.clone() };
        info.attributes.apply(change);
        let hold = hold_for(self.quota(), key, &info.attributes)?;
        let changed = Arc::new(Stored { info: info.clone(), blocks, _hold: hold });
        let replaced = match slot {
            Some(slot) => state.shelf(key).insert(slot, changed),
            None => state.objects.insert(key.clone(), changed),
        };
        drop(state);
        // Freeing a large object takes a while.
        drop(replaced);
        Ok(info)
    }
}

fn failed(key: &Key) -> Error {
    Error::new(ErrorKind::PreconditionFailed, "delete").with("key", key)
}

// === impl Versions ===

#[async_trait]
impl Versions for Memory {
    async fn head_version(&self, key: &Key, version: Option<&VersionId>, read: &ReadOptions) -> Result<ObjectInfo> {
        Ok(self.version(key, version, read.if_match.as_ref())?.info.clone())
    }

    async fn get_version(&self, key: &Key, version: &VersionId, read: &ReadOptions) -> Result<Object> {
        let stored = self.version(key, Some(version), read.if_match.as_ref())?;
        let size = stored.info.size;
        if is_marker(&stored.info) {
            return Ok(Object { info: stored.info.clone(), body: Body::Bytes(bytes::Bytes::new()), range: 0..0 });
        }
        let range = read.range.map_or(Ok(0..size), |range| range.resolve(size))?;
        Ok(Object { info: stored.info.clone(), body: stored.blocks.body(range.clone()), range })
    }

    async fn put_version(&self, key: &Key, mut body: PutBody, put: &PutOptions, versioning: Versioning) -> Result<ObjectInfo> {
        let blocks = Blocks::gather(self.quota(), &mut body).await?;
        let seal = body.seal()?;
        let mut attributes = put.attributes.clone();
        attributes.extend(seal.attributes.iter());
        self.publish(key, blocks, seal.etag, attributes, &put.when, versioning)
    }

    async fn copy_version(
        &self,
        (from, version): (&Key, Option<&VersionId>),
        to: &Key,
        copy: &CopyOptions,
        versioning: Versioning,
    ) -> Result<ObjectInfo> {
        let source = self.version(from, version, copy.source_if_match.as_ref())?;
        if is_marker(&source.info) {
            return Err(missing(from));
        }
        let attributes = copy.attributes.as_ref().unwrap_or(&source.info.attributes).clone();
        self.publish(to, source.blocks.clone(), source.info.etag.clone(), attributes, &copy.when, versioning)
    }

    async fn complete_version(
        &self,
        key: &Key,
        upload: &UploadId,
        parts: &[(String, u64)],
        etag: &ETag,
        put: &PutOptions,
        versioning: Versioning,
    ) -> Result<ObjectInfo> {
        self.complete_upload(key, upload, parts, etag, put, versioning)
    }

    async fn mark_deleted(&self, key: &Key, when: &DeleteWhen, versioning: Versioning) -> Result<ObjectInfo> {
        let hold = hold_for(self.quota(), key, &Attributes::new())?;
        let mut state = self.state().write();
        let current = state.objects.get(key);
        if !when.holds(current.map(|stored| &stored.info)) {
            return Err(failed(key));
        }
        let current = current.map(|stored| version_of(&stored.info.attributes));
        let plan = Plan::new(versioning, current, state.newest_older(key), None, true)?;
        let mut attributes = Attributes::new();
        attributes.set(MARKER_ATTRIBUTE, "true");
        name(&mut attributes, &plan);
        let info =
            ObjectInfo { key: key.clone(), size: 0, etag: ETag::new(MARKER_ETAG)?, modified: SystemTime::now(), attributes };
        let removed = state.make_room(key, &plan);
        let marker = Stored { info: info.clone(), blocks: Blocks::default(), _hold: hold };
        state.shelf(key).insert(plan.new, Arc::new(marker));
        drop(state);
        drop(removed);
        Ok(info)
    }

    async fn remove_version(
        &self,
        key: &Key,
        version: &VersionId,
        when: &DeleteWhen,
        guard: &Guard,
    ) -> Result<Option<ObjectInfo>> {
        let mut state = self.state().write();
        let Some((slot, stored)) = state.find(key, version) else {
            return if when.holds(None) { Ok(None) } else { Err(failed(key)) };
        };
        if !when.holds(Some(&stored.info)) {
            return Err(failed(key));
        }
        guard.check(&stored.info)?;
        let removed = match slot {
            Some(slot) => state.shelf(key).remove(&slot),
            None => state.objects.remove(key),
        };
        state.tidy(key);
        state.promote(key);
        drop(state);
        Ok(removed.map(|stored| stored.info.clone()))
    }

    async fn change_version(
        &self,
        key: &Key,
        version: Option<&VersionId>,
        change: &AttributeChange,
        guard: &Guard,
    ) -> Result<ObjectInfo> {
        self.change(key, version, (change, guard), Blocks::clone)
    }

    async fn hollow_version(
        &self,
        key: &Key,
        version: &VersionId,
        change: &AttributeChange,
        guard: &Guard,
    ) -> Result<ObjectInfo> {
        self.change(key, Some(version), (change, guard), |_| Blocks::default())
    }

    async fn list_versions(&self, query: &ListQuery) -> Result<ListPage> {
        Ok(page(&self.state().read(), query))
    }
}

/// One page of versions. Costs the entries that it returns, not the keys that they roll up nor the versions behind them.
fn page(state: &State, query: &ListQuery) -> ListPage {
    let limit = query.limit.min(MAX_PAGE_ENTRIES);
    let mut page = ListPage::default();
    let mut start = query.begin();
    while let Some(from) = start.take() {
        let range = (from.as_ref().map(String::as_str), Bound::Unbounded);
        let current = state.objects.range::<str, _>(range).next().map(|(key, _)| key);
        let older = state.older.range::<str, _>(range).next().map(|(key, _)| key);
        let Some(key) = current.into_iter().chain(older).min() else { break };
        if !key.as_str().starts_with(&query.prefix) {
            break;
        }
        if let Some(rolled) = query.rolled_up(key.as_str()) {
            if page.entries.len() >= limit {
                page.more = true;
                break;
            }
            page.entries.push(ListEntry::Prefix(rolled.to_owned()));
            start = end_of_prefix(rolled).map(Bound::Included);
            continue;
        }
        let after = match &query.from {
            ListFrom::AfterVersion(at, version) if at == key.as_str() => Some(version),
            _ => None,
        };
        for info in versions(state, key, after) {
            if page.entries.len() >= limit {
                page.more = true;
                return page;
            }
            page.entries.push(ListEntry::Object(info.clone()));
        }
        start = Some(Bound::Excluded(key.as_str().to_owned()));
    }
    page
}

/// The versions of a key, from the newest to the oldest, behind one of them.
fn versions<'s>(state: &'s State, key: &Key, after: Option<&VersionId>) -> impl Iterator<Item = &'s ObjectInfo> {
    let current = state.objects.get(key).map(|stored| &stored.info);
    let slots = state.older.get(key);
    let from: Bound<Slot> = match after {
        None => Bound::Unbounded,
        // No version has such a name.
        Some(VersionId::Foreign(_)) => Bound::Excluded(last_of(Version::OLDEST)),
        Some(VersionId::Named(version)) => Bound::Excluded(last_of(*version)),
        // Of a null version that is no longer there nobody knows where it was.
        Some(VersionId::Null) => slots
            .and_then(|shelf| shelf.keys().find(|slot| slot.null))
            .filter(|_| current.is_none_or(|info| version_of(&info.attributes) != VersionId::Null))
            .map_or(Bound::Unbounded, |slot| Bound::Excluded(*slot)),
    };
    let older = slots.into_iter().flat_map(move |shelf| shelf.range((from, Bound::Unbounded)));
    current.filter(|_| after.is_none()).into_iter().chain(older.map(|(_, stored)| &stored.info))
}

/// The last place that a version of this name could have.
fn last_of(order: Version) -> Slot {
    Slot { order, null: true, marker: true }
}
