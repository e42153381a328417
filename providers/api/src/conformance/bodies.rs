//! Bodies on their way in (whole, in odd chunks, broken, held half way) and on their way out.

use std::os::unix::fs::FileExt;
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use md5::{Digest, Md5};
use tokio::sync::{Notify, oneshot};

use crate::{Attributes, Body, BodyFault, ByteStream, ETag, Error, ErrorKind, Object, PutBody, Result, Seal};

/// The ETag that every body of the suite carries: the MD5 of its content, so that any answer can be checked against its bytes.
pub(super) fn etag_of(content: &[u8]) -> ETag {
    ETag::new(hex::encode(Md5::digest(content))).expect("an MD5 in hex is a sound ETag")
}

/// `len` bytes that look random and depend on `seed` alone.
pub(super) fn content(seed: u64, len: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

/// A body in one chunk.
pub(super) fn body(content: &Bytes) -> PutBody {
    PutBody::from_bytes(content.clone(), seal_of(content))
}

/// A body in chunks of these sizes, again and again. Its seal appears only with its end.
pub(super) fn chunked(content: &Bytes, sizes: &[usize], declare: bool) -> PutBody {
    let chunks: Vec<_> = split(content, sizes).into_iter().map(Ok).collect();
    sealed(stream::iter(chunks).boxed(), content, declare, seal_of(content))
}

/// A body with a seal of its own.
pub(super) fn sealed_as(content: &Bytes, seal: Seal) -> PutBody {
    sealed(stream::iter([Ok(content.clone())]).boxed(), content, true, seal)
}

/// A body that ends in an error after its first `good` bytes.
pub(super) fn broken(content: &Bytes, good: usize, chunk: usize, declare: bool) -> PutBody {
    let fault = Error::new(ErrorKind::Body(BodyFault::Incomplete), "a body that the suite broke");
    let chunks = split(&content.slice(..good), &[chunk]).into_iter().map(Ok);
    let stream = stream::iter(chunks.chain([Err(fault)]).collect::<Vec<_>>()).boxed();
    PutBody::new(stream, declare.then_some(content.len() as u64), Arc::default())
}

/// A body whose every chunk comes only after the task was woken again, so that a put of it has many points to be dropped at.
pub(super) fn hesitant(content: &Bytes, chunk: usize) -> PutBody {
    let chunks = split(content, &[chunk]);
    let stream = stream::iter(chunks).then(|chunk| async move {
        tokio::task::yield_now().await;
        Ok(chunk)
    });
    sealed(stream.boxed(), content, true, seal_of(content))
}

/// The far end of a body that [`held`] back its second half.
pub(super) struct Hold {
    reached: oneshot::Receiver<()>,
    release: Arc<Notify>,
}

impl Hold {
    /// Waits until the first half was taken and the second one is asked for.
    pub(super) async fn reached(&mut self) {
        (&mut self.reached).await.expect("the put ended without asking for the second half of its body");
    }

    /// Lets the second half go.
    pub(super) fn release(&self) {
        self.release.notify_one();
    }
}

/// A body that yields its first half and keeps its second half until told.
pub(super) fn held(content: &Bytes) -> (PutBody, Hold) {
    let (tell, reached) = oneshot::channel();
    let release = Arc::new(Notify::new());
    let gate = release.clone();
    let (first, second) = (content.slice(..content.len() / 2), content.slice(content.len() / 2..));
    let stream = stream::iter([Ok(first)]).chain(stream::once(async move {
        // The receiver is gone when a test no longer cares.
        let _ = tell.send(());
        gate.notified().await;
        Ok(second)
    }));
    (sealed(stream.boxed(), content, true, seal_of(content)), Hold { reached, release })
}

/// A body that waits for `ready` before its last byte.
pub(super) fn last_byte_after(content: &Bytes, ready: impl Future + Send + 'static) -> PutBody {
    let (first, last) = (content.slice(..content.len() - 1), content.slice(content.len() - 1..));
    let first = stream::iter((!first.is_empty()).then_some(Ok(first)));
    let stream = first.chain(stream::once(async move {
        ready.await;
        Ok(last)
    }));
    sealed(stream.boxed(), content, true, seal_of(content))
}

/// The bytes of a read, which must be as many as promised.
pub(super) async fn bytes_of(object: Object) -> Bytes {
    try_bytes_of(object).await.expect("the body of a read")
}

/// The bytes of a read, or the error that broke it.
pub(super) async fn try_bytes_of(object: Object) -> Result<Bytes> {
    let promised = object.range.end - object.range.start;
    let bytes = match object.body {
        Body::Bytes(bytes) => bytes,
        Body::File { file, range } => tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; usize::try_from(range.end - range.start).expect("a body of the suite fits")];
            file.read_exact_at(&mut bytes, range.start).map(|()| Bytes::from(bytes))
        })
        .await
        .expect("the read task")
        .map_err(|e| Error::new(ErrorKind::Corrupt, "read of an open file").caused_by(e))?,
        Body::Socket(body) => gathered(body.into_stream()).await?,
        Body::Stream(stream) => gathered(stream).await?,
    };
    assert_eq!(bytes.len() as u64, promised, "a body yields as many bytes as its range promises");
    Ok(bytes)
}

async fn gathered(stream: ByteStream) -> Result<Bytes> {
    let all = stream.try_fold(BytesMut::new(), |mut all, chunk| async move {
        all.extend_from_slice(&chunk);
        Ok(all)
    });
    all.await.map(BytesMut::freeze)
}

fn seal_of(content: &[u8]) -> Seal {
    Seal { etag: etag_of(content), attributes: Attributes::new() }
}

fn sealed(chunks: BoxStream<'static, Result<Bytes>>, content: &Bytes, declare: bool, seal: Seal) -> PutBody {
    let slot = Arc::new(OnceLock::new());
    let fill = slot.clone();
    let end = stream::once(async move {
        // Nobody else fills it.
        let _ = fill.set(seal);
    });
    let stream = chunks.map(Some).chain(end.map(|()| None)).filter_map(futures::future::ready);
    PutBody::new(stream.boxed(), declare.then_some(content.len() as u64), slot)
}

fn split(content: &Bytes, sizes: &[usize]) -> Vec<Bytes> {
    let mut rest = content.clone();
    let mut chunks = Vec::new();
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        chunks.push(rest.split_to((*size).min(rest.len())));
    }
    chunks
}
