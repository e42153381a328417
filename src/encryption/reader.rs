//! Content on its way out: fetched, opened and cut to the range that was asked for.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use sluice_provider as provider;
use sluice_provider::{Body, ByteStream};

use super::cipher::{DataKey, Segments, TAG_BYTES};
use super::layout::{HEAD_BYTES, Layout, SEGMENT_BYTES, Span, plan};
use super::writer::{BATCH, aside};
use crate::error::Result;
use crate::transfer::{Frames, frames};

/// Content up to this many bytes is opened whole before anything is answered.
const WHOLE_BYTES: u64 = 1024 * 1024;

/// Where stored bytes come from.
#[async_trait]
pub trait Fetch: Send + Sync {
    /// These bytes of what is stored, of the object that the opener was made for.
    ///
    /// # Errors
    /// The provider's.
    async fn fetch(&self, stored: Range<u64>) -> Result<Body>;
}

/// The key to an object, and what the object consists of.
pub struct Opener {
    pub(super) key: DataKey,
    pub(super) layout: Layout,
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener").field("layout", &self.layout).finish_non_exhaustive()
    }
}

impl Opener {
    /// A range of the content, which must lie within it. Yields exactly that, or an error: of small ranges here, else in the body.
    ///
    /// # Errors
    /// The provider's; its Corrupt when what is stored is not what was sealed.
    pub async fn read(&self, range: Range<u64>, from: &dyn Fetch) -> Result<Body> {
        let plan = plan(&self.layout, &range);
        let mut reader = Reader {
            input: None,
            buffer: BytesMut::new(),
            key: self.key.clone(),
            spans: plan.spans.into(),
            open: None,
            ready: VecDeque::new(),
        };
        if let (Some(head), Some(span)) = (plan.head, reader.spans.front()) {
            let bytes = gathered(frames(from.fetch(head).await?, HEAD_BYTES).await?).await?;
            let segments = part_segments(&self.key, span.part.unwrap_or_default(), &bytes)?;
            reader.open = Some((Arc::new(segments), span.first));
        }
        let bytes = plan.stored.end - plan.stored.start;
        match frames(from.fetch(plan.stored).await?, bytes).await? {
            Frames::Full(bytes) => reader.buffer = BytesMut::from(bytes),
            Frames::Stream(stream) => reader.input = Some(stream),
        }
        if range.end - range.start > WHOLE_BYTES {
            let steps = futures::stream::unfold(Some(reader), |reader| async move {
                let mut reader = reader?;
                match reader.step().await {
                    Ok(Some(chunk)) => Some((Ok(chunk), Some(reader))),
                    Ok(None) => None,
                    Err(error) => Some((Err(error), None)),
                }
            });
            return Ok(Body::Stream(steps.boxed()));
        }
        let mut chunks: Vec<Bytes> = Vec::new();
        while let Some(chunk) = reader.step().await? {
            chunks.push(chunk);
        }
        if chunks.len() < 2 {
            return Ok(Body::Bytes(chunks.pop().unwrap_or_default()));
        }
        Ok(Body::Bytes(chunks.concat().into()))
    }
}

/// The few bytes of a head, however they come.
async fn gathered(frames: Frames) -> provider::Result<Bytes> {
    match frames {
        Frames::Full(bytes) => Ok(bytes),
        Frames::Stream(mut stream) => {
            let mut bytes = BytesMut::new();
            while let Some(chunk) = stream.next().await {
                bytes.extend_from_slice(&chunk?);
            }
            Ok(bytes.freeze())
        }
    }
}

struct Reader {
    input: Option<ByteStream>,
    /// Stored bytes that were not opened yet.
    buffer: BytesMut,
    key: DataKey,
    spans: VecDeque<Span>,
    /// What opens the first span, and the segment that comes next.
    open: Option<(Arc<Segments>, u64)>,
    /// Content that was opened.
    ready: VecDeque<Bytes>,
}

impl Reader {
    /// The next content, never empty.
    async fn step(&mut self) -> provider::Result<Option<Bytes>> {
        loop {
            while let Some(chunk) = self.ready.pop_front() {
                if !chunk.is_empty() {
                    return Ok(Some(chunk));
                }
            }
            let Some(span) = self.spans.front().cloned() else { return Ok(None) };
            let (segments, next) = match self.open.take() {
                Some(open) => open,
                None => (Arc::new(self.begin(&span).await?), span.first),
            };
            let next = self.open_some(&span, Arc::clone(&segments), next).await?;
            if next == span.end {
                self.spans.pop_front();
            } else {
                self.open = Some((segments, next));
            }
        }
    }

    async fn begin(&mut self, span: &Span) -> provider::Result<Segments> {
        let Some(part) = span.part else { return Ok(self.key.stream()) };
        self.gather(HEAD_BYTES as usize).await?;
        let head = self.buffer.split_to(HEAD_BYTES as usize);
        part_segments(&self.key, part, &head)
    }

    /// Waits until so many stored bytes are at hand.
    async fn gather(&mut self, bytes: usize) -> provider::Result<()> {
        while self.buffer.len() < bytes {
            let chunk = match &mut self.input {
                Some(input) => input.next().await.transpose()?,
                None => None,
            };
            self.buffer.extend_from_slice(&chunk.ok_or_else(torn)?);
        }
        Ok(())
    }

    /// Opens the segments that are at hand, one at least and a batch at most. Answers which one comes next.
    async fn open_some(&mut self, span: &Span, segments: Arc<Segments>, next: u64) -> provider::Result<u64> {
        let sealed = |number| span.segment(number).0 as usize + TAG_BYTES;
        self.gather(sealed(next)).await?;
        let (mut lengths, mut taken) = (Vec::with_capacity(BATCH), 0);
        for number in (next..span.end).take(BATCH) {
            let length = sealed(number);
            if taken + length > self.buffer.len() {
                break;
            }
            lengths.push(length);
            taken += length;
        }
        let mut batch = self.buffer.split_to(taken);
        let (span, count) = (span.clone(), lengths.len() as u64);
        let open = move || {
            let mut opened = Vec::with_capacity(lengths.len());
            for (number, length) in (next..).zip(lengths) {
                let mut segment = batch.split_to(length);
                let tag = segment.split_off(length - TAG_BYTES);
                segments.open(number, span.segment(number).1, &mut segment, &tag)?;
                opened.push(cut(&span, number, segment.freeze()));
            }
            Ok(opened)
        };
        self.ready.extend(aside(count > 1, open).await?);
        Ok(next + count)
    }
}

/// The part of a segment's content that the range wants.
fn cut(span: &Span, number: u64, content: Bytes) -> Bytes {
    // Offsets in the span's segments, the first of which begins at 0.
    let begins = (number - span.first) * SEGMENT_BYTES;
    let (from, to) = (span.skip, span.skip + span.take);
    let at = |offset: u64| usize::try_from(offset.saturating_sub(begins)).unwrap_or(usize::MAX).min(content.len());
    content.slice(at(from)..at(to))
}

fn part_segments(key: &DataKey, part: u16, head: &[u8]) -> provider::Result<Segments> {
    let key = key.unwrap(head, &part_purpose(part));
    key.map(|key| key.stream()).ok_or_else(|| torn().with("part", part))
}

/// What binds a part's data key to its number.
pub(super) fn part_purpose(part: u16) -> Vec<u8> {
    [&b"sluice part "[..], &part.to_be_bytes()].concat()
}

fn torn() -> provider::Error {
    provider::Error::new(provider::ErrorKind::Corrupt, "decrypt")
}
