//! Streams: objects of bytes that can be followed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use parking_lot::RwLock;
use sluice_provider::{
    Append, AppendOptions, Appended, AttributeChange, Attributes, Body, CopyOptions, DeleteKey, DeleteOutcome, ETag, Error,
    ErrorKind, Features, Follow, FollowFrom, Followed, Key, ListPage, ListQuery, Multipart, Object, ObjectInfo, Provider,
    PutBody, PutOptions, PutWhen, ReadOptions, Rename, RenameOptions, Result, SEQUENCE_ATTRIBUTE, Versions,
};

use crate::feed::{Feed, Snapshot, Window, gather};
use crate::limits::{Held, Limits, MAX_PAGE_ENTRIES};
use crate::settings::Settings;

/// Streams in memory.
#[derive(Debug)]
pub struct Streams {
    settings: Settings,
    limits: Arc<Limits>,
    objects: RwLock<BTreeMap<Key, Stream>>,
}

#[derive(Clone, Debug)]
struct Stream {
    info: ObjectInfo,
    feed: Arc<Feed>,
}

fn missing(operation: &'static str, key: &Key) -> Error {
    Error::new(ErrorKind::NotFound, operation).with("key", key)
}

pub(crate) fn matching(info: &ObjectInfo, wanted: Option<&ETag>) -> Result<()> {
    match wanted {
        Some(etag) if *etag != info.etag => Err(Error::new(ErrorKind::PreconditionFailed, "object").with("key", &info.key)),
        _ => Ok(()),
    }
}

/// The bytes of a range of what is kept.
fn body(snapshot: &Snapshot, range: &std::ops::Range<u64>) -> Body {
    let mut at = snapshot.start;
    let mut slices = Vec::new();
    for piece in &snapshot.pieces {
        let end = at + piece.len() as u64;
        let (from, to) = (range.start.max(at), range.end.min(end));
        if from < to {
            slices.push(piece.slice((from - at) as usize..(to - at) as usize));
        }
        at = end;
    }
    match slices.len() {
        0 => Body::Bytes(Bytes::new()),
        1 => Body::Bytes(slices.remove(0)),
        _ => Body::Stream(stream::iter(slices.into_iter().map(Ok)).boxed()),
    }
}

impl Streams {
    /// An empty mount.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let limits = Limits::new(settings.quota_bytes, settings.max_followers);
        Self { settings, limits, objects: RwLock::default() }
    }

    fn find(&self, key: &Key, wanted: Option<&ETag>) -> Result<Stream> {
        let found = self.objects.read().get(key).cloned().ok_or_else(|| missing("stream", key))?;
        matching(&found.info, wanted)?;
        Ok(found)
    }

    /// Puts a new stream in the place of what is there, if the condition holds; who follows that comes to its end.
    fn publish(
        &self,
        key: &Key,
        pieces: Vec<(Bytes, Held)>,
        etag: ETag,
        attributes: Attributes,
        when: &PutWhen,
    ) -> Result<ObjectInfo> {
        let feed = Feed::new(Window::Bytes(self.settings.window_bytes, self.settings.window));
        let size = pieces.iter().map(|(bytes, _)| bytes.len() as u64).sum();
        for (bytes, held) in pieces {
            if !bytes.is_empty() {
                feed.add(bytes, held, None);
            }
        }
        let mut objects = self.objects.write();
        let there = objects.get(key);
        when.check(there.map(|there| &there.info.etag))?;
        if there.is_none() && objects.len() >= self.settings.max_objects {
            return Err(Error::new(ErrorKind::QuotaExceeded, "streams").with("most", self.settings.max_objects));
        }
        let info = ObjectInfo { key: key.clone(), size, etag, modified: SystemTime::now(), attributes };
        let replaced = objects.insert(key.clone(), Stream { info: info.clone(), feed });
        drop(objects);
        if let Some(replaced) = replaced {
            replaced.feed.close();
        }
        Ok(info)
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.objects.get_mut().values().for_each(|stream| stream.feed.abandon());
    }
}

#[async_trait]
impl Provider for Streams {
    fn features(&self) -> Features {
        let max_object_bytes = Some(self.settings.window_bytes);
        Features { conditions: true, attributes: true, persistent: false, writable: true, max_object_bytes }
    }

    async fn head(&self, key: &Key, read: &ReadOptions) -> Result<ObjectInfo> {
        self.find(key, read.if_match.as_ref()).map(|found| found.info)
    }

    async fn get(&self, key: &Key, read: &ReadOptions) -> Result<Object> {
        let (mut info, snapshot) = {
            // What is kept and what is told of it, of one moment.
            let objects = self.objects.read();
            let found = objects.get(key).ok_or_else(|| missing("stream", key))?;
            matching(&found.info, read.if_match.as_ref())?;
            (found.info.clone(), found.feed.snapshot())
        };
        let range = match read.range {
            Some(range) => range.resolve(info.size)?,
            None => snapshot.start..info.size,
        };
        if range.start < snapshot.start {
            return Err(Error::new(ErrorKind::RangeNotSatisfiable { size: info.size }, "stream").with("oldest", snapshot.start));
        }
        let body = body(&snapshot, &range);
        if read.range.is_none() && snapshot.start > 0 {
            // All that there is: its length is what a reader of all is told, and where it begins. What was computed of all bytes is not
            // true of these, and offsets in them are not offsets in the stream.
            info.size = range.end - range.start;
            info.etag = ETag::new(format!("{}-from{}", info.etag, snapshot.start))?;
            info.attributes = info.attributes.iter().filter(|(name, _)| !name.starts_with("checksum.")).collect();
            info.attributes.set(SEQUENCE_ATTRIBUTE, snapshot.start.to_string());
            return Ok(Object { range: 0..info.size, info, body });
        }
        Ok(Object { info, range, body })
    }

    async fn put(&self, key: &Key, mut body: PutBody, put: &PutOptions) -> Result<ObjectInfo> {
        let piece = gather(&mut body, self.settings.window_bytes, &self.limits).await?;
        let seal = body.seal()?;
        let mut attributes = put.attributes.clone();
        attributes.extend(seal.attributes.iter());
        self.publish(key, vec![piece], seal.etag, attributes, &put.when)
    }

    async fn delete(&self, keys: &[DeleteKey]) -> Vec<Result<DeleteOutcome>> {
        let delete = |DeleteKey { key, when }: &DeleteKey| {
            let mut objects = self.objects.write();
            if !when.holds(objects.get(key).map(|found| &found.info)) {
                return Err(Error::new(ErrorKind::PreconditionFailed, "delete").with("key", key));
            }
            let removed = objects.remove(key);
            drop(objects);
            Ok(removed.map_or(DeleteOutcome::Absent, |removed| {
                removed.feed.close();
                DeleteOutcome::Deleted { size: removed.info.size }
            }))
        };
        keys.iter().map(delete).collect()
    }

    async fn copy(&self, from: &Key, to: &Key, copy: &CopyOptions) -> Result<ObjectInfo> {
        let found = self.find(from, copy.source_if_match.as_ref())?;
        let snapshot = found.feed.snapshot();
        if snapshot.start > 0 || snapshot.next != found.info.size {
            return Err(Error::new(ErrorKind::Conflict, "copy of a stream that moves").with("key", from));
        }
        let pieces = snapshot.pieces.into_iter().map(|bytes| {
            let held = self.limits.take(bytes.len() as u64)?;
            Ok((bytes, held))
        });
        let pieces = pieces.collect::<Result<_>>()?;
        let attributes = copy.attributes.clone().unwrap_or(found.info.attributes);
        self.publish(to, pieces, found.info.etag, attributes, &copy.when)
    }

    async fn set_attributes(&self, key: &Key, change: &AttributeChange) -> Result<ObjectInfo> {
        let mut objects = self.objects.write();
        let found = objects.get_mut(key).ok_or_else(|| missing("stream", key))?;
        matching(&found.info, change.if_match.as_ref())?;
        found.info.attributes.apply(change);
        Ok(found.info.clone())
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let objects = self.objects.read();
        query.page_of(MAX_PAGE_ENTRIES, |range| objects.range::<str, _>(range), |_, found| Ok(found.info.clone()))
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }

    fn multipart(&self) -> Option<&dyn Multipart> {
        None
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
        Some(self)
    }
}

#[async_trait]
impl Append for Streams {
    async fn append(&self, key: &Key, mut body: PutBody, append: &AppendOptions) -> Result<ObjectInfo> {
        let (bytes, held) = gather(&mut body, self.settings.window_bytes, &self.limits).await?;
        let appended = Appended { bytes: bytes.len() as u64, seal: body.seal()? };
        let when = &append.put.when;
        let mut objects = self.objects.write();
        let Some(found) = objects.get_mut(key) else {
            drop(objects);
            when.check(None)?;
            if append.offset != 0 {
                return Err(Error::new(ErrorKind::WriteOffset { size: 0 }, "append").with("key", key));
            }
            let mut attributes = append.put.attributes.clone();
            attributes.extend(appended.seal.attributes.iter());
            let made = self.publish(key, vec![(bytes, held)], appended.seal.etag, attributes, &PutWhen::IfAbsent);
            return made.map_err(|error| match error.kind() {
                // Another writer made it.
                ErrorKind::PreconditionFailed => Error::new(ErrorKind::Conflict, "append").with("key", key),
                _ => error,
            });
        };
        when.check(Some(&found.info.etag))?;
        if append.offset != found.info.size {
            return Err(Error::new(ErrorKind::WriteOffset { size: found.info.size }, "append").with("key", key));
        }
        if found.feed.is_closed() {
            return Err(Error::new(ErrorKind::Guarded, "append to a stream that is sealed").with("key", key));
        }
        let seal = append.growth.of(&found.info, &appended)?;
        found.info = ObjectInfo {
            key: key.clone(),
            size: found.info.size + appended.bytes,
            etag: seal.etag,
            modified: SystemTime::now(),
            attributes: seal.attributes,
        };
        let mut info = found.info.clone();
        let sequence = if bytes.is_empty() { append.offset } else { found.feed.add(bytes, held, None) };
        drop(objects);
        info.attributes.set(SEQUENCE_ATTRIBUTE, sequence.to_string());
        Ok(info)
    }
}

#[async_trait]
impl Rename for Streams {
    async fn rename(&self, from: &Key, to: &Key, rename: &RenameOptions) -> Result<ObjectInfo> {
        let mut objects = self.objects.write();
        let source = objects.get(from).cloned().ok_or_else(|| missing("rename", from))?;
        matching(&source.info, rename.source_if_match.as_ref())?;
        rename.when.check(objects.get(to).map(|there| &there.info.etag))?;
        if from == to {
            return Ok(source.info);
        }
        let mut info = ObjectInfo { key: to.clone(), ..source.info };
        info.attributes.apply(&AttributeChange { if_match: None, set: rename.set.clone() });
        objects.remove(from);
        let replaced = objects.insert(to.clone(), Stream { info: info.clone(), feed: source.feed });
        drop(objects);
        if let Some(replaced) = replaced {
            replaced.feed.close();
        }
        Ok(info)
    }
}

#[async_trait]
impl Follow for Streams {
    async fn follow(&self, key: &Key, from: FollowFrom) -> Result<Followed> {
        let place = self.limits.follower()?;
        let found = self.find(key, None)?;
        let at = found.feed.snapshot().begin(from, 0)?;
        Ok(Followed { info: found.info, messages: false, events: found.feed.follow(at, place) })
    }

    async fn seal(&self, key: &Key) -> Result<ObjectInfo> {
        let found = self.find(key, None)?;
        found.feed.close();
        Ok(found.info)
    }
}
