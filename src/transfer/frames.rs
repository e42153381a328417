//! What a provider opened, as frames for the wire.
//!
//! Files are read with positioned reads. What the page cache holds is copied on the thread at hand (`preadv2` with
//! `RWF_NOWAIT`, which never waits for a disk): a hop to the blocking pool costs more than the copy of a small object. What is
//! not cached is read on the blocking pool, a bounded number of reads at once, and a little ahead of the reader.

mod page_cache;
mod pieces;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use dashmap::DashMap;
use futures::StreamExt;
use rustix::fs::fstat;
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use sluice_provider::{Body, ByteStream, Error, ErrorKind, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

pub use self::pieces::{Extent, Piece, PieceStream, arriving, pieces};

/// The largest frame in bytes; what fits into one is answered in one.
const FRAME_BYTES: u64 = 1024 * 1024;
/// Bytes per read of what is larger than a frame.
const READ_BYTES: u64 = 256 * 1024;
/// Reads under way beyond the one that the reader waits for.
const READS_AHEAD: usize = 2;
/// Reads on the blocking pool at once, of all bodies on one device: enough to keep a disk's queue filled, few enough to leave the
/// pool's threads to others.
const BLOCKING_READS: usize = 32;
/// The permits of each device (`st_dev`) that was read from. A file system that hangs keeps its own readers waiting and nobody else's.
/// There are as many entries as devices were ever mounted.
static DEVICES: LazyLock<DashMap<u64, Arc<Semaphore>>> = LazyLock::new(DashMap::new);

/// A body ready for the wire. It has exactly the promised length, or ends in an error.
pub enum Frames {
    /// All of it.
    Full(Bytes),
    /// Frame by frame, none empty, none larger than 1 MiB unless the provider's own chunks are.
    Stream(ByteStream),
}

impl std::fmt::Debug for Frames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full(bytes) => write!(f, "Full({})", bytes.len()),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

/// Turns a body that was opened for reading `len` bytes into frames.
///
/// # Errors
/// [`ErrorKind::Corrupt`] when the body has another length: here, when that is known already or the body is a file of up to 1 MiB;
/// else in the stream, never a clean end: in place of the frame that would exceed it, or after the last. [`ErrorKind::Unavailable`] when a read fails.
/// A stream's own error passes through unchanged.
pub async fn frames(body: Body, len: u64) -> Result<Frames> {
    match body {
        Body::Bytes(bytes) => {
            check(bytes.len() as u64, len)?;
            if len <= FRAME_BYTES {
                return Ok(Frames::Full(bytes));
            }
            // In slices, so that whoever watches the body sees it move.
            let slices = futures::stream::unfold(bytes, |mut rest| async move {
                let frame = rest.split_to(rest.len().min(FRAME_BYTES as usize));
                (!frame.is_empty()).then_some((Ok(frame), rest))
            });
            Ok(Frames::Stream(slices.boxed()))
        }
        Body::File { file, range } => {
            check(range.end.saturating_sub(range.start), len)?;
            if len <= FRAME_BYTES {
                return Ok(Frames::Full(read_once(&file, range.start, len as usize).await?));
            }
            Ok(Frames::Stream(futures::stream::unfold(FileReader::new(file, range), FileReader::step).boxed()))
        }
        Body::Socket(body) => Ok(counted(body.into_stream(), len)),
        Body::Stream(stream) => Ok(counted(stream, len)),
    }
}

fn counted(stream: ByteStream, len: u64) -> Frames {
    let counted = Counted { stream, left: len, len, ended: false };
    Frames::Stream(futures::stream::unfold(counted, Counted::step).boxed())
}

fn check(have: u64, len: u64) -> Result<()> {
    if have == len {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Corrupt, "read").with("promised", len).with("found", have))
}

/// Reads a small range whole.
async fn read_once(file: &Arc<File>, offset: u64, len: usize) -> Result<Bytes> {
    let mut buffer = vec![0; len];
    let filled = read_cached(file, &mut buffer, offset)?;
    if filled == len {
        return Ok(buffer.into());
    }
    joined(read_blocking(Arc::clone(file), buffer, filled, offset, permit(&reads_of(file)?).await?).await)
}

/// Fills the buffer as far as the page cache can; answers how far.
fn read_cached(file: &File, buffer: &mut [u8], offset: u64) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        let at = offset + filled as u64;
        match preadv2(file, &mut [IoSliceMut::new(&mut buffer[filled..])], at, ReadWriteFlags::NOWAIT) {
            Ok(0) => return Err(short(at)),
            Ok(n) => filled += n,
            Err(Errno::INTR) => {}
            // Not cached, or a file system that cannot tell: the blocking read says what is the matter.
            Err(_) => break,
        }
    }
    Ok(filled)
}

/// Fills the rest of the buffer on the blocking pool.
fn read_blocking(
    file: Arc<File>,
    mut buffer: Vec<u8>,
    filled: usize,
    offset: u64,
    permit: OwnedSemaphorePermit,
) -> JoinHandle<Result<Bytes>> {
    tokio::task::spawn_blocking(move || {
        let at = offset + filled as u64;
        let outcome = file.read_exact_at(&mut buffer[filled..], at);
        drop(permit);
        match outcome {
            Ok(()) => Ok(buffer.into()),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(short(at)),
            Err(e) => Err(Error::new(ErrorKind::Unavailable, "read").with("offset", at).caused_by(e)),
        }
    })
}

/// The permits for reads from the device that the file lies on.
fn reads_of(file: &File) -> Result<Arc<Semaphore>> {
    // Answered from the inode in memory: a network file system looks at its server here only where attributes are not cached.
    let device = fstat(file).map_err(|e| Error::new(ErrorKind::Unavailable, "fstat").caused_by(e))?.st_dev;
    Ok(Arc::clone(&DEVICES.entry(device).or_insert_with(|| Arc::new(Semaphore::new(BLOCKING_READS)))))
}

async fn permit(reads: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
    Arc::clone(reads).acquire_owned().await.map_err(|e| Error::new(ErrorKind::Internal, "read").caused_by(e))
}

fn joined(read: std::result::Result<Result<Bytes>, tokio::task::JoinError>) -> Result<Bytes> {
    read.map_err(|e| Error::new(ErrorKind::Internal, "read").caused_by(e))?
}

fn short(offset: u64) -> Error {
    Error::new(ErrorKind::Corrupt, "read of a file that was cut short").with("offset", offset)
}

/// A large range of a file.
struct FileReader {
    file: Arc<File>,
    /// Where the next read begins.
    next: u64,
    end: u64,
    /// Reads under way, in order.
    ahead: VecDeque<JoinHandle<Result<Bytes>>>,
    /// The permits of its device, from the moment that the page cache did not have everything: the rest is then read ahead on the
    /// blocking pool.
    reads: Option<Arc<Semaphore>>,
}

impl FileReader {
    fn new(file: Arc<File>, range: Range<u64>) -> Self {
        Self { file, next: range.start, end: range.end, ahead: VecDeque::new(), reads: None }
    }

    async fn step(mut self) -> Option<(Result<Bytes>, Self)> {
        let frame = self.frame().await;
        if frame.is_err() {
            self.next = self.end;
            self.ahead.clear();
        }
        Some((frame.transpose()?, self))
    }

    async fn frame(&mut self) -> Result<Option<Bytes>> {
        if self.reads.is_none() && self.next < self.end {
            let (mut buffer, offset) = self.claim();
            let filled = read_cached(&self.file, &mut buffer, offset)?;
            if filled == buffer.len() {
                return Ok(Some(buffer.into()));
            }
            let reads = self.reads.insert(reads_of(&self.file)?);
            let permit = permit(reads).await?;
            self.ahead.push_back(read_blocking(Arc::clone(&self.file), buffer, filled, offset, permit));
        }
        while let Some(reads) = self.reads.as_ref().filter(|_| self.next < self.end && self.ahead.len() <= READS_AHEAD) {
            // Only what the reader needs now may wait for a permit: a reader that went away for a while must not sit in the
            // queue before those who are here.
            let permit = match Arc::clone(reads).try_acquire_owned() {
                Ok(permit) => permit,
                Err(_) if self.ahead.is_empty() => permit(reads).await?,
                Err(_) => break,
            };
            let (buffer, offset) = self.claim();
            self.ahead.push_back(read_blocking(Arc::clone(&self.file), buffer, 0, offset, permit));
        }
        match self.ahead.pop_front() {
            Some(read) => joined(read.await).map(Some),
            None => Ok(None),
        }
    }

    /// A buffer for the next read, and its offset.
    fn claim(&mut self) -> (Vec<u8>, u64) {
        let offset = self.next;
        let bytes = READ_BYTES.min(self.end - offset);
        self.next += bytes;
        (vec![0; bytes as usize], offset)
    }
}

/// A provider's stream, held to the length it promised.
struct Counted {
    stream: ByteStream,
    left: u64,
    len: u64,
    ended: bool,
}

impl Counted {
    async fn step(mut self) -> Option<(Result<Bytes>, Self)> {
        if self.ended {
            return None;
        }
        let frame = self.frame().await;
        self.ended = !matches!(frame, Ok(Some(_)));
        Some((frame.transpose()?, self))
    }

    async fn frame(&mut self) -> Result<Option<Bytes>> {
        while let Some(chunk) = self.stream.next().await {
            let chunk = chunk?;
            if chunk.is_empty() {
                continue;
            }
            let left = self.left.checked_sub(chunk.len() as u64);
            self.left =
                left.ok_or_else(|| Error::new(ErrorKind::Corrupt, "read of a stream that goes on").with("promised", self.len))?;
            return Ok(Some(chunk));
        }
        if self.left > 0 {
            let found = self.len - self.left;
            return Err(Error::new(ErrorKind::Corrupt, "read of a stream that broke off")
                .with("promised", self.len)
                .with("found", found));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]
    use rustix::fs::{Advice, fadvise};

    use super::*;

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i % 251) as u8).collect()
    }

    fn file(bytes: &[u8]) -> Arc<File> {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        Arc::new(file)
    }

    async fn drain(frames: Frames) -> (Vec<u8>, usize, Option<Error>) {
        let mut stream = match frames {
            Frames::Full(bytes) => return (bytes.to_vec(), 1, None),
            Frames::Stream(stream) => stream,
        };
        let (mut out, mut count) = (Vec::new(), 0);
        while let Some(frame) = stream.next().await {
            match frame {
                Ok(frame) => {
                    assert!(!frame.is_empty() && frame.len() as u64 <= FRAME_BYTES);
                    out.extend_from_slice(&frame);
                    count += 1;
                }
                Err(e) => {
                    assert!(stream.next().await.is_none(), "nothing comes after an error");
                    return (out, count, Some(e));
                }
            }
        }
        (out, count, None)
    }

    #[tokio::test]
    async fn a_file_range_comes_out_as_it_is_cached_or_not() {
        let bytes = pattern(3 * 1024 * 1024 + 5);
        let file = file(&bytes);
        file.sync_all().unwrap();
        for evict in [false, true] {
            for range in [0..0, 0..1, 5..4096, 7..FRAME_BYTES + 7, 1..FRAME_BYTES + 2, 0..bytes.len() as u64] {
                if evict {
                    fadvise(&*file, 0, None, Advice::DontNeed).unwrap();
                }
                let len = range.end - range.start;
                let body = Body::File { file: Arc::clone(&file), range: range.clone() };
                let (out, count, error) = drain(frames(body, len).await.unwrap()).await;
                assert!(error.is_none(), "{error:?}");
                assert_eq!(out, bytes[range.start as usize..range.end as usize]);
                assert!(len > FRAME_BYTES || count == 1, "{range:?} in {count} frames");
            }
        }
    }

    #[tokio::test]
    async fn a_short_file_is_an_error_not_an_end() {
        let whole = pattern(2 * 1024 * 1024);
        let small = Body::File { file: file(&whole[..10]), range: 0..11 };
        assert_eq!(frames(small, 11).await.unwrap_err().kind(), &ErrorKind::Corrupt);

        for evict in [false, true] {
            let file = file(&whole);
            let Frames::Stream(mut stream) =
                frames(Body::File { file: Arc::clone(&file), range: 0..whole.len() as u64 }, whole.len() as u64).await.unwrap()
            else {
                panic!("in one frame")
            };
            let mut got = stream.next().await.unwrap().unwrap().len();
            file.set_len(READ_BYTES * 5 + 1).unwrap();
            if evict {
                file.sync_all().unwrap();
                fadvise(&*file, 0, None, Advice::DontNeed).unwrap();
            }
            let (rest, _, error) = drain(Frames::Stream(stream)).await;
            got += rest.len();
            assert!(got < whole.len());
            assert_eq!(error.unwrap().kind(), &ErrorKind::Corrupt);
        }
    }

    #[tokio::test]
    async fn a_large_body_in_memory_is_sliced_without_a_copy() {
        let bytes = Bytes::from(pattern(FRAME_BYTES as usize * 2 + 1));
        let (out, count, _) = drain(frames(Body::Bytes(bytes.clone()), bytes.len() as u64).await.unwrap()).await;
        assert_eq!((out, count), (bytes.to_vec(), 3));
        let Frames::Full(full) = frames(Body::Bytes(bytes.slice(..9)), 9).await.unwrap() else { panic!("in frames") };
        assert_eq!(full.as_ptr(), bytes.as_ptr());
        assert!(frames(Body::Bytes(bytes), 9).await.is_err());
    }

    #[tokio::test]
    async fn a_stream_is_held_to_its_word() {
        let stream = |sizes: &[usize]| {
            let chunks: Vec<_> = sizes.iter().map(|n| Ok(Bytes::from(pattern(*n)))).collect();
            Body::Stream(futures::stream::iter(chunks).boxed())
        };
        let (out, count, error) = drain(frames(stream(&[3, 0, 4]), 7).await.unwrap()).await;
        assert_eq!((out.len(), count, error.is_none()), (7, 2, true));
        for (sizes, len, comes) in [(&[3, 4][..], 8, 7), (&[3, 4][..], 6, 3), (&[][..], 1, 0), (&[1][..], 0, 0)] {
            let (out, _, error) = drain(frames(stream(sizes), len).await.unwrap()).await;
            assert_eq!(error.unwrap().kind(), &ErrorKind::Corrupt);
            assert_eq!(out.len(), comes);
        }
        let failing = futures::stream::iter([Ok(Bytes::from_static(b"a")), Err(Error::new(ErrorKind::TimedOut, "remote"))]);
        let (out, _, error) = drain(frames(Body::Stream(failing.boxed()), 9).await.unwrap()).await;
        assert_eq!((out.len(), error.unwrap().to_string().as_str()), (1, "remote: TimedOut"));
    }

    #[tokio::test]
    async fn readers_that_went_away_give_their_permits_back() {
        let bytes = pattern(3 * 1024 * 1024);
        let file = file(&bytes);
        file.sync_all().unwrap();
        for _ in 0..100 {
            fadvise(&*file, 0, None, Advice::DontNeed).unwrap();
            let body = Body::File { file: Arc::clone(&file), range: 0..bytes.len() as u64 };
            let Frames::Stream(mut stream) = frames(body, bytes.len() as u64).await.unwrap() else { panic!("in one frame") };
            assert!(stream.next().await.unwrap().is_ok());
        }
        // Reads that nobody waits for still end; the permits of all come back.
        let reads = reads_of(&file).unwrap();
        let all = tokio::time::timeout(std::time::Duration::from_secs(10), reads.acquire_many(BLOCKING_READS as u32)).await;
        assert!(all.is_ok());
    }

    #[tokio::test]
    async fn a_device_that_hangs_keeps_only_its_own_readers() {
        let here = file(b"x");
        let elsewhere = File::open("/proc/self/status").unwrap();
        let (mine, other) = (reads_of(&here).unwrap(), reads_of(&elsewhere).unwrap());
        let _hanging = other.try_acquire_many(BLOCKING_READS as u32).unwrap();
        assert!(futures::FutureExt::now_or_never(permit(&reads_of(&elsewhere).unwrap())).is_none(), "its share is used up");
        assert!(!Arc::ptr_eq(&mine, &other));
        assert!(permit(&reads_of(&here).unwrap()).await.is_ok());
    }
}
