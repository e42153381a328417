//! The facet, delegated to the blocking pools.

use std::os::fd::AsFd;
use std::sync::Arc;

use async_trait::async_trait;
use sluice_provider::{
    ETag, Error, ErrorKind, Key, Multipart, ObjectInfo, PartNumber, PutBody, PutOptions, Result, UploadId, Versioning,
};

use crate::provider::Local;
use crate::write::{Target, write_all};

impl Local {
    /// Makes the parts an object, or a version.
    pub(crate) async fn complete_as(
        &self,
        key: &Key,
        upload: &UploadId,
        parts: &[(String, u64)],
        etag: &ETag,
        put: &PutOptions,
        versioning: Versioning,
    ) -> Result<ObjectInfo> {
        let (store, key, upload) = (Arc::clone(&self.0), key.clone(), upload.clone());
        let (parts, etag, put) = (parts.to_vec(), etag.clone(), put.clone());
        self.0.writes.run(move || store.complete_upload(&key, &upload, &parts, &etag, (&put, versioning))).await
    }
}

#[async_trait]
impl Multipart for Local {
    async fn create(&self, _key: &Key, upload: &UploadId) -> Result<()> {
        let (store, upload) = (Arc::clone(&self.0), upload.clone());
        self.0.writes.run(move || store.create_upload(&upload)).await
    }

    async fn put_part(&self, _key: &Key, upload: &UploadId, part: PartNumber, mut body: PutBody) -> Result<String> {
        let (store, upload, size) = (Arc::clone(&self.0), upload.clone(), body.size());
        let room = self.0.writes.run(move || store.room(&upload, part, size).map(Arc::new)).await?;
        let target = Target { file: Arc::clone(&room), offset: room.offset, room: size.unwrap_or(u64::MAX) };
        let written =
            self.0.write_rest(&mut body, target, |room, chunks, offset| write_all(room.file.as_fd(), chunks, offset)).await?;
        body.seal()?;
        let room = Arc::into_inner(room).ok_or_else(|| Error::new(ErrorKind::Internal, "a write is still under way"))?;
        let store = Arc::clone(&self.0);
        self.0.writes.run(move || store.keep_part(room, written)).await
    }

    async fn discard_part(&self, _key: &Key, upload: &UploadId, token: &str) -> Result<()> {
        let (store, upload, token) = (Arc::clone(&self.0), upload.clone(), token.to_owned());
        self.0.writes.run(move || store.discard_part(&upload, &token)).await
    }

    async fn complete(
        &self,
        key: &Key,
        upload: &UploadId,
        parts: &[(String, u64)],
        etag: &ETag,
        put: &PutOptions,
    ) -> Result<ObjectInfo> {
        self.complete_as(key, upload, parts, etag, put, Versioning::Off).await
    }

    async fn abort(&self, _key: &Key, upload: &UploadId) -> Result<()> {
        let (store, upload) = (Arc::clone(&self.0), upload.clone());
        self.0.writes.run(move || store.remove_upload(&upload)).await
    }
}
