//! The provider: what all its calls share.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use parking_lot::Mutex;
use sluice_provider::{
    Append, AttributeChange, CopyOptions, DeleteKey, DeleteOutcome, Error, ErrorKind, Features, Follow, Key, Links, ListPage,
    ListQuery, MAX_KEY_BYTES, Multipart, Object, ObjectInfo, Provider, PutBody, PutOptions, PutWhen, ReadOptions, Rename, Result,
    Upstream, Versions,
};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use crate::client::{Client, keep_warm};
use crate::credentials::CredentialSource;
use crate::form::Record;
use crate::hops::{came, with_hops};
use crate::multipart::Session;
use crate::probe::{Able, probe};
use crate::remote::{Found, HIDDEN, Remote};
use crate::upstreams::{Reading, Recent, Upstreams};
use crate::{Answers, Conditions, Settings};

/// How often a call starts over because others changed what it looked at.
pub(crate) const TRIES: usize = 16;
/// How many calls one call of the mount makes at a time.
pub(crate) const ABREAST: usize = 16;
/// The memory for bodies that are held until they are whole, over all calls of a mount, in units of 64 KiB: 32 MiB.
const MEMORY_UNITS: u32 = 512;
const UNIT: u64 = 64 * 1024;
/// How long a body waits for it.
const ROOM_PATIENCE: Duration = Duration::from_secs(10);
/// Writers of keys that share one of these wait for each other.
const TURNS: usize = 1024;
/// The largest object (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>).
const MAX_OBJECT_BYTES: u64 = 5 * 1024 * 1024 * 1024 * 1024;

/// A bucket of an S3 endpoint.
pub struct S3 {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    /// Where all is written.
    pub(crate) remote: Remote,
    /// Where all is read, where that is not the same.
    upstreams: Option<(Upstreams, Arc<Recent>)>,
    pub(crate) settings: Settings,
    pub(crate) able: Able,
    memory: Arc<Semaphore>,
    /// What is published under a key is published by one call at a time: a call that was given up and still runs must not come
    /// after one that began later.
    turns: Vec<Arc<tokio::sync::Mutex<()>>>,
    hasher: RandomState,
    pub(crate) sessions: Mutex<HashMap<String, Arc<Session>>>,
    /// The record that the last sweep ended at.
    pub(crate) swept: Mutex<Option<String>>,
}

// === impl S3 ===

impl S3 {
    /// Opens a mount: looks for the bucket, and finds out what the remote can keep.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`], [`ErrorKind::TimedOut`] or [`ErrorKind::PermissionDenied`] with the remote's reason.
    pub async fn open(settings: Settings) -> Result<Self> {
        let credentials = Arc::new(CredentialSource::new(&settings));
        let remote = |endpoint: &http::Uri| -> Result<Remote> {
            let client = Arc::new(Client::new(&settings, endpoint, Arc::clone(&credentials))?);
            let (bucket, prefix) = (settings.bucket.as_str().into(), settings.prefix.as_str().into());
            Ok(Remote { client, bucket, prefix, hasty: false })
        };
        let primary = remote(&settings.endpoint)?;
        let replicas = settings.upstreams.iter().map(remote).collect::<Result<Vec<_>>>()?;
        let upstreams = (!replicas.is_empty()).then(|| {
            let all = std::iter::once(primary.clone()).chain(replicas);
            (Upstreams::new(all, settings.select), Arc::new(Recent::new(settings.settle, TURNS)))
        });
        let remote = primary;
        let asks = !settings.read_only && settings.conditions == Conditions::Probe;
        match &upstreams {
            // What the primary can keep only the primary can tell.
            Some((upstreams, _)) if !asks => any_answers(upstreams).await?,
            _ => remote.client.check().await?,
        }
        match &upstreams {
            Some((upstreams, _)) => {
                upstreams.remotes().for_each(|remote| keep_warm(&remote.client, settings.min_idle, settings.idle));
            }
            None => keep_warm(&remote.client, settings.min_idle, settings.idle),
        }
        let able = match settings.conditions {
            _ if settings.read_only => Able::NOTHING,
            Conditions::On => Able::ALL,
            Conditions::Off => Able::NOTHING,
            Conditions::Probe => probe(&remote).await?,
        };
        tracing::info!(remote = remote.client.place(), ?able, "s3 mount is open");
        Ok(Self {
            inner: Arc::new(Inner {
                remote,
                upstreams,
                settings,
                able,
                memory: Arc::new(Semaphore::new(MEMORY_UNITS as usize)),
                turns: (0..TURNS).map(|_| Arc::default()).collect(),
                hasher: RandomState::new(),
                sessions: Mutex::default(),
                swept: Mutex::default(),
            }),
        })
    }
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3").field("remote", &self.inner.remote).field("able", &self.inner.able).finish_non_exhaustive()
    }
}

#[async_trait]
impl Provider for S3 {
    fn features(&self) -> Features {
        let writable = !self.inner.settings.read_only;
        Features {
            conditions: self.inner.conditions(),
            attributes: writable,
            persistent: true,
            writable,
            max_object_bytes: Some(MAX_OBJECT_BYTES),
        }
    }

    async fn head(&self, key: &Key, read: &ReadOptions) -> Result<ObjectInfo> {
        self.inner.head(key, read).await
    }

    async fn get(&self, key: &Key, read: &ReadOptions) -> Result<Object> {
        self.inner.get(key, read).await
    }

    async fn put(&self, key: &Key, body: PutBody, put: &PutOptions) -> Result<ObjectInfo> {
        self.inner.put(key, body, put).await
    }

    async fn delete(&self, keys: &[DeleteKey]) -> Vec<Result<DeleteOutcome>> {
        self.inner.delete(keys).await
    }

    async fn copy(&self, from: &Key, to: &Key, copy: &CopyOptions) -> Result<ObjectInfo> {
        self.inner.copy(from, to, copy).await
    }

    async fn set_attributes(&self, key: &Key, change: &AttributeChange) -> Result<ObjectInfo> {
        self.inner.set_attributes(key, change).await
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        self.inner.list(query).await
    }

    async fn check(&self) -> Result<()> {
        match &self.inner.upstreams {
            Some((upstreams, _)) => any_answers(upstreams).await,
            None => self.inner.remote.client.check().await,
        }
    }

    fn multipart(&self) -> Option<&dyn Multipart> {
        (!self.inner.settings.read_only).then_some(self)
    }

    fn versions(&self) -> Option<&dyn Versions> {
        None
    }

    fn appends(&self) -> Option<&dyn Append> {
        None
    }

    fn renames(&self) -> Option<&dyn Rename> {
        None
    }

    fn follows(&self) -> Option<&dyn Follow> {
        None
    }

    fn links(&self) -> Option<&dyn Links> {
        self.inner.settings.redirect.then_some(self)
    }

    fn upstreams(&self) -> Vec<Upstream> {
        self.inner.upstreams.as_ref().map(|(upstreams, _)| upstreams.tell()).unwrap_or_default()
    }
}

/// Whether any of them can be used. Otherwise, why one of them cannot.
async fn any_answers(upstreams: &Upstreams) -> Result<()> {
    let checks = upstreams.remotes().map(|remote| remote.client.check().boxed());
    futures::future::select_ok(checks).await.map(drop)
}

// === impl Inner ===

impl Inner {
    /// Whether conditions hold up: all of them, in one way or the other.
    pub(crate) fn conditions(&self) -> bool {
        self.able.puts && self.able.completes && self.able.deletes
    }

    pub(crate) fn exact(&self) -> bool {
        self.settings.answers == Answers::Exact
    }

    /// Whether a key can lie at the remote.
    fn can_lie_there(&self, key: &Key) -> bool {
        !key.as_str().starts_with(HIDDEN) && self.settings.prefix.len() + key.as_str().len() <= MAX_KEY_BYTES
    }

    /// Refuses a key that cannot be read, because it cannot be there.
    pub(crate) fn readable(&self, key: &Key) -> Result<()> {
        if self.can_lie_there(key) { Ok(()) } else { Err(Error::new(ErrorKind::NotFound, "key of an s3 mount").with("key", key)) }
    }

    /// Refuses what cannot be written.
    pub(crate) fn writable(&self, key: &Key) -> Result<()> {
        if self.settings.read_only {
            return Err(Error::new(ErrorKind::Unsupported, "write to a read-only s3 mount"));
        }
        if self.can_lie_there(key) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::InvalidKey, "key of an s3 mount").with("key", key).with("prefix", &self.settings.prefix))
    }

    /// Refuses a condition that the remote cannot keep.
    pub(crate) fn keeps(&self, when: &PutWhen) -> Result<()> {
        if *when == PutWhen::Always || self.conditions() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unsupported, "condition at a remote that keeps none").with("when", format!("{when:?}")))
    }

    /// Waits until no other call of this process publishes under the key.
    pub(crate) async fn turn(&self, key: &Key) -> Turn {
        let slot = self.slot(key);
        let lock = match self.turns.get(slot) {
            Some(turn) => Arc::clone(turn).lock_owned().await,
            // There are as many as the remainder says.
            None => Arc::new(tokio::sync::Mutex::new(())).lock_owned().await,
        };
        let recent = self.upstreams.as_ref().map(|(_, recent)| Arc::clone(recent));
        if let Some(recent) = &recent {
            recent.written(slot);
        }
        Turn { _lock: lock, slot, recent }
    }

    fn slot(&self, key: &Key) -> usize {
        usize::try_from(self.hasher.hash_one(key) % TURNS as u64).unwrap_or(0)
    }

    /// Reads of a key, at one of the upstreams. What is still to come of the answer is under way until the second thing is dropped.
    pub(crate) async fn reading<T, F>(&self, key: &Key, work: impl Fn(Remote) -> F) -> Result<(T, Option<Reading>)>
    where
        F: Future<Output = Result<T>>,
    {
        let Some((upstreams, recent)) = &self.upstreams else { return Ok((work(self.remote.clone()).await?, None)) };
        let (found, reading) = upstreams.read(key.as_str(), recent.settled(self.slot(key)), work).await?;
        Ok((found, Some(reading)))
    }

    /// Lists, at one of the upstreams.
    pub(crate) async fn listing<T, F>(&self, prefix: &str, work: impl Fn(Remote) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let Some((upstreams, recent)) = &self.upstreams else { return work(self.remote.clone()).await };
        let (listed, _) = upstreams.read(prefix, recent.all_settled(), work).await?;
        Ok(listed)
    }

    /// Waits for memory to hold a body in.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`] when there is none for too long.
    pub(crate) async fn room(&self, bytes: u64) -> Result<OwnedSemaphorePermit> {
        let room = Arc::clone(&self.memory).acquire_many_owned(units(bytes));
        match tokio::time::timeout(ROOM_PATIENCE, room).await {
            Ok(room) => room.map_err(|e| Error::new(ErrorKind::Internal, "memory for a body").caused_by(e)),
            Err(_) => Err(Error::new(ErrorKind::Busy, "memory for a body")),
        }
    }

    /// Memory to hold a body in, if there is any now.
    pub(crate) fn room_now(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.memory).try_acquire_many_owned(units(bytes)).ok()
    }

    /// The object of a key as the primary tells of it, with its record if it has one.
    pub(crate) async fn look(&self, key: &Key) -> Result<(Found, Option<Record>)> {
        self.remote.look(key).await
    }

    /// Frees a record that nobody names any more. Left behind it takes space, and nothing else.
    pub(crate) async fn drop_record(&self, id: &str) {
        if let Err(error) = self.remote.delete(&self.remote.record_name(id), None).await {
            tracing::debug!(%error, "a record is left behind");
        }
    }
}

/// The turn of a writer, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _lock: OwnedMutexGuard<()>,
    slot: usize,
    recent: Option<Arc<Recent>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(recent) = &self.recent {
            recent.written(self.slot);
        }
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, MEMORY_UNITS)
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("remote", &self.remote).finish_non_exhaustive()
    }
}

/// The error of an object whose record is gone.
pub(crate) fn lost_record(key: &Key, cause: Option<Error>) -> Error {
    let error = Error::new(ErrorKind::Corrupt, "object whose record is gone").with("key", key);
    match cause {
        Some(cause) => error.caused_by(cause),
        None => error,
    }
}

/// Does something to its end, whether or not anybody still waits for it.
pub(crate) async fn detached<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    match tokio::spawn(with_hops(came(), work)).await {
        Ok(outcome) => outcome,
        Err(error) => Err(Error::new(ErrorKind::Internal, "work of an s3 mount").caused_by(error)),
    }
}

/// A name that nobody has yet.
pub(crate) fn new_id() -> Result<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|e| Error::new(ErrorKind::Internal, "random name").caused_by(e))?;
    Ok(hex::encode(random))
}
