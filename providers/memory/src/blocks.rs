//! The bytes of an object: exact blocks of their own, so that neither a network buffer is pinned by a small slice of it nor any
//! byte is held that the quota does not know.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use sluice_provider::{Body, PutBody, Result};

use crate::quota::{Hold, Quota};

/// The largest block in bytes. Bodies up to here are read as one slice; larger ones as a stream of slices.
pub const BLOCK_BYTES: usize = 4 * 1024 * 1024;

/// The first block of a body of unknown length. The next ones double.
const FIRST_BLOCK_BYTES: usize = 16 * 1024;

/// Neighbouring blocks of an upload's small parts are merged up to this size, or a read of them would be a stream of crumbs.
const MERGED_BYTES: usize = 1024 * 1024;

/// The bytes of an object or a part, in order. Cheap to clone: the blocks are shared, and count until the last of them is gone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Blocks {
    blocks: Arc<[Bytes]>,
    size: u64,
}

impl Blocks {
    /// Takes a body in, to its clean end.
    ///
    /// # Errors
    /// The body's own, or `QuotaExceeded` as soon as it is clear that it does not fit.
    pub(crate) async fn gather(quota: &Arc<Quota>, body: &mut PutBody) -> Result<Self> {
        let declared = body.size();
        quota.foresee(declared.unwrap_or(0))?;
        let mut gathering = Gathering { quota, declared, full: Vec::new(), open: None, taken: 0 };
        while let Some(chunk) = body.chunk().await? {
            gathering.push(&chunk)?;
        }
        Ok(gathering.finish())
    }

    /// These, one after the other, sharing all but small blocks.
    ///
    /// # Errors
    /// `QuotaExceeded` when there is no room for merging small blocks.
    pub(crate) fn join<'a>(quota: &Arc<Quota>, pieces: impl IntoIterator<Item = &'a Self>) -> Result<Self> {
        let mut joined = Vec::new();
        let mut run: Vec<Bytes> = Vec::new();
        let mut run_bytes = 0;
        for block in pieces.into_iter().flat_map(|piece| piece.blocks.iter()) {
            if run_bytes + block.len() > MERGED_BYTES {
                merge(quota, &mut run, &mut joined)?;
                run_bytes = 0;
            }
            run_bytes += block.len();
            run.push(block.clone());
        }
        merge(quota, &mut run, &mut joined)?;
        Ok(joined.into())
    }

    /// These and then those, sharing all blocks but small ones at the seam: they are merged while the last of these is no larger than
    /// what follows, so that many small appends neither make many blocks nor copy the same bytes again and again.
    ///
    /// # Errors
    /// `QuotaExceeded` when there is no room for merging small blocks.
    pub(crate) fn followed_by(&self, quota: &Arc<Quota>, tail: &Self) -> Result<Self> {
        let (mut kept, mut seam) = (self.blocks.len(), 0);
        let mut small = if tail.blocks.len() == 1 { tail.blocks[0].len() } else { usize::MAX };
        while let Some(last) = kept.checked_sub(1).map(|last| self.blocks[last].len())
            && last <= small
            && last + small <= MERGED_BYTES
        {
            (kept, seam, small) = (kept - 1, seam + 1, small + last);
        }
        let mut joined = self.blocks[..kept].to_vec();
        if seam == 0 {
            joined.extend(tail.blocks.iter().cloned());
        } else {
            let mut run: Vec<Bytes> = self.blocks[kept..].iter().chain(tail.blocks.iter()).cloned().collect();
            merge(quota, &mut run, &mut joined)?;
        }
        Ok(joined.into())
    }

    /// How many bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The bytes of a range within them.
    pub(crate) fn body(&self, range: Range<u64>) -> Body {
        let mut slices = self.slices(range);
        match (slices.next(), slices.next()) {
            (None, _) => Body::Bytes(Bytes::new()),
            (Some(only), None) => Body::Bytes(only),
            (Some(first), Some(second)) => Body::Stream(stream::iter([first, second].into_iter().chain(slices).map(Ok)).boxed()),
        }
    }

    fn slices(&self, range: Range<u64>) -> impl Iterator<Item = Bytes> + Send + use<> {
        let blocks = self.blocks.clone();
        let (mut next, mut offset) = (0, 0);
        std::iter::from_fn(move || {
            while offset < range.end {
                let block = blocks.get(next)?;
                let length = block.len() as u64;
                let start = range.start.saturating_sub(offset).min(length);
                let end = (range.end - offset).min(length);
                next += 1;
                offset += length;
                if start < end {
                    return Some(block.slice(start as usize..end as usize));
                }
            }
            None
        })
    }
}

impl From<Vec<Bytes>> for Blocks {
    fn from(blocks: Vec<Bytes>) -> Self {
        Self { size: blocks.iter().map(|b| b.len() as u64).sum(), blocks: blocks.into() }
    }
}

/// Moves a run of blocks to `joined`, as one block when they are several.
fn merge(quota: &Arc<Quota>, run: &mut Vec<Bytes>, joined: &mut Vec<Bytes>) -> Result<()> {
    if run.len() < 2 {
        joined.append(run);
        return Ok(());
    }
    let mut block = OpenBlock::new(quota, run.iter().map(Bytes::len).sum())?;
    for small in run.drain(..) {
        block.fill(&small);
    }
    joined.push(block.close());
    Ok(())
}

/// A body half way in.
struct Gathering<'a> {
    quota: &'a Arc<Quota>,
    declared: Option<u64>,
    full: Vec<Bytes>,
    open: Option<OpenBlock>,
    taken: u64,
}

impl Gathering<'_> {
    fn push(&mut self, mut chunk: &[u8]) -> Result<()> {
        while !chunk.is_empty() {
            let mut block = match self.open.take() {
                Some(block) => block,
                None => OpenBlock::new(self.quota, self.next_capacity())?,
            };
            let taken = block.fill(chunk);
            chunk = &chunk[taken..];
            self.taken += taken as u64;
            if block.room() == 0 {
                self.full.push(block.close());
            } else {
                self.open = Some(block);
            }
        }
        Ok(())
    }

    fn next_capacity(&self) -> usize {
        let left = self.declared.unwrap_or(0).saturating_sub(self.taken);
        match usize::try_from(left) {
            // The length is not known, or was a lie that somebody else will tell of.
            Ok(0) => self.full.last().map_or(FIRST_BLOCK_BYTES, |last| (last.len() * 2).clamp(FIRST_BLOCK_BYTES, BLOCK_BYTES)),
            Ok(left) => left.min(BLOCK_BYTES),
            Err(_) => BLOCK_BYTES,
        }
    }

    fn finish(mut self) -> Blocks {
        self.full.extend(self.open.take().map(OpenBlock::close));
        self.full.into()
    }
}

/// A block that is being filled. Its whole capacity is held from the start.
struct OpenBlock {
    bytes: Vec<u8>,
    capacity: usize,
    hold: Hold,
}

impl OpenBlock {
    fn new(quota: &Arc<Quota>, capacity: usize) -> Result<Self> {
        let hold = quota.take(capacity as u64)?;
        Ok(Self { bytes: Vec::with_capacity(capacity), capacity, hold })
    }

    fn room(&self) -> usize {
        self.capacity - self.bytes.len()
    }

    /// Takes as much of `chunk` as there is room for, and answers how much.
    fn fill(&mut self, chunk: &[u8]) -> usize {
        let taken = chunk.len().min(self.room());
        self.bytes.extend_from_slice(&chunk[..taken]);
        taken
    }

    fn close(mut self) -> Bytes {
        let bytes = self.bytes.into_boxed_slice();
        self.hold.shrink_to(bytes.len() as u64);
        Bytes::from_owner(Block { bytes, _hold: self.hold })
    }
}

/// The owner behind the `Bytes` of a block: when its last slice is dropped, the quota has its bytes back.
struct Block {
    bytes: Box<[u8]>,
    _hold: Hold,
}

impl AsRef<[u8]> for Block {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
