//! What is kept of an object, and those who follow it.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use parking_lot::Mutex;
use sluice_provider::{BodyFault, Error, ErrorKind, Event, FollowFrom, PutBody, Result};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::limits::{Following, Held, Limits};
use crate::log::{Segment, Stored};

/// Something that was added: a message, or bytes.
#[derive(Debug)]
struct Piece {
    /// Its number, or that of its first byte.
    sequence: u64,
    /// How many numbers it has.
    span: u64,
    bytes: Bytes,
    /// When it was added, where that matters.
    since: Option<Instant>,
    /// Where it lies on disk, if it does.
    stored: Option<Stored>,
    _held: Held,
}

/// The pieces that are kept, in order and without a gap.
#[derive(Debug, Default)]
struct Kept {
    pieces: VecDeque<Piece>,
    /// The oldest number.
    start: u64,
    /// The next number.
    next: u64,
    closed: bool,
    abandoned: bool,
    /// Who lets go of what gets too old.
    tender: Option<AbortHandle>,
}

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Window {
    Messages(usize),
    /// So many bytes, none of them older than that.
    Bytes(u64, Option<Duration>),
}

/// An object that is added to. It has one life: what replaces it is another feed, and those who follow this one come to its end.
#[derive(Debug)]
pub(crate) struct Feed {
    kept: Mutex<Kept>,
    told: Notify,
    window: Window,
    followers: AtomicUsize,
}

/// What is kept at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) start: u64,
    pub(crate) next: u64,
    pub(crate) pieces: Vec<Bytes>,
}

impl Snapshot {
    /// Where a follower begins; `next` is how far behind what was seen the next number is.
    ///
    /// # Errors
    /// [`ErrorKind::RangeNotSatisfiable`] for what nobody can have seen: numbers of another life of the object.
    pub(crate) fn begin(&self, from: FollowFrom, next: u64) -> Result<u64> {
        match from {
            FollowFrom::Oldest => Ok(self.start),
            FollowFrom::Now => Ok(self.next),
            FollowFrom::Since(seen) => match seen.checked_add(next) {
                Some(at) if at <= self.next => Ok(at),
                _ => Err(Error::new(ErrorKind::RangeNotSatisfiable { size: self.next }, "follow").with("since", seen)),
            },
        }
    }
}

impl Feed {
    /// An empty feed. The first number of messages is 1, that of bytes is 0.
    pub(crate) fn new(window: Window) -> Arc<Self> {
        let first = if matches!(window, Window::Messages(_)) { 1 } else { 0 };
        let kept = Mutex::new(Kept { start: first, next: first, ..Kept::default() });
        Arc::new(Self { kept, told: Notify::new(), window, followers: AtomicUsize::new(0) })
    }

    /// A feed of messages that were there before: the first of them has the number `start`.
    pub(crate) fn restored(messages: usize, start: u64, pieces: Vec<(Bytes, Held, Stored)>) -> Arc<Self> {
        let window = Window::Messages(messages);
        let next = start + pieces.len() as u64;
        let pieces = (start..).zip(pieces).map(|(sequence, (bytes, held, stored))| Piece {
            sequence,
            span: 1,
            bytes,
            since: None,
            stored: Some(stored),
            _held: held,
        });
        let kept = Mutex::new(Kept { pieces: pieces.collect(), start, next, ..Kept::default() });
        Arc::new(Self { kept, told: Notify::new(), window, followers: AtomicUsize::new(0) })
    }

    /// Adds a piece, and lets go of what is beyond the window; answers its number.
    pub(crate) fn add(self: &Arc<Self>, bytes: Bytes, held: Held, stored: Option<Stored>) -> u64 {
        let mut kept = self.kept.lock();
        let sequence = kept.next;
        let span = if matches!(self.window, Window::Messages(_)) { 1 } else { bytes.len() as u64 };
        let since = matches!(self.window, Window::Bytes(_, Some(_))).then(Instant::now);
        kept.next += span;
        kept.pieces.push_back(Piece { sequence, span, bytes, since, stored, _held: held });
        let gone = self.trim(&mut kept);
        if since.is_some() && kept.tender.is_none() {
            kept.tender = Some(self.tend());
        }
        drop(kept);
        drop(gone);
        self.told.notify_waiters();
        sequence
    }

    /// Takes what is beyond the window out; to be dropped when the lock is not held any more.
    fn trim(&self, kept: &mut Kept) -> Vec<Piece> {
        let mut gone = Vec::new();
        match self.window {
            Window::Messages(most) => {
                while kept.pieces.len() > most {
                    gone.extend(kept.pieces.pop_front());
                }
                kept.start = kept.pieces.front().map_or(kept.next, |first| first.sequence);
            }
            Window::Bytes(most, age) => {
                let now = age.map(|age| (Instant::now(), age));
                let old = |piece: &Piece| {
                    let since = now.zip(piece.since);
                    since.is_some_and(|((now, age), since)| now.saturating_duration_since(since) >= age)
                };
                let mut start = kept.start;
                while let Some(first) = kept.pieces.front()
                    && (kept.next - first.sequence - first.span >= most || old(first))
                {
                    start = first.sequence + first.span;
                    gone.extend(kept.pieces.pop_front());
                }
                // Of the oldest piece, what is beyond the window is not shown any more.
                kept.start = start.max(kept.next.saturating_sub(most));
            }
        }
        gone
    }

    /// Lets go of what is too old.
    fn expire(&self) {
        if matches!(self.window, Window::Bytes(_, Some(_))) {
            let gone = self.trim(&mut self.kept.lock());
            drop(gone);
        }
    }

    /// Lets go of what gets too old when it does, also when nobody asks for it. Ends when nothing is left; the next piece begins another.
    fn tend(self: &Arc<Self>) -> AbortHandle {
        let feed = Arc::downgrade(self);
        let tending = tokio::spawn(async move {
            while let Some(due) = feed.upgrade().and_then(|feed| feed.expire_until()) {
                tokio::time::sleep_until(due).await;
            }
        });
        tending.abort_handle()
    }

    /// Lets go of what is too old; answers when the next piece will be. Where none is left, nobody tends the feed any more.
    fn expire_until(&self) -> Option<Instant> {
        let Window::Bytes(_, Some(age)) = self.window else { return None };
        let mut kept = self.kept.lock();
        let gone = self.trim(&mut kept);
        let due = kept.pieces.front().and_then(|first| first.since?.checked_add(age));
        if due.is_none() {
            kept.tender = None;
        }
        drop(kept);
        drop(gone);
        due
    }

    /// The messages that lie in a segment, with their numbers.
    pub(crate) fn stored_in(&self, segment: &Segment) -> Vec<(u64, Bytes)> {
        let kept = self.kept.lock();
        let there = |piece: &&Piece| piece.stored.as_ref().is_some_and(|stored| stored.is_in(segment));
        kept.pieces.iter().filter(there).map(|piece| (piece.sequence, piece.bytes.clone())).collect()
    }

    /// A message lies somewhere else now; if it is still kept.
    pub(crate) fn moved(&self, sequence: u64, stored: Stored) {
        let mut kept = self.kept.lock();
        let index = kept.pieces.partition_point(|piece| piece.sequence < sequence);
        if let Some(piece) = kept.pieces.get_mut(index).filter(|piece| piece.sequence == sequence) {
            piece.stored = Some(stored);
        }
    }

    /// The number of the next message, or of the next byte.
    pub(crate) fn next(&self) -> u64 {
        self.kept.lock().next
    }

    /// Nothing comes any more from here, though the object may go on elsewhere.
    pub(crate) fn abandon(&self) {
        self.kept.lock().abandoned = true;
        self.told.notify_waiters();
    }

    /// Nothing comes any more.
    pub(crate) fn close(&self) {
        self.kept.lock().closed = true;
        self.told.notify_waiters();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.kept.lock().closed
    }

    pub(crate) fn followers(&self) -> usize {
        self.followers.load(Ordering::Relaxed)
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.expire();
        let kept = self.kept.lock();
        let mut pieces: Vec<Bytes> = kept.pieces.iter().map(|piece| piece.bytes.clone()).collect();
        if let (Some(first), Some(piece)) = (pieces.first_mut(), kept.pieces.front()) {
            let skipped = usize::try_from(kept.start.saturating_sub(piece.sequence)).unwrap_or(0);
            *first = first.slice(skipped.min(first.len())..);
        }
        Snapshot { start: kept.start, next: kept.next, pieces }
    }

    /// The next thing to tell to somebody who wants `at`; `None` when there is none yet.
    fn next_of(&self, at: &mut u64) -> Option<Option<Result<Event>>> {
        self.expire();
        let kept = self.kept.lock();
        if *at < kept.start {
            let missed = kept.start - std::mem::replace(at, kept.start);
            return Some(Some(Ok(Event::Lagged(missed))));
        }
        if *at >= kept.next {
            let gone = || Err(Error::new(ErrorKind::Unavailable, "follow").with("reason", "the mount is gone"));
            return if kept.closed { Some(None) } else { kept.abandoned.then(|| Some(gone())) };
        }
        let index = kept.pieces.partition_point(|piece| piece.sequence + piece.span <= *at);
        let piece = kept.pieces.get(index)?;
        let sequence = *at;
        let skipped = if piece.span == 1 { 0 } else { usize::try_from(*at - piece.sequence).unwrap_or(0) };
        *at = piece.sequence + piece.span;
        Some(Some(Ok(Event::Data { sequence, bytes: piece.bytes.slice(skipped.min(piece.bytes.len())..) })))
    }

    /// What there is from a number on, and then what comes.
    pub(crate) fn follow(self: &Arc<Self>, at: u64, place: Following) -> BoxStream<'static, Result<Event>> {
        let follower = Follower { feed: Arc::clone(self), at, _place: place };
        self.followers.fetch_add(1, Ordering::Relaxed);
        stream::unfold(Some(follower), |follower| async move {
            let mut follower = follower?;
            loop {
                let feed = Arc::clone(&follower.feed);
                let mut told = pin!(feed.told.notified());
                // Before the look, so that what comes after it is not missed.
                told.as_mut().enable();
                match feed.next_of(&mut follower.at) {
                    Some(Some(Ok(event))) => return Some((Ok(event), Some(follower))),
                    Some(Some(Err(error))) => return Some((Err(error), None)),
                    Some(None) => return None,
                    None => told.await,
                }
            }
        })
        .boxed()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        if let Some(tender) = &self.kept.get_mut().tender {
            tender.abort();
        }
    }
}

struct Follower {
    feed: Arc<Feed>,
    at: u64,
    _place: Following,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.feed.followers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A whole body of at most so many bytes.
pub(crate) async fn gather(body: &mut PutBody, largest: u64, limits: &Arc<Limits>) -> Result<(Bytes, Held)> {
    let too_large = || Error::new(ErrorKind::TooLarge, "live mount").with("largest", largest);
    if body.size().is_some_and(|size| size > largest) {
        return Err(too_large());
    }
    // Counted before it is held; what turns out to be shorter gives the rest back.
    let mut held = vec![limits.take(body.size().unwrap_or(0))?];
    let mut bytes = BytesMut::with_capacity(usize::try_from(body.size().unwrap_or(0)).unwrap_or(0));
    while let Some(chunk) = body.chunk().await? {
        if (bytes.len() + chunk.len()) as u64 > largest {
            return Err(too_large());
        }
        if body.size().is_none() {
            held.push(limits.take(chunk.len() as u64)?);
        }
        bytes.extend_from_slice(&chunk);
    }
    match body.size() {
        Some(size) if size > bytes.len() as u64 => Err(Error::new(ErrorKind::Body(BodyFault::Incomplete), "put")),
        Some(size) if size < bytes.len() as u64 => Err(Error::new(ErrorKind::Body(BodyFault::TooLong), "put")),
        _ => {
            drop(held);
            let held = limits.take(bytes.len() as u64)?;
            // Exactly as large as what is counted.
            Ok((Bytes::from(bytes.to_vec().into_boxed_slice()), held))
        }
    }
}
