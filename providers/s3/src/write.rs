//! PUT: small bodies whole, larger ones as they come.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream;
use sluice_provider::{
    Attributes, ETag, Error, ErrorKind, Key, ObjectInfo, PutBody, PutOptions, PutWhen, Result, Seal, VersionId, version_of,
};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::answer::Answer;
use crate::form::{self, Headers, Record};
use crate::hops::{came, with_hops};
use crate::payload::Payload;
use crate::provider::{Inner, TRIES, detached, new_id};
use crate::remote::{date, name_version, quoted};
use crate::upload::Upload;

/// The largest body of one request (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>).
pub(crate) const MAX_PUT_BYTES: u64 = 5 * 1024 * 1024 * 1024;
/// Bodies of a length that nobody knows are sent in parts of this size.
pub(crate) const PART_BYTES: u64 = 8 * 1024 * 1024;

/// The headers that make a change conditional.
pub(crate) type When = Vec<(&'static str, String)>;

/// The beginning of a body, or all of it.
pub(crate) enum Gathered {
    Whole(Bytes),
    Beginning(BytesMut),
}

/// A piece for the request that is under way. Without a [`Feed::Last`] it breaks off.
enum Feed {
    Chunk(Bytes),
    Last(Option<Bytes>),
}

impl Inner {
    pub(crate) async fn put(self: &Arc<Self>, key: &Key, mut body: PutBody, put: &PutOptions) -> Result<ObjectInfo> {
        self.writable(key)?;
        self.keeps(&put.when)?;
        let buffered = body.size().filter(|size| *size <= self.settings.buffer_bytes);
        // Where others hold their bodies, and perhaps send them slowly, this one goes as it comes.
        let (room, most) = match (buffered.and_then(|size| self.room_now(size)), body.size()) {
            (Some(room), Some(size)) => (room, size),
            (None, Some(size)) if size <= MAX_PUT_BYTES => return self.put_streamed(key, body, size, put).await,
            _ => (self.room(PART_BYTES).await?, PART_BYTES),
        };
        match gather(&mut body, BytesMut::new(), most).await? {
            Gathered::Whole(bytes) => {
                let seal = body.seal()?;
                self.put_whole(key, bytes, room, seal, put).await
            }
            Gathered::Beginning(bytes) => self.put_in_parts(key, bytes, body, room, put).await,
        }
    }

    /// A body that is at hand, with its attributes, in one request.
    async fn put_whole(
        self: &Arc<Self>,
        key: &Key,
        bytes: Bytes,
        room: OwnedSemaphorePermit,
        seal: Seal,
        put: &PutOptions,
    ) -> Result<ObjectInfo> {
        let (this, key, put) = (Arc::clone(self), key.clone(), put.clone());
        detached(async move {
            let _turn = this.turn(&key).await;
            let (_room, name, remote) = (room, &this.remote.name(&key), &this.remote);
            let attributes = merged(&put.attributes, &seal);
            let (headers, record) = this.describe(&key, &attributes, &seal.etag).await?;
            let size = bytes.len() as u64;
            let written = this.under(&key, &put.when, |when| {
                let (payload, headers) = (Payload::Bytes(bytes.clone()), headers.clone());
                async move { remote.put(name, payload, headers, &when).await }
            });
            let written = written.await;
            let answer = this.or_drop(written, record.as_deref()).await?;
            this.written(&key, size, seal.etag, attributes, &answer).await
        })
        .await
    }

    /// A body as it comes. Its last piece is sent when all of it was verified, and its record is there.
    async fn put_streamed(self: &Arc<Self>, key: &Key, mut body: PutBody, size: u64, put: &PutOptions) -> Result<ObjectInfo> {
        let id = new_id()?;
        let headers = form::with_record(&put.attributes, &id, None)?;
        let when = self.condition(key, &put.when).await?;
        let (feed, pieces) = mpsc::channel(2);
        let payload = Payload::stream(fed(pieces), size);
        let (this, name) = (Arc::clone(self), self.remote.name(key));
        let call = async move { this.remote.put(&name, payload, headers, &when).await };
        let mut request = tokio::spawn(with_hops(came(), call));
        let over = |ended: Result<Result<Answer>, tokio::task::JoinError>| match ended {
            Ok(Err(error)) => error,
            Ok(Ok(_)) => Error::new(ErrorKind::Unavailable, "put object").with("reason", "answered before the body was sent"),
            Err(error) => Error::new(ErrorKind::Internal, "put object").caused_by(error),
        };
        let mut held: Option<Bytes> = None;
        loop {
            match body.chunk().await {
                Ok(None) => break,
                Ok(Some(chunk)) => {
                    let Some(ready) = held.replace(chunk) else { continue };
                    tokio::select! {
                        biased;
                        ended = &mut request => return Err(over(ended)),
                        sent = feed.send(Feed::Chunk(ready)) => if sent.is_err() {
                            return Err(over(request.await));
                        },
                    }
                }
                Err(error) => {
                    // The connection breaks before anybody hears of it, so that nothing of this comes later.
                    drop(feed);
                    drop(request.await);
                    return Err(error);
                }
            }
        }
        let seal = body.seal()?;
        let attributes = merged(&put.attributes, &seal);
        let turn = self.turn(key).await;
        self.remote.write_record(&id, &Record::new(self.remote.name(key).as_str(), &attributes, &seal.etag), &[]).await?;
        let (this, key, racy) = (Arc::clone(self), key.clone(), is_racy(&put.when));
        // From here on it happens, whether or not anybody waits for it.
        detached(async move {
            // When the request is over already, it says why.
            let _ = feed.send(Feed::Last(held)).await;
            let answer = match request.await {
                Ok(Err(error)) if racy && *error.kind() == ErrorKind::PreconditionFailed => {
                    Err(Error::new(ErrorKind::Conflict, "put object").caused_by(error))
                }
                Ok(answer) => answer,
                Err(error) => Err(Error::new(ErrorKind::Internal, "put object").caused_by(error)),
            };
            let answer = this.or_drop(answer, Some(&id)).await?;
            drop(turn);
            this.written(&key, size, seal.etag, attributes, &answer).await
        })
        .await
    }

    /// A body of unknown length, in parts that become an object at its end.
    async fn put_in_parts(
        self: &Arc<Self>,
        key: &Key,
        beginning: BytesMut,
        mut body: PutBody,
        room: OwnedSemaphorePermit,
        put: &PutOptions,
    ) -> Result<ObjectInfo> {
        let id = new_id()?;
        let mut upload = Upload::begin(self, &self.remote.name(key), form::with_record(&put.attributes, &id, None)?).await?;
        let mut size = 0;
        let mut part = beginning;
        loop {
            let (bytes, last) = match gather(&mut body, part, PART_BYTES).await? {
                Gathered::Whole(bytes) => (bytes, true),
                Gathered::Beginning(bytes) => (bytes.freeze(), false),
            };
            size += bytes.len() as u64;
            if !bytes.is_empty() || size == 0 {
                upload.put(Payload::Bytes(bytes)).await?;
            }
            if last {
                break;
            }
            part = BytesMut::new();
        }
        drop(room);
        let seal = body.seal()?;
        let attributes = merged(&put.attributes, &seal);
        let (this, key, when) = (Arc::clone(self), key.clone(), put.when.clone());
        detached(async move {
            let _turn = this.turn(&key).await;
            this.remote.write_record(&id, &Record::new(&upload.name, &attributes, &seal.etag), &[]).await?;
            let completed = this.under(&key, &when, |when| upload.complete(when)).await;
            let answer = this.or_drop(completed, Some(&id)).await?;
            this.written(&key, size, seal.etag, attributes, &answer).await
        })
        .await
    }

    /// The headers of an object, and the record that they name where they do not suffice.
    pub(crate) async fn describe(&self, key: &Key, attributes: &Attributes, etag: &ETag) -> Result<(Headers, Option<String>)> {
        // What lies in the metadata of a version can only be changed by making another one.
        if !self.remote.versions
            && let Some(headers) = form::inline(attributes, etag)?
        {
            return Ok((headers, None));
        }
        let id = new_id()?;
        self.remote.write_record(&id, &Record::new(&self.remote.name(key), attributes, etag), &[]).await?;
        Ok((form::with_record(attributes, &id, None)?, Some(id)))
    }

    /// Frees the record of a write that did not happen. When nobody knows, it stays.
    pub(crate) async fn or_drop<T>(&self, outcome: Result<T>, record: Option<&str>) -> Result<T> {
        if let (Err(error), Some(id)) = (&outcome, record)
            && matches!(error.kind(), ErrorKind::PreconditionFailed | ErrorKind::NotFound | ErrorKind::PermissionDenied)
        {
            self.drop_record(id).await;
        }
        outcome
    }

    /// What a write answers.
    pub(crate) async fn written(
        &self,
        key: &Key,
        size: u64,
        etag: ETag,
        attributes: Attributes,
        answer: &Answer,
    ) -> Result<ObjectInfo> {
        let mut info = ObjectInfo { key: key.clone(), size, etag, modified: date(answer), attributes };
        if self.remote.versions {
            name_version(&mut info.attributes, self.remote.version_of(&answer.headers)?);
        }
        if self.exact() {
            self.tell_time(&mut info).await;
        }
        Ok(info)
    }

    /// Asks when an object was written. That it cannot be asked is no error of the write.
    pub(crate) async fn tell_time(&self, info: &mut ObjectInfo) {
        let version = Some(version_of(&info.attributes)).filter(|version| *version != VersionId::Null);
        if let Ok(found) = self.remote.head(&self.remote.name(&info.key), version.as_ref()).await {
            info.modified = found.modified();
        }
    }

    /// The headers for a condition. Those of the remote compare its own ETags, which need not be the mount's: so the object is
    /// looked at first, and the change is tied to what was seen.
    pub(crate) async fn condition(&self, key: &Key, when: &PutWhen) -> Result<When> {
        let absent = || vec![("if-none-match", "*".to_owned())];
        match when {
            PutWhen::Always => Ok(Vec::new()),
            PutWhen::IfAbsent => Ok(absent()),
            PutWhen::IfPresent | PutWhen::IfMatch(_) | PutWhen::IfNoneMatch(_) => {
                let current = match self.look(key).await {
                    Ok((found, record)) => Some((found.info(key, record.as_ref())?.etag, found.tag)),
                    Err(error) if *error.kind() == ErrorKind::NotFound => None,
                    Err(error) => return Err(error),
                };
                when.check(current.as_ref().map(|(etag, _)| etag))?;
                Ok(current.map_or_else(absent, |(_, tag)| vec![("if-match", quoted(&tag))]))
            }
        }
    }

    /// Makes a change under a condition. One that holds for more than the state that was seen is tried on the next state.
    pub(crate) async fn under<T, F>(&self, key: &Key, when: &PutWhen, mut change: impl FnMut(When) -> F + Send) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send,
    {
        for _ in 0..TRIES {
            let headers = self.condition(key, when).await?;
            match change(headers).await {
                Err(error) if is_racy(when) && matches!(error.kind(), ErrorKind::PreconditionFailed | ErrorKind::Conflict) => {}
                outcome => return outcome,
            }
        }
        Err(Error::new(ErrorKind::Conflict, "change under a condition").with("key", key))
    }
}

/// Whether a condition may still hold when the object is another one than before.
pub(crate) fn is_racy(when: &PutWhen) -> bool {
    matches!(when, PutWhen::IfPresent | PutWhen::IfNoneMatch(_))
}

pub(crate) fn merged(given: &Attributes, seal: &Seal) -> Attributes {
    let mut attributes = given.clone();
    attributes.extend(seal.attributes.iter());
    attributes
}

/// Reads on until the body ends or `most` bytes are there and more follow.
pub(crate) async fn gather(body: &mut PutBody, mut bytes: BytesMut, most: u64) -> Result<Gathered> {
    // A body that came in one piece needs no copy.
    if bytes.is_empty() {
        let Some(first) = body.chunk().await? else { return Ok(Gathered::Whole(Bytes::new())) };
        match body.chunk().await? {
            None => return Ok(Gathered::Whole(first)),
            Some(second) => {
                bytes.extend_from_slice(&first);
                bytes.extend_from_slice(&second);
            }
        }
    }
    while bytes.len() as u64 <= most {
        match body.chunk().await? {
            None => return Ok(Gathered::Whole(bytes.freeze())),
            Some(chunk) => bytes.extend_from_slice(&chunk),
        }
    }
    Ok(Gathered::Beginning(bytes))
}

/// The body of a request, of what it is fed with.
fn fed(pieces: mpsc::Receiver<Feed>) -> futures::stream::BoxStream<'static, io::Result<Bytes>> {
    stream::unfold(Some(pieces), |pieces| async move {
        let mut pieces = pieces?;
        match pieces.recv().await {
            Some(Feed::Chunk(bytes)) => Some((Ok(bytes), Some(pieces))),
            Some(Feed::Last(Some(bytes))) => Some((Ok(bytes), None)),
            Some(Feed::Last(None)) => None,
            None => Some((Err(io::Error::other("the body broke off")), None)),
        }
    })
    .boxed()
}
