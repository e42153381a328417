//! The facets of a mount of keys in a bucket that has storage classes.

use async_trait::async_trait;
use sluice_provider::{
    AttributeChange, CopyOptions, DeleteWhen, ETag, Guard, Key, ListPage, ListQuery, Multipart, Object, ObjectInfo, PartNumber,
    PutBody, PutOptions, ReadOptions, Result, UploadId, VersionFeatures, VersionId, Versioning, Versions,
};

use super::provider::whole_page;
use super::{Tier, Tiered, whole};

#[async_trait]
impl Versions for Tiered {
    fn version_features(&self) -> VersionFeatures {
        self.facet().map_or(VersionFeatures::ALL, Versions::version_features)
    }

    async fn head_version(&self, key: &Key, version: Option<&VersionId>, read: &ReadOptions) -> Result<ObjectInfo> {
        self.facet()?.head_version(key, version, read).await.map(whole)
    }

    async fn get_version(&self, key: &Key, version: &VersionId, read: &ReadOptions) -> Result<Object> {
        self.open(key, Some(version), read).await
    }

    async fn put_version(&self, key: &Key, body: PutBody, put: &PutOptions, versioning: Versioning) -> Result<ObjectInfo> {
        self.ending_what_was(key, versioning, self.facet()?.put_version(key, body, put, versioning)).await
    }

    async fn copy_version(
        &self,
        (from, version): (&Key, Option<&VersionId>),
        to: &Key,
        copy: &CopyOptions,
        versioning: Versioning,
    ) -> Result<ObjectInfo> {
        let (body, put) = self.reopened(from, version, copy).await?;
        self.put_version(to, body, &put, versioning).await
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
        let completing = self.facet()?.complete_version(key, upload, parts, etag, put, versioning);
        self.ending_what_was(key, versioning, completing).await
    }

    async fn mark_deleted(&self, key: &Key, when: &DeleteWhen, versioning: Versioning) -> Result<ObjectInfo> {
        self.ending_what_was(key, versioning, self.facet()?.mark_deleted(key, when, versioning)).await
    }

    async fn remove_version(
        &self,
        key: &Key,
        version: &VersionId,
        when: &DeleteWhen,
        guard: &Guard,
    ) -> Result<Option<ObjectInfo>> {
        let removed = self.facet()?.remove_version(key, version, when, guard).await?;
        if let Some(tier) = removed.as_ref().and_then(|info| Tier::of(&info.attributes)) {
            self.free_unless_kept(key, version, &tier).await;
        }
        Ok(removed.map(whole))
    }

    async fn change_version(
        &self,
        key: &Key,
        version: Option<&VersionId>,
        change: &AttributeChange,
        guard: &Guard,
    ) -> Result<ObjectInfo> {
        self.facet()?.change_version(key, version, change, guard).await.map(whole)
    }

    async fn hollow_version(
        &self,
        key: &Key,
        version: &VersionId,
        change: &AttributeChange,
        guard: &Guard,
    ) -> Result<ObjectInfo> {
        self.facet()?.hollow_version(key, version, change, guard).await
    }

    async fn list_versions(&self, query: &ListQuery) -> Result<ListPage> {
        self.facet()?.list_versions(query).await.map(whole_page)
    }
}

#[async_trait]
impl Multipart for Tiered {
    async fn create(&self, key: &Key, upload: &UploadId) -> Result<()> {
        self.parts()?.create(key, upload).await
    }

    async fn put_part(&self, key: &Key, upload: &UploadId, part: PartNumber, body: PutBody) -> Result<String> {
        self.parts()?.put_part(key, upload, part, body).await
    }

    async fn discard_part(&self, key: &Key, upload: &UploadId, token: &str) -> Result<()> {
        self.parts()?.discard_part(key, upload, token).await
    }

    async fn complete(
        &self,
        key: &Key,
        upload: &UploadId,
        parts: &[(String, u64)],
        etag: &ETag,
        put: &PutOptions,
    ) -> Result<ObjectInfo> {
        self.ending_what_was(key, Versioning::Off, self.parts()?.complete(key, upload, parts, etag, put)).await
    }

    async fn abort(&self, key: &Key, upload: &UploadId) -> Result<()> {
        self.parts()?.abort(key, upload).await
    }
}
