//! Bodies on their way to the remote. What must not be published never ends: the connection does.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::stream::{BoxStream, Stream as _};
use http_body::{Body, Frame, SizeHint};

/// Whether a body moves: what a wait for an answer looks at.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    moved: AtomicU64,
    starved: AtomicBool,
}

impl Progress {
    /// How many pieces went, and whether the next one is still to come from whoever sends it.
    pub(crate) fn look(&self) -> (u64, bool) {
        (self.moved.load(Ordering::Relaxed), self.starved.load(Ordering::Relaxed))
    }
}

/// A body of a known length.
pub(crate) enum Payload {
    /// In memory: can be sent again.
    Bytes(Bytes),
    /// Sent once. An error, or an end before its time, breaks the connection.
    Stream { frames: BoxStream<'static, io::Result<Bytes>>, left: u64, progress: Arc<Progress> },
}

impl Payload {
    pub(crate) fn empty() -> Self {
        Self::Bytes(Bytes::new())
    }

    pub(crate) fn stream(frames: BoxStream<'static, io::Result<Bytes>>, size: u64) -> Self {
        Self::Stream { frames, left: size, progress: Arc::default() }
    }

    /// The same once more, if it is in memory.
    pub(crate) fn again(&self) -> Option<Self> {
        match self {
            Self::Bytes(bytes) => Some(Self::Bytes(bytes.clone())),
            Self::Stream { .. } => None,
        }
    }

    pub(crate) fn progress(&self) -> Option<Arc<Progress>> {
        match self {
            Self::Bytes(_) => None,
            Self::Stream { progress, .. } => Some(Arc::clone(progress)),
        }
    }

    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Stream { left, .. } => *left,
        }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Bytes(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Stream { frames, left, progress } => {
                let next = Pin::new(frames).poll_next(cx);
                progress.starved.store(next.is_pending(), Ordering::Relaxed);
                progress.moved.fetch_add(1, Ordering::Relaxed);
                match next {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Some(Ok(bytes))) => match left.checked_sub(bytes.len() as u64) {
                        Some(rest) => {
                            *left = rest;
                            Poll::Ready(Some(Ok(Frame::data(bytes))))
                        }
                        None => Poll::Ready(Some(Err(io::Error::other("a body longer than declared")))),
                    },
                    Poll::Ready(None) if *left == 0 => Poll::Ready(None),
                    Poll::Ready(None) => Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
                    Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error))),
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Bytes(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.len())
    }
}
