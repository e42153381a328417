//! A small body: gathered whole, and hashed with others that are complete at the same moment.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::StreamExt;
use sluice_provider::{ByteStream, Error, ErrorKind, Result};

use super::Checks;
use crate::transfer::lanes::Small;

/// The body.
pub(super) struct Whole {
    stream: ByteStream,
    checks: Checks,
    small: Small,
    chunks: VecDeque<Bytes>,
    settled: bool,
}

impl Whole {
    pub(super) fn new(stream: ByteStream, checks: Checks, small: Small) -> Self {
        Self { stream, checks, small, chunks: VecDeque::new(), settled: false }
    }

    pub(super) async fn next(&mut self) -> Option<Result<Bytes>> {
        if !self.settled {
            // Whatever comes of it, it is not begun again.
            self.settled = true;
            if let Err(error) = self.gather().await {
                self.chunks.clear();
                return Some(Err(error));
            }
        }
        self.chunks.pop_front().map(Ok)
    }

    async fn gather(&mut self) -> Result<()> {
        self.checks.begin()?;
        while let Some(chunk) = self.stream.next().await {
            let chunk = chunk?;
            if !chunk.is_empty() {
                self.checks.receive(&chunk)?;
                self.chunks.push_back(chunk);
            }
        }
        let away = || Error::new(ErrorKind::Internal, "digests of a body that are away");
        let digests = self.checks.digests.take().ok_or_else(away)?;
        self.checks.digests = self.small.hash(digests, self.chunks.make_contiguous()).await;
        self.checks.settle()
    }
}
