//! A plugin in front of another provider: what it makes of what is read, what it lets be written.
//!
//! What was transformed is another object than what is stored: it has an entity tag of its own, that of what is stored and the hash of the
//! plugin, so that no cache takes one for the other, nor the work of one plugin for that of the next.

use async_trait::async_trait;
use sluice_provider::{
    Append, AttributeChange, CopyOptions, DeleteKey, DeleteOutcome, DeleteWhen, ETag, Error, ErrorKind, Features, Follow, Key,
    ListEntry, ListPage, ListQuery, Multipart, Object, ObjectInfo, Provider, PutBody, PutOptions, PutWhen, ReadOptions, Rename,
    Result, SIZE_ATTRIBUTE, Versions,
};
use std::sync::Arc;

use crate::answer;
use crate::bindings::{self, Failure};
use crate::plugin::Plugin;
use crate::pool::Pool;
use crate::settings::Settings;

/// The attribute that lists the parts of a multipart object, which are not those of what was made of it.
const PARTS: &str = "parts";

/// A mount with a plugin before it.
#[derive(Debug)]
pub(crate) struct Filter {
    pool: Arc<Pool>,
    inner: Arc<dyn Provider>,
    most: usize,
}

/// The plugin that a request asks, from its conditions to its answer: one that takes its place meanwhile is for the next request, so that
/// what one plugin made never goes with the entity tag of another.
#[derive(Debug)]
struct Asked {
    plugin: Arc<Plugin>,
    /// What it adds to an entity tag, where it transforms.
    mark: Option<String>,
}

// === impl Filter ===

impl Filter {
    pub(crate) fn new(pool: Arc<Pool>, inner: Arc<dyn Provider>, settings: &Settings) -> Self {
        Self { pool, inner, most: settings.max_body_bytes }
    }

    /// The plugin as it is now, for the whole of a request.
    fn asked(&self) -> Result<Asked> {
        let plugin = self.pool.plugin()?;
        let mark = self.pool.roles().transform.then(|| format!("-w{}", hex::encode(&plugin.hash[..8])));
        Ok(Asked { plugin, mark })
    }

    /// The same, for a request that may not need it.
    fn asked_once<'a>(&self, asked: &'a mut Option<Asked>) -> Result<&'a Asked> {
        Ok(match asked {
            Some(asked) => asked,
            none => none.insert(self.asked()?),
        })
    }

    /// Opens what is stored, as the plugin makes it.
    async fn open(&self, key: &Key, read: &ReadOptions) -> Result<Object> {
        let asked = self.asked()?;
        let stored = ReadOptions { range: None, if_match: asked.needed(read.if_match.as_ref())? };
        let object = self.inner.get(key, &stored).await?;
        answer::readable(&object.info.attributes, "transform")?;
        let info = object.info.clone();
        let attributes = answer::shown(&info.attributes);
        let body = answer::bytes_of(object, self.most, "transform").await?;
        let mut told = bindings::Object { info: answer::told(&info, attributes), body };
        told.info.size = told.body.len() as u64;
        let name = key.to_string();
        let made = self.pool.call_of(&asked.plugin, "transform", move |instance| match &instance.transform {
            Some(guest) => guest.call_transform(&mut instance.store, &name, &told),
            None => Ok(Err(Failure::Unsupported)),
        });
        let made = made.await?;
        if made.body.len() > self.most {
            return Err(Error::new(ErrorKind::Corrupt, "transform").with("the plugin answers", "more than it may"));
        }
        let mut info = asked.outer(info)?;
        info.size = made.body.len() as u64;
        let stale: Vec<String> = info.attributes.iter().map(|(name, _)| name.to_owned()).collect();
        for name in stale.iter().filter(|name| answer::is_checksum(name) || [PARTS, SIZE_ATTRIBUTE].contains(&name.as_str())) {
            info.attributes.remove(name);
        }
        if let Some(kind) = made.content_type {
            if kind.is_empty() || kind.len() > 255 || !kind.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
                return Err(Error::new(ErrorKind::Corrupt, "transform").with("the plugin answers", "a type that is none"));
            }
            info.attributes.set("content-type", kind);
        }
        answer::part(info, made.body.into(), read.range)
    }

    /// Asks the plugin whether this may be written.
    async fn permitted(&self, asked: &Asked, info: &ObjectInfo, body: Vec<u8>) -> Result<()> {
        let attributes = answer::shown(&info.attributes);
        let told = bindings::Object { info: answer::told(info, attributes), body };
        let name = info.key.to_string();
        let check = self.pool.call_of(&asked.plugin, "check", move |instance| match &instance.check {
            Some(guest) => guest.call_check(&mut instance.store, &name, &told),
            None => Ok(Err(Failure::Unsupported)),
        });
        check.await
    }
}

// === impl Asked ===

impl Asked {
    /// The entity tag that a client knows.
    fn outer(&self, mut info: ObjectInfo) -> Result<ObjectInfo> {
        if let Some(mark) = &self.mark {
            info.etag = ETag::new(format!("{}{mark}", info.etag))?;
        }
        Ok(info)
    }

    /// The entity tag of what is stored; none when it is not the one that a client knows.
    fn inner(&self, etag: &ETag) -> Result<Option<ETag>> {
        match &self.mark {
            None => Ok(Some(etag.clone())),
            Some(mark) => etag.as_str().strip_suffix(mark).map(ETag::new).transpose(),
        }
    }

    fn needed(&self, etag: Option<&ETag>) -> Result<Option<ETag>> {
        let Some(etag) = etag else { return Ok(None) };
        let other = || Error::new(ErrorKind::PreconditionFailed, "condition").with("etag", etag);
        self.inner(etag)?.ok_or_else(other).map(Some)
    }

    fn when(&self, when: &PutWhen) -> Result<PutWhen> {
        Ok(match when {
            PutWhen::IfMatch(etag) => match self.inner(etag)? {
                Some(etag) => PutWhen::IfMatch(etag),
                // That of another plugin, or of none: nothing that is there has it.
                None => PutWhen::IfMatch(etag.clone()),
            },
            PutWhen::IfNoneMatch(etag) => PutWhen::IfNoneMatch(self.inner(etag)?.unwrap_or_else(|| etag.clone())),
            other => other.clone(),
        })
    }
}

// === impl Provider ===

#[async_trait]
impl Provider for Filter {
    fn features(&self) -> Features {
        let inner = self.inner.features();
        let most = self.most as u64;
        Features { max_object_bytes: Some(inner.max_object_bytes.map_or(most, |inner| inner.min(most))), ..inner }
    }

    async fn head(&self, key: &Key, read: &ReadOptions) -> Result<ObjectInfo> {
        if self.pool.roles().transform {
            // What it is made into has a size of its own.
            return Ok(self.open(key, &ReadOptions { range: None, if_match: read.if_match.clone() }).await?.info);
        }
        self.inner.head(key, read).await
    }

    async fn get(&self, key: &Key, read: &ReadOptions) -> Result<Object> {
        if self.pool.roles().transform {
            return self.open(key, read).await;
        }
        self.inner.get(key, read).await
    }

    async fn put(&self, key: &Key, mut body: PutBody, put: &PutOptions) -> Result<ObjectInfo> {
        answer::readable(&put.attributes, "put")?;
        let bytes = answer::gather(&mut body, self.most, "put").await?;
        let seal = body.seal()?;
        // Not before the body is there, which may take long: what is checked is checked by the plugin of now.
        let asked = self.asked()?;
        if self.pool.roles().check {
            let mut attributes = put.attributes.clone();
            attributes.extend(seal.attributes.iter());
            answer::readable(&attributes, "put")?;
            let modified = std::time::SystemTime::now();
            let info = ObjectInfo { key: key.clone(), size: bytes.len() as u64, etag: seal.etag.clone(), modified, attributes };
            self.permitted(&asked, &info, bytes.to_vec()).await?;
        }
        let put = PutOptions { when: asked.when(&put.when)?, attributes: put.attributes.clone() };
        asked.outer(self.inner.put(key, PutBody::from_bytes(bytes, seal), &put).await?)
    }

    async fn delete(&self, keys: &[DeleteKey]) -> Vec<Result<DeleteOutcome>> {
        let mut stored = Vec::with_capacity(keys.len());
        // Without an entity tag it does not matter what the plugin is, or whether it is there.
        let mut asked = None;
        for DeleteKey { key, when } in keys {
            let when = match when {
                DeleteWhen::IfMatch { size: Some(_), .. } if self.pool.roles().transform => {
                    Err(Error::new(ErrorKind::Unsupported, "delete by the size of what a plugin makes"))
                }
                DeleteWhen::IfMatch { etag: Some(etag), modified, size } => {
                    let asked = self.asked_once(&mut asked);
                    let etag = asked.and_then(|asked| asked.needed(Some(etag)));
                    etag.map(|etag| DeleteWhen::IfMatch { etag, modified: *modified, size: *size })
                }
                DeleteWhen::IfMatch { etag: None, .. } | DeleteWhen::Always => Ok(when.clone()),
            };
            stored.push(when.map(|when| DeleteKey { key: key.clone(), when }));
        }
        let wanted: Vec<DeleteKey> = stored.iter().filter_map(|key| key.as_ref().ok().cloned()).collect();
        let mut outcomes = self.inner.delete(&wanted).await.into_iter();
        let missing = || Err(Error::new(ErrorKind::Internal, "delete without an outcome"));
        stored.into_iter().map(|key| key.and_then(|_| outcomes.next().unwrap_or_else(missing))).collect()
    }

    async fn copy(&self, from: &Key, to: &Key, copy: &CopyOptions) -> Result<ObjectInfo> {
        let asked = self.asked()?;
        let mut stored = CopyOptions {
            source_if_match: asked.needed(copy.source_if_match.as_ref())?,
            when: asked.when(&copy.when)?,
            attributes: copy.attributes.clone(),
        };
        if self.pool.roles().check {
            let read = ReadOptions { range: None, if_match: stored.source_if_match.clone() };
            let source = self.inner.get(from, &read).await?;
            answer::readable(&source.info.attributes, "copy")?;
            let attributes = copy.attributes.clone().unwrap_or_else(|| source.info.attributes.clone());
            let info = ObjectInfo { key: to.clone(), attributes, ..source.info.clone() };
            let body = answer::bytes_of(source, self.most, "copy").await?;
            // What was checked is what is copied.
            stored.source_if_match = Some(info.etag.clone());
            self.permitted(&asked, &info, body).await?;
        }
        asked.outer(self.inner.copy(from, to, &stored).await?)
    }

    async fn set_attributes(&self, key: &Key, change: &AttributeChange) -> Result<ObjectInfo> {
        let asked = self.asked()?;
        let change = AttributeChange { if_match: asked.needed(change.if_match.as_ref())?, set: change.set.clone() };
        asked.outer(self.inner.set_attributes(key, &change).await?)
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let asked = self.asked()?;
        let page = self.inner.list(query).await?;
        let entries = page.entries.into_iter().map(|entry| match entry {
            ListEntry::Object(info) => asked.outer(info).map(ListEntry::Object),
            prefix @ ListEntry::Prefix(_) => Ok(prefix),
        });
        Ok(ListPage { entries: entries.collect::<Result<_>>()?, more: page.more })
    }

    async fn check(&self) -> Result<()> {
        self.pool.plugin()?;
        self.inner.check().await
    }

    /// None: a plugin sees objects, not their parts.
    fn multipart(&self) -> Option<&dyn Multipart> {
        None
    }

    /// None: older versions would be read as they are stored.
    fn versions(&self) -> Option<&dyn Versions> {
        None
    }

    /// None: what is appended would be written unseen.
    fn appends(&self) -> Option<&dyn Append> {
        None
    }

    /// None: another name could be one that is checked in another way.
    fn renames(&self) -> Option<&dyn Rename> {
        None
    }

    /// None: what comes would be read as it is stored.
    fn follows(&self) -> Option<&dyn Follow> {
        None
    }
}
