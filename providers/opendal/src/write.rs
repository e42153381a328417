//! Writing: bytes go to the service as they come, and are published when they are whole.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream;
use opendal::options::WriteOptions;
use opendal::{Buffer, Metadata, Writer};
use parking_lot::Mutex;
use sluice_provider::{BodyFault, Error, ErrorKind, Key, ObjectInfo, PutBody, PutOptions, PutWhen, Result, Seal};

use crate::error::failed;
use crate::name::HIDDEN;
use crate::provider::{Inner, changed, missing, unsupported_condition};
use crate::publish::{Finish, Publication};
use crate::service::{Conditions, Publishing, Sending};
use crate::transport::{LongBody, with_body};

/// What a writer of pieces gathers before it sends, in bytes: a block of Azure, a part of GCS and B2.
const PIECE_BYTES: usize = 8 * 1024 * 1024;
/// The largest object of a service that takes objects as one buffer.
const WHOLE_BYTES: u64 = 64 * 1024 * 1024;

/// A path in the hidden space that is removed unless it is published.
pub(crate) struct Staged {
    inner: Arc<Inner>,
    pub(crate) path: String,
    over: bool,
}

impl Staged {
    fn new(inner: &Arc<Inner>) -> Result<Self> {
        Ok(Self { inner: Arc::clone(inner), path: format!("{HIDDEN}stage/{}", random_name()?), over: false })
    }

    pub(crate) fn published(&mut self) {
        self.over = true;
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        // Without a runtime nothing can be sent; a sweep then finds it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (inner, path) = (Arc::clone(&self.inner), std::mem::take(&mut self.path));
            runtime.spawn(async move {
                if let Err(error) = inner.remove(&path).await {
                    tracing::debug!(%error, "what was staged is left to a sweep");
                }
            });
        }
    }
}

/// 32 random hexadecimal digits.
pub(crate) fn random_name() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|e| Error::new(ErrorKind::Internal, "random name").caused_by(e))?;
    Ok(hex::encode(bytes))
}

impl Inner {
    pub(crate) fn largest(&self) -> Option<u64> {
        (self.settings.service.sending() == Sending::Whole).then_some(WHOLE_BYTES)
    }

    pub(crate) async fn put(self: &Arc<Self>, key: &Key, mut body: PutBody, put: &PutOptions) -> Result<ObjectInfo> {
        self.check_writable("put")?;
        self.check_attributes(&put.attributes)?;
        let path = self.names.path(key)?;
        let mut options = self.options(put);
        self.condition(key, &path, &put.when, &mut options).await?;
        if self.settings.service.publishing() == Publishing::Rename {
            let staged = Staged::new(self)?;
            let size = self.write_all(&staged.path, &mut body, WriteOptions::default()).await?;
            return self.finish(key, path, put, body.seal()?, Finish::Rename(staged), size).await;
        }
        match self.settings.service.sending() {
            Sending::Whole => {
                let bytes = self.gather(&mut body).await?;
                let size = bytes.len() as u64;
                let finish = Finish::Write(Buffer::from(bytes), Box::new(options));
                self.finish(key, path, put, body.seal()?, finish, size).await
            }
            Sending::Pieces | Sending::Request => {
                let writer = self.writer(&path, options).await?;
                let (writer, size) = self.fill(writer, &mut body).await?;
                self.finish(key, path, put, body.seal()?, Finish::Close(Box::new(writer)), size).await
            }
        }
    }

    async fn finish(
        self: &Arc<Self>,
        key: &Key,
        path: String,
        put: &PutOptions,
        seal: Seal,
        finish: Finish,
        size: u64,
    ) -> Result<ObjectInfo> {
        let mut attributes = put.attributes.clone();
        attributes.extend(seal.attributes.iter());
        self.check_attributes(&seal.attributes)?;
        let publication = Publication { key: key.clone(), path, etag: seal.etag, attributes, size, finish };
        Self::publish(self, publication).await
    }

    /// What the service itself is told of an object, so that others who read it see it too.
    fn options(&self, put: &PutOptions) -> WriteOptions {
        let can = self.operator.info().capability();
        let value = |name: &str, can: bool| {
            let sound = |value: &&str| can && !value.is_empty() && value.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
            put.attributes.get(name).filter(sound).map(str::to_owned)
        };
        WriteOptions {
            content_type: value("content-type", can.write_with_content_type),
            cache_control: value("cache-control", can.write_with_cache_control),
            content_disposition: value("content-disposition", can.write_with_content_disposition),
            content_encoding: value("content-encoding", can.write_with_content_encoding),
            ..WriteOptions::default()
        }
    }

    /// Ties a write to what it is to replace.
    async fn condition(&self, key: &Key, path: &str, when: &PutWhen, options: &mut WriteOptions) -> Result<()> {
        match (self.settings.service.conditions(), when) {
            (_, PutWhen::Always) => return Ok(()),
            (Conditions::All | Conditions::Create, PutWhen::IfAbsent) => {
                options.if_not_exists = true;
                return Ok(());
            }
            (Conditions::None | Conditions::Create, _) => return Err(unsupported_condition(when)),
            (Conditions::All, _) => {}
        }
        let seen = self.look(key, path).await?;
        when.check(seen.as_ref().map(|seen| &seen.info.etag))?;
        match seen {
            None if matches!(when, PutWhen::IfNoneMatch(_)) => options.if_not_exists = true,
            None => return Err(missing(key)),
            Some(seen) => match seen.meta.etag() {
                Some(etag) => options.if_match = Some(etag.to_owned()),
                None => return Err(changed(key)),
            },
        }
        Ok(())
    }

    pub(crate) async fn writer(&self, path: &str, options: WriteOptions) -> Result<Writer> {
        let multi = self.operator.info().capability().write_multi_max_size.is_some()
            || self.settings.service.publishing() == Publishing::Close;
        let options = WriteOptions { chunk: multi.then_some(PIECE_BYTES), ..options };
        self.operator.writer_options(path, options).await.map_err(|e| failed("write", &e))
    }

    /// Sends a body, and leaves the end to be told.
    async fn fill(&self, mut writer: Writer, body: &mut PutBody) -> Result<(Writer, u64)> {
        match pour(&mut writer, body).await {
            Ok(size) => Ok((writer, size)),
            Err(error) => {
                // What it holds at the service is freed as far as the service can; an error of that helps nobody.
                let _ = writer.abort().await;
                Err(error)
            }
        }
    }

    /// Writes a body to a path where nobody looks; answers how many bytes.
    pub(crate) async fn write_all(&self, path: &str, body: &mut PutBody, options: WriteOptions) -> Result<u64> {
        match self.settings.service.sending() {
            Sending::Whole => {
                let bytes = self.gather(body).await?;
                let size = bytes.len() as u64;
                let written = self.operator.write_options(path, bytes, options).await;
                written.map(|_| size).map_err(|e| failed("write", &e))
            }
            Sending::Request => self.send(path, body, options).await,
            Sending::Pieces => {
                let writer = self.writer(path, options).await?;
                let (mut writer, size) = self.fill(writer, body).await?;
                writer.close().await.map_err(|e| failed("write", &e))?;
                Ok(size)
            }
        }
    }

    /// The body as that of one request.
    async fn send(&self, path: &str, body: &mut PutBody, options: WriteOptions) -> Result<u64> {
        // The pieces cross to the task that sends them over a channel, and an error of the body stays here.
        let size = body.size();
        let (feed, pieces) = tokio::sync::mpsc::channel::<std::io::Result<Bytes>>(1);
        let pieces = stream::unfold(pieces, |mut pieces| async move { pieces.recv().await.map(|piece| (piece, pieces)) });
        let long = LongBody { pieces: Box::pin(pieces), size };
        let fault = Mutex::new(None);
        let sent = Mutex::new(0);
        let feeding = async {
            loop {
                let piece = match body.chunk().await {
                    Ok(Some(bytes)) => bytes,
                    Ok(None) => break,
                    Err(error) => {
                        *fault.lock() = Some(error);
                        // Breaks the connection: the body must not end.
                        let _ = feed.send(Err(std::io::ErrorKind::UnexpectedEof.into())).await;
                        break;
                    }
                };
                *sent.lock() += piece.len() as u64;
                if feed.send(Ok(piece)).await.is_err() {
                    break;
                }
            }
            drop(feed);
        };
        // OpenDAL is told of a body so that it sends a request at all.
        let sending = with_body(long, self.operator.write_options(path, Bytes::from_static(b"body"), options));
        let (outcome, ()) = futures::join!(sending, feeding);
        if let Some(error) = fault.into_inner() {
            return Err(error);
        }
        outcome.map_err(|e| failed("write", &e))?;
        let sent = sent.into_inner();
        whole(size, sent)?;
        Ok(sent)
    }

    async fn gather(&self, body: &mut PutBody) -> Result<Bytes> {
        let too_large = || Error::new(ErrorKind::TooLarge, "object").with("largest", WHOLE_BYTES);
        if body.size().is_some_and(|size| size > WHOLE_BYTES) {
            return Err(too_large());
        }
        let mut all = Vec::new();
        while let Some(piece) = body.chunk().await? {
            if (all.len() + piece.len()) as u64 > WHOLE_BYTES {
                return Err(too_large());
            }
            all.extend_from_slice(&piece);
        }
        whole(body.size(), all.len() as u64)?;
        Ok(all.into())
    }
}

async fn pour(writer: &mut Writer, body: &mut PutBody) -> Result<u64> {
    let mut size = 0;
    while let Some(piece) = body.chunk().await? {
        size += piece.len() as u64;
        writer.write(piece).await.map_err(|e| failed("write", &e))?;
    }
    whole(body.size(), size)?;
    Ok(size)
}

fn whole(declared: Option<u64>, size: u64) -> Result<()> {
    match declared {
        Some(declared) if declared > size => Err(Error::new(ErrorKind::Body(BodyFault::Incomplete), "put")),
        Some(declared) if declared < size => Err(Error::new(ErrorKind::Body(BodyFault::TooLong), "put")),
        _ => Ok(()),
    }
}

/// What a service told when a write ended, if that is enough to know the object by.
pub(crate) fn told(meta: Metadata, size: u64) -> Option<Metadata> {
    let enough = meta.etag().is_some_and(|etag| !etag.is_empty()) && meta.last_modified().is_some();
    enough.then(|| {
        let mut meta = meta.into_builder();
        meta.set_file(size);
        meta.build()
    })
}
