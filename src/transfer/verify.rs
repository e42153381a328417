//! Verification on the way in.
//!
//! One chunk is held back, never copied: when the next one arrives the held one is hashed and handed on, when the end arrives
//! everything declared is checked first. A small body is gathered [`whole`] and hashed where it is received, with others that are
//! complete; a large one in [`pieces`], by threads that all large bodies share. Without lanes, every body is hashed for itself.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::StreamExt;
use sluice_provider::{Attributes, BodyFault, ByteStream, ETag, Error, ErrorKind, PutBody, Result, Seal};

use self::pieces::Pieces;
use self::whole::Whole;
use super::digests::Digests;
use super::{Algorithm, Hasher, Lanes, decode, encode};

mod pieces;
mod whole;

/// Bytes hashed before other tasks get their turn. MD5 takes 0.2 to 0.3 ms for them; shorter or longer bursts cost the same in all.
const BURST_BYTES: usize = 128 * 1024;

/// Reads a trailer after the body has ended: its base64 value, or `None` when it did not come.
pub type TrailerSource = Box<dyn FnOnce(Algorithm) -> Option<String> + Send + Sync>;

/// What a client declared about its body.
#[derive(Default)]
pub struct Declared {
    /// The exact length in bytes.
    pub size: Option<u64>,
    /// The largest length accepted in bytes.
    pub max_size: Option<u64>,
    /// Content-MD5, raw.
    pub md5: Option<[u8; 16]>,
    /// Checksums given in headers, raw values.
    pub checksums: Vec<(Algorithm, Vec<u8>)>,
    /// A checksum that a trailer will give.
    pub trailer: Option<(Algorithm, TrailerSource)>,
    /// Checksums to compute and store even if none was declared.
    pub compute: Vec<Algorithm>,
    /// The SHA-256 of the whole, raw, when the stream itself verifies it and ends in an error otherwise (a signed payload): it
    /// then serves wherever a SHA-256 is asked for, and is not computed again.
    pub verified_sha256: Option<[u8; 32]>,
    /// Where large bodies are hashed side by side; each for itself, where it is received, when `None`.
    pub lanes: Option<Lanes>,
}

/// Wraps a client's stream so that it is verified as declared. The seal is the MD5 in hexadecimal as the ETag, and every
/// checksum that was declared or computed as `checksum.*` attributes in base64.
///
/// The body ends in the stream's own error unchanged, or in [`ErrorKind::Body`]:
/// - [`BodyFault::TooLarge`] once it exceeds `max_size` (at once, when `size` does),
/// - [`BodyFault::TooLong`] or [`BodyFault::Incomplete`] when its length is not `size`,
/// - [`BodyFault::Md5Mismatch`], [`BodyFault::ChecksumMismatch`],
/// - [`BodyFault::Trailer`] when the trailer did not come or is not base64 of the right length.
#[must_use]
pub fn verify(stream: ByteStream, mut declared: Declared) -> PutBody {
    let seal = Arc::new(OnceLock::new());
    let size = declared.size;
    let lanes = declared.lanes.take();
    let checks = Checks::new(declared, Arc::clone(&seal));
    let small = lanes.as_ref().zip(size).and_then(|(lanes, size)| lanes.small(size));
    let large = |lanes: &Lanes| size.is_none_or(|size| size > lanes.at_once_bytes() as u64);
    let chunks = match (small, lanes.filter(large)) {
        (Some(small), _) => {
            let body = Whole::new(stream, checks, small);
            futures::stream::unfold(body, |mut body| async move { body.next().await.map(|chunk| (chunk, body)) }).boxed()
        }
        (None, Some(lanes)) => {
            let body = Pieces::new(stream, checks, &lanes);
            futures::stream::unfold(body, |mut body| async move { body.next().await.map(|chunk| (chunk, body)) }).boxed()
        }
        (None, None) => {
            let body = Verifier { stream, checks, held: None, burst: 0, ended: false };
            futures::stream::unfold(body, |mut body| async move { body.next().await.map(|chunk| (chunk, body)) }).boxed()
        }
    };
    PutBody::new(chunks, size, seal)
}

/// What must hold of a body, and what is known of it so far.
struct Checks {
    declared: Declared,
    seal: Arc<OnceLock<Seal>>,
    /// Away while another thread works on them.
    digests: Option<Box<Digests>>,
    received: u64,
}

/// A body that is hashed where it is received.
struct Verifier {
    stream: ByteStream,
    checks: Checks,
    /// The chunk held back.
    held: Option<Bytes>,
    /// Bytes hashed since other tasks had their turn.
    burst: usize,
    ended: bool,
}

// === impl Verifier ===

impl Verifier {
    async fn next(&mut self) -> Option<Result<Bytes>> {
        if self.ended {
            return None;
        }
        let chunk = self.advance().await;
        if chunk.is_err() {
            self.ended = true;
            self.held = None;
        }
        chunk.transpose()
    }

    async fn advance(&mut self) -> Result<Option<Bytes>> {
        self.checks.begin()?;
        while let Some(chunk) = self.stream.next().await {
            let chunk = chunk?;
            if chunk.is_empty() {
                continue;
            }
            self.checks.receive(&chunk)?;
            if let Some(held) = self.held.replace(chunk) {
                self.hash(&held).await?;
                return Ok(Some(held));
            }
        }
        let last = self.held.take();
        if let Some(last) = &last {
            self.hash(last).await?;
        }
        self.checks.settle()?;
        self.ended = true;
        Ok(last)
    }

    /// Hashes in bursts on the thread at hand, no longer than the write of the same bytes, and others get their turn after each.
    /// How many bodies hash at once is bounded by the threads of the runtime.
    async fn hash(&mut self, bytes: &[u8]) -> Result<()> {
        for piece in bytes.chunks(BURST_BYTES) {
            if self.burst + piece.len() > BURST_BYTES {
                self.burst = 0;
                tokio::task::yield_now().await;
            }
            self.burst += piece.len();
            self.checks.digests()?.update(piece);
        }
        Ok(())
    }
}

// === impl Checks ===

impl Checks {
    fn new(declared: Declared, seal: Arc<OnceLock<Seal>>) -> Self {
        let mut sums: Vec<(Algorithm, Option<Hasher>)> = Vec::new();
        let headers = declared.checksums.iter().map(|(algorithm, _)| *algorithm);
        let trailer = declared.trailer.iter().map(|(algorithm, _)| *algorithm);
        for algorithm in headers.chain(trailer).chain(declared.compute.iter().copied()) {
            if sums.iter().all(|(known, _)| *known != algorithm) {
                let known = algorithm == Algorithm::Sha256 && declared.verified_sha256.is_some();
                sums.push((algorithm, (!known).then(|| Hasher::new(algorithm))));
            }
        }
        Self { declared, seal, digests: Some(Box::new(Digests::new(sums))), received: 0 }
    }

    fn digests(&mut self) -> Result<&mut Digests> {
        self.digests.as_deref_mut().ok_or_else(|| Error::new(ErrorKind::Internal, "digests of a body that are away"))
    }

    /// Refuses a body that declares too much.
    fn begin(&self) -> Result<()> {
        self.check_length(self.declared.size.unwrap_or(0))
    }

    /// Counts a chunk.
    fn receive(&mut self, chunk: &Bytes) -> Result<()> {
        self.received = self.received.saturating_add(chunk.len() as u64);
        self.check_length(self.received)
    }

    /// Refuses a length that is over the limits already.
    fn check_length(&self, bytes: u64) -> Result<()> {
        if let Some(limit) = self.declared.max_size.filter(|max| bytes > *max) {
            return Err(fault(BodyFault::TooLarge).with("limit", limit));
        }
        if let Some(size) = self.declared.size.filter(|size| bytes > *size) {
            return Err(fault(BodyFault::TooLong).with("declared", size));
        }
        Ok(())
    }

    /// Checks what was declared, when all bytes went by, and fills the seal.
    fn settle(&mut self) -> Result<()> {
        if let Some(size) = self.declared.size.filter(|size| self.received != *size) {
            return Err(fault(BodyFault::Incomplete).with("declared", size).with("received", self.received));
        }
        let digests = self.digests.take().ok_or_else(|| Error::new(ErrorKind::Internal, "digests of a body that are away"))?;
        let md5 = digests.md5.finish();
        if self.declared.md5.is_some_and(|declared| declared != md5) {
            return Err(fault(BodyFault::Md5Mismatch).with("computed", hex::encode(md5)));
        }
        let mut sums = Vec::with_capacity(digests.sums.len());
        let verified = self.declared.verified_sha256;
        for (algorithm, sum) in digests.sums {
            sums.push((algorithm, sum.map_or_else(|| verified.map_or_else(Vec::new, Vec::from), Hasher::finish)));
        }
        for (algorithm, declared) in &self.declared.checksums {
            compare(&sums, *algorithm, declared)?;
        }
        if let Some((algorithm, source)) = self.declared.trailer.take() {
            let trailer = source(algorithm).and_then(|base64| decode(algorithm, &base64));
            compare(&sums, algorithm, &trailer.ok_or_else(|| fault(BodyFault::Trailer).with("trailer", algorithm.header()))?)?;
        }
        let attributes: Attributes = sums.iter().map(|(algorithm, raw)| (algorithm.attribute(), encode(raw))).collect();
        let mut etag = [0; 32];
        hex::encode_to_slice(md5, &mut etag).map_err(|e| Error::new(ErrorKind::Internal, "etag").caused_by(e))?;
        let etag = ETag::new(String::from_utf8_lossy(&etag))?;
        // Filled once: a body settles once.
        let _ = self.seal.set(Seal { etag, attributes });
        Ok(())
    }
}

fn compare(sums: &[(Algorithm, Vec<u8>)], algorithm: Algorithm, declared: &[u8]) -> Result<()> {
    if sums.iter().any(|(of, raw)| *of == algorithm && raw == declared) {
        return Ok(());
    }
    Err(fault(BodyFault::ChecksumMismatch(algorithm.name())))
}

fn fault(fault: BodyFault) -> Error {
    Error::new(ErrorKind::Body(fault), "body")
}

#[cfg(test)]
mod tests;
