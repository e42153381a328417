//! Uploads in parts: each part is an object in the hidden space, and the end writes them one after the other.

use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{self, StreamExt, TryStreamExt};
use opendal::ErrorKind as Theirs;
use opendal::options::WriteOptions;
use sluice_provider::{
    Attributes, ByteStream, ETag, Error, ErrorKind, Key, Multipart, ObjectInfo, PartNumber, PutBody, PutOptions, PutWhen, Result,
    Seal, UploadId,
};

use crate::OpenDal;
use crate::error::failed;
use crate::name::HIDDEN;
use crate::provider::{Inner, unsupported_condition};
use crate::service::Conditions;
use crate::write::random_name;

/// Parts that are looked at together.
const TOGETHER: usize = 16;

fn directory(upload: &UploadId) -> String {
    format!("{HIDDEN}parts/{upload}/")
}

/// There from the beginning of an upload to its end.
fn begun(upload: &UploadId) -> String {
    format!("{}begun", directory(upload))
}

/// The path of a part; `None` for what is no token of ours.
fn part_path(upload: &UploadId, token: &str) -> Option<String> {
    let sound = token.len() == 32 && token.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    sound.then(|| format!("{}{token}", directory(upload)))
}

fn gone() -> Error {
    Error::new(ErrorKind::NotFound, "upload or part")
}

impl Inner {
    async fn check_begun(&self, upload: &UploadId) -> Result<()> {
        self.stat(&begun(upload)).await?.map(drop).ok_or_else(gone)
    }

    /// Removes all that an upload holds; first what says that there is one.
    async fn clear(&self, upload: &UploadId) -> Result<()> {
        let directory = directory(upload);
        self.remove(&begun(upload)).await?;
        let mut lister = match self.operator.lister(&directory).await {
            Ok(lister) => lister,
            Err(error) if error.kind() == Theirs::NotFound => return Ok(()),
            Err(error) => return Err(failed("abort", &error)),
        };
        loop {
            match lister.try_next().await {
                Ok(Some(entry)) if entry.path() != directory => self.remove(entry.path()).await?,
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) if error.kind() == Theirs::NotFound => break,
                Err(error) => return Err(failed("abort", &error)),
            }
        }
        if self.settings.service.spares_full_directories() {
            // It is empty now; if it is not, somebody sends a part to an upload that has ended.
            let _ = self.operator.delete(&directory).await;
        }
        Ok(())
    }

    /// The parts, one after the other.
    fn parts(self: &Arc<Self>, paths: Vec<(String, u64)>) -> ByteStream {
        let inner = Arc::clone(self);
        let parts = stream::iter(paths).filter(|(_, size)| futures::future::ready(*size > 0)).then(move |(path, size)| {
            let inner = Arc::clone(&inner);
            async move {
                let reader = inner.operator.reader(&path).await.map_err(|e| failed("read a part", &e))?;
                let pieces = reader.into_stream(0..size).await.map_err(|e| failed("read a part", &e))?;
                Ok::<_, Error>(pieces.map_ok(|piece| piece.to_bytes()).map_err(|e| failed("read a part", &e)))
            }
        });
        parts.try_flatten().try_filter(|piece| futures::future::ready(!piece.is_empty())).boxed()
    }

    async fn complete(
        self: &Arc<Self>,
        key: &Key,
        upload: &UploadId,
        parts: &[(String, u64)],
        etag: &ETag,
        put: &PutOptions,
    ) -> Result<ObjectInfo> {
        self.check_begun(upload).await?;
        let checks = parts.iter().map(|(token, size)| async move {
            let path = part_path(upload, token).ok_or_else(gone)?;
            let meta = self.stat(&path).await?.ok_or_else(gone)?;
            if meta.content_length() == *size { Ok((path, *size)) } else { Err(gone()) }
        });
        let checks: Vec<_> = checks.collect();
        let paths: Vec<_> = stream::iter(checks).buffered(TOGETHER).try_collect().await?;
        let size = paths.iter().map(|(_, size)| size).sum();
        let seal = Seal { etag: etag.clone(), attributes: Attributes::new() };
        let body = PutBody::new(self.parts(paths), Some(size), Arc::new(seal.into()));
        let info = self.put(key, body, put).await?;
        // The object is there: what is left behind is found by the abort of an upload that nobody knows.
        if let Err(error) = self.clear(upload).await {
            tracing::warn!(%error, "parts of a completed upload are left behind");
        }
        Ok(info)
    }
}

#[async_trait]
impl Multipart for OpenDal {
    async fn create(&self, _key: &Key, upload: &UploadId) -> Result<()> {
        let seal = Seal { etag: ETag::new("begun")?, attributes: Attributes::new() };
        let mut body = PutBody::from_bytes("begun".into(), seal);
        self.0.write_all(&begun(upload), &mut body, WriteOptions::default()).await.map(drop)
    }

    async fn put_part(&self, _key: &Key, upload: &UploadId, _part: PartNumber, mut body: PutBody) -> Result<String> {
        self.0.check_begun(upload).await?;
        let token = random_name()?;
        let path = part_path(upload, &token).ok_or_else(gone)?;
        // One that breaks off is left to the end of the upload: nobody knows its token.
        self.0.write_all(&path, &mut body, WriteOptions::default()).await?;
        Ok(token)
    }

    async fn discard_part(&self, _key: &Key, upload: &UploadId, token: &str) -> Result<()> {
        match part_path(upload, token) {
            Some(path) => self.0.remove(&path).await,
            None => Ok(()),
        }
    }

    async fn complete(
        &self,
        key: &Key,
        upload: &UploadId,
        parts: &[(String, u64)],
        etag: &ETag,
        put: &PutOptions,
    ) -> Result<ObjectInfo> {
        if put.when != PutWhen::Always && self.0.settings.service.conditions() == Conditions::None {
            return Err(unsupported_condition(&put.when));
        }
        let held = self.0.uploads.change(&directory(upload), false).await;
        let inner = Arc::clone(&self.0);
        let (key, upload, parts, etag, put) = (key.clone(), upload.clone(), parts.to_vec(), etag.clone(), put.clone());
        let work = tokio::spawn(async move {
            let outcome = Inner::complete(&inner, &key, &upload, &parts, &etag, &put).await;
            drop(held);
            outcome
        });
        work.await.map_err(|e| Error::new(ErrorKind::Internal, "complete").caused_by(e))?
    }

    async fn abort(&self, _key: &Key, upload: &UploadId) -> Result<()> {
        let _held = self.0.uploads.change(&directory(upload), false).await;
        self.0.clear(upload).await
    }
}
