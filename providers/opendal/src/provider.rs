//! The provider.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};

use opendal::{ErrorKind as Theirs, HttpTransporter, Metadata, Operator};
use sluice_provider::{
    Append, AttributeChange, Attributes, Body, CopyOptions, DeleteKey, DeleteOutcome, DeleteWhen, ETag, Error, ErrorKind,
    Features, Follow, Key, ListPage, ListQuery, Multipart, Object, ObjectInfo, Provider, PutBody, PutOptions, ReadOptions,
    Rename, Result, Seal, Versions,
};
use tokio::time::timeout;

use crate::credentials::Secrets;
use crate::error::failed;
use crate::locks::Locks;
use crate::name::{FLAT_BYTES, HIDDEN, Names};
use crate::overlay::{Overlay, Record, Records, info_of, is_exact, tag_of};
use crate::service::{Conditions, Publishing, operator};
use crate::transport::Connections;
use crate::{AttributesKept, Layout, Service, Settings};

/// How often a look is repeated while others change what is looked at.
const LOOKS: usize = 8;
/// Deletes of one call at the same time.
const TOGETHER: usize = 8;
/// What was staged and not published for so long was given up.
const GIVEN_UP: Duration = Duration::from_secs(24 * 3600);

/// A service as a mount. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct OpenDal(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) operator: Operator,
    pub(crate) settings: Settings,
    pub(crate) overlay: Arc<dyn Overlay>,
    pub(crate) names: Names,
    /// Of paths.
    pub(crate) locks: Locks,
    /// Of uploads. Whoever holds one may take one of a path, never the reverse.
    pub(crate) uploads: Locks,
}

/// What an object is, in all that is known of it.
pub(crate) struct Seen {
    pub(crate) meta: Metadata,
    pub(crate) info: ObjectInfo,
    pub(crate) records: Records,
}

impl OpenDal {
    /// Opens a mount: reads the credentials, and asks the service once.
    ///
    /// # Errors
    /// [`ErrorKind::PermissionDenied`] when the service refuses the credentials, [`ErrorKind::Unavailable`] when it cannot be reached.
    pub async fn open(settings: Settings, overlay: Arc<dyn Overlay>) -> Result<Self> {
        let secrets = match &settings.credentials_file {
            Some(file) => Secrets::read(file, settings.service).await?,
            None => Secrets::default(),
        };
        let operator = operator(&settings, &secrets)?;
        let connections = Connections::new(settings.connect_timeout, settings.answer_timeout)?;
        let context = operator.context().with_http_transport(HttpTransporter::new(connections));
        let opened = Self::over(operator.with_context(context), settings, overlay);
        opened.check().await?;
        Ok(opened)
    }

    /// Over what speaks to the service.
    #[doc(hidden)]
    #[must_use]
    pub fn over(operator: Operator, settings: Settings, overlay: Arc<dyn Overlay>) -> Self {
        let longest = match settings.service {
            Service::Azblob | Service::B2 | Service::Gcs => FLAT_BYTES,
            _ => usize::MAX,
        };
        let names = Names { tree: settings.service.is_tree(), marked: settings.layout == Layout::Marked, longest };
        Self(Arc::new(Inner { operator, settings, overlay, names, locks: Locks::new(), uploads: Locks::new() }))
    }

    /// Removes what was staged and never published.
    ///
    /// # Errors
    /// What the service answers.
    pub async fn sweep(&self) -> Result<()> {
        if !self.0.writable() || self.0.settings.service.publishing() != Publishing::Rename {
            return Ok(());
        }
        let stage = format!("{HIDDEN}stage/");
        let mut lister = match self.0.operator.lister(&stage).await {
            Ok(lister) => lister,
            Err(error) if error.kind() == Theirs::NotFound => return Ok(()),
            Err(error) => return Err(failed("sweep", &error)),
        };
        while let Some(entry) = lister.try_next().await.map_err(|e| failed("sweep", &e))? {
            let written = entry.metadata().last_modified().map(SystemTime::from);
            let old = written.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > GIVEN_UP);
            if old && entry.metadata().is_file() {
                self.0.remove(entry.path()).await?;
            }
        }
        Ok(())
    }
}

impl Inner {
    pub(crate) fn writable(&self) -> bool {
        !self.settings.read_only && self.settings.service.publishing() != Publishing::Never
    }

    pub(crate) fn overlaid(&self) -> bool {
        self.settings.attributes == AttributesKept::Overlay
    }

    /// What may be changed at all.
    pub(crate) fn check_writable(&self, operation: &'static str) -> Result<()> {
        if self.writable() {
            return Ok(());
        }
        let reason = if self.settings.read_only { "the mount is read-only" } else { "the service cannot publish whole objects" };
        Err(Error::new(ErrorKind::Unsupported, operation).with("service", self.settings.service).with("reason", reason))
    }

    /// Attributes that can be kept.
    pub(crate) fn check_attributes(&self, attributes: &Attributes) -> Result<()> {
        if attributes.is_empty() || self.overlaid() {
            return Ok(());
        }
        let names = attributes.iter().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
        Err(Error::new(ErrorKind::Unsupported, "attributes that the service cannot keep").with("names", names))
    }

    /// Whether a directory may become an object, and the reverse, when nobody looks.
    pub(crate) fn collides(&self) -> bool {
        self.names.tree && !self.names.marked
    }

    /// What the service says of a path; `None` for nothing, or a directory.
    pub(crate) async fn stat(&self, path: &str) -> Result<Option<Metadata>> {
        match self.operator.stat(path).await {
            Ok(meta) if meta.is_dir() => Ok(None),
            Ok(meta) => Ok(Some(meta)),
            Err(error) if matches!(error.kind(), Theirs::NotFound | Theirs::NotADirectory | Theirs::IsADirectory) => Ok(None),
            Err(error) => Err(failed("look at an object", &error)),
        }
    }

    pub(crate) async fn records(&self, key: &Key) -> Result<Records> {
        if !self.overlaid() {
            return Ok(Records::default());
        }
        let found = self.overlay.read(&self.settings.space, &[key.as_str()]).await?;
        Records::parse(found.into_iter().next().flatten())
    }

    /// The object of a key, with what is known of the state that it is in.
    pub(crate) async fn look(&self, key: &Key, path: &str) -> Result<Option<Seen>> {
        let mut waited = false;
        for left in (0..LOOKS).rev() {
            let changes = self.locks.changes(path);
            let Some(meta) = self.stat(path).await? else { return Ok(None) };
            let records = self.records(key).await?;
            if self.overlaid() && !is_exact(&meta) && (changes.is_none() || self.locks.changes(path) != changes) {
                // The record may be that of another state, and nothing would tell.
                let _still = self.locks.still(path).await;
                return self.look_held(key, path).await;
            }
            let record = records.of(&meta);
            // Between a new state and its record is he who writes it. Without records there is nobody whose record could be missing,
            // unless he is at it.
            if self.overlaid() && record.is_none() && !waited && left > 0 {
                let busy = self.locks.settled(path).await;
                if busy || !records.is_empty() {
                    waited = !busy;
                    continue;
                }
            }
            let info = info_of(key, &meta, record)?;
            return Ok(Some(Seen { meta, info, records }));
        }
        Err(Error::new(ErrorKind::Conflict, "an object keeps changing").with("key", format!("{key:?}")))
    }

    /// The same, held by the caller, so that nobody of this process changes it.
    pub(crate) async fn look_held(&self, key: &Key, path: &str) -> Result<Option<Seen>> {
        let Some(meta) = self.stat(path).await? else { return Ok(None) };
        let records = self.records(key).await?;
        let info = info_of(key, &meta, records.of(&meta))?;
        Ok(Some(Seen { meta, info, records }))
    }

    pub(crate) async fn find(&self, key: &Key, path: &str, wanted: Option<&ETag>) -> Result<Seen> {
        let seen = self.look(key, path).await?.ok_or_else(|| missing(key))?;
        match wanted {
            Some(etag) if *etag != seen.info.etag => Err(changed(key)),
            _ => Ok(seen),
        }
    }

    /// Stores a record.
    pub(crate) async fn record(&self, key: &Key, record: Record) -> Result<()> {
        for _ in 0..LOOKS {
            let records = self.records(key).await?;
            let (from, to) = records.with(record.clone())?;
            if self.overlay.swap(&self.settings.space, key.as_str(), from, Some(&to)).await? {
                return Ok(());
            }
        }
        Err(Error::new(ErrorKind::Conflict, "record of an object").with("key", format!("{key:?}")))
    }

    /// Forgets all records of a key.
    async fn forget(&self, key: &Key) -> Result<()> {
        for _ in 0..LOOKS {
            let records = self.records(key).await?;
            if records.document().is_none()
                || self.overlay.swap(&self.settings.space, key.as_str(), records.document(), None).await?
            {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Removes a path, if it is there.
    pub(crate) async fn remove(&self, path: &str) -> Result<()> {
        match self.operator.delete(path).await {
            Ok(()) => Ok(()),
            Err(error) if matches!(error.kind(), Theirs::NotFound | Theirs::NotADirectory) => Ok(()),
            Err(error) => Err(failed("delete", &error)),
        }
    }

    /// Removes the directories above a path that have become empty.
    async fn prune(&self, path: &str) {
        if !self.settings.service.spares_full_directories() {
            return;
        }
        let mut rest = path;
        while let Some(at) = rest.rfind('/') {
            rest = &rest[..at];
            let _held = self.locks.change(rest, false).await;
            // One that is not empty stays, and so do those above it.
            if self.operator.delete(&format!("{rest}/")).await.is_err() {
                return;
            }
        }
    }

    async fn delete_one(self: Arc<Self>, delete: DeleteKey) -> Result<DeleteOutcome> {
        self.check_writable("delete")?;
        let DeleteKey { key, when } = delete;
        let path = self.names.path(&key)?;
        let conditional = when != DeleteWhen::Always;
        if conditional && self.settings.service.conditions() != Conditions::All {
            return Err(unsupported_condition(&when));
        }
        let held = self.locks.change(&path, self.names.tree).await;
        // Once it has begun it is not left half done.
        let work = tokio::spawn(async move {
            let Some(seen) = self.look_held(&key, &path).await? else {
                return if conditional { Err(missing(&key)) } else { Ok(DeleteOutcome::Absent) };
            };
            if !when.holds(Some(&seen.info)) {
                return Err(changed(&key));
            }
            match (conditional, seen.meta.etag()) {
                (true, Some(etag)) => {
                    let deleted = self.operator.delete_with(&path).if_match(etag).await;
                    deleted.map_err(|e| failed("delete", &e))?;
                }
                (true, None) => return Err(unsupported_condition(&when)),
                (false, _) => self.remove(&path).await?,
            }
            self.forget(&key).await?;
            drop(held);
            self.prune(&path).await;
            Ok(DeleteOutcome::Deleted { size: seen.info.size })
        });
        work.await.map_err(|e| Error::new(ErrorKind::Internal, "delete").caused_by(e))?
    }
}

pub(crate) fn missing(key: &Key) -> Error {
    Error::new(ErrorKind::NotFound, "object").with("key", format!("{key:?}"))
}

pub(crate) fn changed(key: &Key) -> Error {
    Error::new(ErrorKind::PreconditionFailed, "object").with("key", format!("{key:?}"))
}

pub(crate) fn unsupported_condition(when: &impl fmt::Debug) -> Error {
    Error::new(ErrorKind::Unsupported, "condition that the service does not keep").with("when", format!("{when:?}"))
}

#[async_trait]
impl Provider for OpenDal {
    fn features(&self) -> Features {
        let service = self.0.settings.service;
        Features {
            conditions: service.conditions() == Conditions::All,
            attributes: self.0.overlaid(),
            persistent: service != Service::Memory,
            writable: self.0.writable(),
            max_object_bytes: self.0.largest(),
        }
    }

    async fn head(&self, key: &Key, read: &ReadOptions) -> Result<ObjectInfo> {
        let path = self.0.names.path(key)?;
        self.0.find(key, &path, read.if_match.as_ref()).await.map(|seen| seen.info)
    }

    async fn get(&self, key: &Key, read: &ReadOptions) -> Result<Object> {
        Inner::get(&self.0, key, read).await
    }

    async fn put(&self, key: &Key, body: PutBody, put: &PutOptions) -> Result<ObjectInfo> {
        Inner::put(&self.0, key, body, put).await
    }

    async fn delete(&self, keys: &[DeleteKey]) -> Vec<Result<DeleteOutcome>> {
        let all: Vec<_> = keys.iter().map(|key| Arc::clone(&self.0).delete_one(key.clone())).collect();
        futures::stream::iter(all).buffered(TOGETHER).collect().await
    }

    async fn copy(&self, from: &Key, to: &Key, copy: &CopyOptions) -> Result<ObjectInfo> {
        self.0.check_writable("copy")?;
        if let Some(attributes) = &copy.attributes {
            self.0.check_attributes(attributes)?;
        }
        let read = ReadOptions { range: None, if_match: copy.source_if_match.clone() };
        let source = Inner::get(&self.0, from, &read).await?;
        let attributes = match &copy.attributes {
            Some(attributes) => attributes.clone(),
            None if self.0.overlaid() => source.info.attributes.clone(),
            None => Attributes::new(),
        };
        let seal = Seal { etag: source.info.etag.clone(), attributes: Attributes::new() };
        let size = Some(source.info.size);
        let body = match source.body {
            Body::Stream(stream) => PutBody::new(stream, size, Arc::new(seal.into())),
            Body::Bytes(bytes) => PutBody::from_bytes(bytes, seal),
            Body::Socket(body) => PutBody::new(body.into_stream(), size, Arc::new(seal.into())),
            Body::File { .. } => return Err(Error::new(ErrorKind::Internal, "copy of a file")),
        };
        Inner::put(&self.0, to, body, &PutOptions { when: copy.when.clone(), attributes }).await
    }

    async fn set_attributes(&self, key: &Key, change: &AttributeChange) -> Result<ObjectInfo> {
        self.0.check_writable("set attributes")?;
        if !self.0.overlaid() {
            return Err(Error::new(ErrorKind::Unsupported, "attributes that the service cannot keep"));
        }
        let path = self.0.names.path(key)?;
        let _held = self.0.locks.change(&path, false).await;
        for _ in 0..LOOKS {
            let seen = self.0.look_held(key, &path).await?.ok_or_else(|| missing(key))?;
            if change.if_match.as_ref().is_some_and(|etag| *etag != seen.info.etag) {
                return Err(changed(key));
            }
            let mut info = seen.info;
            info.attributes.apply(change);
            let mut record = Record::new(&seen.meta, &info.etag, &info.attributes);
            if let Some(old) = seen.records.of(&seen.meta) {
                record.modified = old.modified;
                record.publication = old.publication;
            } else if let (Some(_), Ok(at)) = (record.modified, info.modified.duration_since(SystemTime::UNIX_EPOCH)) {
                record.modified = u64::try_from(at.as_nanos()).ok();
            }
            let (from, to) = seen.records.with(record)?;
            if self.0.overlay.swap(&self.0.settings.space, key.as_str(), from, Some(&to)).await? {
                return Ok(info);
            }
        }
        Err(Error::new(ErrorKind::Conflict, "set attributes").with("key", format!("{key:?}")))
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        self.0.list(query).await
    }

    async fn check(&self) -> Result<()> {
        let operator = &self.0.operator;
        let look = async {
            if self.0.settings.service.lists() {
                let mut lister = operator.lister("/").await?;
                lister.try_next().await.map(drop)
            } else {
                match operator.stat(HIDDEN.trim_end_matches('/')).await {
                    // It answers: what there is below it may still be read.
                    Err(error)
                        if matches!(error.kind(), Theirs::NotFound | Theirs::PermissionDenied | Theirs::IsADirectory)
                            && !error.message().contains("401") =>
                    {
                        Ok(())
                    }
                    outcome => outcome.map(drop),
                }
            }
        };
        let patience = self.0.settings.connect_timeout + self.0.settings.answer_timeout;
        match timeout(patience, look).await {
            Ok(Ok(())) => Ok(()),
            // Here it is the place itself that is not there.
            Ok(Err(error)) if error.kind() == Theirs::NotFound => {
                Err(Error::new(ErrorKind::Unavailable, "the place of the mount is not there").caused_by(failed("check", &error)))
            }
            Ok(Err(error)) => Err(failed("check", &error)),
            Err(_) => Err(Error::new(ErrorKind::TimedOut, "check")),
        }
    }

    fn multipart(&self) -> Option<&dyn Multipart> {
        self.0.writable().then_some(self as &dyn Multipart)
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
}

impl fmt::Debug for OpenDal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenDal").field("space", &self.0.settings.space).finish_non_exhaustive()
    }
}

/// Whether two looks saw the same state.
pub(crate) fn same_state(one: &Seen, other: &Seen) -> bool {
    let publication = |seen: &Seen| seen.records.of(&seen.meta).map(|record| record.publication);
    tag_of(&one.meta) == tag_of(&other.meta) && one.info.etag == other.info.etag && publication(one) == publication(other)
}
