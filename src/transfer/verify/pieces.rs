//! A large body: gathered in pieces, which are hashed by other threads while the next is gathered.
//!
//! What is hashed is handed on, all but the last chunk, which waits until everything that was declared holds. A body has at most
//! two pieces in memory here, and what came with their last chunks.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::StreamExt;
use sluice_provider::{ByteStream, Error, ErrorKind, Result};
use tokio::sync::oneshot;

use super::Checks;
use crate::transfer::Lanes;
use crate::transfer::digests::Digests;
use crate::transfer::lanes::Body;

/// The body.
pub(super) struct Pieces {
    stream: ByteStream,
    checks: Checks,
    body: Body,
    /// What came since the last piece was handed over.
    gathered: Vec<Bytes>,
    gathered_bytes: usize,
    hashing: Option<Hashing>,
    /// Hashed, and not handed on yet.
    hashed: VecDeque<Bytes>,
    /// The stream has ended.
    complete: bool,
    /// Everything holds.
    settled: bool,
    ended: bool,
}

/// A piece on another thread.
struct Hashing {
    told: oneshot::Receiver<Box<Digests>>,
    chunks: Vec<Bytes>,
}

/// What happens next.
enum Event {
    Hashed(Option<Box<Digests>>),
    Came(Option<Result<Bytes>>),
}

impl Pieces {
    pub(super) fn new(stream: ByteStream, checks: Checks, lanes: &Lanes) -> Self {
        Self {
            stream,
            checks,
            body: lanes.body(),
            gathered: Vec::new(),
            gathered_bytes: 0,
            hashing: None,
            hashed: VecDeque::new(),
            complete: false,
            settled: false,
            ended: false,
        }
    }

    pub(super) async fn next(&mut self) -> Option<Result<Bytes>> {
        if self.ended {
            return None;
        }
        let chunk = self.advance().await;
        if !matches!(chunk, Ok(Some(_))) {
            self.ended = true;
            self.hashing = None;
            self.hashed.clear();
            self.gathered.clear();
        }
        chunk.transpose()
    }

    async fn advance(&mut self) -> Result<Option<Bytes>> {
        self.checks.begin()?;
        loop {
            let more = self.hashing.is_some() || !self.gathered.is_empty();
            if self.settled || self.hashed.len() > usize::from(!more) {
                return Ok(self.hashed.pop_front());
            }
            if self.hashing.is_none() {
                self.hand_over()?;
            }
            match self.event().await {
                Some(Event::Hashed(digests)) => {
                    let gone = || Error::new(ErrorKind::Internal, "a thread that hashes has ended");
                    self.checks.digests = Some(digests.ok_or_else(gone)?);
                    self.hashed.extend(self.hashing.take().into_iter().flat_map(|hashing| hashing.chunks));
                }
                Some(Event::Came(Some(chunk))) => {
                    let chunk = chunk?;
                    self.checks.receive(&chunk)?;
                    if !chunk.is_empty() {
                        self.gathered_bytes += chunk.len();
                        self.gathered.push(chunk);
                    }
                }
                Some(Event::Came(None)) => self.complete = true,
                None => {}
            }
        }
    }

    /// Hands a piece over when there is one, or settles when there will be none.
    fn hand_over(&mut self) -> Result<()> {
        if self.complete && self.gathered_bytes <= self.body.lanes().at_once_bytes() {
            for chunk in self.gathered.drain(..) {
                self.checks.digests()?.update(&chunk);
                self.hashed.push_back(chunk);
            }
            self.checks.settle()?;
            self.settled = true;
        } else if self.complete || self.gathered_bytes >= self.body.lanes().piece_bytes() {
            let chunks = std::mem::take(&mut self.gathered);
            self.gathered_bytes = 0;
            let away = || Error::new(ErrorKind::Internal, "digests of a body that are away");
            let digests = self.checks.digests.take().ok_or_else(away)?;
            let told = self.body.hash(digests, chunks.clone());
            self.hashing = Some(Hashing { told, chunks });
        }
        Ok(())
    }

    /// The next thing that happens; `None` when nothing has to be waited for.
    async fn event(&mut self) -> Option<Event> {
        let gathers = !self.complete && self.gathered_bytes < self.body.lanes().piece_bytes();
        match &mut self.hashing {
            Some(hashing) if gathers => tokio::select! {
                biased;
                digests = &mut hashing.told => Some(Event::Hashed(digests.ok())),
                chunk = self.stream.next() => Some(Event::Came(chunk)),
            },
            Some(hashing) => Some(Event::Hashed((&mut hashing.told).await.ok())),
            None if gathers => Some(Event::Came(self.stream.next().await)),
            None => None,
        }
    }
}
