//! Content on its way in: sealed segment by segment.

use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use sluice_provider::{ETag, Error, ErrorKind, PutBody, Result, SIZE_ATTRIBUTE, Seal};

use super::cipher::{Segments, TAG_BYTES};
use super::layout::{HEAD_BYTES, SEALED_BYTES, SEGMENT_BYTES, stored_bytes};
use crate::runtime;

/// Segments that are sealed or opened at once: beyond one, on a thread that may take its time.
pub(super) const BATCH: usize = 4;

/// What becomes of a body.
pub(super) struct Sealing {
    /// Of a key that has sealed nothing before.
    pub(super) segments: Segments,
    /// What precedes the segments.
    pub(super) head: Option<Bytes>,
    /// What is stored beside it.
    pub(super) attributes: Vec<(&'static str, String)>,
    /// Whether the ETag tells nothing of the content.
    pub(super) opaque: bool,
}

/// A body as it is to be stored. Its seal has the size of the content, and the checksums that the content's own seal has.
pub(super) fn seal(body: PutBody, sealing: Sealing) -> PutBody {
    let Sealing { segments, head, attributes, opaque } = sealing;
    let before = if head.is_some() { HEAD_BYTES } else { 0 };
    let size = body.size().map(|bytes| stored_bytes(bytes).saturating_add(before));
    let sealed = Arc::new(OnceLock::new());
    let writer = Writer {
        expected: body.size(),
        body,
        segments: Arc::new(segments),
        head,
        pending: Bytes::new(),
        out: BytesMut::new(),
        full: 0,
        filled: 0,
        number: 0,
        bytes: 0,
        beside: Some((attributes, opaque)),
        sealed: Arc::clone(&sealed),
    };
    let chunks = futures::stream::unfold(Some(writer), |writer| async move {
        let mut writer = writer?;
        match writer.step().await {
            Ok(Some(chunk)) => Some((Ok(chunk), Some(writer))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    });
    PutBody::new(chunks.boxed(), size, sealed)
}

struct Writer {
    body: PutBody,
    expected: Option<u64>,
    segments: Arc<Segments>,
    head: Option<Bytes>,
    /// Of a chunk, what is not in a segment yet.
    pending: Bytes,
    /// Segments with room for their tags, and at the end the one that is being filled.
    out: BytesMut,
    /// How many of them are full, and known not to be the last.
    full: usize,
    /// Content in the one that is being filled.
    filled: usize,
    /// The number of the first.
    number: u64,
    /// All content so far.
    bytes: u64,
    /// Given away with the end.
    beside: Option<(Vec<(&'static str, String)>, bool)>,
    sealed: Arc<OnceLock<Seal>>,
}

impl Writer {
    async fn step(&mut self) -> Result<Option<Bytes>> {
        if let Some(head) = self.head.take() {
            return Ok(Some(head));
        }
        if self.beside.is_none() {
            return Ok(None);
        }
        loop {
            if self.pending.is_empty() {
                match self.body.chunk().await? {
                    Some(chunk) => self.pending = chunk,
                    None => return self.finish().await.map(Some),
                }
            }
            self.fill();
            if self.full == BATCH {
                return self.seal_all(false).await.map(Some);
            }
        }
    }

    /// Moves what is pending into segments, up to a batch of full ones.
    fn fill(&mut self) {
        if self.out.is_empty() {
            let left = self.expected.map_or(u64::MAX, |expected| expected.saturating_sub(self.bytes));
            let room = stored_bytes(left.min(SEGMENT_BYTES * BATCH as u64));
            self.out.reserve(usize::try_from(room).unwrap_or(0));
        }
        while !self.pending.is_empty() {
            if self.filled == SEGMENT_BYTES as usize {
                // There is more: it is not the last.
                self.out.extend_from_slice(&[0; TAG_BYTES]);
                (self.full, self.filled) = (self.full + 1, 0);
                if self.full == BATCH {
                    return;
                }
            }
            let piece = self.pending.split_to(self.pending.len().min(SEGMENT_BYTES as usize - self.filled));
            self.out.extend_from_slice(&piece);
            self.filled += piece.len();
            self.bytes += piece.len() as u64;
        }
    }

    async fn finish(&mut self) -> Result<Bytes> {
        self.out.extend_from_slice(&[0; TAG_BYTES]);
        let last = self.seal_all(true).await?;
        let Seal { etag, mut attributes } = self.body.seal()?;
        let (beside, opaque) = self.beside.take().unwrap_or_default();
        attributes.set(SIZE_ATTRIBUTE, self.bytes.to_string());
        attributes.extend(beside);
        let etag = if opaque { random_etag()? } else { etag };
        // Filled once: a body ends once.
        let _ = self.sealed.set(Seal { etag, attributes });
        Ok(last)
    }

    async fn seal_all(&mut self, last: bool) -> Result<Bytes> {
        let mut out = std::mem::take(&mut self.out);
        let (first, segments) = (self.number, Arc::clone(&self.segments));
        self.number += self.full as u64;
        let large = self.full > 1;
        self.full = 0;
        let work = move || {
            let count = out.len().div_ceil(SEALED_BYTES as usize);
            for (at, segment) in out.chunks_mut(SEALED_BYTES as usize).enumerate() {
                let (text, tag) = segment.split_at_mut(segment.len() - TAG_BYTES);
                tag.copy_from_slice(&segments.seal(first + at as u64, last && at + 1 == count, text)?);
            }
            Ok(out.freeze())
        };
        aside(large, work).await
    }
}

/// Encrypts or decrypts, much of it where it keeps nobody waiting.
pub(super) async fn aside<T: Send + 'static>(large: bool, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let failed = |error| Error::new(ErrorKind::Internal, "encrypt or decrypt").caused_by(error);
    runtime::aside(large, work).await.map_err(failed)?
}

/// An ETag that looks like any other and tells nothing (of an object encrypted with SSE-C or SSE-KMS it is not an MD5:
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html>).
fn random_etag() -> Result<ETag> {
    let mut raw = [0; 16];
    getrandom::fill(&mut raw).map_err(|e| Error::new(ErrorKind::Internal, "read random bytes").with("cause", e))?;
    ETag::new(hex::encode(raw))
}

/// The text of bytes in an attribute.
pub(super) fn text(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}
