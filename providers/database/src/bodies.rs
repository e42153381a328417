//! Bodies of pages: on their way in, on their way out, and on their way to be gone.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream;
use sluice_provider::{Body, BodyFault, Error, ErrorKind, PutBody, Result};

use crate::backend::{Backend, on};
use crate::row::{Stored, new_body};

/// Being written.
pub(crate) const STAGED: i64 = 0;
/// Replaced or deleted; still read by those who had opened it.
pub(crate) const RELEASED: i64 = 1;
/// Its pages are being removed.
pub(crate) const COLLECTING: i64 = 2;

/// A part of an upload.
pub(crate) const PART: i64 = 3;

/// How many bytes are stored, or read, in one go.
const BATCH_BYTES: u64 = 1024 * 1024;
/// Ranges up to this size are read at once.
const SMALL_BYTES: u64 = 256 * 1024;
/// Pages that are removed in one transaction.
const REMOVED_AT_ONCE: i64 = 1024;

/// A body on its way in. Unless it is published, dropping it removes what is stored of it.
pub(crate) struct Staged {
    backend: Backend,
    pub(crate) body: i64,
    pub(crate) bytes: u64,
    published: bool,
}

impl Staged {
    pub(crate) fn published(mut self) {
        self.published = true;
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.published {
            return;
        }
        let (backend, body) = (self.backend.clone(), self.body);
        // Without a runtime, or when this fails, a sweep removes it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            drop(runtime.spawn(async move {
                let removed = async {
                    if on!(&backend, store => store.collect_one(body).await)? { remove(&backend, body).await } else { Ok(()) }
                };
                if let Err(error) = removed.await {
                    tracing::warn!(%error, "what was stored of a body that broke off is left to the next sweep");
                }
            }));
        }
    }
}

/// Removes the pages of a body that is marked for it.
pub(crate) async fn remove(backend: &Backend, body: i64) -> Result<()> {
    while on!(backend, store => store.remove_some(body, REMOVED_AT_ONCE).await)? {}
    Ok(())
}

/// Takes a body in, to its clean end. At most one batch of it is in memory.
pub(crate) async fn take_in(backend: &Backend, space: &str, page_bytes: u32, body: &mut PutBody) -> Result<Staged> {
    let mut staged = Staged { backend: backend.clone(), body: new_body()?, bytes: 0, published: false };
    let page = page_bytes as usize;
    let at_once = (BATCH_BYTES as usize / page).max(1);
    let (mut open, mut full): (BytesMut, Vec<(i64, Vec<u8>)>) = (BytesMut::with_capacity(page), Vec::new());
    let (mut number, mut seen) = (0, 0);
    on!(backend, store => store.stage(space, staged.body, &[]).await)?;
    while let Some(mut chunk) = body.chunk().await? {
        staged.bytes += chunk.len() as u64;
        while !chunk.is_empty() {
            let piece = chunk.split_to(chunk.len().min(page - open.len()));
            open.extend_from_slice(&piece);
            if open.len() == page {
                keep(&mut full, number, &open);
                open.clear();
                number += 1;
                seen += 1;
            }
            if seen >= at_once {
                // Also when all of it was zeros: it tells that the body is still being written.
                on!(backend, store => store.stage(space, staged.body, &full).await)?;
                full.clear();
                seen = 0;
            }
        }
    }
    keep(&mut full, number, &open);
    if !full.is_empty() {
        on!(backend, store => store.stage(space, staged.body, &full).await)?;
    }
    match body.size() {
        Some(size) if size > staged.bytes => Err(Error::new(ErrorKind::Body(BodyFault::Incomplete), "put")),
        Some(size) if size < staged.bytes => Err(Error::new(ErrorKind::Body(BodyFault::TooLong), "put")),
        _ => Ok(staged),
    }
}

/// A page of zeros is not stored: what is not there is zeros.
fn keep(full: &mut Vec<(i64, Vec<u8>)>, number: i64, page: &[u8]) {
    if page.iter().any(|byte| *byte != 0) {
        full.push((number, page.to_vec()));
    }
}

/// Copies the pages of an object into a body of its own.
pub(crate) async fn copy(backend: &Backend, space: &str, source: &Stored) -> Result<Staged> {
    let staged = Staged { backend: backend.clone(), body: new_body()?, bytes: source.bytes(), published: false };
    on!(backend, store => store.stage(space, staged.body, &[]).await)?;
    let (page, end) = (source.page(), source.bytes());
    let step = (BATCH_BYTES / page).max(1);
    let mut first = 0;
    while first * page < end {
        let pages = read_pages(backend, source.body, first..first + step).await?;
        on!(backend, store => store.stage(space, staged.body, &pages).await)?;
        first += step;
    }
    Ok(staged)
}

async fn read_pages(backend: &Backend, body: i64, numbers: Range<u64>) -> Result<Vec<(i64, Vec<u8>)>> {
    let (first, last) = (numbers.start as i64, numbers.end as i64 - 1);
    let pages = on!(backend, store => store.pages(body, first, last).await)?;
    pages.ok_or_else(|| Error::new(ErrorKind::Unavailable, "read an object that was removed meanwhile"))
}

/// The bytes of a range that lies within `batch`, which ends with a page.
async fn read_range(backend: &Backend, stored: &Stored, range: &Range<u64>) -> Result<Bytes> {
    let page = stored.page();
    let numbers = range.start / page..range.end.div_ceil(page);
    let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap_or(0)];
    for (number, content) in read_pages(backend, stored.body, numbers).await? {
        let at = u64::try_from(number).unwrap_or(0) * page;
        // Of what was appended after the object was opened, nothing belongs to it.
        let from = range.start.max(at);
        let to = range.end.min(at + content.len() as u64);
        if from < to {
            let target = (from - range.start) as usize..(to - range.start) as usize;
            bytes[target].copy_from_slice(&content[(from - at) as usize..(to - at) as usize]);
        }
    }
    Ok(bytes.into())
}

/// The body of a read.
pub(crate) async fn open(backend: &Backend, stored: &Stored, range: Range<u64>) -> Result<Body> {
    if range.end - range.start <= SMALL_BYTES {
        return read_range(backend, stored, &range).await.map(Body::Bytes);
    }
    let step = (BATCH_BYTES / 4 / stored.page()).max(1) * stored.page();
    let reader = Some((backend.clone(), stored.clone(), range));
    let chunks = stream::unfold(reader, move |reader| async move {
        let (backend, stored, range) = reader?;
        if range.is_empty() {
            return None;
        }
        let end = range.end.min((range.start / step + 1) * step);
        match read_range(&backend, &stored, &(range.start..end)).await {
            Ok(bytes) => Some((Ok(bytes), Some((backend, stored, end..range.end)))),
            Err(error) => Some((Err(error), None)),
        }
    });
    Ok(Body::Stream(chunks.boxed()))
}
