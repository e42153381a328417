//! Uploads in parts. A part is a body of its own; completing writes the parts into one body, and puts that in its place in one transaction
//! with the end of the upload.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use sluice_provider::{
    Attributes, Body, ByteStream, ETag, Error, ErrorKind, Key, Multipart, ObjectInfo, PartNumber, PutBody, PutOptions, Result,
    Seal, UploadId,
};

use crate::Database;
use crate::backend::{Backend, on};
use crate::bodies;
use crate::row::Stored;

fn gone(upload: &UploadId) -> Error {
    Error::new(ErrorKind::NotFound, "upload").with("upload", upload)
}

/// The body of a part, by its token.
fn body_of(token: &str) -> Option<i64> {
    i64::from_str_radix(token, 16).ok().filter(|body| *body > 0)
}

/// The bytes of parts, one after the other.
fn joined(backend: &Backend, parts: Vec<Stored>) -> ByteStream {
    let backend = backend.clone();
    let parts = stream::iter(parts).then(move |part| {
        let backend = backend.clone();
        async move {
            let chunks: ByteStream = match bodies::open(&backend, &part, 0..part.bytes()).await? {
                Body::Bytes(bytes) if bytes.is_empty() => stream::empty().boxed(),
                Body::Bytes(bytes) => stream::iter([Ok(bytes)]).boxed(),
                Body::Stream(chunks) => chunks,
                Body::File { .. } | Body::Socket(_) => {
                    return Err(Error::new(ErrorKind::Internal, "a part that is in no database"));
                }
            };
            Ok::<_, Error>(chunks)
        }
    });
    parts.try_flatten().boxed()
}

#[async_trait]
impl Multipart for Database {
    async fn create(&self, key: &Key, upload: &UploadId) -> Result<()> {
        on!(&self.backend, store => store.begin_upload(&self.settings.space, key, upload.as_str()).await)
    }

    async fn put_part(&self, key: &Key, upload: &UploadId, _part: PartNumber, mut body: PutBody) -> Result<String> {
        let (settings, space) = (&self.settings, &self.settings.space);
        // Known before the body is read, or a client sends a part that nobody can take.
        if !on!(&self.backend, store => store.has_upload(space, key, upload.as_str()).await)? {
            return Err(gone(upload));
        }
        let staged = bodies::take_in(&self.backend, space, settings.page_bytes, &mut body).await?;
        // The seal tells that the body ended cleanly.
        body.seal()?;
        let part = (staged.body, staged.bytes, settings.page_bytes);
        if !on!(&self.backend, store => store.add_part(space, key, upload.as_str(), part).await)? {
            return Err(gone(upload));
        }
        let token = format!("{:x}", staged.body);
        staged.published();
        Ok(token)
    }

    async fn discard_part(&self, key: &Key, upload: &UploadId, token: &str) -> Result<()> {
        let Some(body) = body_of(token) else { return Ok(()) };
        let space = &self.settings.space;
        if on!(&self.backend, store => store.drop_part(space, key, upload.as_str(), body).await)? {
            bodies::remove(&self.backend, body).await?;
        }
        Ok(())
    }

    async fn complete(
        &self,
        key: &Key,
        upload: &UploadId,
        parts: &[(String, u64)],
        etag: &ETag,
        put: &PutOptions,
    ) -> Result<ObjectInfo> {
        let (settings, space) = (&self.settings, &self.settings.space);
        let kept = on!(&self.backend, store => store.parts(space, key, upload.as_str()).await)?;
        let kept = kept.ok_or_else(|| gone(upload))?;
        let mut wanted = Vec::with_capacity(parts.len());
        for (token, size) in parts {
            let part = body_of(token).and_then(|body| kept.iter().find(|part| part.body == body));
            let part = part.ok_or_else(|| Error::new(ErrorKind::NotFound, "part").with("token", token))?;
            if part.bytes() != *size {
                let error = Error::new(ErrorKind::Corrupt, "size of a part").with("listed", size);
                return Err(error.with("stored", part.bytes()));
            }
            wanted.push(part.clone());
        }
        // What cannot be published need not be written.
        let there = on!(&self.backend, store => store.head(space, key).await)?;
        put.when.check(there.map(|there| ETag::new(&there.etag)).transpose()?.as_ref())?;
        let size = wanted.iter().map(Stored::bytes).sum();
        let seal = Seal { etag: etag.clone(), attributes: Attributes::new() };
        let mut body = PutBody::new(joined(&self.backend, wanted), Some(size), Arc::new(OnceLock::from(seal)));
        let staged = bodies::take_in(&self.backend, space, settings.page_bytes, &mut body).await.map_err(|error| {
            // The parts went while they were read: another call completed or aborted.
            if *error.kind() == ErrorKind::Unavailable { gone(upload).caused_by(error) } else { error }
        })?;
        let new = Stored::new(size, etag, &put.attributes, staged.body, settings.page_bytes)?;
        let done = on!(&self.backend, store => store.complete(space, key, upload.as_str(), &new, &put.when).await)?;
        let info = done.ok_or_else(|| gone(upload))?;
        staged.published();
        self.collect_now();
        Ok(info)
    }

    async fn abort(&self, key: &Key, upload: &UploadId) -> Result<()> {
        let space = &self.settings.space;
        for body in on!(&self.backend, store => store.end_upload(space, key, upload.as_str()).await)? {
            bodies::remove(&self.backend, body).await?;
        }
        Ok(())
    }
}
