//! The provider.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use parking_lot::RwLock;
use sluice_provider::{
    Append, AttributeChange, Attributes, CopyOptions, DeleteKey, DeleteOutcome, ETag, Error, ErrorKind, Features, Follow, Key,
    ListPage, ListQuery, Multipart, Object, ObjectInfo, Plan, Provider, PutBody, PutOptions, PutWhen, ReadOptions, Rename,
    Result, VERSION_ATTRIBUTE, Versioning, Versions, version_of,
};

use crate::Settings;
use crate::blocks::Blocks;
use crate::index::{self, Index, Stored};
use crate::quota::{Hold, Quota};
use crate::uploads::Uploads;
use crate::versions::{self, Removed, Shelf};

/// What an entry of the index costs beside its key and attributes, in bytes: the tree, the shared object, its ETag.
const ENTRY_BYTES: u64 = 256;

/// What an attribute costs beside its name and value, in bytes.
const ATTRIBUTE_BYTES: u64 = 64;

/// Objects in memory.
pub struct Memory {
    quota: Arc<Quota>,
    state: RwLock<State>,
}

/// What the lock guards. Nothing in here is awaited, and nothing large is dropped in here.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) objects: Index,
    /// Older versions and delete markers. No shelf is empty.
    pub(crate) older: BTreeMap<Key, Shelf>,
    pub(crate) uploads: Uploads,
}

impl Memory {
    /// An empty store.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { quota: Quota::new(settings.quota_bytes), state: RwLock::default() }
    }

    /// How many bytes are held now, of [`Settings::quota_bytes`].
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.quota.used()
    }

    pub(crate) fn quota(&self) -> &Arc<Quota> {
        &self.quota
    }

    pub(crate) fn state(&self) -> &RwLock<State> {
        &self.state
    }

    fn current(&self, key: &Key, if_match: Option<&ETag>) -> Result<Arc<Stored>> {
        let stored = self.state.read().objects.get(key).cloned();
        let stored = stored.ok_or_else(|| Error::new(ErrorKind::NotFound, "object").with("key", key))?;
        expect_etag(&stored.info, if_match)?;
        Ok(stored)
    }

    /// Makes an object and puts it in the place of the current one, if the condition holds at that moment.
    pub(crate) fn publish(
        &self,
        key: &Key,
        blocks: Blocks,
        etag: ETag,
        attributes: Attributes,
        when: &PutWhen,
        versioning: Versioning,
    ) -> Result<ObjectInfo> {
        let draft = Draft::new(&self.quota, key, blocks, etag, attributes)?;
        // Taken out under the lock, dropped after it: freeing a large object takes a while.
        let (info, _replaced) = draft.publish(&mut self.state.write(), when, versioning)?;
        Ok(info)
    }

    fn delete_one(&self, DeleteKey { key, when }: &DeleteKey) -> Result<DeleteOutcome> {
        let mut state = self.state.write();
        let current = state.objects.get(key);
        if !when.holds(current.map(|stored| &stored.info)) {
            let found = if current.is_some() { "another object" } else { "no object" };
            return Err(Error::new(ErrorKind::PreconditionFailed, "delete").with("key", key).with("found", found));
        }
        let removed = state.objects.remove(key);
        drop(state);
        Ok(removed.map_or(DeleteOutcome::Absent, |stored| DeleteOutcome::Deleted { size: stored.info.size }))
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("quota", &self.quota).finish_non_exhaustive()
    }
}

/// An object with all that it needs but a place.
pub(crate) struct Draft(Stored);

impl Draft {
    pub(crate) fn new(quota: &Arc<Quota>, key: &Key, blocks: Blocks, etag: ETag, attributes: Attributes) -> Result<Self> {
        let hold = hold_for(quota, key, &attributes)?;
        let info = ObjectInfo { key: key.clone(), size: blocks.size(), etag, modified: SystemTime::now(), attributes };
        Ok(Self(Stored { info, blocks, _hold: hold }))
    }

    /// Publishes it if the condition holds; answers with what it replaced, to be dropped when the lock is gone.
    pub(crate) fn publish(self, state: &mut State, when: &PutWhen, versioning: Versioning) -> Result<(ObjectInfo, Removed)> {
        let Self(mut stored) = self;
        let current = state.objects.get(&stored.info.key);
        when.check(current.map(|current| &current.info.etag))?;
        let mut replaced = Removed::new();
        if versioning == Versioning::Off {
            stored.info.attributes.remove(VERSION_ATTRIBUTE);
        } else {
            let current = current.map(|current| version_of(&current.info.attributes));
            let plan = Plan::new(versioning, current, state.newest_older(&stored.info.key), None, false)?;
            versions::name(&mut stored.info.attributes, &plan);
            replaced = state.make_room(&stored.info.key, &plan);
        }
        stored.info.modified = SystemTime::now();
        let info = stored.info.clone();
        replaced.extend(state.objects.insert(info.key.clone(), Arc::new(stored)));
        Ok((info, replaced))
    }
}

/// Takes what a key and its attributes cost.
pub(crate) fn hold_for(quota: &Arc<Quota>, key: &Key, attributes: &Attributes) -> Result<Hold> {
    let attributes: u64 = attributes.iter().map(|(n, v)| (n.len() + v.len()) as u64 + ATTRIBUTE_BYTES).sum();
    quota.take(ENTRY_BYTES + key.as_str().len() as u64 + attributes)
}

pub(crate) fn expect_etag(info: &ObjectInfo, if_match: Option<&ETag>) -> Result<()> {
    match if_match {
        Some(etag) if *etag != info.etag => {
            Err(Error::new(ErrorKind::PreconditionFailed, "object").with("key", &info.key).with("etag", &info.etag))
        }
        _ => Ok(()),
    }
}

// === impl Provider ===

#[async_trait]
impl Provider for Memory {
    fn features(&self) -> Features {
        Features { conditions: true, attributes: true, persistent: false, writable: true, max_object_bytes: None }
    }

    async fn head(&self, key: &Key, read: &ReadOptions) -> Result<ObjectInfo> {
        Ok(self.current(key, read.if_match.as_ref())?.info.clone())
    }

    async fn get(&self, key: &Key, read: &ReadOptions) -> Result<Object> {
        let stored = self.current(key, read.if_match.as_ref())?;
        let size = stored.info.size;
        let range = read.range.map_or(Ok(0..size), |range| range.resolve(size))?;
        Ok(Object { info: stored.info.clone(), body: stored.blocks.body(range.clone()), range })
    }

    async fn put(&self, key: &Key, mut body: PutBody, put: &PutOptions) -> Result<ObjectInfo> {
        let blocks = Blocks::gather(&self.quota, &mut body).await?;
        let seal = body.seal()?;
        let mut attributes = put.attributes.clone();
        attributes.extend(seal.attributes.iter());
        self.publish(key, blocks, seal.etag, attributes, &put.when, Versioning::Off)
    }

    async fn delete(&self, keys: &[DeleteKey]) -> Vec<Result<DeleteOutcome>> {
        keys.iter().map(|key| self.delete_one(key)).collect()
    }

    async fn copy(&self, from: &Key, to: &Key, copy: &CopyOptions) -> Result<ObjectInfo> {
        let source = self.current(from, copy.source_if_match.as_ref())?;
        let attributes = copy.attributes.as_ref().unwrap_or(&source.info.attributes).clone();
        self.publish(to, source.blocks.clone(), source.info.etag.clone(), attributes, &copy.when, Versioning::Off)
    }

    async fn set_attributes(&self, key: &Key, change: &AttributeChange) -> Result<ObjectInfo> {
        let mut state = self.state.write();
        let Some(current) = state.objects.get_mut(key) else {
            return Err(Error::new(ErrorKind::NotFound, "object").with("key", key));
        };
        expect_etag(&current.info, change.if_match.as_ref())?;
        let mut info = current.info.clone();
        info.attributes.apply(change);
        let hold = hold_for(&self.quota, key, &info.attributes)?;
        *current = Arc::new(Stored { info: info.clone(), blocks: current.blocks.clone(), _hold: hold });
        Ok(info)
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        index::page(&self.state.read().objects, query)
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }

    fn multipart(&self) -> Option<&dyn Multipart> {
        Some(self)
    }

    fn versions(&self) -> Option<&dyn Versions> {
        Some(self)
    }

    fn appends(&self) -> Option<&dyn Append> {
        Some(self)
    }

    fn renames(&self) -> Option<&dyn Rename> {
        Some(self)
    }

    fn follows(&self) -> Option<&dyn Follow> {
        None
    }
}
