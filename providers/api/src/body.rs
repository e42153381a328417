//! Bytes in motion.

use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::stream::{BoxStream, Stream, StreamExt};

use crate::{Attributes, ETag, Error, ErrorKind, ObjectInfo, Result, SocketBody};

/// A stream of chunks. An error ends it; a reader must treat it as "the rest is unknown", never as the end.
pub type ByteStream = BoxStream<'static, Result<Bytes>>;

/// An object that was opened for reading.
#[derive(Debug)]
pub struct Object {
    /// Its metadata, of the same open as the body.
    pub info: ObjectInfo,
    /// The part of the object that `body` yields: the resolved range, or the whole.
    pub range: Range<u64>,
    /// The bytes of `range`.
    pub body: Body,
}

/// The bytes of a read, in the form that costs the provider least. The reader chooses how to move them.
pub enum Body {
    /// In memory.
    Bytes(Bytes),
    /// A range of an open file whose bytes nobody will ever modify in place.
    File {
        /// The open file.
        file: Arc<File>,
        /// Offsets into the file.
        range: Range<u64>,
    },
    /// What arrives on a socket of ours. Whoever has no other socket for it reads it: [`SocketBody::into_stream`].
    Socket(Box<SocketBody>),
    /// Anything else. Yields exactly the promised number of bytes, or an error.
    Stream(ByteStream),
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::File { range, .. } => write!(f, "File({range:?})"),
            Self::Socket(body) => write!(f, "Socket({})", body.length()),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

/// What is known of a body only when all of it went by.
#[derive(Clone, Debug)]
pub struct Seal {
    /// The ETag to store.
    pub etag: ETag,
    /// Attributes to store beside those of [`PutOptions`](crate::PutOptions), such as computed checksums; they win.
    pub attributes: Attributes,
}

/// A body on its way in. It yields its last chunk only after everything that was declared about it has been verified, so that
/// a provider that merely forwards bytes cannot publish a bad object; after the end, [`seal`](Self::seal) tells its ETag.
pub struct PutBody {
    stream: ByteStream,
    size: Option<u64>,
    seal: Arc<OnceLock<Seal>>,
}

impl PutBody {
    /// A verified stream of `size` bytes (when known) whose producer fills `seal` before it ends.
    #[must_use]
    pub fn new(stream: ByteStream, size: Option<u64>, seal: Arc<OnceLock<Seal>>) -> Self {
        Self { stream, size, seal }
    }

    /// Bytes at hand with their seal.
    #[must_use]
    pub fn from_bytes(bytes: Bytes, seal: Seal) -> Self {
        let size = Some(bytes.len() as u64);
        let stream = futures::stream::iter((!bytes.is_empty()).then_some(Ok(bytes))).boxed();
        Self::new(stream, size, Arc::new(OnceLock::from(seal)))
    }

    /// The length in bytes, when it was declared. The body then has exactly this length, or ends in an error.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// The next chunk, never empty; `None` at the clean end.
    ///
    /// # Errors
    /// [`ErrorKind::Body`] and whatever else keeps the body from being whole: do not publish.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        self.stream.next().await.transpose()
    }

    /// ETag and attributes of the whole. To be called after the clean end.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the body has not ended.
    pub fn seal(&self) -> Result<Seal> {
        self.seal.get().cloned().ok_or_else(|| Error::new(ErrorKind::Internal, "seal of a body that has not ended"))
    }
}

impl Stream for PutBody {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.stream.poll_next_unpin(cx)
    }
}

impl fmt::Debug for PutBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PutBody").field("size", &self.size).finish_non_exhaustive()
    }
}
