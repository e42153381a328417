//! The bytes of a connection, watched: a peer that does not send its request, or does not take its answer, loses the connection.
//!
//! One timer a connection, armed when something waits and moved on lazily, instead of one a request.
//!
//! A connection that ends while its client still sends (a refused upload) takes what comes for a moment longer: closed at once it would
//! answer the next bytes with a reset, and many systems throw the answer away with it before the client has read it.
//!
//! What cannot be read as a request never gets to the service: hyper answers it, with a status and nothing else. Such an answer gets
//! the edge's document here, on its way out.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::Response;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant, Sleep};
use tokio_rustls::server::TlsStream;

use super::connection::Connection;
use super::files::{Sent, is_mark};
use super::refusal;
use super::unsent::unsent;

/// How long bytes of a body that nobody wants are taken after the answer.
const LINGER: Duration = Duration::from_secs(1);

/// The interim answer.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What bytes go over.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin {
    /// The socket itself, where nothing lies between that would have to see the bytes.
    fn tcp(&self) -> Option<&TcpStream>;

    /// Bytes that the peer has not taken yet of those that were written; `None` when nobody knows.
    fn unsent(&self) -> Option<u64>;
}

impl Socket for TcpStream {
    fn tcp(&self) -> Option<&TcpStream> {
        Some(self)
    }

    fn unsent(&self) -> Option<u64> {
        unsent(self)
    }
}

impl Socket for TlsStream<TcpStream> {
    fn tcp(&self) -> Option<&TcpStream> {
        None
    }

    fn unsent(&self) -> Option<u64> {
        unsent(self.get_ref().0)
    }
}

/// A stream with its clock, which sends the files that are queued on its connection. `R` makes the document for a status that
/// hyper answers with by itself.
pub(super) struct Stream<I, R> {
    io: TokioIo<I>,
    connection: Arc<Connection>,
    idle: Duration,
    /// Since when it waits for the head of a request.
    head_since: Option<Instant>,
    head_begun: bool,
    /// Since when it waits for the peer to take what was written.
    write_since: Option<Instant>,
    /// What it had not taken then. A socket is writable again only when the peer has taken much of what the system holds for it, which
    /// takes a slow one longer than anybody should wait for one that has stopped.
    unsent: Option<u64>,
    /// Since when it is closed on our side.
    closed_since: Option<Instant>,
    alarm: Option<Pin<Box<Sleep>>>,
    refuse: R,
    /// What goes out in place of hyper's bare answer, and how long that is.
    refusal: Option<(Bytes, usize)>,
    /// What is left to write of an interim answer.
    interim: Bytes,
    /// Something was written and not flushed: it may be part of an earlier answer.
    unflushed: bool,
}

impl<I: Socket, R: Fn(u16) -> Response<Bytes>> Stream<I, R> {
    pub(super) fn new(io: I, connection: Arc<Connection>, idle: Duration, refuse: R) -> Self {
        let io = TokioIo::new(io);
        let (head_since, write_since, closed_since, alarm) = (None, None, None, None);
        Self {
            io,
            connection,
            idle,
            head_since,
            head_begun: false,
            write_since,
            unsent: None,
            closed_since,
            alarm,
            refuse,
            refusal: None,
            interim: Bytes::new(),
            unflushed: false,
        }
    }

    /// Writes the interim answer that the request is owed, if any. A client that has sent the request before it had all of an earlier
    /// answer did not wait for it, and gets none: it would come in the middle of that.
    fn write_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.connection.take_interim() && !self.unflushed {
            self.interim = Bytes::from_static(CONTINUE);
        }
        while !self.interim.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &self.interim))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.interim.advance(written);
        }
        self.unflushed = true;
        Poll::Ready(Ok(()))
    }

    /// Writes the edge's document in place of `bare`; ready with the length of that.
    fn write_refusal(&mut self, cx: &mut Context<'_>, bare: &[u8]) -> Poll<io::Result<usize>> {
        let (document, length) = match &mut self.refusal {
            Some(refusal) => refusal,
            None => {
                let Some(status) = refusal::bare_status(bare) else { return Poll::Ready(Ok(0)) };
                let document = refusal::bytes((self.refuse)(status), bare);
                self.refusal.insert((document, bare.len()))
            }
        };
        while !document.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, document))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            document.advance(written);
        }
        let length = *length;
        self.refusal = None;
        Poll::Ready(Ok(length))
    }

    fn is_refusal(&self, written: &[u8]) -> bool {
        self.refusal.is_some() || refusal::bare_status(written).is_some()
    }

    /// Ready when the time since `since` is over. A timer that was set for an earlier wait fires early once and is set anew.
    fn overdue(&mut self, cx: &mut Context<'_>, since: Instant) -> Poll<()> {
        self.reached(cx, since + self.idle)
    }

    fn reached(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        loop {
            ready!(alarm.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            alarm.as_mut().reset(deadline);
        }
    }

    fn read_waits(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // While a request is answered, hyper reads to notice that the client left: nothing is owed then. The request's own body has
        // its own clock.
        if self.connection.is_busy() {
            self.head_since = None;
            self.head_begun = false;
            return Poll::Pending;
        }
        let since = *self.head_since.get_or_insert_with(Instant::now);
        ready!(self.overdue(cx, since));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no request came")))
    }

    fn has_read(&mut self) {
        if self.connection.is_busy() {
            self.head_since = None;
            self.head_begun = false;
        } else if !self.head_begun {
            // The first bytes of a head: from here it has the whole time.
            self.head_begun = true;
            self.head_since = None;
        }
    }

    /// Writes the bytes that come before a piece of a file, or when there are none, sends the piece, as far as the socket takes it.
    fn send(&self, cx: &mut Context<'_>, before: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let Some(socket) = self.io.inner().tcp() else {
            return Poll::Ready(Err(io::Error::other("a file on a connection that sends none")));
        };
        let mut total = 0;
        loop {
            match socket.poll_write_ready(cx) {
                Poll::Pending if total > 0 => return Poll::Ready(Ok(total)),
                ready => ready!(ready)?,
            }
            let sent = socket.try_io(Interest::WRITABLE, || {
                if before.is_empty() {
                    return self.connection.files().send(socket, total);
                }
                // The file follows: no packet for the head alone.
                let flags = SendFlags::MORE | SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
                Ok(Sent { bytes: sendmsg(socket, before, &mut SendAncillaryBuffer::default(), flags)?, all: true })
            });
            match sent {
                // Then the socket is not ready any more: the next look waits.
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                // The connection ends with it, whatever went before.
                Err(error) => return Poll::Ready(Err(error)),
                Ok(sent) => {
                    total += sent.bytes;
                    if sent.all {
                        return Poll::Ready(Ok(total));
                    }
                }
            }
        }
    }

    fn written<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            if self.write_since.take().is_some() {
                self.connection.set_blocked(false);
            }
            return poll;
        }
        let since = match self.write_since {
            Some(since) => since,
            None => {
                self.connection.set_blocked(true);
                self.unsent = self.io.inner().unsent();
                *self.write_since.insert(Instant::now())
            }
        };
        let mut since = since;
        loop {
            ready!(self.overdue(cx, since));
            let unsent = self.io.inner().unsent();
            if unsent.is_none() || unsent >= self.unsent {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")));
            }
            // It moves, however slowly.
            self.unsent = unsent;
            since = *self.write_since.insert(Instant::now());
        }
    }
}

impl<I: Socket, R: Fn(u16) -> Response<Bytes> + Unpin> Read for Stream<I, R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.io).poll_read(cx, buf) {
            Poll::Pending => self.read_waits(cx),
            read => {
                self.has_read();
                read
            }
        }
    }
}

impl<I: Socket, R: Fn(u16) -> Response<Bytes> + Unpin> Write for Stream<I, R> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let poll = match self.write_interim(cx) {
            Poll::Ready(Ok(())) if self.is_refusal(buf) => self.write_refusal(cx, buf),
            Poll::Ready(Ok(())) => Pin::new(&mut self.io).poll_write(cx, buf),
            interim => interim.map_ok(|()| 0),
        };
        self.written(cx, poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.io).poll_flush(cx);
        self.unflushed &= poll.is_pending();
        poll
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let since = match self.closed_since {
            Some(since) => since,
            None => {
                ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
                *self.closed_since.insert(Instant::now())
            }
        };
        while self.connection.has_unread() {
            if self.reached(cx, since + LINGER).is_ready() {
                break;
            }
            let mut thrown_away = [0; 16 * 1024];
            let mut buffer = ReadBuf::new(&mut thrown_away);
            match ready!(Pin::new(self.io.inner_mut()).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                // The client is done, one way or the other.
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if let interim @ (Poll::Pending | Poll::Ready(Err(_))) = self.write_interim(cx) {
            return self.written(cx, interim.map_ok(|()| 0));
        }
        let poll = match (bufs, bufs.iter().position(is_mark)) {
            ([only], None) if self.is_refusal(only) => self.write_refusal(cx, only),
            (_, None) => Pin::new(&mut self.io).poll_write_vectored(cx, bufs),
            (_, Some(before)) => self.send(cx, bufs.get(..before).unwrap_or_default()),
        };
        self.written(cx, poll)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::sync::atomic::{AtomicU64, Ordering};

    use futures::FutureExt as _;

    use super::*;

    /// A peer that takes what a test says, and never so much that more could be written.
    struct Slow(Arc<AtomicU64>);

    impl AsyncRead for Slow {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Slow {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl Socket for Slow {
        fn tcp(&self) -> Option<&TcpStream> {
            None
        }

        fn unsent(&self) -> Option<u64> {
            Some(self.0.load(Ordering::Relaxed))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_little_is_kept_and_one_that_takes_nothing_is_not() {
        let (left, idle) = (Arc::new(AtomicU64::new(1_000_000)), Duration::from_secs(30));
        let connection = Arc::new(Connection::new(false));
        let mut stream = Stream::new(Slow(Arc::clone(&left)), connection, idle, |_| Response::new(Bytes::new()));
        let mut write = std::future::poll_fn(move |cx| Pin::new(&mut stream).poll_write(cx, b"x"));
        assert!((&mut write).now_or_never().is_none());
        for _ in 0..10 {
            left.fetch_sub(1000, Ordering::Relaxed);
            assert!(tokio::time::timeout(idle * 9 / 10, &mut write).await.is_err(), "cut off though it moves");
        }
        let error = tokio::time::timeout(idle * 3, &mut write).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
