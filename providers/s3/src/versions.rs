//! The remote's versions as those of the mount. Each change is one change at the remote, which names what it makes; what S3 has no
//! one call for is refused.

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use sluice_provider::{
    AttributeChange, Attributes, Body, CopyOptions, DeleteWhen, ETag, Error, ErrorKind, Guard, Key, ListPage, ListQuery,
    MARKER_ATTRIBUTE, Object, ObjectInfo, PutBody, PutOptions, ReadOptions, Result, UploadId, VERSION_ATTRIBUTE, VersionFeatures,
    VersionId, Versioning, Versions, version_of,
};

use crate::provider::{Inner, S3, TRIES, detached, lost_record};
use crate::read::matches;
use crate::remote::{Remote, content_length, date, name_version, quoted};
use crate::request::Call;

/// The ETag of what has no bytes.
const MARKER_ETAG: &str = "d41d8cd98f00b204e9800998ecf8427e";

#[derive(Debug, Deserialize)]
#[serde(rename = "VersioningConfiguration")]
struct Configuration {
    #[serde(rename = "Status", default)]
    status: String,
}

/// An answer in a bucket without versioning: the version that the remote made is not told of.
pub(crate) fn nameless(mut info: ObjectInfo) -> ObjectInfo {
    info.attributes.remove(VERSION_ATTRIBUTE);
    info
}

/// What a marker is told as.
pub(crate) fn marker(key: &Key, version: VersionId, modified: SystemTime) -> Result<ObjectInfo> {
    let mut attributes = Attributes::new();
    attributes.set(MARKER_ATTRIBUTE, "true");
    name_version(&mut attributes, Some(version));
    Ok(ObjectInfo { key: key.clone(), size: 0, etag: ETag::new(MARKER_ETAG)?, modified, attributes })
}

/// Refuses what would need the null version: S3 suspends versioning for a whole bucket.
fn known(versioning: Versioning) -> Result<()> {
    match versioning {
        Versioning::Off | Versioning::Enabled => Ok(()),
        Versioning::Suspended => Err(Error::new(ErrorKind::Unsupported, "write of a null version at a remote")),
    }
}

/// What a write answers. One that became no version of its own has replaced something, against the promise of the bucket.
fn kept(info: ObjectInfo, versioning: Versioning) -> Result<ObjectInfo> {
    match versioning {
        Versioning::Off => Ok(nameless(info)),
        _ if version_of(&info.attributes) == VersionId::Null => Err(unkept("the write made no version").with("key", &info.key)),
        _ => Ok(info),
    }
}

fn unkept(reason: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, "versions of the remote").with("reason", reason)
}

impl Remote {
    /// Whether there is a bucket that can be used as the mount uses it.
    pub(crate) async fn check(&self) -> Result<()> {
        self.client.check().await?;
        if !self.versions {
            return Ok(());
        }
        let call = Call::new("get bucket versioning", Method::GET, None).query("versioning", "");
        let configuration: Configuration = self.client.call(call).await?.xml("get bucket versioning")?;
        if configuration.status == "Enabled" {
            return Ok(());
        }
        let error = unkept("versions = true needs a bucket with versioning, and that of the remote is not Enabled");
        Err(error.with("remote", self.client.place()))
    }

    /// Removes a version for good.
    async fn delete_version(&self, name: &str, version: &VersionId) -> Result<()> {
        let call = Call::new("delete version", Method::DELETE, Some(name.to_owned())).version(Some(version));
        self.client.call(call).await.map(drop)
    }

    /// Removes one of the mount's own things with all that the remote keeps of it.
    pub(crate) async fn erase(&self, name: &str) -> Result<()> {
        if !self.versions {
            return self.delete(name, None).await;
        }
        loop {
            let page = self.versions_of(name).await?;
            for told in &page.entries {
                self.delete_version(name, &told.version).await?;
            }
            if !page.more {
                return Ok(());
            }
        }
    }

    /// Whether an object names a record; on a mount that has versions, whether any version of it may.
    pub(crate) async fn names_record(&self, name: &str, id: &str) -> Result<bool> {
        let named = |found: Result<crate::remote::Found>| match found {
            Ok(found) => Ok(found.record() == Some(id)),
            Err(error) if *error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        };
        if !self.versions {
            return named(self.head(name, None).await);
        }
        let page = self.versions_of(name).await?;
        for told in page.entries.iter().filter(|told| !told.marker) {
            if named(self.head(name, Some(&told.version)).await)? {
                return Ok(true);
            }
        }
        // Of so many versions nobody asks the rest.
        Ok(page.more)
    }

    /// The newest of a key, a marker included.
    async fn newest(&self, key: &Key) -> Result<ObjectInfo> {
        for _ in 0..TRIES {
            let page = self.versions_of(&self.name(key)).await?;
            let Some(newest) = page.entries.first() else {
                return Err(Error::new(ErrorKind::NotFound, "newest version").with("key", key));
            };
            if newest.marker {
                return marker(key, newest.version, newest.modified);
            }
            match self.info(key, Some(&newest.version)).await {
                // Gone since.
                Err(error) if *error.kind() == ErrorKind::NotFound => {}
                told => return told,
            }
        }
        Err(Error::new(ErrorKind::Conflict, "newest version").with("key", key))
    }

    /// A version, a marker included.
    async fn version(&self, key: &Key, version: &VersionId) -> Result<ObjectInfo> {
        let name = self.name(key);
        let call = Call::new("head object", Method::HEAD, Some(name)).version(Some(version)).hasty(self.hasty);
        let (answer, refusal) = self.client.ask(call).await?;
        match refusal {
            Some(_) if answer.is_marker() => {
                // AWS and others tell when it was made; the time of the answer is all there is otherwise.
                let modified = answer.header("last-modified").and_then(|text| httpdate::parse_http_date(text).ok());
                marker(key, *version, modified.unwrap_or_else(|| date(&answer)))
            }
            Some(error) => Err(error),
            None => {
                let found = self.found(&answer.headers, content_length(&answer.headers)?)?;
                let Some(id) = found.record() else { return found.info(key, None) };
                match self.read_record(id).await {
                    Ok((record, _)) => found.info(key, Some(&record)),
                    Err(error) if *error.kind() == ErrorKind::NotFound => Err(lost_record(key, Some(error))),
                    Err(error) => Err(error),
                }
            }
        }
    }
}

impl Inner {
    async fn mark(&self, key: &Key, when: &DeleteWhen) -> Result<ObjectInfo> {
        let name = self.remote.name(key);
        let mut call = Call::new("delete object", Method::DELETE, Some(name));
        if let DeleteWhen::IfMatch { .. } = when {
            if !self.conditions() {
                return Err(Error::new(ErrorKind::Unsupported, "delete under a condition at a remote that keeps none"));
            }
            let failed = || Error::new(ErrorKind::PreconditionFailed, "delete").with("key", key);
            let (found, record) = match self.look(key).await {
                Err(error) if *error.kind() == ErrorKind::NotFound => return Err(failed().caused_by(error)),
                looked => looked?,
            };
            if !when.holds(Some(&found.info(key, record.as_ref())?)) {
                return Err(failed());
            }
            call = call.header("if-match", quoted(&found.tag)).once();
        }
        let answer = self.remote.client.call(call).await?;
        let made = self.remote.version_of(&answer.headers)?.filter(|made| answer.is_marker() && *made != VersionId::Null);
        let made = made.ok_or_else(|| unkept("the delete made no marker").with("key", key))?;
        marker(key, made, date(&answer))
    }

    async fn remove(&self, key: &Key, version: &VersionId, when: &DeleteWhen, guard: &Guard) -> Result<Option<ObjectInfo>> {
        let failed = || Error::new(ErrorKind::PreconditionFailed, "delete of a version").with("key", key);
        let info = match self.remote.version(key, version).await {
            Ok(info) => info,
            Err(error) if *error.kind() == ErrorKind::NotFound => {
                return if when.holds(None) { Ok(None) } else { Err(failed().caused_by(error)) };
            }
            // What cannot be told of can still be removed.
            Err(error) if *error.kind() == ErrorKind::Corrupt && *when == DeleteWhen::Always => {
                let found = self.remote.head(&self.remote.name(key), Some(version)).await?;
                found.info(key, None)?
            }
            Err(error) => return Err(error),
        };
        // A version stays what it is, so that what was seen is what is removed.
        if !when.holds(Some(&info)) {
            return Err(failed());
        }
        guard.check(&info)?;
        // Its record goes with a sweep: copies that others made at the remote may name it too.
        self.remote.delete_version(&self.remote.name(key), version).await?;
        Ok(Some(info))
    }
}

#[async_trait]
impl Versions for S3 {
    fn version_features(&self) -> VersionFeatures {
        VersionFeatures { suspends: false, locks: false, own_names: false }
    }

    async fn head_version(&self, key: &Key, version: Option<&VersionId>, read: &ReadOptions) -> Result<ObjectInfo> {
        self.inner.readable(key)?;
        let info = match version {
            Some(version) => self.inner.remote.version(key, version).await?,
            None => self.inner.remote.newest(key).await?,
        };
        matches(&info, read)?;
        Ok(info)
    }

    async fn get_version(&self, key: &Key, version: &VersionId, read: &ReadOptions) -> Result<Object> {
        self.inner.readable(key)?;
        match self.inner.remote.open(key, Some(version), read).await {
            Err(error) if *error.kind() == ErrorKind::NotFound => {
                let info = self.inner.remote.version(key, version).await?;
                if !sluice_provider::is_marker(&info) {
                    return Err(error);
                }
                matches(&info, read)?;
                Ok(Object { info, range: 0..0, body: Body::Bytes(Bytes::new()) })
            }
            opened => opened,
        }
    }

    async fn put_version(&self, key: &Key, body: PutBody, put: &PutOptions, versioning: Versioning) -> Result<ObjectInfo> {
        known(versioning)?;
        kept(self.inner.put(key, body, put).await?, versioning)
    }

    async fn copy_version(
        &self,
        from: (&Key, Option<&VersionId>),
        to: &Key,
        copy: &CopyOptions,
        versioning: Versioning,
    ) -> Result<ObjectInfo> {
        known(versioning)?;
        kept(self.inner.copy(from, to, copy).await?, versioning)
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
        known(versioning)?;
        kept(self.inner.publish(key, upload, parts, etag, put).await?, versioning)
    }

    async fn mark_deleted(&self, key: &Key, when: &DeleteWhen, versioning: Versioning) -> Result<ObjectInfo> {
        known(versioning)?;
        self.inner.writable(key)?;
        let (inner, key, when) = (Arc::clone(&self.inner), key.clone(), when.clone());
        detached(async move {
            let _turn = inner.turn(&key).await;
            inner.mark(&key, &when).await
        })
        .await
    }

    async fn remove_version(
        &self,
        key: &Key,
        version: &VersionId,
        when: &DeleteWhen,
        guard: &Guard,
    ) -> Result<Option<ObjectInfo>> {
        self.inner.writable(key)?;
        let (inner, key, version) = (Arc::clone(&self.inner), key.clone(), *version);
        let (when, guard) = (when.clone(), guard.clone());
        detached(async move {
            let _turn = inner.turn(&key).await;
            inner.remove(&key, &version, &when, &guard).await
        })
        .await
    }

    async fn change_version(
        &self,
        key: &Key,
        version: Option<&VersionId>,
        change: &AttributeChange,
        guard: &Guard,
    ) -> Result<ObjectInfo> {
        self.inner.writable(key)?;
        let (inner, key, version) = (Arc::clone(&self.inner), key.clone(), version.copied());
        let (change, guard) = (change.clone(), guard.clone());
        detached(async move {
            let _turn = inner.turn(&key).await;
            inner.change(&key, version.as_ref(), &change, &guard).await
        })
        .await
    }

    async fn hollow_version(&self, _: &Key, _: &VersionId, _: &AttributeChange, _: &Guard) -> Result<ObjectInfo> {
        Err(Error::new(ErrorKind::Unsupported, "giving up the bytes of a version at a remote"))
    }

    async fn list_versions(&self, query: &ListQuery) -> Result<ListPage> {
        self.inner.list_versions(query).await
    }
}
