//! A mount that could not be opened. One bad mount must not take its namespace down: its keys answer the reason, all others work,
//! and it is tried again while requests ask for it.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use sluice_provider::{
    AttributeChange, CopyOptions, DeleteKey, DeleteOutcome, ETag, Error, ErrorKind, Features, Key, ListPage, ListQuery,
    Multipart, Object, ObjectInfo, PartNumber, Provider, PutBody, PutOptions, ReadOptions, Result, UploadId,
};
use tokio::time::Instant;

use super::Opener;
use crate::meta::MountRecord;

/// A provider that is not there yet. Answers `Unavailable` with the reason; a call after the pause tries to open it again, one
/// attempt at a time, and from the first success on every call goes to the real provider.
pub struct LateMount {
    record: MountRecord,
    opener: Opener,
    pause: Duration,
    patience: Duration,
    opened: OnceLock<Arc<dyn Provider>>,
    failure: Mutex<Failure>,
    attempt: tokio::sync::Semaphore,
}

struct Failure {
    reason: String,
    at: Instant,
}

// === impl LateMount ===

impl LateMount {
    /// A mount that failed to open for this reason. It is tried again `pause` after the last failure, each attempt giving up after
    /// `patience`.
    #[must_use]
    pub fn new(record: MountRecord, opener: Opener, reason: String, pause: Duration, patience: Duration) -> Self {
        let failure = Mutex::new(Failure { reason, at: Instant::now() });
        Self { record, opener, pause, patience, opened: OnceLock::new(), failure, attempt: tokio::sync::Semaphore::new(1) }
    }

    /// The real provider, if it can be had.
    async fn provider(&self) -> Result<&Arc<dyn Provider>> {
        if let Some(provider) = self.opened.get() {
            return Ok(provider);
        }
        let due = self.failure.lock().at.elapsed() >= self.pause;
        // Whoever does not get the permit answers the last reason at once instead of queueing behind the attempt.
        if due && let Ok(_permit) = self.attempt.try_acquire() {
            match tokio::time::timeout(self.patience, (self.opener)(self.record.clone())).await {
                Ok(Ok(provider)) => {
                    tracing::info!(bucket = self.record.bucket, prefix = self.record.prefix, "mount is back");
                    return Ok(self.opened.get_or_init(|| provider));
                }
                Ok(Err(error)) => *self.failure.lock() = Failure { reason: error.to_string(), at: Instant::now() },
                Err(_) => *self.failure.lock() = Failure { reason: "it did not open in time".to_owned(), at: Instant::now() },
            }
        }
        Err(self.unavailable())
    }

    fn unavailable(&self) -> Error {
        let reason = self.failure.lock().reason.clone();
        Error::new(ErrorKind::Unavailable, "mount is not open")
            .with("prefix", format!("{:?}", self.record.prefix))
            .with("reason", reason)
    }

    async fn multipart_of(&self) -> Result<&dyn Multipart> {
        let unsupported = || Error::new(ErrorKind::Unsupported, "multipart");
        self.provider().await?.multipart().ok_or_else(unsupported)
    }
}

impl fmt::Debug for LateMount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LateMount")
            .field("prefix", &self.record.prefix)
            .field("opened", &self.opened.get())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Provider for LateMount {
    /// What is hoped for: nothing is refused for a feature while the mount cannot say.
    fn features(&self) -> Features {
        let hoped = Features { conditions: true, attributes: true, persistent: true, writable: true, max_object_bytes: None };
        self.opened.get().map_or(hoped, |provider| provider.features())
    }

    async fn head(&self, key: &Key, read: &ReadOptions) -> Result<ObjectInfo> {
        self.provider().await?.head(key, read).await
    }

    async fn get(&self, key: &Key, read: &ReadOptions) -> Result<Object> {
        self.provider().await?.get(key, read).await
    }

    async fn put(&self, key: &Key, body: PutBody, put: &PutOptions) -> Result<ObjectInfo> {
        self.provider().await?.put(key, body, put).await
    }

    async fn delete(&self, keys: &[DeleteKey]) -> Vec<Result<DeleteOutcome>> {
        match self.provider().await {
            Ok(provider) => provider.delete(keys).await,
            Err(_) => keys.iter().map(|_| Err(self.unavailable())).collect(),
        }
    }

    async fn copy(&self, from: &Key, to: &Key, copy: &CopyOptions) -> Result<ObjectInfo> {
        self.provider().await?.copy(from, to, copy).await
    }

    async fn set_attributes(&self, key: &Key, change: &AttributeChange) -> Result<ObjectInfo> {
        self.provider().await?.set_attributes(key, change).await
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        self.provider().await?.list(query).await
    }

    async fn check(&self) -> Result<()> {
        self.provider().await?.check().await
    }

    fn multipart(&self) -> Option<&dyn Multipart> {
        match self.opened.get() {
            Some(provider) => provider.multipart(),
            None => Some(self),
        }
    }
}

#[async_trait]
impl Multipart for LateMount {
    async fn create(&self, key: &Key, upload: &UploadId) -> Result<()> {
        self.multipart_of().await?.create(key, upload).await
    }

    async fn put_part(&self, key: &Key, upload: &UploadId, part: PartNumber, body: PutBody) -> Result<String> {
        self.multipart_of().await?.put_part(key, upload, part, body).await
    }

    async fn discard_part(&self, key: &Key, upload: &UploadId, token: &str) -> Result<()> {
        self.multipart_of().await?.discard_part(key, upload, token).await
    }

    async fn complete(
        &self,
        key: &Key,
        upload: &UploadId,
        parts: &[(String, u64)],
        etag: &ETag,
        put: &PutOptions,
    ) -> Result<ObjectInfo> {
        self.multipart_of().await?.complete(key, upload, parts, etag, put).await
    }

    async fn abort(&self, key: &Key, upload: &UploadId) -> Result<()> {
        self.multipart_of().await?.abort(key, upload).await
    }
}
