//! The facet, delegated to the pools.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use async_trait::async_trait;
use sluice_provider::{
    AttributeChange, Body, CopyOptions, DeleteWhen, ETag, Guard, Key, ListPage, ListQuery, Object, ObjectInfo, PutBody,
    PutOptions, ReadOptions, Result, Slot, UploadId, VersionId, Versioning, Versions, is_marker,
};

use super::{Held, id_of};
use crate::error::missing;
use crate::name::KeyPath;
use crate::object::{Known, Opened};
use crate::provider::Local;
use crate::read::{check_match, read_now};
use crate::store::Store;

/// What a first look found.
enum Looked {
    Ready(Opened, ObjectInfo),
    /// A foreign file, which has to be read: few at a time.
    Foreign(Opened, Option<(OwnedFd, Slot)>),
}

impl Store {
    /// Puts shelves on disk on a thread of their own when there are many that wait for it.
    fn after_keeping_many(self: &Arc<Self>) {
        if !self.spares.are_many() {
            return;
        }
        let store = Arc::clone(self);
        let served = self.lists.serve(move || {
            if store.spares.are_many()
                && let Err(error) = store.settle_spares()
            {
                tracing::warn!(%error, "older versions keep their spare names until the next sweep");
            }
        });
        if let Err(error) = served {
            tracing::debug!(%error, "no thread puts older versions in their places");
        }
    }

    /// A version with its metadata; the newest when `version` is `None`.
    pub(crate) async fn look(self: &Arc<Self>, key: &Key, version: Option<&VersionId>) -> Result<(Opened, ObjectInfo)> {
        let path = KeyPath::new(key.as_str());
        if let Some(Some((opened, known @ Known::Ours { .. }))) = self.load_cached(&path)?
            && version.is_none_or(|version| id_of(&known) == *version)
        {
            return self.info(key, opened, known, false);
        }
        let (store, wanted, id) = (Arc::clone(self), key.clone(), version.copied());
        let looked = self.reads.run(move || {
            let held = match id {
                Some(id) => store.find_version(&wanted, &id)?,
                None => store.newest(&wanted)?,
            };
            match held.ok_or_else(|| missing("version", &wanted))? {
                Held { opened, known: Known::Foreign, shelved } => Ok(Looked::Foreign(opened, shelved)),
                held => store.version_info(&wanted, held, false).map(|(opened, info)| Looked::Ready(opened, info)),
            }
        });
        match looked.await? {
            Looked::Ready(opened, info) => Ok((opened, info)),
            Looked::Foreign(opened, shelved) => {
                let (store, key) = (Arc::clone(self), key.clone());
                let held = Held { opened, known: Known::Foreign, shelved };
                self.hashes.run(move || store.version_info(&key, held, false)).await
            }
        }
    }
}

#[async_trait]
impl Versions for Local {
    async fn head_version(&self, key: &Key, version: Option<&VersionId>, read: &ReadOptions) -> Result<ObjectInfo> {
        let (_, info) = self.0.look(key, version).await?;
        check_match(&info, read).map(|()| info)
    }

    async fn get_version(&self, key: &Key, version: &VersionId, read: &ReadOptions) -> Result<Object> {
        let (opened, info) = self.0.look(key, Some(version)).await?;
        if is_marker(&info) {
            return Ok(Object { info, range: 0..0, body: Body::Bytes(bytes::Bytes::new()) });
        }
        let options = read.clone();
        self.0.reads.run(move || read_now(opened, info, &options)).await
    }

    async fn put_version(&self, key: &Key, body: PutBody, put: &PutOptions, versioning: Versioning) -> Result<ObjectInfo> {
        let done = self.0.put(key, body, put, versioning).await;
        self.0.after_keeping_many();
        done
    }

    async fn copy_version(
        &self,
        from: (&Key, Option<&VersionId>),
        to: &Key,
        copy: &CopyOptions,
        versioning: Versioning,
    ) -> Result<ObjectInfo> {
        let done = self.0.copy(from, to, copy, versioning).await;
        self.0.after_keeping_many();
        done
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
        let done = self.complete_as(key, upload, parts, etag, put, versioning).await;
        self.0.after_keeping_many();
        done
    }

    async fn mark_deleted(&self, key: &Key, when: &DeleteWhen, versioning: Versioning) -> Result<ObjectInfo> {
        let (store, key, when) = (Arc::clone(&self.0), key.clone(), when.clone());
        self.0.writes.run(move || store.mark(&key, &when, versioning)).await
    }

    async fn remove_version(
        &self,
        key: &Key,
        version: &VersionId,
        when: &DeleteWhen,
        guard: &Guard,
    ) -> Result<Option<ObjectInfo>> {
        let (store, key, version) = (Arc::clone(&self.0), key.clone(), *version);
        let (when, guard) = (when.clone(), guard.clone());
        self.0.writes.run(move || store.remove(&key, &version, &when, &guard)).await
    }

    async fn change_version(
        &self,
        key: &Key,
        version: Option<&VersionId>,
        change: &AttributeChange,
        guard: &Guard,
    ) -> Result<ObjectInfo> {
        let (store, key, version) = (Arc::clone(&self.0), key.clone(), version.copied());
        let (change, guard) = (change.clone(), guard.clone());
        self.0.writes.run(move || store.change_attributes(&key, version.as_ref(), &change, &guard)).await
    }

    async fn hollow_version(
        &self,
        key: &Key,
        version: &VersionId,
        change: &AttributeChange,
        guard: &Guard,
    ) -> Result<ObjectInfo> {
        let (store, key, version) = (Arc::clone(&self.0), key.clone(), *version);
        let (change, guard) = (change.clone(), guard.clone());
        self.0.writes.run(move || store.hollow(&key, &version, &change, &guard)).await
    }

    async fn list_versions(&self, query: &ListQuery) -> Result<ListPage> {
        let (store, query) = (Arc::clone(&self.0), query.clone());
        self.0.lists.run(move || store.versions_page(&query)).await
    }
}
