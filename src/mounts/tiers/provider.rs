//! A mount of keys, and the mounts that have the bytes of some of its objects.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use futures::StreamExt;
use sluice_provider::{
    Append, AttributeChange, CopyOptions, DeleteKey, DeleteOutcome, Error, ErrorKind, Features, Follow, Key, ListEntry, ListPage,
    ListQuery, Multipart, Object, ObjectInfo, Provider, PutBody, PutOptions, ReadOptions, Rename, Result, Seal, VersionId,
    Versioning, Versions, is_marker, version_of,
};

use super::{CLASS_ATTRIBUTE, Tier, class_of, whole};
use crate::mounts::Mount;
use crate::transfer::{Frames, frames};

/// How often a read begins again because what it found was replaced, or moved on, under it.
const TRIES: usize = 4;
/// How many keys of one call are looked at, or freed, at once.
const AT_ONCE: usize = 16;

/// A mount of keys in a bucket that has storage classes.
pub struct Tiered {
    pub(super) inner: Arc<dyn Provider>,
    pub(super) classes: Arc<Vec<Mount>>,
}

impl Tiered {
    /// Around a mount of keys.
    #[must_use]
    pub fn new(inner: Arc<dyn Provider>, classes: Arc<Vec<Mount>>) -> Self {
        Self { inner, classes }
    }

    /// The mount of keys by itself.
    #[must_use]
    pub fn inner(&self) -> &Arc<dyn Provider> {
        &self.inner
    }

    /// The mount that keeps a class.
    ///
    /// # Errors
    /// Unavailable when there is none.
    pub(super) fn class(&self, class: &str) -> Result<&Arc<dyn Provider>> {
        let mount = self.classes.iter().find(|mount| class_of(&mount.prefix) == Some(class));
        let none = || Error::new(ErrorKind::Unavailable, "no mount keeps the storage class").with("class", class);
        mount.map(|mount| &mount.provider).ok_or_else(none)
    }

    pub(super) fn facet(&self) -> Result<&dyn Versions> {
        self.inner.versions().ok_or_else(|| Error::new(ErrorKind::Unsupported, "versions"))
    }

    pub(super) fn parts(&self) -> Result<&dyn Multipart> {
        self.inner.multipart().ok_or_else(|| Error::new(ErrorKind::Unsupported, "multipart"))
    }

    /// What lies at the place of a version, or of the current object.
    async fn stored(&self, key: &Key, version: Option<&VersionId>, read: &ReadOptions) -> Result<Object> {
        match version {
            None => self.inner.get(key, read).await,
            Some(version) => self.facet()?.get_version(key, version, read).await,
        }
    }

    async fn look(&self, key: &Key, version: Option<&VersionId>, read: &ReadOptions) -> Result<ObjectInfo> {
        let read = ReadOptions { range: None, if_match: read.if_match.clone() };
        match version {
            None => self.inner.head(key, &read).await,
            version => self.facet()?.head_version(key, version, &read).await,
        }
    }

    /// Opens a version, or the current object, wherever its bytes lie.
    pub(super) async fn open(&self, key: &Key, version: Option<&VersionId>, read: &ReadOptions) -> Result<Object> {
        let mut missing: Option<Tier> = None;
        for _ in 0..TRIES {
            let (info, tier) = match self.stored(key, version, read).await {
                Ok(object) => match Tier::of(&object.info.attributes) {
                    None => return Ok(object),
                    Some(tier) => (object.info, tier),
                },
                // No range lies within what has no bytes.
                Err(error) if matches!(error.kind(), ErrorKind::RangeNotSatisfiable { .. }) => {
                    let info = self.look(key, version, read).await?;
                    match Tier::of(&info.attributes) {
                        None => return Err(error),
                        Some(tier) => (info, tier),
                    }
                }
                Err(error) => return Err(error),
            };
            if missing.as_ref() == Some(&tier) {
                let lost = Error::new(ErrorKind::Unavailable, "the bytes of a moved object are not on the mount of its class");
                return Err(lost.with("class", &tier.class).with("name", format!("{:?}", tier.name)));
            }
            match self.fetch(info, &tier, read).await {
                // Replaced, or moved on, since it was looked at; or lost, which the next look tells.
                Err(error) if *error.kind() == ErrorKind::NotFound => missing = Some(tier),
                answer => return answer,
            }
        }
        Err(Error::new(ErrorKind::Conflict, "read of an object that keeps moving").with("key", key))
    }

    async fn fetch(&self, info: ObjectInfo, tier: &Tier, read: &ReadOptions) -> Result<Object> {
        let range = read.range.map_or(Ok(0..tier.size), |range| range.resolve(tier.size))?;
        let object = self.class(&tier.class)?.get(&tier.name, &ReadOptions { range: read.range, if_match: None }).await?;
        if object.info.size != tier.size || object.range != range {
            let other = Error::new(ErrorKind::Unavailable, "the bytes of a moved object are not what was moved");
            return Err(other.with("name", format!("{:?}", tier.name)).with("size", object.info.size));
        }
        Ok(Object { info: whole(info), range, body: object.body })
    }

    /// A copy's source on its way into another object. Always through the gateway: a provider's own copy could be of what has no bytes.
    pub(super) async fn reopened(
        &self,
        from: &Key,
        version: Option<&VersionId>,
        copy: &CopyOptions,
    ) -> Result<(PutBody, PutOptions)> {
        let read = ReadOptions { range: None, if_match: copy.source_if_match.clone() };
        let object = self.open(from, version, &read).await?;
        if is_marker(&object.info) {
            return Err(Error::new(ErrorKind::NotFound, "copy a delete marker").with("key", from));
        }
        let attributes = copy.attributes.clone().unwrap_or_else(|| {
            let mut attributes = object.info.attributes.clone();
            attributes.remove(CLASS_ATTRIBUTE);
            attributes
        });
        let bytes = object.range.end.saturating_sub(object.range.start);
        let seal = Seal { etag: object.info.etag, attributes: sluice_provider::Attributes::new() };
        let put = PutOptions { when: copy.when.clone(), attributes };
        let body = match frames(object.body, bytes).await? {
            Frames::Full(bytes) => PutBody::from_bytes(bytes, seal),
            Frames::Stream(stream) => PutBody::new(stream, Some(bytes), Arc::new(OnceLock::from(seal))),
        };
        Ok((body, put))
    }

    /// What a write would put an end to: a version whose bytes lie elsewhere.
    async fn ending(&self, key: &Key, versioning: Versioning) -> Option<(VersionId, Tier)> {
        let info = match versioning {
            // What is there stays as an older version.
            Versioning::Enabled => return None,
            Versioning::Off => self.inner.head(key, &ReadOptions::default()).await.ok()?,
            Versioning::Suspended => {
                self.facet().ok()?.head_version(key, Some(&VersionId::Null), &ReadOptions::default()).await.ok()?
            }
        };
        Some((version_of(&info.attributes), Tier::of(&info.attributes)?))
    }

    /// Does something to a key, and frees the bytes of what came to its end by it.
    pub(super) async fn ending_what_was<T>(
        &self,
        key: &Key,
        versioning: Versioning,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let before = self.ending(key, versioning).await;
        let done = work.await?;
        if let Some((version, tier)) = before {
            self.free_unless_kept(key, &version, &tier).await;
        }
        Ok(done)
    }

    /// Frees bytes, unless the version that they were of still refers to them. What cannot be freed now is swept later.
    pub(super) async fn free_unless_kept(&self, key: &Key, version: &VersionId, tier: &Tier) {
        let Ok(facet) = self.facet() else { return };
        match facet.head_version(key, Some(version), &ReadOptions::default()).await {
            Ok(info) if Tier::of(&info.attributes).as_ref() == Some(tier) => {}
            Err(error) if *error.kind() != ErrorKind::NotFound => {}
            Ok(_) | Err(_) => self.free(tier).await,
        }
    }

    /// Frees bytes that nothing refers to.
    pub(super) async fn free(&self, tier: &Tier) {
        let Ok(class) = self.class(&tier.class) else { return };
        if let Some(Err(error)) = class.delete(&[DeleteKey::from(tier.name.clone())]).await.pop() {
            tracing::debug!(%error, name = %tier.name, "bytes of a moved object were not freed; the next sweep will");
        }
    }
}

impl fmt::Debug for Tiered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let classes: Vec<_> = self.classes.iter().map(|mount| &mount.prefix).collect();
        f.debug_struct("Tiered").field("inner", &self.inner).field("classes", &classes).finish()
    }
}

/// A page of what lies on the mount, as it is known.
pub(super) fn whole_page(page: ListPage) -> ListPage {
    let known = |entry| match entry {
        ListEntry::Object(info) => ListEntry::Object(whole(info)),
        prefix @ ListEntry::Prefix(_) => prefix,
    };
    ListPage { entries: page.entries.into_iter().map(known).collect(), more: page.more }
}

#[async_trait]
impl Provider for Tiered {
    fn features(&self) -> Features {
        self.inner.features()
    }

    async fn head(&self, key: &Key, read: &ReadOptions) -> Result<ObjectInfo> {
        self.inner.head(key, read).await.map(whole)
    }

    async fn get(&self, key: &Key, read: &ReadOptions) -> Result<Object> {
        self.open(key, None, read).await
    }

    async fn put(&self, key: &Key, body: PutBody, put: &PutOptions) -> Result<ObjectInfo> {
        self.ending_what_was(key, Versioning::Off, self.inner.put(key, body, put)).await
    }

    async fn delete(&self, keys: &[DeleteKey]) -> Vec<Result<DeleteOutcome>> {
        let looks: Vec<_> = keys.iter().map(|DeleteKey { key, .. }| self.ending(key, Versioning::Off)).collect();
        let before: Vec<_> = futures::stream::iter(looks).buffered(AT_ONCE).collect().await;
        let mut outcomes = self.inner.delete(keys).await;
        let ended = keys.iter().zip(before).zip(outcomes.iter_mut()).filter_map(|((key, before), outcome)| {
            let (version, tier) = before?;
            if let Ok(DeleteOutcome::Deleted { size }) = outcome {
                *size = tier.size;
            }
            outcome.is_ok().then_some((&key.key, version, tier))
        });
        let frees: Vec<_> =
            ended.map(|(key, version, tier)| async move { self.free_unless_kept(key, &version, &tier).await }).collect();
        futures::stream::iter(frees).buffer_unordered(AT_ONCE).collect::<()>().await;
        outcomes
    }

    async fn copy(&self, from: &Key, to: &Key, copy: &CopyOptions) -> Result<ObjectInfo> {
        if self.inner.versions().is_none() {
            // Nothing of such a mount is ever moved.
            return self.inner.copy(from, to, copy).await;
        }
        let (body, put) = self.reopened(from, None, copy).await?;
        self.put(to, body, &put).await
    }

    async fn set_attributes(&self, key: &Key, change: &AttributeChange) -> Result<ObjectInfo> {
        self.inner.set_attributes(key, change).await.map(whole)
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        self.inner.list(query).await.map(whole_page)
    }

    async fn check(&self) -> Result<()> {
        self.inner.check().await
    }

    fn multipart(&self) -> Option<&dyn Multipart> {
        self.inner.multipart().map(|_| self as &dyn Multipart)
    }

    fn versions(&self) -> Option<&dyn Versions> {
        self.inner.versions().map(|_| self as &dyn Versions)
    }

    /// None: an object could have let go of its bytes.
    fn appends(&self) -> Option<&dyn Append> {
        None
    }

    /// None: what lies in a class is named by the key that it belongs to.
    fn renames(&self) -> Option<&dyn Rename> {
        None
    }

    fn follows(&self) -> Option<&dyn Follow> {
        self.inner.follows()
    }
}
