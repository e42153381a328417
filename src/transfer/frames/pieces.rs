//! Bodies as pieces, for a connection that has the kernel send them. Files: what the page cache holds goes out as a range of the file and
//! is never copied; the rest as frames, read on the blocking pool. What arrives on a socket goes through a pipe.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use sluice_provider::{PipePiece, Result, SocketBody, SocketPiece};

use super::{FileReader, joined, page_cache};

/// The largest piece of a file in bytes. One system call may send as much, so it bounds how long a thread is kept from others;
/// larger pieces were not measured to be cheaper.
const PIECE_BYTES: u64 = 2 * 1024 * 1024;
/// How far ahead the page cache is asked what it holds, in bytes, and for how long the answer is taken for true. A client that takes an
/// object fast has its next pieces within that time; for a slow one each is asked for when it is due.
const LOOK_BYTES: u64 = 4 * PIECE_BYTES;
const LOOK_HOLDS: Duration = Duration::from_millis(50);

/// A part of a body.
#[derive(Debug)]
pub enum Piece {
    /// Bytes in memory.
    Bytes(Bytes),
    /// A range of a file, all of it in the page cache a moment ago.
    File(Extent),
    /// Bytes in a pipe.
    Pipe(PipePiece),
}

/// A range of an open file.
#[derive(Clone, Debug)]
pub struct Extent {
    /// The open file.
    pub file: Arc<File>,
    /// Where the range begins.
    pub offset: u64,
    /// Its bytes.
    pub len: usize,
}

/// Pieces one after the other, none empty. As with frames, an error ends them, and they end cleanly only after all promised bytes.
pub type PieceStream = BoxStream<'static, Result<Piece>>;

/// A range of a file as pieces.
///
/// A file that is cut short meanwhile: what the stream itself reads ends in an error as in [`frames`](super::frames); of a
/// [`Piece::File`] the one who sends it finds that bytes are missing.
#[must_use]
pub fn pieces(file: Arc<File>, range: Range<u64>) -> PieceStream {
    let pieces = Pieces { reader: FileReader::new(file, range), looked: None };
    futures::stream::unfold(Some(pieces), |pieces| async move {
        let mut pieces = pieces?;
        match pieces.piece().await {
            Ok(None) => None,
            Ok(Some(piece)) => Some((Ok(piece), Some(pieces))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

/// What arrives on a socket as pieces.
#[must_use]
pub fn arriving(body: SocketBody) -> PieceStream {
    let pieces = body.into_pieces().map_ok(|piece| match piece {
        SocketPiece::Bytes(bytes) => Piece::Bytes(bytes),
        SocketPiece::Pipe(piece) => Piece::Pipe(piece),
    });
    pieces.boxed()
}

/// A range of a file on its way out.
struct Pieces {
    reader: FileReader,
    /// What the page cache was found to hold last: up to where, and when.
    looked: Option<(u64, Instant)>,
}

impl Pieces {
    async fn piece(&mut self) -> Result<Option<Piece>> {
        let bytes = PIECE_BYTES.min(self.left());
        if bytes > 0 && self.holds(bytes) {
            let reader = &mut self.reader;
            // What was read ahead goes first; then the file again.
            if let Some(read) = reader.ahead.pop_front() {
                return joined(read.await).map(|bytes| Some(Piece::Bytes(bytes)));
            }
            let extent = Extent { file: Arc::clone(&reader.file), offset: reader.next, len: bytes as usize };
            reader.next += bytes;
            return Ok(Some(Piece::File(extent)));
        }
        Ok(self.reader.frame().await?.map(Piece::Bytes))
    }

    fn left(&self) -> u64 {
        self.reader.end.saturating_sub(self.reader.next)
    }

    /// Whether the page cache holds the next `bytes`, or did a moment ago.
    fn holds(&mut self, bytes: u64) -> bool {
        let next = self.reader.next;
        let fast = self.looked.is_none_or(|(_, when)| when.elapsed() < LOOK_HOLDS);
        if fast && self.looked.is_some_and(|(end, _)| next + bytes <= end) {
            return true;
        }
        let far = if fast { LOOK_BYTES.min(self.left()) } else { bytes };
        let holds = |bytes| page_cache::holds(&self.reader.file, next, bytes);
        let held = if holds(far) {
            far
        } else if far > bytes && holds(bytes) {
            bytes
        } else {
            0
        };
        self.looked = Some((next + held, Instant::now()));
        held > 0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
    use std::num::NonZeroU64;
    use std::os::unix::fs::FileExt;

    use rustix::fs::{Advice, fadvise};
    use sluice_provider::ErrorKind;

    use super::*;

    fn file(bytes: &[u8]) -> Arc<File> {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file.sync_all().unwrap();
        Arc::new(file)
    }

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i % 251) as u8).collect()
    }

    /// The bytes, and how many of them came as ranges of the file.
    async fn drain(mut stream: PieceStream) -> (Vec<u8>, usize) {
        let (mut out, mut sent) = (Vec::new(), 0);
        while let Some(piece) = stream.next().await {
            match piece.unwrap() {
                Piece::Bytes(bytes) => out.extend_from_slice(&bytes),
                Piece::File(extent) => {
                    assert!((1..=PIECE_BYTES as usize).contains(&extent.len));
                    let at = out.len();
                    out.resize(at + extent.len, 0);
                    extent.file.read_exact_at(&mut out[at..], extent.offset).unwrap();
                    sent += extent.len;
                }
                Piece::Pipe(_) => panic!("a file in a pipe"),
            }
        }
        (out, sent)
    }

    #[tokio::test]
    async fn ranges_come_whole_whatever_is_cached() {
        let bytes = pattern(5 * PIECE_BYTES as usize + 77);
        let file = file(&bytes);
        let end = bytes.len() as u64;
        let able = page_cache::holds(&file, 0, end);
        let middle = |from: u64, bytes: u64| fadvise(&*file, from, NonZeroU64::new(bytes), Advice::DontNeed).unwrap();
        let warm = || file.read_exact_at(&mut vec![0; bytes.len()], 0).unwrap();
        for range in [0..end, 1..end, 0..1, 4095..2 * PIECE_BYTES + 1, end - 1..end, 7..7] {
            let wanted = &bytes[range.start as usize..range.end as usize];
            warm();
            let (out, sent) = drain(pieces(Arc::clone(&file), range.clone())).await;
            assert_eq!(out, wanted);
            assert!(!able || sent == wanted.len(), "{sent} of {range:?} were sent");
            middle(PIECE_BYTES, PIECE_BYTES);
            assert_eq!(drain(pieces(Arc::clone(&file), range.clone())).await.0, wanted);
            middle(0, end);
            assert_eq!(drain(pieces(Arc::clone(&file), range.clone())).await.0, wanted);
        }
    }

    #[tokio::test]
    async fn a_cold_range_is_read_and_not_sent() {
        let bytes = pattern(2 * PIECE_BYTES as usize);
        let file = file(&bytes);
        fadvise(&*file, 0, None, Advice::DontNeed).unwrap();
        if page_cache::holds(&file, 0, 4096) {
            // A file system that lives in memory.
            return;
        }
        let first = pieces(Arc::clone(&file), 0..bytes.len() as u64).next().await.unwrap().unwrap();
        assert!(matches!(first, Piece::Bytes(_)), "sending it would wait for the disk");
    }

    #[tokio::test]
    async fn what_the_page_cache_held_a_while_ago_is_looked_for_again() {
        let bytes = pattern(3 * PIECE_BYTES as usize);
        let file = file(&bytes);
        let end = bytes.len() as u64;
        if !page_cache::holds(&file, 0, end) {
            // A kernel that cannot tell.
            return;
        }
        let mut stream = pieces(Arc::clone(&file), 0..end);
        assert!(matches!(stream.next().await, Some(Ok(Piece::File(_)))));
        fadvise(&*file, 0, None, Advice::DontNeed).unwrap();
        if page_cache::holds(&file, 0, 4096) {
            // A file system that lives in memory.
            return;
        }
        tokio::time::sleep(LOOK_HOLDS * 2).await;
        let next = stream.next().await.unwrap().unwrap();
        assert!(matches!(next, Piece::Bytes(_)), "sending it would wait for the disk");
    }

    #[tokio::test]
    async fn a_file_that_was_cut_short_is_an_error() {
        let bytes = pattern(3 * PIECE_BYTES as usize);
        let file = file(&bytes);
        let mut stream = pieces(Arc::clone(&file), 0..bytes.len() as u64);
        stream.next().await.unwrap().unwrap();
        file.set_len(PIECE_BYTES + 10).unwrap();
        // Until then the pieces are ranges of the file, and who sends them finds it.
        tokio::time::sleep(LOOK_HOLDS * 2).await;
        let error = loop {
            match stream.next().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => break error,
                None => panic!("a clean end"),
            }
        };
        assert_eq!(*error.kind(), ErrorKind::Corrupt);
        assert!(stream.next().await.is_none());
    }
}
