//! A memory provider that counts its calls and fails when told to. For tests.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use sluice_provider::{
    Append, AttributeChange, Body, CopyOptions, DeleteKey, DeleteOutcome, ETag, Error, ErrorKind, Features, Follow, Key,
    ListPage, ListQuery, Multipart, Object, ObjectInfo, PartNumber, Provider, PutBody, PutOptions, ReadOptions, Rename, Result,
    UploadId, Versions,
};
use sluice_provider_memory::Memory;

/// See the module.
pub(crate) struct Probe {
    inner: Memory,
    calls: Mutex<BTreeMap<&'static str, usize>>,
    /// Every call answers Unavailable.
    pub(crate) down: AtomicBool,
    /// Aborts of uploads never answer.
    pub(crate) aborts_hang: AtomicBool,
    /// Reads break off after this many bytes, when not 0.
    pub(crate) break_after: AtomicUsize,
    /// What `complete` answers after it has done its work: as if the process had died before it heard of it.
    pub(crate) lose_complete: AtomicBool,
    /// Runs before a `get`, once: something that happens between two steps of the gateway.
    pub(crate) before_get: Mutex<Option<futures::future::BoxFuture<'static, ()>>>,
}

impl Probe {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: Memory::new(Default::default()),
            calls: Mutex::default(),
            down: AtomicBool::new(false),
            aborts_hang: AtomicBool::new(false),
            break_after: AtomicUsize::new(0),
            lose_complete: AtomicBool::new(false),
            before_get: Mutex::new(None),
        })
    }

    /// How often each call was made since the last look.
    pub(crate) fn take_calls(&self) -> BTreeMap<&'static str, usize> {
        std::mem::take(&mut self.calls.lock())
    }

    fn enter(&self, call: &'static str) -> Result<()> {
        *self.calls.lock().entry(call).or_default() += 1;
        if self.down.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "probe"));
        }
        Ok(())
    }
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Probe")
    }
}

#[async_trait]
impl Provider for Probe {
    fn features(&self) -> Features {
        self.inner.features()
    }

    async fn head(&self, key: &Key, read: &ReadOptions) -> Result<ObjectInfo> {
        self.enter("head")?;
        self.inner.head(key, read).await
    }

    async fn get(&self, key: &Key, read: &ReadOptions) -> Result<Object> {
        self.enter("get")?;
        let before = self.before_get.lock().take();
        if let Some(before) = before {
            before.await;
        }
        let object = self.inner.get(key, read).await?;
        let break_after = self.break_after.load(Ordering::SeqCst);
        if break_after == 0 {
            return Ok(object);
        }
        let broken = || Err(Error::new(ErrorKind::Unavailable, "read"));
        let chunks = vec![Ok(Bytes::from(vec![0; break_after])), broken()];
        Ok(Object { body: Body::Stream(futures::stream::iter(chunks).boxed()), ..object })
    }

    async fn put(&self, key: &Key, body: PutBody, put: &PutOptions) -> Result<ObjectInfo> {
        self.enter("put")?;
        self.inner.put(key, body, put).await
    }

    async fn delete(&self, keys: &[DeleteKey]) -> Vec<Result<DeleteOutcome>> {
        match self.enter("delete") {
            Ok(()) => self.inner.delete(keys).await,
            Err(_) => keys.iter().map(|_| Err(Error::new(ErrorKind::Unavailable, "probe"))).collect(),
        }
    }

    async fn copy(&self, from: &Key, to: &Key, copy: &CopyOptions) -> Result<ObjectInfo> {
        self.enter("copy")?;
        self.inner.copy(from, to, copy).await
    }

    async fn set_attributes(&self, key: &Key, change: &AttributeChange) -> Result<ObjectInfo> {
        self.enter("set_attributes")?;
        self.inner.set_attributes(key, change).await
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        self.enter("list")?;
        self.inner.list(query).await
    }

    async fn check(&self) -> Result<()> {
        self.enter("check")?;
        self.inner.check().await
    }

    fn multipart(&self) -> Option<&dyn Multipart> {
        Some(self)
    }

    fn versions(&self) -> Option<&dyn Versions> {
        self.inner.versions()
    }

    fn appends(&self) -> Option<&dyn Append> {
        self.inner.appends()
    }

    fn renames(&self) -> Option<&dyn Rename> {
        self.inner.renames()
    }

    fn follows(&self) -> Option<&dyn Follow> {
        self.inner.follows()
    }
}

#[async_trait]
impl Multipart for Probe {
    async fn create(&self, key: &Key, upload: &UploadId) -> Result<()> {
        self.enter("create")?;
        self.inner.multipart().unwrap().create(key, upload).await
    }

    async fn put_part(&self, key: &Key, upload: &UploadId, part: PartNumber, body: PutBody) -> Result<String> {
        self.enter("put_part")?;
        self.inner.multipart().unwrap().put_part(key, upload, part, body).await
    }

    async fn discard_part(&self, key: &Key, upload: &UploadId, token: &str) -> Result<()> {
        self.enter("discard_part")?;
        self.inner.multipart().unwrap().discard_part(key, upload, token).await
    }

    async fn complete(
        &self,
        key: &Key,
        upload: &UploadId,
        parts: &[(String, u64)],
        etag: &ETag,
        put: &PutOptions,
    ) -> Result<ObjectInfo> {
        self.enter("complete")?;
        let completed = self.inner.multipart().unwrap().complete(key, upload, parts, etag, put).await?;
        if self.lose_complete.swap(false, Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "the answer was lost"));
        }
        Ok(completed)
    }

    async fn abort(&self, key: &Key, upload: &UploadId) -> Result<()> {
        self.enter("abort")?;
        if self.aborts_hang.load(Ordering::SeqCst) {
            futures::future::pending::<()>().await;
        }
        self.inner.multipart().unwrap().abort(key, upload).await
    }
}
