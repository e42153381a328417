//! Files on their way out beneath hyper.
//!
//! hyper queues the pieces of a body and asks for their bytes when it writes. A piece of a file has none: a mark stands for them,
//! one byte at an address that nothing else has. The stream of the connection recognises the mark, has the kernel send the file from
//! the page cache (sendfile(2)), and tells hyper how far it got. No byte of the file is ever in our memory, so a file that another
//! program cuts short costs the connection, and nothing else.
//!
//! What arrives on another socket goes the same way: the mark stands for bytes that wait in a pipe (splice(2)).
//!
//! Whoever asks for bytes in another way gets none, and its body ends too early, which no client takes for a whole one. It cannot
//! happen: only a request on a connection that sends files is answered with them.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::ptr;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use rustix::fs::sendfile;
use sluice_provider::PipePiece;

use super::connection::Connection;
use crate::transfer::Extent;

/// What stands for bytes of a file or in a pipe.
static MARK: [u8; 1] = [0];

/// Whether a slice to be written stands for bytes of a file.
pub(super) fn is_mark(slice: &IoSlice<'_>) -> bool {
    // An empty slice may have any address.
    !slice.is_empty() && ptr::eq(slice.as_ptr(), MARK.as_ptr())
}

/// The files that are queued on a connection, in the order of their pieces.
#[derive(Debug, Default)]
pub(super) struct Files(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    sources: VecDeque<Source>,
    /// A piece was dropped before it was sent: what the next mark stands for is not known.
    broken: bool,
}

/// Where bytes are that the kernel sends.
#[derive(Debug)]
enum Source {
    File(Extent),
    Pipe(PipePiece),
}

/// What went out of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    /// How many bytes.
    pub(super) bytes: usize,
    /// Whether that is all that can be sent of it before it is advanced.
    pub(super) all: bool,
}

impl Source {
    /// Sends what comes after the first `skip` bytes.
    fn send(&self, socket: impl AsFd, skip: usize) -> io::Result<Sent> {
        let Extent { file, offset, len } = match self {
            Self::Pipe(piece) => return piece.send(socket).map(|bytes| Sent { bytes, all: true }),
            Self::File(extent) => extent,
        };
        let (mut offset, left) = (*offset + skip as u64, len.saturating_sub(skip));
        match sendfile(socket, &**file, Some(&mut offset), left)? {
            0 => {
                tracing::warn!(offset, missing = left, "an answer breaks off: its file was cut short while it was sent");
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file was cut short while it was sent"))
            }
            bytes => Ok(Sent { bytes, all: bytes >= left }),
        }
    }

    /// Notes bytes that went; answers how many are left.
    fn advance(&mut self, bytes: usize) -> usize {
        match self {
            Self::File(extent) => {
                extent.offset += bytes as u64;
                extent.len = extent.len.saturating_sub(bytes);
                extent.len
            }
            Self::Pipe(piece) => {
                piece.sent(bytes);
                piece.length()
            }
        }
    }
}

impl Files {
    fn push(&self, source: Source) {
        self.0.lock().sources.push_back(source);
    }

    /// Sends from the first source in the queue, as much as the socket takes. `skip` bytes of it went before and were not noted yet.
    ///
    /// # Errors
    /// `WouldBlock`; `UnexpectedEof` when the file has been cut short; what sendfile(2) and splice(2) say.
    pub(super) fn send(&self, socket: impl AsFd, skip: usize) -> io::Result<Sent> {
        // Neither call waits, so the lock is held for no longer than the system needs.
        let queue = self.0.lock();
        match queue.sources.front().filter(|_| !queue.broken) {
            Some(source) => source.send(socket, skip),
            None => Err(io::Error::other("a mark that stands for nothing")),
        }
    }

    fn advance(&self, bytes: usize) {
        let mut queue = self.0.lock();
        if queue.sources.front_mut().is_some_and(|first| first.advance(bytes) == 0) {
            queue.sources.pop_front();
        }
    }

    fn give_up(&self) {
        let mut queue = self.0.lock();
        queue.broken = true;
        queue.sources.clear();
    }
}

/// A piece of an answer's body.
#[derive(Debug)]
pub enum Chunk {
    /// Bytes.
    Bytes(Bytes),
    /// Bytes of a file or in a pipe.
    File(FileChunk),
}

/// A source that is queued on its connection. Dropped before all of it was sent, it breaks the connection's queue.
#[derive(Debug)]
pub struct FileChunk {
    connection: Arc<Connection>,
    left: usize,
}

impl Chunk {
    /// Queues a range of a file.
    pub(super) fn file(connection: &Arc<Connection>, extent: Extent) -> Self {
        let left = extent.len;
        Self::queued(connection, Source::File(extent), left)
    }

    /// Queues bytes in a pipe.
    pub(super) fn pipe(connection: &Arc<Connection>, piece: PipePiece) -> Self {
        let left = piece.length();
        Self::queued(connection, Source::Pipe(piece), left)
    }

    fn queued(connection: &Arc<Connection>, source: Source, left: usize) -> Self {
        connection.files().push(source);
        Self::File(FileChunk { connection: Arc::clone(connection), left })
    }
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::File(file) => file.left,
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::File(_) => &[],
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        match (self, slices.first_mut()) {
            (Self::Bytes(bytes), _) => bytes.chunks_vectored(slices),
            (Self::File(file), Some(slice)) if file.left > 0 => {
                *slice = IoSlice::new(&MARK);
                1
            }
            (Self::File(_), _) => 0,
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Bytes(bytes) => bytes.advance(count),
            Self::File(file) => {
                let count = count.min(file.left);
                file.left -= count;
                file.connection.files().advance(count);
            }
        }
    }

    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        match self {
            Self::Bytes(bytes) => bytes.copy_to_bytes(len),
            Self::File(_) => {
                self.advance(len);
                Bytes::new()
            }
        }
    }
}

impl Drop for FileChunk {
    fn drop(&mut self) {
        if self.left > 0 {
            self.connection.files().give_up();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn extent(bytes: &[u8], offset: u64, len: usize) -> Extent {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Extent { file: Arc::new(file), offset, len }
    }

    fn slices(chunk: &Chunk) -> Vec<bool> {
        let mut slices = [IoSlice::new(&[]); 4];
        let count = chunk.chunks_vectored(&mut slices);
        slices.iter().take(count).map(is_mark).collect()
    }

    #[test]
    fn only_files_are_marked() {
        let connection = Arc::new(Connection::new(true));
        assert_eq!(slices(&Chunk::Bytes(Bytes::from_static(&[0]))), [false]);
        let mut file = Chunk::file(&connection, extent(b"abc", 0, 3));
        assert_eq!((slices(&file), file.remaining(), file.chunk()), (vec![true], 3, &[][..]));
        assert!(!is_mark(&IoSlice::new(&MARK[..0])) && !is_mark(&IoSlice::new(&MARK[1..])));
        file.advance(3);
        assert!(slices(&file).is_empty() && !file.has_remaining());
    }

    #[test]
    fn files_are_sent_in_their_order_and_from_where_they_are() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let connection = Arc::new(Connection::new(true));
        let mut one = Chunk::file(&connection, extent(b"0123456789", 2, 5));
        let mut other = Chunk::file(&connection, extent(b"abcdef", 0, 6));
        let mut seen = [0; 32];
        let sent = |skip| connection.files().send(&ours, skip).map(|sent| (sent.bytes, sent.all));
        assert_eq!(sent(0).unwrap(), (5, true));
        assert_eq!(theirs.read(&mut seen).unwrap(), 5);
        assert_eq!(&seen[..5], b"23456");
        // hyper is told less than was sent in no case, but in parts.
        one.advance(2);
        assert_eq!(sent(0).unwrap(), (3, true));
        // In one go with what went before.
        assert_eq!(sent(1).unwrap(), (2, true));
        one.advance(3);
        drop(one);
        assert_eq!(sent(0).unwrap(), (6, true));
        other.advance(6);
        drop(other);
        assert_eq!(theirs.read(&mut seen).unwrap(), 11);
        assert_eq!(&seen[..11], b"45656abcdef");
        assert!(sent(0).is_err(), "nothing is queued");
    }

    #[test]
    fn a_short_file_and_a_broken_queue_are_errors() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let connection = Arc::new(Connection::new(true));
        let mut short = Chunk::file(&connection, extent(b"abc", 0, 6));
        assert_eq!(connection.files().send(&ours, 0).unwrap(), Sent { bytes: 3, all: false });
        short.advance(3);
        assert_eq!(connection.files().send(&ours, 0).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        drop(short);
        let later = Chunk::file(&connection, extent(b"abc", 0, 3));
        assert!(connection.files().send(&ours, 0).is_err(), "the order is lost");
        drop(later);
    }

    #[test]
    fn whoever_copies_gets_nothing_rather_than_something_else() {
        let connection = Arc::new(Connection::new(true));
        let mut file = Chunk::file(&connection, extent(b"abc", 0, 3));
        assert!(file.copy_to_bytes(2).is_empty());
        assert_eq!(file.remaining(), 1);
    }
}
