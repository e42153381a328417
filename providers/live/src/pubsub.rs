//! Topics: a put publishes a message, a read is the last of them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use sluice_provider::{
    Append, AttributeChange, Body, CopyOptions, DeleteKey, DeleteOutcome, Error, ErrorKind, Features, Follow, FollowFrom,
    Followed, Key, ListPage, ListQuery, Multipart, Object, ObjectInfo, Provider, PutBody, PutOptions, ReadOptions, Rename,
    Result, Versions,
};

use crate::board::{Board, Entry, INFO, Publication, missing};
use crate::feed::{Snapshot, gather};
use crate::journal::Journal;
use crate::limits::MAX_PAGE_ENTRIES;
use crate::log::{Directory, PATIENCE, SEGMENT_BYTES};
use crate::settings::Settings;
use crate::stream::matching;

/// Topics in memory, and in a log where the settings name one.
#[derive(Debug)]
pub struct Topics(Arc<Board>);

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
    /// Opens a mount. Without a log it has no topics yet; with one, those that the log has. Blocks.
    ///
    /// # Errors
    /// Where there is a log: [`ErrorKind::Busy`] when another gateway or mount has it open, [`ErrorKind::Corrupt`] when it is damaged,
    /// [`ErrorKind::QuotaExceeded`] when it holds more than the mount may, and what the file system says.
    pub fn open(settings: Settings) -> Result<Self> {
        Self::open_with(settings, SEGMENT_BYTES, PATIENCE)
    }

    /// With segments of that length, and so much patience with whoever has the log open.
    pub(crate) fn open_with(settings: Settings, segment_bytes: u64, patience: Duration) -> Result<Self> {
        let Some(path) = settings.log.clone() else { return Ok(Self(Arc::new(Board::new(settings, None)))) };
        let directory =
            Directory { path: &path, durable: settings.durable, segment_bytes, messages: settings.messages, patience };
        let named = |error: Error| {
            let kind = *error.kind();
            Error::new(kind, "open the log of topics").with("log", path.display()).with("reason", error)
        };
        let (log, lives, next_life) = directory.open().map_err(named)?;
        let board = Board::new(settings, Some(Journal::new(log, next_life)));
        board.restore(lives).map_err(named)?;
        Ok(Self(Arc::new(board)))
    }

    #[cfg(test)]
    pub(crate) fn log_weight(&self) -> (u64, u64) {
        self.0.journal.as_ref().map_or((0, 0), Journal::weight)
    }

    /// A message without the newline at its end: lines that are sent one by one are messages.
    fn message(mut bytes: Bytes) -> Bytes {
        if bytes.last() == Some(&b'\n') {
            bytes.truncate(bytes.len() - 1);
        }
        bytes
    }
}

#[async_trait]
impl Provider for Topics {
    fn features(&self) -> Features {
        let max_object_bytes = Some(self.0.settings.max_message_bytes);
        Features { conditions: true, attributes: false, persistent: self.0.journal.is_some(), writable: true, max_object_bytes }
    }

    async fn head(&self, key: &Key, read: &ReadOptions) -> Result<ObjectInfo> {
        let (topic, name, tells) = self.0.find(key)?;
        let info = if tells { topic.told(&name, &self.0.settings)?.0 } else { topic.info(key, &topic.feed.snapshot())? };
        matching(&info, read.if_match.as_ref())?;
        Ok(info)
    }

    async fn get(&self, key: &Key, read: &ReadOptions) -> Result<Object> {
        let (topic, name, tells) = self.0.find(key)?;
        let (info, body) = if tells {
            let (info, bytes) = topic.told(&name, &self.0.settings)?;
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

    async fn put(&self, key: &Key, mut body: PutBody, put: &PutOptions) -> Result<ObjectInfo> {
        let info_name = Key::new(format!("{key}{INFO}"))?;
        let (bytes, held) = gather(&mut body, self.0.settings.max_message_bytes, &self.0.limits).await?;
        let (size, seal) = (bytes.len() as u64, body.seal()?);
        let (when, attributes) = (put.when.clone(), put.attributes.clone());
        let bytes = Self::message(bytes);
        self.0.publish(Publication { key: key.clone(), info_name, bytes, held, size, seal, when, attributes, _body: body }).await
    }

    async fn delete(&self, keys: &[DeleteKey]) -> Vec<Result<DeleteOutcome>> {
        // Together, so that they share a flush.
        futures::future::join_all(keys.iter().map(|key| self.0.delete(key))).await
    }

    async fn copy(&self, from: &Key, _to: &Key, _copy: &CopyOptions) -> Result<ObjectInfo> {
        Err(Error::new(ErrorKind::Unsupported, "copy of a topic").with("key", from))
    }

    async fn set_attributes(&self, key: &Key, _change: &AttributeChange) -> Result<ObjectInfo> {
        Err(Error::new(ErrorKind::Unsupported, "attributes of a topic").with("key", key))
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let objects = self.0.objects.read();
        query.page_of(
            MAX_PAGE_ENTRIES,
            |range| objects.range::<str, _>(range),
            |key, entry| match entry {
                Entry::Topic(topic) => topic.info(key, &topic.feed.snapshot()),
                Entry::Info(of) => match objects.get(of) {
                    Some(Entry::Topic(topic)) => topic.told(of, &self.0.settings).map(|(info, _)| info),
                    _ => Err(missing(key)),
                },
            },
        )
    }

    async fn check(&self) -> Result<()> {
        self.0.journal.as_ref().map_or(Ok(()), Journal::check)
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
        let place = self.0.limits.follower()?;
        let (topic, _, tells) = self.0.find(key)?;
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
