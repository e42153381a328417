//! Reading: what is answered is of one state of the object, or breaks off.
//!
//! Where the service keeps If-Match, the read is tied to the state that was looked at. Elsewhere the object is looked at once more
//! before the last bytes go out.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use opendal::options::ReaderOptions;
use opendal::{Buffer, ErrorKind as Theirs};
use sluice_provider::{Body, Error, ErrorKind, Key, Object, ReadOptions, Result};

use crate::error::failed;
use crate::provider::{Inner, Seen, same_state};

/// Up to so many bytes are read before the answer begins, and read again when the object changed meanwhile.
const SMALL: u64 = 1024 * 1024;
/// How often.
const TRIES: usize = 20;

/// A read under way.
struct Reading {
    inner: Arc<Inner>,
    key: Key,
    path: String,
    seen: Seen,
    pieces: BoxStream<'static, opendal::Result<Buffer>>,
    left: u64,
    /// Whether the service itself sees to it that it is one state.
    tied: bool,
}

impl Inner {
    pub(crate) async fn get(self: &Arc<Self>, key: &Key, read: &ReadOptions) -> Result<Object> {
        let path = self.names.path(key)?;
        let mut last = None;
        for _ in 0..TRIES {
            let seen = self.find(key, &path, read.if_match.as_ref()).await?;
            let info = seen.info.clone();
            let range = read.range.map_or(Ok(0..info.size), |range| range.resolve(info.size))?;
            if range.is_empty() {
                return Ok(Object { info, range, body: Body::Bytes(Bytes::new()) });
            }
            let mut reading = match self.begin(key, &path, seen, &range).await {
                Ok(reading) => reading,
                Err(error) if again(&error) => {
                    last = Some(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            if range.end - range.start <= SMALL {
                match reading.all().await {
                    Ok(bytes) => return Ok(Object { info, range, body: Body::Bytes(bytes) }),
                    Err(error) if again(&error) => {
                        last = Some(error);
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
            // The first piece tells whether the service gives anything at all.
            match reading.next().await {
                Ok(Some(first)) => {
                    let rest = stream::try_unfold(reading, |mut reading| async move {
                        Ok(reading.next().await?.map(|piece| (piece, reading)))
                    });
                    let body = Body::Stream(stream::once(async { Ok(first) }).chain(rest).boxed());
                    return Ok(Object { info, range, body });
                }
                Ok(None) => return Err(Error::new(ErrorKind::Unavailable, "read").with("reason", "the service gave no bytes")),
                Err(error) if again(&error) => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::new(ErrorKind::Conflict, "read")))
    }

    async fn begin(self: &Arc<Self>, key: &Key, path: &str, seen: Seen, range: &Range<u64>) -> Result<Reading> {
        let can = self.operator.info().capability().read_with_if_match;
        let if_match = seen.meta.etag().filter(|etag| can && !etag.starts_with("W/")).map(str::to_owned);
        let tied = if_match.is_some();
        let options = ReaderOptions { if_match, ..ReaderOptions::default() };
        let reader = self.operator.reader_options(path, options).await.map_err(|e| broken(&e))?;
        let pieces = reader.into_stream(range.clone()).await.map_err(|e| broken(&e))?;
        Ok(Reading {
            inner: Arc::clone(self),
            key: key.clone(),
            path: path.to_owned(),
            seen,
            pieces: pieces.boxed(),
            left: range.end - range.start,
            tied,
        })
    }
}

impl Reading {
    /// The next piece; the last one only when it is of the state that was promised.
    async fn next(&mut self) -> Result<Option<Bytes>> {
        if self.left == 0 {
            return Ok(None);
        }
        loop {
            let Some(piece) = self.pieces.try_next().await.map_err(|e| broken(&e))? else {
                return Err(Error::new(ErrorKind::Unavailable, "read").with("reason", "the service gave too few bytes"));
            };
            let piece = piece.to_bytes();
            if piece.is_empty() {
                continue;
            }
            let length = piece.len() as u64;
            self.left = self
                .left
                .checked_sub(length)
                .ok_or_else(|| Error::new(ErrorKind::Unavailable, "read").with("reason", "the service gave too many bytes"))?;
            if self.left == 0 && !self.tied {
                let (inner, key, path) = (Arc::clone(&self.inner), self.key.clone(), self.path.clone());
                match inner.look(&key, &path).await? {
                    Some(now) if same_state(&now, &self.seen) => {}
                    _ => return Err(Error::new(ErrorKind::Conflict, "an object changed while it was read")),
                }
            }
            return Ok(Some(piece));
        }
    }

    async fn all(&mut self) -> Result<Bytes> {
        let Some(first) = self.next().await? else { return Ok(Bytes::new()) };
        if self.left == 0 {
            return Ok(first);
        }
        let mut all = BytesMut::from(first.as_ref());
        while let Some(piece) = self.next().await? {
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }
}

/// The object became another one, or went away, since it was looked at.
fn again(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Conflict)
}

fn broken(error: &opendal::Error) -> Error {
    match error.kind() {
        Theirs::ConditionNotMatch | Theirs::NotFound | Theirs::RangeNotSatisfied => {
            Error::new(ErrorKind::Conflict, "an object changed while it was read").caused_by(failed("read", error))
        }
        _ => failed("read", error),
    }
}
