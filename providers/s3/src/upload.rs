//! An upload at the remote that one call of the mount begins and ends.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sluice_provider::{ETag, Error, ErrorKind, PartNumber, Result, VersionId};

use crate::answer::Answer;
use crate::form::Headers;
use crate::payload::Payload;
use crate::provider::Inner;
use crate::remote::SentPart;
use crate::write::When;

/// An upload that is aborted unless it is completed.
pub(crate) struct Upload {
    inner: Arc<Inner>,
    pub(crate) name: String,
    id: String,
    parts: Vec<SentPart>,
    over: AtomicBool,
}

impl Upload {
    pub(crate) async fn begin(inner: &Arc<Inner>, name: &str, headers: Headers) -> Result<Self> {
        let id = inner.remote.create_upload(name, headers).await?;
        Ok(Self::resumed(inner, name, id, AtomicBool::new(false)))
    }

    /// An upload that somebody else began, and aborts.
    pub(crate) fn lent(inner: &Arc<Inner>, name: &str, id: &str) -> Self {
        Self::resumed(inner, name, id.to_owned(), AtomicBool::new(true))
    }

    fn resumed(inner: &Arc<Inner>, name: &str, id: String, over: AtomicBool) -> Self {
        Self { inner: Arc::clone(inner), name: name.to_owned(), id, parts: Vec::new(), over }
    }

    /// Sends the next part.
    pub(crate) async fn put(&mut self, payload: Payload) -> Result<()> {
        let part = self.inner.remote.put_part(&self.name, &self.id, self.next()?, payload).await?;
        self.parts.push(part);
        Ok(())
    }

    /// Copies an object, or a part of it, into the next part.
    pub(crate) async fn copy(
        &mut self,
        from: (&str, Option<&VersionId>, Option<&ETag>),
        range: Option<Range<u64>>,
    ) -> Result<()> {
        let part = self.inner.remote.copy_part(from, range, &self.name, &self.id, self.next()?).await?;
        self.parts.push(part);
        Ok(())
    }

    /// Names parts that are there already.
    pub(crate) fn with_parts(mut self, parts: Vec<SentPart>) -> Self {
        self.parts = parts;
        self
    }

    pub(crate) fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Publishes it.
    pub(crate) async fn complete(&self, when: When) -> Result<Answer> {
        let answer = self.inner.remote.complete(&self.name, &self.id, &self.parts, &when).await?;
        self.over.store(true, Ordering::Relaxed);
        Ok(answer)
    }

    fn next(&self) -> Result<u16> {
        let next = u16::try_from(self.parts.len() + 1).ok().filter(|next| *next <= PartNumber::MAX);
        next.ok_or_else(|| Error::new(ErrorKind::TooLarge, "upload in parts").with("parts", self.parts.len()))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.over.load(Ordering::Relaxed) {
            return;
        }
        // Without a runtime nothing can be sent; the remote's own rule for stale uploads then frees it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (inner, name, id) = (Arc::clone(&self.inner), std::mem::take(&mut self.name), std::mem::take(&mut self.id));
            runtime.spawn(async move {
                if let Err(error) = inner.remote.abort(&name, &id).await {
                    tracing::debug!(%error, "an upload is left behind at the remote");
                }
            });
        }
    }
}
