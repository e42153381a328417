//! The topics of a mount, and the one way in which they change: something is planned against what is there, made durable where there is a
//! log, and then shown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use parking_lot::RwLock;
use sluice_provider::{
    Attributes, DeleteKey, DeleteOutcome, ETag, Error, ErrorKind, Key, ObjectInfo, PutBody, PutWhen, Result, SEQUENCE_ATTRIBUTE,
    Seal,
};

use crate::feed::{Feed, Snapshot, Window};
use crate::journal::Journal;
use crate::limits::{Held, Limits};
use crate::log::{Life, Stored};
use crate::settings::Settings;

/// What the name of the object that tells of a topic ends with.
pub(crate) const INFO: &str = ".info";

/// The topics of a mount.
#[derive(Debug)]
pub(crate) struct Board {
    pub(crate) settings: Settings,
    pub(crate) limits: Arc<Limits>,
    pub(crate) objects: RwLock<BTreeMap<Key, Entry>>,
    pub(crate) journal: Option<Journal>,
}

/// A key: a topic, or what tells of one.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Topic(Topic),
    Info(Key),
}

#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(crate) feed: Arc<Feed>,
    /// Which of the topics that had its name it is. Told apart only in a log.
    pub(crate) life: u64,
    /// Of the last message.
    pub(crate) etag: ETag,
    pub(crate) attributes: Attributes,
    pub(crate) created: SystemTime,
    pub(crate) modified: SystemTime,
}

/// A message that is to be published.
#[derive(Debug)]
pub(crate) struct Publication {
    pub(crate) key: Key,
    pub(crate) info_name: Key,
    pub(crate) bytes: Bytes,
    pub(crate) held: Held,
    /// Of the body as it came.
    pub(crate) size: u64,
    pub(crate) seal: Seal,
    pub(crate) when: PutWhen,
    pub(crate) attributes: Attributes,
    /// Kept until the end, with whatever it holds: the right to publish.
    pub(crate) _body: PutBody,
}

pub(crate) fn missing(key: &Key) -> Error {
    Error::new(ErrorKind::NotFound, "topic").with("key", key)
}

fn read_only(key: &Key) -> Error {
    Error::new(ErrorKind::PermissionDenied, "change what tells of a topic").with("key", key)
}

impl Topic {
    /// What all messages that are kept are together, a newline between each two.
    pub(crate) fn info(&self, key: &Key, snapshot: &Snapshot) -> Result<ObjectInfo> {
        let newlines = snapshot.pieces.len().saturating_sub(1);
        let size = snapshot.pieces.iter().map(Bytes::len).sum::<usize>() + newlines;
        let last = snapshot.next - 1;
        let mut attributes = self.attributes.clone();
        attributes.set(SEQUENCE_ATTRIBUTE, last.to_string());
        let etag = self.tag(last)?;
        Ok(ObjectInfo { key: key.clone(), size: size as u64, etag, modified: self.modified, attributes })
    }

    /// The same messages, the same tag.
    fn tag(&self, last: u64) -> Result<ETag> {
        ETag::new(format!("{}-m{last}", self.etag))
    }

    pub(crate) fn told(&self, key: &Key, settings: &Settings) -> Result<(ObjectInfo, Bytes)> {
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

impl Board {
    pub(crate) fn new(settings: Settings, journal: Option<Journal>) -> Self {
        let limits = Limits::new(settings.quota_bytes, settings.max_followers);
        Self { settings, limits, objects: RwLock::default(), journal }
    }

    /// Shows topics that a log has.
    ///
    /// # Errors
    /// [`ErrorKind::QuotaExceeded`] where the mount may not hold as much.
    pub(crate) fn restore(&self, lives: Vec<Life>) -> Result<()> {
        let mut objects = self.objects.write();
        for Life { life, key, created, modified, etag, attributes, start, messages } in lives {
            let held = messages.into_iter().map(|(bytes, stored)| Ok((self.limits.take(bytes.len() as u64)?, bytes, stored)));
            let pieces = held.map(|one| one.map(|(held, bytes, stored)| (bytes, held, stored))).collect::<Result<_>>()?;
            let feed = Feed::restored(self.settings.messages, start, pieces);
            objects.insert(Key::new(format!("{key}{INFO}"))?, Entry::Info(key.clone()));
            objects.insert(key, Entry::Topic(Topic { feed, life, etag, attributes, created, modified }));
        }
        Ok(())
    }

    /// The topic of a key; the second is whether the key is that of what tells of it.
    pub(crate) fn find(&self, key: &Key) -> Result<(Topic, Key, bool)> {
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

    /// The topic as it is once the message is published, if it may be. `life` is that of a topic which is not there yet, `making` how many
    /// others are being made.
    pub(crate) fn place(
        &self,
        objects: &BTreeMap<Key, Entry>,
        one: &Publication,
        life: u64,
        making: usize,
        now: SystemTime,
    ) -> Result<Topic> {
        let there = match objects.get(&one.key) {
            Some(Entry::Info(_)) => return Err(read_only(&one.key)),
            Some(Entry::Topic(topic)) => Some(topic),
            None => None,
        };
        let tag = there.map(|topic| topic.tag(topic.feed.next() - 1)).transpose()?;
        one.when.check(tag.as_ref())?;
        if let Some(topic) = there {
            return Ok(topic.followed_by(one, now));
        }
        if matches!(objects.get(&one.info_name), Some(Entry::Topic(_))) {
            let what = "a topic has the name of what would tell of this one";
            return Err(Error::new(ErrorKind::Conflict, what).with("key", &one.key));
        }
        if objects.len() / 2 + making >= self.settings.max_objects {
            return Err(Error::new(ErrorKind::QuotaExceeded, "topics").with("most", self.settings.max_objects));
        }
        let feed = Feed::new(Window::Messages(self.settings.messages));
        let (etag, attributes) = (one.seal.etag.clone(), one.attributes.clone());
        Ok(Topic { feed, life, etag, attributes, created: now, modified: now })
    }

    /// Shows the message.
    pub(crate) fn show(
        &self,
        objects: &mut BTreeMap<Key, Entry>,
        topic: Topic,
        one: Publication,
        stored: Option<Stored>,
    ) -> ObjectInfo {
        let Publication { key, info_name, bytes, held, size, seal, .. } = one;
        let sequence = topic.feed.add(bytes, held, stored);
        // Those of the seal are of this message, and not of what a read of the topic is.
        let mut attributes = topic.attributes.clone();
        attributes.extend(seal.attributes.iter());
        attributes.set(SEQUENCE_ATTRIBUTE, sequence.to_string());
        let info = ObjectInfo { key: key.clone(), size, etag: topic.etag.clone(), modified: topic.modified, attributes };
        objects.insert(info_name, Entry::Info(key.clone()));
        objects.insert(key, Entry::Topic(topic));
        info
    }

    /// The topic that is to be deleted, and its size, if it may be; `None` where there is none.
    pub(crate) fn doomed(&self, objects: &BTreeMap<Key, Entry>, delete: &DeleteKey) -> Result<Option<(Topic, u64)>> {
        let key = &delete.key;
        let topic = match objects.get(key) {
            Some(Entry::Info(_)) => return Err(read_only(key)),
            Some(Entry::Topic(topic)) => Some(topic),
            None => None,
        };
        let info = topic.map(|topic| topic.info(key, &topic.feed.snapshot())).transpose()?;
        if !delete.when.holds(info.as_ref()) {
            return Err(Error::new(ErrorKind::PreconditionFailed, "delete").with("key", key));
        }
        Ok(topic.cloned().zip(info.map(|info| info.size)))
    }

    /// Takes a topic away; those who follow it come to its end.
    pub(crate) fn remove(&self, objects: &mut BTreeMap<Key, Entry>, key: &Key, (topic, size): (Topic, u64)) -> DeleteOutcome {
        objects.remove(key);
        objects.remove::<str>(&format!("{key}{INFO}"));
        topic.feed.close();
        DeleteOutcome::Deleted { size }
    }
}

impl Topic {
    /// The topic with one more message.
    pub(crate) fn followed_by(&self, one: &Publication, now: SystemTime) -> Self {
        Self { etag: one.seal.etag.clone(), attributes: one.attributes.clone(), modified: now, ..self.clone() }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        for entry in self.objects.get_mut().values() {
            if let Entry::Topic(topic) = entry {
                topic.feed.abandon();
            }
        }
    }
}
