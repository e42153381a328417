//! The streams of an HTTP/2 connection, watched together: while any of them moves, the connection is let be; when nothing moves and a
//! client owes us something, it is closed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Duration, Instant};

use super::connection::EPOCH;

/// What its streams have in common.
#[derive(Debug, Default)]
pub(super) struct Streams {
    moved: AtomicU64,
    active: AtomicUsize,
    owed: AtomicUsize,
}

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Still {
    /// Nobody asks for anything.
    Idle,
    /// Somebody does not take an answer.
    Stalled,
}

/// The bytes of the connection, which tell when they move.
#[derive(Debug)]
pub(super) struct Moving<I> {
    io: I,
    streams: Arc<Streams>,
}

// === impl Streams ===

impl Streams {
    /// A stream begins.
    pub(super) fn begin(&self) {
        self.active.fetch_add(1, Ordering::AcqRel);
        self.note_moved();
    }

    /// A stream has ended.
    pub(super) fn end(&self) {
        self.active.fetch_sub(1, Ordering::AcqRel);
        self.note_moved();
    }

    /// A piece of an answer waits for the client, or does not any more.
    pub(super) fn owe(&self, owed: bool) {
        if owed {
            self.owed.fetch_add(1, Ordering::AcqRel);
        } else {
            self.owed.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// How many streams there are.
    pub(super) fn active(&self) -> usize {
        self.active.load(Ordering::Acquire)
    }

    fn note_moved(&self) {
        let now = u64::try_from(EPOCH.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.moved.store(now, Ordering::Relaxed);
    }

    /// Resolves when nothing has moved for so long and it is the client's turn. A stream that waits for us is not the client's fault.
    pub(super) async fn still(&self, idle: Duration) -> Still {
        loop {
            let deadline = *EPOCH + Duration::from_micros(self.moved.load(Ordering::Relaxed)) + idle;
            if Instant::now() < deadline {
                tokio::time::sleep_until(deadline).await;
                continue;
            }
            match (self.active(), self.owed.load(Ordering::Acquire)) {
                (0, _) => return Still::Idle,
                (_, 0) => tokio::time::sleep(idle).await,
                _ => return Still::Stalled,
            }
        }
    }
}

// === impl Moving ===

impl<I> Moving<I> {
    pub(super) fn new(io: I, streams: Arc<Streams>) -> Self {
        streams.note_moved();
        Self { io, streams }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Moving<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.io).poll_read(cx, buffer);
        if poll.is_ready() {
            self.streams.note_moved();
        }
        poll
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Moving<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.io).poll_write(cx, bytes);
        if poll.is_ready() {
            self.streams.note_moved();
        }
        poll
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.io).poll_write_vectored(cx, bytes);
        if poll.is_ready() {
            self.streams.note_moved();
        }
        poll
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_who_owes_is_stalled() {
        let (streams, idle) = (Streams::default(), Duration::from_secs(30));
        streams.note_moved();
        assert_eq!(streams.still(idle).await, Still::Idle);
        streams.begin();
        // Our turn, for as long as it takes.
        assert!(tokio::time::timeout(idle * 10, streams.still(idle)).await.is_err());
        streams.owe(true);
        assert_eq!(streams.still(idle).await, Still::Stalled);
        // Another stream moves.
        streams.note_moved();
        assert!(tokio::time::timeout(idle / 2, streams.still(idle)).await.is_err());
        streams.owe(false);
        streams.end();
        assert_eq!(streams.still(idle).await, Still::Idle);
    }
}
