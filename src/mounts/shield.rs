//! The shield of a mount: what stands between the gateway and storage that hangs, fails or is slow.
//!
//! One place fixes the order: metrics(cap(breaker(timeout to the first byte(retry(provider))))). A mount that hangs takes at most its
//! share of the requests and fails its own keys, at once as soon as it is known to hang; the others do not notice.
//!
//! What waits for a client (the body of an upload) has no clock here: the edge keeps that one. What grows with the object (copies,
//! completions) has none either. Only reads are tried again: a write that was cut off may have been done.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use sluice_provider::{
    Append, AppendOptions, AttributeChange, CopyOptions, DeleteKey, DeleteOutcome, DeleteWhen, ETag, Error, ErrorKind, Features,
    Follow, FollowFrom, Followed, Guard, Key, Linked, Links, ListPage, ListQuery, Multipart, Object, ObjectInfo, PartNumber,
    Provider, PutBody, PutOptions, ReadOptions, Rename, RenameOptions, Result, UploadId, Upstream, VersionId, Versioning,
    Versions,
};
use tokio::time::Instant;

use super::Settings;
use crate::runtime::{Breaker, BreakerLimits, Gate};
use crate::telemetry::MountMeter;

/// How often a read is tried.
const TRIES: u32 = 3;
/// The pause before the second try; it doubles.
const PAUSE: Duration = Duration::from_millis(100);

/// What a shield goes by.
#[derive(Clone, Debug)]
pub struct ShieldLimits {
    /// Time to the first byte of an answer.
    pub timeout: Duration,
    /// Calls at once.
    pub calls: usize,
    /// Failures in a row after which calls are refused.
    pub failures: u32,
    /// For how long.
    pub recovery: Duration,
}

/// A provider behind its shield.
pub struct Shield {
    inner: Arc<dyn Provider>,
    limits: ShieldLimits,
    gate: Gate,
    breaker: Breaker,
    meter: MountMeter,
}

/// Whether a call is let wait without end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Clock {
    /// Its answer has a time.
    Runs,
    /// It waits for a client, or its work grows with the object.
    Stands,
}

impl From<&Settings> for ShieldLimits {
    fn from(settings: &Settings) -> Self {
        Self {
            timeout: Duration::from_secs(settings.timeout_secs),
            calls: settings.max_concurrent,
            failures: settings.breaker_failures,
            recovery: Duration::from_secs(settings.breaker_recovery_secs),
        }
    }
}

// === impl Shield ===

impl Shield {
    /// Around a provider.
    #[must_use]
    pub fn new(inner: Arc<dyn Provider>, limits: ShieldLimits, meter: MountMeter) -> Self {
        let breaker = Breaker::new("a mount", BreakerLimits { failures: limits.failures, recovery: limits.recovery });
        Self { inner, gate: Gate::new(limits.calls), breaker, limits, meter }
    }

    /// A call that is made once.
    async fn once<T, F>(&self, operation: &'static str, clock: Clock, call: F) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send,
    {
        let mut call = Some(call);
        self.call(operation, clock, 1, move || {
            let call = call.take();
            async move {
                match call {
                    Some(call) => call.await,
                    None => Err(Error::new(ErrorKind::Internal, "a call that is made once")),
                }
            }
        })
        .await
    }

    /// A read, which may be tried again.
    async fn read<T, F, C>(&self, operation: &'static str, call: C) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send,
        C: FnMut() -> F + Send,
    {
        self.call(operation, Clock::Runs, TRIES, call).await
    }

    /// The order: metrics, cap, breaker, timeout, retry, provider.
    async fn call<T, F, C>(&self, operation: &'static str, clock: Clock, tries: u32, call: C) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send,
        C: FnMut() -> F + Send,
    {
        let Some(_permit) = self.gate.enter() else {
            self.meter.busy();
            return Err(Error::new(ErrorKind::Busy, operation).with("calls", self.limits.calls));
        };
        let Some(leave) = self.breaker.enter() else {
            self.meter.refused();
            return Err(Error::new(ErrorKind::Unavailable, operation).with("reason", "the mount has failed and is given a rest"));
        };
        let began = Instant::now();
        let answer = match clock {
            Clock::Runs => self.in_time(operation, retried(tries, began + self.limits.timeout, call)).await,
            Clock::Stands => retried(tries, began, call).await,
        };
        let alive = match answer.as_ref().map_err(Error::kind) {
            // A directory can be too large for its time, and one bad object is not a bad mount: that is asked before it counts.
            Err(ErrorKind::TimedOut) if operation == "list" => self.in_time("check", self.inner.check()).await.is_ok(),
            Err(ErrorKind::Unavailable) => self.in_time("check", self.inner.check()).await.is_ok(),
            Err(ErrorKind::TimedOut) => false,
            // All other answers are answers.
            _ => true,
        };
        match answer.as_ref().map_err(Error::kind) {
            Err(ErrorKind::TimedOut) => self.meter.timed_out(),
            Err(ErrorKind::Unavailable) => self.meter.failed(),
            _ => self.meter.answered(began.elapsed()),
        }
        if alive {
            leave.succeeded();
        } else if leave.failed() {
            self.meter.opened();
        }
        answer
    }

    /// Most answers are there at once: a timer only for those that are not.
    async fn in_time<T>(&self, operation: &'static str, call: impl Future<Output = Result<T>>) -> Result<T> {
        let mut call = pin!(call);
        match futures::poll!(call.as_mut()) {
            Poll::Ready(answer) => answer,
            Poll::Pending => match tokio::time::timeout(self.limits.timeout, call).await {
                Ok(answer) => answer,
                Err(_) => Err(Error::new(ErrorKind::TimedOut, operation).with("limit", format!("{:?}", self.limits.timeout))),
            },
        }
    }
}

/// Tries again what the store could not do just now, while there is time.
async fn retried<T, F, C>(tries: u32, until: Instant, mut call: C) -> Result<T>
where
    F: Future<Output = Result<T>> + Send,
    C: FnMut() -> F + Send,
{
    let (mut tried, mut pause) = (1, PAUSE);
    loop {
        match call().await {
            Err(error) if *error.kind() == ErrorKind::Unavailable && tried < tries && Instant::now() + pause < until => {
                tracing::debug!(%error, tried, "a read is tried again");
                tokio::time::sleep(pause).await;
                (tried, pause) = (tried + 1, pause * 2);
            }
            answer => return answer,
        }
    }
}

impl fmt::Debug for Shield {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shield").field(&self.inner).finish()
    }
}

fn unsupported(facet: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported, facet)
}

#[async_trait]
impl Provider for Shield {
    fn features(&self) -> Features {
        self.inner.features()
    }

    async fn head(&self, key: &Key, read: &ReadOptions) -> Result<ObjectInfo> {
        self.read("head", || self.inner.head(key, read)).await
    }

    async fn get(&self, key: &Key, read: &ReadOptions) -> Result<Object> {
        self.read("get", || self.inner.get(key, read)).await
    }

    async fn put(&self, key: &Key, body: PutBody, put: &PutOptions) -> Result<ObjectInfo> {
        self.once("put", Clock::Stands, self.inner.put(key, body, put)).await
    }

    async fn delete(&self, keys: &[DeleteKey]) -> Vec<Result<DeleteOutcome>> {
        // Of many, each takes its time.
        let clock = if keys.len() > 1 { Clock::Stands } else { Clock::Runs };
        let outcomes = self.once("delete", clock, async { Ok(self.inner.delete(keys).await) }).await;
        outcomes.unwrap_or_else(|error| {
            keys.iter().map(|_| Err(Error::new(*error.kind(), "delete").with("reason", &error))).collect()
        })
    }

    async fn copy(&self, from: &Key, to: &Key, copy: &CopyOptions) -> Result<ObjectInfo> {
        self.once("copy", Clock::Stands, self.inner.copy(from, to, copy)).await
    }

    async fn set_attributes(&self, key: &Key, change: &AttributeChange) -> Result<ObjectInfo> {
        self.once("set_attributes", Clock::Runs, self.inner.set_attributes(key, change)).await
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        self.read("list", || self.inner.list(query)).await
    }

    /// Past cap and breaker: it is how one sees that the mount is back.
    async fn check(&self) -> Result<()> {
        self.in_time("check", self.inner.check()).await
    }

    fn multipart(&self) -> Option<&dyn Multipart> {
        self.inner.multipart().map(|_| self as &dyn Multipart)
    }

    fn versions(&self) -> Option<&dyn Versions> {
        self.inner.versions().map(|_| self as &dyn Versions)
    }

    fn appends(&self) -> Option<&dyn Append> {
        self.inner.appends().map(|_| self as &dyn Append)
    }

    fn renames(&self) -> Option<&dyn Rename> {
        self.inner.renames().map(|_| self as &dyn Rename)
    }

    fn follows(&self) -> Option<&dyn Follow> {
        self.inner.follows().map(|_| self as &dyn Follow)
    }

    fn links(&self) -> Option<&dyn Links> {
        self.inner.links().map(|_| self as &dyn Links)
    }

    fn upstreams(&self) -> Vec<Upstream> {
        self.inner.upstreams()
    }
}

impl Shield {
    fn parts(&self) -> Result<&dyn Multipart> {
        self.inner.multipart().ok_or_else(|| unsupported("multipart"))
    }

    fn kept(&self) -> Result<&dyn Versions> {
        self.inner.versions().ok_or_else(|| unsupported("versions"))
    }
}

#[async_trait]
impl Links for Shield {
    async fn link(&self, key: &Key, shown: &[(&'static str, String)]) -> Result<Option<Linked>> {
        let facet = self.inner.links().ok_or_else(|| unsupported("link"))?;
        self.read("link", || facet.link(key, shown)).await
    }
}

#[async_trait]
impl Append for Shield {
    async fn append(&self, key: &Key, body: PutBody, append: &AppendOptions) -> Result<ObjectInfo> {
        let facet = self.inner.appends().ok_or_else(|| unsupported("append"))?;
        self.once("append", Clock::Stands, facet.append(key, body, append)).await
    }
}

#[async_trait]
impl Rename for Shield {
    async fn rename(&self, from: &Key, to: &Key, rename: &RenameOptions) -> Result<ObjectInfo> {
        let facet = self.inner.renames().ok_or_else(|| unsupported("rename"))?;
        self.once("rename", Clock::Runs, facet.rename(from, to, rename)).await
    }
}

#[async_trait]
impl Follow for Shield {
    async fn follow(&self, key: &Key, from: FollowFrom) -> Result<Followed> {
        let facet = self.inner.follows().ok_or_else(|| unsupported("follow"))?;
        self.once("follow", Clock::Runs, facet.follow(key, from)).await
    }

    async fn seal(&self, key: &Key) -> Result<ObjectInfo> {
        let facet = self.inner.follows().ok_or_else(|| unsupported("seal"))?;
        self.once("seal", Clock::Runs, facet.seal(key)).await
    }
}

#[async_trait]
impl Versions for Shield {
    async fn head_version(&self, key: &Key, version: Option<&VersionId>, read: &ReadOptions) -> Result<ObjectInfo> {
        let facet = self.kept()?;
        self.read("head", || facet.head_version(key, version, read)).await
    }

    async fn get_version(&self, key: &Key, version: &VersionId, read: &ReadOptions) -> Result<Object> {
        let facet = self.kept()?;
        self.read("get", || facet.get_version(key, version, read)).await
    }

    async fn put_version(&self, key: &Key, body: PutBody, put: &PutOptions, versioning: Versioning) -> Result<ObjectInfo> {
        self.once("put", Clock::Stands, self.kept()?.put_version(key, body, put, versioning)).await
    }

    async fn copy_version(
        &self,
        from: (&Key, Option<&VersionId>),
        to: &Key,
        copy: &CopyOptions,
        versioning: Versioning,
    ) -> Result<ObjectInfo> {
        self.once("copy", Clock::Stands, self.kept()?.copy_version(from, to, copy, versioning)).await
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
        let completing = self.kept()?.complete_version(key, upload, parts, etag, put, versioning);
        self.once("complete", Clock::Stands, completing).await
    }

    async fn mark_deleted(&self, key: &Key, when: &DeleteWhen, versioning: Versioning) -> Result<ObjectInfo> {
        self.once("delete", Clock::Runs, self.kept()?.mark_deleted(key, when, versioning)).await
    }

    async fn remove_version(
        &self,
        key: &Key,
        version: &VersionId,
        when: &DeleteWhen,
        guard: &Guard,
    ) -> Result<Option<ObjectInfo>> {
        self.once("delete", Clock::Runs, self.kept()?.remove_version(key, version, when, guard)).await
    }

    async fn change_version(
        &self,
        key: &Key,
        version: Option<&VersionId>,
        change: &AttributeChange,
        guard: &Guard,
    ) -> Result<ObjectInfo> {
        self.once("set_attributes", Clock::Runs, self.kept()?.change_version(key, version, change, guard)).await
    }

    async fn hollow_version(
        &self,
        key: &Key,
        version: &VersionId,
        change: &AttributeChange,
        guard: &Guard,
    ) -> Result<ObjectInfo> {
        self.once("hollow", Clock::Runs, self.kept()?.hollow_version(key, version, change, guard)).await
    }

    async fn list_versions(&self, query: &ListQuery) -> Result<ListPage> {
        let facet = self.kept()?;
        self.read("list", || facet.list_versions(query)).await
    }
}

#[async_trait]
impl Multipart for Shield {
    async fn create(&self, key: &Key, upload: &UploadId) -> Result<()> {
        self.once("create_upload", Clock::Runs, self.parts()?.create(key, upload)).await
    }

    async fn put_part(&self, key: &Key, upload: &UploadId, part: PartNumber, body: PutBody) -> Result<String> {
        self.once("put_part", Clock::Stands, self.parts()?.put_part(key, upload, part, body)).await
    }

    async fn discard_part(&self, key: &Key, upload: &UploadId, token: &str) -> Result<()> {
        self.once("discard_part", Clock::Runs, self.parts()?.discard_part(key, upload, token)).await
    }

    async fn complete(
        &self,
        key: &Key,
        upload: &UploadId,
        parts: &[(String, u64)],
        etag: &ETag,
        put: &PutOptions,
    ) -> Result<ObjectInfo> {
        self.once("complete", Clock::Stands, self.parts()?.complete(key, upload, parts, etag, put)).await
    }

    async fn abort(&self, key: &Key, upload: &UploadId) -> Result<()> {
        self.once("abort", Clock::Stands, self.parts()?.abort(key, upload)).await
    }
}

#[cfg(test)]
mod tests;
