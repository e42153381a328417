//! A mount that could not be opened. One bad mount must not take its namespace down: its keys answer the reason, all others work,
//! and it is tried again while requests ask for it.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use sluice_provider::{
    Append, AppendOptions, AttributeChange, CopyOptions, DeleteKey, DeleteOutcome, DeleteWhen, ETag, Error, ErrorKind, Features,
    Follow, FollowFrom, Followed, Guard, Key, Links, ListPage, ListQuery, Multipart, Object, ObjectInfo, PartNumber, Provider,
    PutBody, PutOptions, ReadOptions, Rename, RenameOptions, Result, UploadId, Upstream, VersionId, Versioning, Versions,
};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::Opener;
use crate::meta::MountRecord;

/// A provider that is not there yet. Answers `Unavailable` with the reason; a call after the pause tries to open it again, one
/// attempt at a time (also when it outlasts everybody's patience), and from the first success on every call goes to the real provider.
pub struct LateMount {
    record: MountRecord,
    opener: Opener,
    pause: Duration,
    patience: Duration,
    outcome: Arc<Outcome>,
    attempt: Arc<Semaphore>,
}

/// What the attempts came to.
struct Outcome {
    opened: OnceLock<Arc<dyn Provider>>,
    failure: Mutex<Failure>,
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
        let outcome = Outcome { opened: OnceLock::new(), failure: Mutex::new(Failure { reason, at: Instant::now() }) };
        Self { record, opener, pause, patience, outcome: Arc::new(outcome), attempt: Arc::new(Semaphore::new(1)) }
    }

    /// The real provider, if it can be had.
    async fn provider(&self) -> Result<&Arc<dyn Provider>> {
        if let Some(provider) = self.outcome.opened.get() {
            return Ok(provider);
        }
        let due = self.outcome.failure.lock().at.elapsed() >= self.pause;
        // Whoever does not get the permit answers the last reason at once instead of queueing behind the attempt.
        if due && let Ok(permit) = Arc::clone(&self.attempt).try_acquire_owned() {
            let (outcome, opening) = (Arc::clone(&self.outcome), (self.opener)(self.record.clone()));
            // Nobody may wait any more when it ends, but it counts until then: an attempt that hangs holds a thread, and the next one
            // would take another.
            let attempt = tokio::spawn(async move {
                outcome.take(opening.await.map_err(|error| error.to_string()));
                drop(permit);
            });
            match tokio::time::timeout(self.patience, attempt).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => self.outcome.take(Err(error.to_string())),
                Err(_) => self.outcome.take(Err("it did not open in time".to_owned())),
            }
            if let Some(provider) = self.outcome.opened.get() {
                tracing::info!(bucket = self.record.bucket, prefix = self.record.prefix, "mount is back");
                return Ok(provider);
            }
        }
        Err(self.unavailable())
    }

    fn unavailable(&self) -> Error {
        let reason = self.outcome.failure.lock().reason.clone();
        Error::new(ErrorKind::Unavailable, "mount is not open")
            .with("prefix", format!("{:?}", self.record.prefix))
            .with("reason", reason)
    }

    async fn versions_of(&self) -> Result<&dyn Versions> {
        let unsupported = || Error::new(ErrorKind::Unsupported, "versions");
        self.provider().await?.versions().ok_or_else(unsupported)
    }

    async fn multipart_of(&self) -> Result<&dyn Multipart> {
        let unsupported = || Error::new(ErrorKind::Unsupported, "multipart");
        self.provider().await?.multipart().ok_or_else(unsupported)
    }
}

impl Outcome {
    fn take(&self, attempted: std::result::Result<Arc<dyn Provider>, String>) {
        match attempted {
            // There is one attempt at a time, so none is there yet.
            Ok(provider) => drop(self.opened.set(provider)),
            Err(reason) => *self.failure.lock() = Failure { reason, at: Instant::now() },
        }
    }
}

impl fmt::Debug for LateMount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LateMount")
            .field("prefix", &self.record.prefix)
            .field("opened", &self.outcome.opened.get())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Provider for LateMount {
    /// What is hoped for: nothing is refused for a feature while the mount cannot say.
    fn features(&self) -> Features {
        let hoped = Features { conditions: true, attributes: true, persistent: true, writable: true, max_object_bytes: None };
        self.outcome.opened.get().map_or(hoped, |provider| provider.features())
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
        match self.outcome.opened.get() {
            Some(provider) => provider.multipart(),
            None => Some(self),
        }
    }

    fn versions(&self) -> Option<&dyn Versions> {
        match self.outcome.opened.get() {
            Some(provider) => provider.versions(),
            None => Some(self),
        }
    }

    fn appends(&self) -> Option<&dyn Append> {
        match self.outcome.opened.get() {
            Some(provider) => provider.appends(),
            None => Some(self),
        }
    }

    fn renames(&self) -> Option<&dyn Rename> {
        match self.outcome.opened.get() {
            Some(provider) => provider.renames(),
            None => Some(self),
        }
    }

    fn follows(&self) -> Option<&dyn Follow> {
        match self.outcome.opened.get() {
            Some(provider) => provider.follows(),
            None => Some(self),
        }
    }

    fn links(&self) -> Option<&dyn Links> {
        self.outcome.opened.get()?.links()
    }

    fn upstreams(&self) -> Vec<Upstream> {
        self.outcome.opened.get().map(|provider| provider.upstreams()).unwrap_or_default()
    }
}

#[async_trait]
impl Append for LateMount {
    async fn append(&self, key: &Key, body: PutBody, append: &AppendOptions) -> Result<ObjectInfo> {
        let unsupported = || Error::new(ErrorKind::Unsupported, "append");
        self.provider().await?.appends().ok_or_else(unsupported)?.append(key, body, append).await
    }
}

#[async_trait]
impl Rename for LateMount {
    async fn rename(&self, from: &Key, to: &Key, rename: &RenameOptions) -> Result<ObjectInfo> {
        let unsupported = || Error::new(ErrorKind::Unsupported, "rename");
        self.provider().await?.renames().ok_or_else(unsupported)?.rename(from, to, rename).await
    }
}

#[async_trait]
impl Follow for LateMount {
    async fn follow(&self, key: &Key, from: FollowFrom) -> Result<Followed> {
        let unsupported = || Error::new(ErrorKind::Unsupported, "follow");
        self.provider().await?.follows().ok_or_else(unsupported)?.follow(key, from).await
    }

    async fn seal(&self, key: &Key) -> Result<ObjectInfo> {
        let unsupported = || Error::new(ErrorKind::Unsupported, "seal");
        self.provider().await?.follows().ok_or_else(unsupported)?.seal(key).await
    }
}

#[async_trait]
impl Versions for LateMount {
    async fn head_version(&self, key: &Key, version: Option<&VersionId>, read: &ReadOptions) -> Result<ObjectInfo> {
        self.versions_of().await?.head_version(key, version, read).await
    }

    async fn get_version(&self, key: &Key, version: &VersionId, read: &ReadOptions) -> Result<Object> {
        self.versions_of().await?.get_version(key, version, read).await
    }

    async fn put_version(&self, key: &Key, body: PutBody, put: &PutOptions, versioning: Versioning) -> Result<ObjectInfo> {
        self.versions_of().await?.put_version(key, body, put, versioning).await
    }

    async fn copy_version(
        &self,
        from: (&Key, Option<&VersionId>),
        to: &Key,
        copy: &CopyOptions,
        versioning: Versioning,
    ) -> Result<ObjectInfo> {
        self.versions_of().await?.copy_version(from, to, copy, versioning).await
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
        self.versions_of().await?.complete_version(key, upload, parts, etag, put, versioning).await
    }

    async fn mark_deleted(&self, key: &Key, when: &DeleteWhen, versioning: Versioning) -> Result<ObjectInfo> {
        self.versions_of().await?.mark_deleted(key, when, versioning).await
    }

    async fn remove_version(
        &self,
        key: &Key,
        version: &VersionId,
        when: &DeleteWhen,
        guard: &Guard,
    ) -> Result<Option<ObjectInfo>> {
        self.versions_of().await?.remove_version(key, version, when, guard).await
    }

    async fn change_version(
        &self,
        key: &Key,
        version: Option<&VersionId>,
        change: &AttributeChange,
        guard: &Guard,
    ) -> Result<ObjectInfo> {
        self.versions_of().await?.change_version(key, version, change, guard).await
    }

    async fn hollow_version(
        &self,
        key: &Key,
        version: &VersionId,
        change: &AttributeChange,
        guard: &Guard,
    ) -> Result<ObjectInfo> {
        self.versions_of().await?.hollow_version(key, version, change, guard).await
    }

    async fn list_versions(&self, query: &ListQuery) -> Result<ListPage> {
        self.versions_of().await?.list_versions(query).await
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::mounts::probe::Probe;

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_hangs_is_the_only_one_and_counts_when_it_ends() {
        let (attempts, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let opener: Opener = {
            let (attempts, gate) = (Arc::clone(&attempts), Arc::clone(&gate));
            Arc::new(move |_| {
                attempts.fetch_add(1, Ordering::SeqCst);
                let gate = Arc::clone(&gate);
                Box::pin(async move {
                    drop(gate.acquire().await);
                    Ok(Probe::new() as Arc<dyn Provider>)
                })
            })
        };
        let record = MountRecord {
            bucket: "bucket".into(),
            prefix: String::new(),
            provider: "probe".into(),
            settings: std::collections::BTreeMap::new(),
        };
        let second = Duration::from_secs(1);
        let late = LateMount::new(record, opener, "it hangs".into(), second, second);
        for _ in 0..5 {
            tokio::time::advance(second * 2).await;
            assert_eq!(*late.check().await.unwrap_err().kind(), ErrorKind::Unavailable);
        }
        assert_eq!(attempts.load(Ordering::SeqCst), 1);
        gate.add_permits(1);
        while late.check().await.is_err() {
            tokio::task::yield_now().await;
        }
        assert_eq!(attempts.load(Ordering::SeqCst), 1);
    }
}
