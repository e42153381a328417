//! The provider.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sluice_provider::{
    Append, AttributeChange, Body, BodyFault, CopyOptions, DeleteKey, DeleteOutcome, ETag, Error, ErrorKind, Features, Follow,
    Key, ListPage, ListQuery, Multipart, Object, ObjectInfo, Provider, PutBody, PutOptions, ReadOptions, Rename, RenameOptions,
    Result, Versions,
};

use crate::backend::{Backend, on};
use crate::bodies;
use crate::list;
use crate::row::{Stored, now};
use crate::settings::{Kind, Settings};

/// A body that nobody wrote to for so long was given up. What is being written is told of with every batch.
const GIVEN_UP: Duration = Duration::from_secs(24 * 3600);

/// Objects in a database. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub struct Database {
    pub(crate) backend: Backend,
    pub(crate) settings: Arc<Settings>,
}

/// A whole value.
pub(crate) async fn gather(body: &mut PutBody, largest: u64) -> Result<Vec<u8>> {
    let too_large = || Error::new(ErrorKind::TooLarge, "value").with("largest", largest);
    if body.size().is_some_and(|size| size > largest) {
        return Err(too_large());
    }
    let mut value = Vec::with_capacity(usize::try_from(body.size().unwrap_or(0)).unwrap_or(0));
    while let Some(chunk) = body.chunk().await? {
        if (value.len() + chunk.len()) as u64 > largest {
            return Err(too_large());
        }
        value.extend_from_slice(&chunk);
    }
    match body.size() {
        Some(size) if size > value.len() as u64 => Err(Error::new(ErrorKind::Body(BodyFault::Incomplete), "put")),
        Some(size) if size < value.len() as u64 => Err(Error::new(ErrorKind::Body(BodyFault::TooLong), "put")),
        _ => Ok(value),
    }
}

fn matching(info: &ObjectInfo, wanted: Option<&ETag>) -> Result<()> {
    match wanted {
        Some(etag) if *etag != info.etag => Err(Error::new(ErrorKind::PreconditionFailed, "object").with("key", &info.key)),
        _ => Ok(()),
    }
}

impl Database {
    /// Opens a database, and makes the tables where they are missing.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] when it cannot be reached or opened.
    pub async fn open(settings: Settings) -> Result<Self> {
        let backend = Backend::open(&settings).await?;
        Ok(Self { backend, settings: Arc::new(settings) })
    }

    /// Removes the pages that belong to no object any more and are due.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn sweep(&self) -> Result<()> {
        let before = |age: Duration| now().saturating_sub(i64::try_from(age.as_nanos()).unwrap_or(i64::MAX));
        let (staged, released) = (before(GIVEN_UP), before(self.settings.keep));
        for body in on!(&self.backend, store => store.collect_due(&self.settings.space, staged, released).await)? {
            bodies::remove(&self.backend, body).await?;
        }
        Ok(())
    }

    /// How many pages the database holds, and how many of them nobody knows of.
    ///
    /// # Errors
    /// What the database answers.
    pub async fn count_pages(&self) -> Result<(i64, i64)> {
        on!(&self.backend, store => store.count_pages().await)
    }

    fn space(&self) -> &str {
        &self.settings.space
    }

    /// What was replaced or deleted goes at once where nothing is to be kept. Nobody waits for it.
    fn tidy(&self) {
        if self.settings.kind == Kind::Pages && self.settings.keep.is_zero() {
            self.collect_now();
        }
    }

    /// Removes what is due. Nobody waits for it.
    pub(crate) fn collect_now(&self) {
        let this = self.clone();
        drop(tokio::spawn(async move {
            if let Err(error) = this.sweep().await {
                tracing::warn!(%error, "pages are left to the next sweep");
            }
        }));
    }

    async fn find(&self, key: &Key, wanted: Option<&ETag>) -> Result<(Stored, ObjectInfo)> {
        let stored = on!(&self.backend, store => store.head(self.space(), key).await)?;
        let stored = stored.ok_or_else(|| Error::new(ErrorKind::NotFound, "object").with("key", key))?;
        let info = stored.info(key.clone())?;
        matching(&info, wanted)?;
        Ok((stored, info))
    }
}

#[async_trait]
impl Provider for Database {
    fn features(&self) -> Features {
        let max_object_bytes = (self.settings.kind == Kind::Values).then_some(self.settings.max_value_bytes);
        Features { conditions: true, attributes: true, persistent: true, writable: true, max_object_bytes }
    }

    async fn head(&self, key: &Key, read: &ReadOptions) -> Result<ObjectInfo> {
        self.find(key, read.if_match.as_ref()).await.map(|(_, info)| info)
    }

    async fn get(&self, key: &Key, read: &ReadOptions) -> Result<Object> {
        let found = on!(&self.backend, store => store.get(self.space(), key).await)?;
        let (stored, value) = found.ok_or_else(|| Error::new(ErrorKind::NotFound, "object").with("key", key))?;
        let info = stored.info(key.clone())?;
        matching(&info, read.if_match.as_ref())?;
        let range = read.range.map_or(Ok(0..info.size), |range| range.resolve(info.size))?;
        let body = if stored.body == 0 {
            let wanted = usize::try_from(range.start).unwrap_or(usize::MAX)..usize::try_from(range.end).unwrap_or(usize::MAX);
            let value = bytes::Bytes::from(value);
            if wanted.end > value.len() {
                return Err(Error::new(ErrorKind::Corrupt, "value").with("key", key));
            }
            Body::Bytes(value.slice(wanted))
        } else {
            bodies::open(&self.backend, &stored, range.clone()).await?
        };
        Ok(Object { info, range, body })
    }

    async fn put(&self, key: &Key, mut body: PutBody, put: &PutOptions) -> Result<ObjectInfo> {
        let settings = &*self.settings;
        let (value, staged) = match settings.kind {
            Kind::Values => (Some(gather(&mut body, settings.max_value_bytes).await?), None),
            Kind::Pages => (None, Some(bodies::take_in(&self.backend, self.space(), settings.page_bytes, &mut body).await?)),
        };
        let seal = body.seal()?;
        let mut attributes = put.attributes.clone();
        attributes.extend(seal.attributes.iter());
        let bytes = staged.as_ref().map_or_else(|| value.as_ref().map_or(0, Vec::len) as u64, |staged| staged.bytes);
        let page = staged.as_ref().map_or(0, |_| settings.page_bytes);
        let new = Stored::new(bytes, &seal.etag, &attributes, staged.as_ref().map_or(0, |staged| staged.body), page)?;
        let info = on!(&self.backend, store => {
            store.publish(self.space(), key, &new, value.as_deref(), &put.when).await
        })?;
        if let Some(staged) = staged {
            staged.published();
        }
        self.tidy();
        Ok(info)
    }

    async fn delete(&self, keys: &[DeleteKey]) -> Vec<Result<DeleteOutcome>> {
        let deleted = on!(&self.backend, store => store.delete(self.space(), keys).await);
        self.tidy();
        deleted.unwrap_or_else(|error| {
            keys.iter().map(|_| Err(Error::new(*error.kind(), "delete").with("reason", &error))).collect()
        })
    }

    async fn copy(&self, from: &Key, to: &Key, copy: &CopyOptions) -> Result<ObjectInfo> {
        let found = on!(&self.backend, store => store.get(self.space(), from).await)?;
        let (source, value) = found.ok_or_else(|| Error::new(ErrorKind::NotFound, "copy").with("key", from))?;
        let info = source.info(from.clone())?;
        matching(&info, copy.source_if_match.as_ref())?;
        let attributes = copy.attributes.as_ref().unwrap_or(&info.attributes);
        let staged = if source.body == 0 { None } else { Some(bodies::copy(&self.backend, self.space(), &source).await?) };
        let page = u32::try_from(source.page_bytes).unwrap_or(0);
        let new = Stored::new(info.size, &info.etag, attributes, staged.as_ref().map_or(0, |staged| staged.body), page)?;
        let value = (source.body == 0).then_some(value.as_slice());
        let info = on!(&self.backend, store => store.publish(self.space(), to, &new, value, &copy.when).await)?;
        if let Some(staged) = staged {
            staged.published();
        }
        self.tidy();
        Ok(info)
    }

    async fn set_attributes(&self, key: &Key, change: &AttributeChange) -> Result<ObjectInfo> {
        on!(&self.backend, store => store.set_attributes(self.space(), key, change).await)
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        list::page(&self.backend, self.space(), query).await
    }

    async fn check(&self) -> Result<()> {
        on!(&self.backend, store => store.check().await)
    }

    fn multipart(&self) -> Option<&dyn Multipart> {
        // What fits into a row needs no parts.
        (self.settings.kind == Kind::Pages).then_some(self)
    }

    fn versions(&self) -> Option<&dyn Versions> {
        None
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

#[async_trait]
impl Rename for Database {
    async fn rename(&self, from: &Key, to: &Key, rename: &RenameOptions) -> Result<ObjectInfo> {
        let info = on!(&self.backend, store => store.rename(self.space(), from, to, rename).await);
        self.tidy();
        info
    }
}
