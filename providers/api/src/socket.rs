//! A body that arrives on a socket of ours, with nothing between that would have to see its bytes.
//!
//! Who wants the bytes reads them. Who only hands them on to another socket lets the kernel move them through a pipe (splice(2)): they are
//! never in our memory, and what two copies would cost is not spent.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use futures::task::AtomicWaker;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::{AsyncReadExt as _, Interest};
use tokio::net::TcpStream;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use crate::{ByteStream, Error, ErrorKind, Result};

const BODY: &str = "body of the remote";

/// What a pipe holds in bytes. A relay took 1.0 ms of the processor for 16 MiB with 64 KiB, 0.75 with 256 KiB, 0.6 with this and 0.5 with a mebibyte, but the
/// pipes of an unprivileged user hold 64 MiB together before the system gives out smaller ones, `pipe-user-pages-soft` in pipe(7).
const PIPE_BYTES: usize = 512 * 1024;
/// In smaller pipes, which whoever has too many gets, bytes are not worth moving.
const LEAST_PIPE_BYTES: usize = 64 * 1024;
/// The least and the most that is read into memory at once, in bytes: more after each read that filled what it had.
const READ_BYTES: (usize, usize) = (64 * 1024, 1024 * 1024);

/// The body of an answer that comes on a TCP connection, of a known length.
pub struct SocketBody {
    /// None after the last byte.
    socket: Option<TcpStream>,
    /// What came along with the head of the answer.
    read: Bytes,
    /// What is still to come of the body, `read` included.
    left: u64,
    patience: Duration,
    give_back: Option<GiveBack>,
    held: Vec<Box<dyn Send + Sync>>,
}

type GiveBack = Box<dyn FnOnce(TcpStream) + Send + Sync>;

impl SocketBody {
    /// `read` has been read of the body already, and the rest of `length` bytes is to come on `socket`, each part of it within `patience`
    /// of the one before. After the last byte `give_back` has the socket for the next request; a socket whose body was not read to its end
    /// is closed.
    pub fn new(
        socket: TcpStream,
        read: Bytes,
        length: u64,
        patience: Duration,
        give_back: impl FnOnce(TcpStream) + Send + Sync + 'static,
    ) -> Self {
        let mut body =
            Self { socket: Some(socket), read, left: length, patience, give_back: Some(Box::new(give_back)), held: Vec::new() };
        body.took(0);
        body
    }

    /// The same, which keeps `what` until it is dropped.
    #[must_use]
    pub fn holding(mut self, what: impl Send + Sync + 'static) -> Self {
        self.held.push(Box::new(what));
        self
    }

    /// Bytes that are to come.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.left
    }

    /// Waits for the first bytes.
    ///
    /// # Errors
    /// As those of [`into_stream`](Self::into_stream).
    pub async fn begun(&self) -> Result<()> {
        let Some(socket) = self.socket.as_ref().filter(|_| self.read.is_empty()) else { return Ok(()) };
        came(timeout(self.patience, socket.peek(&mut [0])).await).map(drop)
    }

    /// The bytes, in memory.
    ///
    /// The stream ends in [`ErrorKind::TimedOut`] when nothing comes in time, and in [`ErrorKind::Unavailable`] when the connection
    /// ends before the body, or more came with the head than the body has.
    #[must_use]
    pub fn into_stream(self) -> ByteStream {
        stream::unfold(Some((self, READ_BYTES.0)), |body| async move {
            let (mut body, mut size) = body?;
            match body.chunk(&mut size).await {
                Ok(None) => None,
                Ok(Some(bytes)) => Some((Ok(bytes), Some((body, size)))),
                Err(error) => Some((Err(error), None)),
            }
        })
        .boxed()
    }

    /// The bytes for another socket. Errors as those of [`into_stream`](Self::into_stream); where no pipe can be had all of it comes in
    /// memory.
    #[must_use]
    pub fn into_pieces(self) -> BoxStream<'static, Result<SocketPiece>> {
        let Ok(pipe) = Pipe::new() else { return self.into_stream().map_ok(SocketPiece::Bytes).boxed() };
        let pipe = Arc::new(pipe);
        stream::unfold(Some(self), move |body| {
            let pipe = Arc::clone(&pipe);
            async move {
                let mut body = body?;
                match body.piece(&pipe).await {
                    Ok(None) => None,
                    Ok(Some(piece)) => Some((Ok(piece), Some(body))),
                    Err(error) => Some((Err(error), None)),
                }
            }
        })
        .boxed()
    }

    /// What came before anybody asked.
    fn head(&mut self) -> Result<Option<Bytes>> {
        let head = std::mem::take(&mut self.read);
        if head.len() as u64 > self.left {
            return Err(broken("it is longer than was said"));
        }
        self.took(head.len());
        Ok((!head.is_empty()).then_some(head))
    }

    /// The socket, and how much of what it has is the body's.
    fn rest(&mut self) -> Option<(&mut TcpStream, usize)> {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        self.socket.as_mut().map(|socket| (socket, left))
    }

    async fn chunk(&mut self, size: &mut usize) -> Result<Option<Bytes>> {
        if let Some(head) = self.head()? {
            return Ok(Some(head));
        }
        let patience = self.patience;
        let Some((socket, left)) = self.rest() else { return Ok(None) };
        let most = left.min(*size);
        let mut bytes = BytesMut::with_capacity(most);
        // However large the buffer came out: what follows belongs to the next answer.
        let mut socket = socket.take(most as u64);
        let count = came(timeout(patience, socket.read_buf(&mut bytes)).await)?;
        if count == *size {
            *size = (*size * 2).min(READ_BYTES.1);
        }
        self.took(count);
        Ok(Some(bytes.freeze()))
    }

    async fn piece(&mut self, pipe: &Arc<Pipe>) -> Result<Option<SocketPiece>> {
        if let Some(head) = self.head()? {
            return Ok(Some(SocketPiece::Bytes(head)));
        }
        let patience = self.patience;
        let Some((socket, left)) = self.rest() else { return Ok(None) };
        // What is in it has to leave first: of a full pipe and of an empty socket the system says the same.
        poll_fn(|cx| pipe.poll_empty(cx)).await;
        let most = left.min(PIPE_BYTES);
        let count = came(timeout(patience, socket.async_io(Interest::READABLE, || pipe.fill(&*socket, most))).await)?;
        self.took(count);
        Ok(Some(SocketPiece::Pipe(PipePiece { pipe: Arc::clone(pipe), left: count })))
    }

    /// Notes bytes of the body; after the last of them the socket is somebody else's.
    fn took(&mut self, count: usize) {
        self.left = self.left.saturating_sub(count as u64);
        if self.left == 0
            && self.read.is_empty()
            && let (Some(socket), Some(give_back)) = (self.socket.take(), self.give_back.take())
        {
            give_back(socket);
        }
    }
}

impl fmt::Debug for SocketBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketBody").field("left", &self.left).finish_non_exhaustive()
    }
}

/// How many bytes came; there were some to come.
fn came(outcome: Result<io::Result<usize>, Elapsed>) -> Result<usize> {
    match outcome {
        Err(_) => Err(Error::new(ErrorKind::TimedOut, BODY)),
        Ok(Err(error)) => Err(broken("the connection broke").caused_by(error)),
        Ok(Ok(0)) => Err(broken("it ended early")),
        Ok(Ok(count)) => Ok(count),
    }
}

fn broken(what: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, BODY).with("reason", what)
}

/// A part of a body for another socket, never empty.
#[derive(Debug)]
pub enum SocketPiece {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Bytes in a pipe. The piece after it comes only when all of it has left the pipe.
    Pipe(PipePiece),
}

/// Bytes in a pipe.
#[derive(Debug)]
pub struct PipePiece {
    pipe: Arc<Pipe>,
    left: usize,
}

impl PipePiece {
    /// Bytes that are in it.
    #[must_use]
    pub fn length(&self) -> usize {
        self.left
    }

    /// Moves bytes into a socket, as many as it takes at once; how many is told to [`sent`](Self::sent).
    ///
    /// # Errors
    /// `WouldBlock`; what splice(2) says.
    pub fn send(&self, socket: impl AsFd) -> io::Result<usize> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        Ok(splice(&self.pipe.exit, None, socket, None, self.left, flags)?)
    }

    /// Notes bytes that have left it.
    pub fn sent(&mut self, bytes: usize) {
        let bytes = bytes.min(self.left);
        self.left -= bytes;
        self.pipe.left(bytes);
    }

    /// What tells when it has left the pipe.
    #[must_use]
    pub fn pipe(&self) -> Arc<Pipe> {
        Arc::clone(&self.pipe)
    }
}

/// A pipe between two sockets.
#[derive(Debug)]
pub struct Pipe {
    entry: OwnedFd,
    exit: OwnedFd,
    holds: AtomicUsize,
    waiting: AtomicWaker,
}

impl Pipe {
    fn new() -> io::Result<Self> {
        let (exit, entry) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Refused beyond what the user may have; then it has the size that pipes have.
        let _ = fcntl_setpipe_size(&entry, PIPE_BYTES);
        if fcntl_getpipe_size(&entry)? < LEAST_PIPE_BYTES {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        Ok(Self { entry, exit, holds: AtomicUsize::new(0), waiting: AtomicWaker::new() })
    }

    /// Moves what the socket has into it.
    fn fill(&self, socket: &TcpStream, most: usize) -> io::Result<usize> {
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let count = splice(socket, None, &self.entry, None, most, flags)?;
        self.holds.fetch_add(count, Ordering::AcqRel);
        Ok(count)
    }

    fn left(&self, bytes: usize) {
        if self.holds.fetch_sub(bytes, Ordering::AcqRel) == bytes {
            self.waiting.wake();
        }
    }

    /// Ready when nothing is in it. One task at a time can wait.
    pub fn poll_empty(&self, cx: &mut Context<'_>) -> Poll<()> {
        let empty = || self.holds.load(Ordering::Acquire) == 0;
        if empty() {
            return Poll::Ready(());
        }
        self.waiting.register(cx.waker());
        if empty() { Poll::Ready(()) } else { Poll::Pending }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

    use std::sync::Mutex;

    use futures::FutureExt as _;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
        (ours.unwrap(), theirs.unwrap().0)
    }

    fn pattern(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i % 251) as u8).collect()
    }

    type Returned = Arc<Mutex<Option<TcpStream>>>;

    fn body(socket: TcpStream, read: &[u8], length: u64) -> (SocketBody, Returned) {
        let returned = Returned::default();
        let slot = Arc::clone(&returned);
        let give_back = move |socket| *slot.lock().unwrap() = Some(socket);
        let body = SocketBody::new(socket, Bytes::copy_from_slice(read), length, Duration::from_millis(300), give_back);
        (body, returned)
    }

    /// What comes, and how much of it in pipes.
    async fn passed_on(body: SocketBody) -> (Vec<u8>, usize, Option<Error>) {
        let (mut exit, mut other) = pair().await;
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            other.read_to_end(&mut all).await.unwrap();
            all
        });
        let (mut pieces, mut piped, mut error) = (body.into_pieces().fuse(), 0, None);
        while let Some(piece) = pieces.next().await {
            match piece {
                Ok(SocketPiece::Bytes(bytes)) => exit.write_all(&bytes).await.unwrap(),
                Ok(SocketPiece::Pipe(mut piece)) => {
                    let early = pieces.next().now_or_never();
                    assert!(matches!(early, None | Some(None)), "the pipe is not empty");
                    piped += piece.length();
                    while piece.length() > 0 {
                        let sent = exit.async_io(Interest::WRITABLE, || piece.send(&exit)).await.unwrap();
                        piece.sent(sent);
                    }
                }
                Err(failed) => error = Some(failed),
            }
        }
        drop(exit);
        (reader.await.unwrap(), piped, error)
    }

    async fn read(body: SocketBody) -> (Vec<u8>, Option<Error>) {
        let (mut stream, mut all) = (body.into_stream(), Vec::new());
        while let Some(bytes) = stream.next().await {
            match bytes {
                Ok(bytes) => all.extend_from_slice(&bytes),
                Err(error) => {
                    assert!(stream.next().await.is_none(), "an error is the end");
                    return (all, Some(error));
                }
            }
        }
        (all, None)
    }

    #[tokio::test]
    async fn a_body_comes_whole_and_its_socket_goes_back_with_what_follows() {
        for length in [0, 1, 4096, 65_536, 3_000_001] {
            for head in [0, 1, 700] {
                let whole = pattern(length);
                let head = head.min(length);
                for passes in [false, true] {
                    let (ours, mut theirs) = pair().await;
                    let rest = [&whole[head..], b"next"].concat();
                    let sender = tokio::spawn(async move { theirs.write_all(&rest).await.map(|()| theirs) });
                    let (body, returned) = body(ours, &whole[..head], length as u64);
                    assert_eq!(body.length(), length as u64);
                    let (came, error) = if passes {
                        let (came, piped, error) = passed_on(body).await;
                        assert_eq!(piped, length - head);
                        (came, error)
                    } else {
                        read(body).await
                    };
                    assert!(came == whole && error.is_none(), "{length} {head} {passes} {error:?}");
                    let mut socket = returned.lock().unwrap().take().unwrap();
                    let mut next = [0; 4];
                    socket.read_exact(&mut next).await.unwrap();
                    assert_eq!(&next, b"next");
                    drop(sender.await);
                }
            }
        }
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_or_stands_still_or_is_too_long_is_an_error() {
        for passes in [false, true] {
            for (what, kind) in
                [("ends", ErrorKind::Unavailable), ("stands", ErrorKind::TimedOut), ("long", ErrorKind::Unavailable)]
            {
                let (ours, mut theirs) = pair().await;
                theirs.write_all(&pattern(1000)).await.unwrap();
                let kept = (what != "ends").then_some(theirs);
                let (body, returned) = match what {
                    "long" => body(ours, &[0; 20], 10),
                    _ => body(ours, &[], 1001),
                };
                let (came, error) = if passes {
                    let (came, _, error) = passed_on(body).await;
                    (came, error)
                } else {
                    read(body).await
                };
                assert_eq!(came.len(), if what == "long" { 0 } else { 1000 }, "{what}");
                assert_eq!(*error.unwrap().kind(), kind, "{what}");
                assert!(returned.lock().unwrap().is_none(), "a socket with something on it goes to nobody");
                drop(kept);
            }
        }
    }

    #[tokio::test]
    async fn one_can_wait_for_the_first_bytes() {
        let (ours, mut theirs) = pair().await;
        let (waiting, _) = body(ours, &[], 3);
        assert_eq!(*waiting.begun().await.unwrap_err().kind(), ErrorKind::TimedOut);
        theirs.write_all(b"abc").await.unwrap();
        waiting.begun().await.unwrap();
        assert_eq!(read(waiting).await.0, b"abc");
        let (ours, theirs) = pair().await;
        drop(theirs);
        let (ended, _) = body(ours, &[], 3);
        assert_eq!(*ended.begun().await.unwrap_err().kind(), ErrorKind::Unavailable);
        let (ours, _theirs) = pair().await;
        body(ours, b"a", 3).0.begun().await.unwrap();
    }

    #[tokio::test]
    async fn what_is_held_is_held_until_the_body_is_gone() {
        let (ours, _theirs) = pair().await;
        let held = Arc::new(());
        let (body, _) = body(ours, &[], 3);
        let stream = body.holding(Arc::clone(&held)).into_stream();
        assert_eq!(Arc::strong_count(&held), 2);
        drop(stream);
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
