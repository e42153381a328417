//! Topics: a put publishes a message, a read is the last of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use parking_lot::RwLock;
use sluice_provider::{
    Append, AttributeChange, Attributes, Body, CopyOptions, DeleteKey, DeleteOutcome, ETag, Error, ErrorKind, Features, Follow,
    FollowFrom, Followed, Key, ListPage, ListQuery, Multipart, Object, ObjectInfo, Provider, PutBody, PutOptions, ReadOptions,
    Rename, Result, SEQUENCE_ATTRIBUTE, Versions,
};

use crate::feed::{Feed, Snapshot, Window, gather};
use crate::limits::{Limits, MAX_PAGE_ENTRIES};
use crate::settings::Settings;
use crate::stream::matching;

/// What the name of the object that tells of a topic ends with.
const INFO: &str = ".info";

/// Topics in memory.
#[derive(Debug)]
pub struct Topics {
    settings: Settings,
    limits: Arc<Limits>,
    objects: RwLock<BTreeMap<Key, Entry>>,
}

/// A key: a topic, or what tells of one.
#[derive(Clone, Debug)]
enum Entry {
    Topic(Topic),
    Info(Key),
}

#[derive(Clone, Debug)]
struct Topic {
    feed: Arc<Feed>,
    /// Of the last message.
    etag: ETag,
    attributes: Attributes,
    created: SystemTime,
    modified: SystemTime,
}

impl Topic {
    /// What all messages that are kept are together, a newline between each two.
    fn info(&self, key: &Key, snapshot: &Snapshot) -> Result<ObjectInfo> {
        let newlines = snapshot.pieces.len().saturating_sub(1);
        let size = snapshot.pieces.iter().map(Bytes::len).sum::<usize>() + newlines;
        let last = snapshot.next - 1;
        let mut attributes = self.attributes.clone();
        attributes.set(SEQUENCE_ATTRIBUTE, last.to_string());
        // The same messages, the same tag.
        let etag = ETag::new(format!("{}-m{last}", self.etag))?;
        Ok(ObjectInfo { key: key.clone(), size: size as u64, etag, modified: self.modified, attributes })
    }

    fn told(&self, key: &Key, settings: &Settings) -> Result<(ObjectInfo, Bytes)> {
        let snapshot = self.feed.snapshot();
        let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let told = serde_json::json!({
            "name": key.as_str(),
            "subscribers": self.feed.followers(),
            "messages": snapshot.next - 1,
            "retained": snapshot.pieces.len(),
            "ring_size": settings.messages,
            "oldest": snapshot.start,
            "created": seconds(self.created),
            "modified": seconds(self.modified),
        });
        let bytes = Bytes::from(format!("{told:#}\n"));
        let name = Key::new(format!("{key}{INFO}"))?;
        let etag = ETag::new(format!("{}-i{}-{}", self.etag, snapshot.next, self.feed.followers()))?;
        let attributes = [("content-type", "application/json")].into_iter().collect();
        Ok((ObjectInfo { key: name, size: bytes.len() as u64, etag, modified: self.modified, attributes }, bytes))
    }
}

fn missing(key: &Key) -> Error {
    Error::new(ErrorKind::NotFound, "topic").with("key", key)
}

fn read_only(key: &Key) -> Error {
    Error::new(ErrorKind::PermissionDenied, "change what tells of a topic").with("key", key)
}

fn joined(snapshot: Snapshot) -> Body {
    let mut pieces = Vec::with_capacity(snapshot.pieces.len() * 2);
    for message in snapshot.pieces {
        if !pieces.is_empty() {
            pieces.push(Bytes::from_static(b"\n"));
        }
        pieces.push(message);
    }
    match pieces.len() {
        0 => Body::Bytes(Bytes::new()),
        1 => Body::Bytes(pieces.remove(0)),
        _ => Body::Stream(stream::iter(pieces.into_iter().filter(|piece| !piece.is_empty()).map(Ok)).boxed()),
    }
}

impl Topics {
    /// No topics yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let limits = Limits::new(settings.quota_bytes, settings.max_followers);
        Self { settings, limits, objects: RwLock::default() }
    }

    /// The topic of a key; the second is whether the key is that of what tells of it.
    fn find(&self, key: &Key) -> Result<(Topic, Key, bool)> {
        let objects = self.objects.read();
        match objects.get(key) {
            Some(Entry::Topic(topic)) => Ok((topic.clone(), key.clone(), false)),
            Some(Entry::Info(of)) => match objects.get(of) {
                Some(Entry::Topic(topic)) => Ok((topic.clone(), of.clone(), true)),
                _ => Err(missing(key)),
            },
            None => Err(missing(key)),
        }
    }

    /// A message without the newline at its end: lines that are sent one by one are messages.
    fn message(mut bytes: Bytes) -> Bytes {
        if bytes.last() == Some(&b'\n') {
            bytes.truncate(bytes.len() - 1);
        }
        bytes
    }

    async fn publish(&self, key: &Key, mut body: PutBody, put: &PutOptions) -> Result<ObjectInfo> {
        let info_name = Key::new(format!("{key}{INFO}"))?;
        let (bytes, held) = gather(&mut body, self.settings.max_message_bytes, &self.limits).await?;
        let seal = body.seal()?;
        // Those of the seal are of this message, and not of what a read of the topic is.
        let attributes = put.attributes.clone();
        let mut objects = self.objects.write();
        let now = SystemTime::now();
        let there = match objects.get(key) {
            Some(Entry::Info(_)) => return Err(read_only(key)),
            Some(Entry::Topic(topic)) => Some(topic.clone()),
            None => None,
        };
        let current = there.as_ref().map(|topic| topic.info(key, &topic.feed.snapshot())).transpose()?;
        put.when.check(current.as_ref().map(|info| &info.etag))?;
        let topic = match there {
            Some(topic) => Topic { etag: seal.etag.clone(), attributes, modified: now, ..topic },
            None => {
                if matches!(objects.get(&info_name), Some(Entry::Topic(_))) {
                    return Err(
                        Error::new(ErrorKind::Conflict, "a topic has the name of what would tell of this one").with("key", key)
                    );
                }
                if objects.len() / 2 >= self.settings.max_objects {
                    return Err(Error::new(ErrorKind::QuotaExceeded, "topics").with("most", self.settings.max_objects));
                }
                let feed = Feed::new(Window::Messages(self.settings.messages));
                objects.insert(info_name, Entry::Info(key.clone()));
                Topic { feed, etag: seal.etag.clone(), attributes, created: now, modified: now }
            }
        };
        let size = bytes.len() as u64;
        let sequence = topic.feed.add(Self::message(bytes), held);
        let mut attributes = topic.attributes.clone();
        attributes.extend(seal.attributes.iter());
        attributes.set(SEQUENCE_ATTRIBUTE, sequence.to_string());
        let info = ObjectInfo { key: key.clone(), size, etag: topic.etag.clone(), modified: now, attributes };
        objects.insert(key.clone(), Entry::Topic(topic));
        Ok(info)
    }
}

#[async_trait]
impl Provider for Topics {
    fn features(&self) -> Features {
        let max_object_bytes = Some(self.settings.max_message_bytes);
        Features { conditions: true, attributes: false, persistent: false, writable: true, max_object_bytes }
    }

    async fn head(&self, key: &Key, read: &ReadOptions) -> Result<ObjectInfo> {
        let (topic, name, tells) = self.find(key)?;
        let info = if tells { topic.told(&name, &self.settings)?.0 } else { topic.info(key, &topic.feed.snapshot())? };
        matching(&info, read.if_match.as_ref())?;
        Ok(info)
    }

    async fn get(&self, key: &Key, read: &ReadOptions) -> Result<Object> {
        let (topic, name, tells) = self.find(key)?;
        let (info, body) = if tells {
            let (info, bytes) = topic.told(&name, &self.settings)?;
            (info, Body::Bytes(bytes))
        } else {
            let snapshot = topic.feed.snapshot();
            (topic.info(key, &snapshot)?, joined(snapshot))
        };
        matching(&info, read.if_match.as_ref())?;
        match read.range {
            // What is kept moves: a range of it would be of nothing in particular.
            Some(_) => Err(Error::new(ErrorKind::Unsupported, "a range of a topic").with("key", key)),
            None => Ok(Object { range: 0..info.size, info, body }),
        }
    }

    async fn put(&self, key: &Key, body: PutBody, put: &PutOptions) -> Result<ObjectInfo> {
        self.publish(key, body, put).await
    }

    async fn delete(&self, keys: &[DeleteKey]) -> Vec<Result<DeleteOutcome>> {
        let delete = |DeleteKey { key, when }: &DeleteKey| {
            let mut objects = self.objects.write();
            let topic = match objects.get(key) {
                Some(Entry::Info(_)) => return Err(read_only(key)),
                Some(Entry::Topic(topic)) => Some(topic.clone()),
                None => None,
            };
            let info = topic.as_ref().map(|topic| topic.info(key, &topic.feed.snapshot())).transpose()?;
            if !when.holds(info.as_ref()) {
                return Err(Error::new(ErrorKind::PreconditionFailed, "delete").with("key", key));
            }
            let (Some(topic), Some(info)) = (topic, info) else { return Ok(DeleteOutcome::Absent) };
            objects.remove(key);
            objects.remove(&Key::new(format!("{key}{INFO}"))?);
            drop(objects);
            topic.feed.close();
            Ok(DeleteOutcome::Deleted { size: info.size })
        };
        keys.iter().map(delete).collect()
    }

    async fn copy(&self, from: &Key, _to: &Key, _copy: &CopyOptions) -> Result<ObjectInfo> {
        Err(Error::new(ErrorKind::Unsupported, "copy of a topic").with("key", from))
    }

    async fn set_attributes(&self, key: &Key, _change: &AttributeChange) -> Result<ObjectInfo> {
        Err(Error::new(ErrorKind::Unsupported, "attributes of a topic").with("key", key))
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let objects = self.objects.read();
        query.page_of(
            MAX_PAGE_ENTRIES,
            |range| objects.range::<str, _>(range),
            |key, entry| match entry {
                Entry::Topic(topic) => topic.info(key, &topic.feed.snapshot()),
                Entry::Info(of) => match objects.get(of) {
                    Some(Entry::Topic(topic)) => topic.told(of, &self.settings).map(|(info, _)| info),
                    _ => Err(missing(key)),
                },
            },
        )
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
        None
    }

    fn renames(&self) -> Option<&dyn Rename> {
        None
    }

    fn follows(&self) -> Option<&dyn Follow> {
        Some(self)
    }
}

#[async_trait]
impl Follow for Topics {
    async fn follow(&self, key: &Key, from: FollowFrom) -> Result<Followed> {
        let place = self.limits.follower()?;
        let (topic, _, tells) = self.find(key)?;
        if tells {
            return Err(Error::new(ErrorKind::Unsupported, "follow what tells of a topic").with("key", key));
        }
        let snapshot = topic.feed.snapshot();
        let at = snapshot.begin(from, 1)?;
        Ok(Followed { info: topic.info(key, &snapshot)?, messages: true, events: topic.feed.follow(at, place) })
    }

    async fn seal(&self, key: &Key) -> Result<ObjectInfo> {
        Err(Error::new(ErrorKind::Unsupported, "seal a topic").with("key", key))
    }
}
