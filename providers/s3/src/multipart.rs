//! Uploads in parts. A part that S3 would take anywhere in an upload is a part of an upload at the remote. A smaller one, a part
//! sent again, and one of a length that nobody knows is kept as an object in the hidden space and copied by the remote at the end:
//! the contract lets parts be of any size, and an old part stays until it is discarded.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use sluice_provider::{ETag, Error, ErrorKind, Key, Multipart, ObjectInfo, PartNumber, PutBody, PutOptions, Result, UploadId};

use crate::client::collect;
use crate::form::{self, Record};
use crate::payload::Payload;
use crate::provider::{ABREAST, Inner, S3, detached, new_id};
use crate::remote::SentPart;
use crate::settings::MIN_PART_BYTES;
use crate::upload::Upload;
use crate::versions::nameless;
use crate::write::{Gathered, MAX_PUT_BYTES, PART_BYTES, gather};

/// How many uploads are remembered between their parts.
const REMEMBERED: usize = 1024;
/// How much of small parts is gathered to make one that S3 takes.
const GATHERED_BYTES: usize = 8 * 1024 * 1024;

/// The error of a body that was on its way.
type Fault = Arc<parking_lot::Mutex<Option<Error>>>;

/// What is known of an upload: it lies at the remote under the upload's name, for all gateways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    /// The remote's name of the key.
    #[serde(rename = "k")]
    name: String,
    /// The upload at the remote.
    #[serde(rename = "u")]
    upload: String,
    /// The record of the object to be.
    #[serde(rename = "r")]
    record: String,
}

/// A part, as its token names it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// `n-<number>-<ETag in hex>`: in the upload at the remote.
    Native(SentPart),
    /// `s-<number>-<id>`: an object in the hidden space.
    Staged { number: u16, id: String },
}

impl Token {
    fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once('-')?;
        let (number, name) = rest.split_once('-')?;
        let number = number.parse().ok().filter(|n| (1..=PartNumber::MAX).contains(n))?;
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return None;
        }
        match kind {
            "n" => Some(Self::Native(SentPart { number, etag: String::from_utf8(hex::decode(name).ok()?).ok()? })),
            "s" => Some(Self::Staged { number, id: name.to_owned() }),
            _ => None,
        }
    }

    fn number(&self) -> u16 {
        match self {
            Self::Native(part) => part.number,
            Self::Staged { number, .. } => *number,
        }
    }
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Native(SentPart { number, etag }) => write!(f, "n-{number}-{}", hex::encode(etag)),
            Self::Staged { number, id } => write!(f, "s-{number}-{id}"),
        }
    }
}

#[async_trait]
impl Multipart for S3 {
    async fn create(&self, key: &Key, upload: &UploadId) -> Result<()> {
        let inner = &self.inner;
        inner.writable(key)?;
        let (name, record) = (inner.remote.name(key), new_id()?);
        // The attributes come with the end of the upload, when the remote takes none any more: so they lie in a record.
        let headers = form::with_record(&sluice_provider::Attributes::new(), &record, None)?;
        let id = inner.remote.create_upload(&name, headers).await?;
        let session = Session { name, upload: id, record };
        let json = serde_json::to_vec(&session).map_err(|e| Error::new(ErrorKind::Internal, "upload").caused_by(e))?;
        let written = inner.remote.put(&inner.session_name(upload), Payload::Bytes(json.into()), Vec::new(), &[]).await;
        if written.is_err() {
            // The error that is told is the one of the write.
            let _ = inner.remote.abort(&session.name, &session.upload).await;
        }
        written.map(drop)
    }

    async fn put_part(&self, key: &Key, upload: &UploadId, part: PartNumber, body: PutBody) -> Result<String> {
        let session = self.inner.session(key, upload).await?;
        let native = body.size().filter(|size| (self.inner.settings.native_part_bytes..=MAX_PUT_BYTES).contains(size));
        if let Some(size) = native
            && !self.inner.remote.has_part(&session.name, &session.upload, part.get()).await?
        {
            let fault = Fault::default();
            let payload = Payload::stream(forwarded(body, Arc::clone(&fault)), size);
            let sent = self.inner.remote.put_part(&session.name, &session.upload, part.get(), payload).await;
            let sent = or_fault(sent, &fault)?;
            return Ok(Token::Native(sent).to_string());
        }
        let token = Token::Staged { number: part.get(), id: new_id()? };
        let Token::Staged { id, .. } = &token else { return Err(Error::new(ErrorKind::Internal, "token")) };
        self.inner.stage(&self.inner.staged_name(upload, id), body).await?;
        Ok(token.to_string())
    }

    async fn discard_part(&self, _key: &Key, upload: &UploadId, token: &str) -> Result<()> {
        match Token::parse(token) {
            // Parts that a Complete does not name go with it, and no other one takes this place.
            Some(Token::Native(_)) | None => Ok(()),
            Some(Token::Staged { id, .. }) => self.inner.remote.erase(&self.inner.staged_name(upload, &id)).await,
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
        self.inner.publish(key, upload, parts, etag, put).await.map(nameless)
    }

    async fn abort(&self, key: &Key, upload: &UploadId) -> Result<()> {
        let (inner, key, upload) = (Arc::clone(&self.inner), key.clone(), upload.clone());
        detached(async move {
            let _turn = inner.turn(&key).await;
            match inner.read_session(&key, &upload).await {
                Ok(session) => inner.remote.abort(&session.name, &session.upload).await?,
                Err(error) if *error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            inner.forget(&upload).await
        })
        .await
    }
}

impl Inner {
    fn session_name(&self, upload: &UploadId) -> String {
        self.remote.hidden(&format!("u/{upload}"))
    }

    fn staged_name(&self, upload: &UploadId, id: &str) -> String {
        self.remote.hidden(&format!("p/{upload}/{id}"))
    }

    /// The upload, from memory where it is remembered: what was said at its beginning does not change.
    async fn session(&self, key: &Key, upload: &UploadId) -> Result<Arc<Session>> {
        let remembered = self.sessions.lock().get(upload.as_str()).cloned();
        if let Some(session) = remembered.filter(|session| session.name == self.remote.name(key)) {
            return Ok(session);
        }
        let session = Arc::new(self.read_session(key, upload).await?);
        let mut sessions = self.sessions.lock();
        if sessions.len() >= REMEMBERED {
            sessions.clear();
        }
        sessions.insert(upload.as_str().to_owned(), Arc::clone(&session));
        Ok(session)
    }

    async fn read_session(&self, key: &Key, upload: &UploadId) -> Result<Session> {
        let (bytes, _) = self.remote.read_hidden(&self.session_name(upload)).await?;
        let corrupt = || Error::new(ErrorKind::Corrupt, "upload of an s3 mount").with("upload", upload);
        let session: Session = serde_json::from_slice(&bytes).map_err(|e| corrupt().caused_by(e))?;
        if session.name != self.remote.name(key) {
            return Err(Error::new(ErrorKind::NotFound, "upload to another key").with("upload", upload));
        }
        Ok(session)
    }

    /// Keeps the body of a part as an object.
    async fn stage(self: &Arc<Self>, name: &str, mut body: PutBody) -> Result<()> {
        if let Some(size) = body.size().filter(|size| (1..=MAX_PUT_BYTES).contains(size)) {
            let fault = Fault::default();
            let payload = Payload::stream(forwarded(body, Arc::clone(&fault)), size);
            let sent = self.remote.put(name, payload, Vec::new(), &[]).await;
            return or_fault(sent, &fault).map(drop);
        }
        let room = self.room(PART_BYTES).await?;
        let mut part = match gather(&mut body, BytesMut::new(), PART_BYTES).await? {
            Gathered::Whole(bytes) => return self.remote.put(name, Payload::Bytes(bytes), Vec::new(), &[]).await.map(drop),
            Gathered::Beginning(bytes) => bytes,
        };
        let mut upload = Upload::begin(self, name, Vec::new()).await?;
        loop {
            let (bytes, last) = match gather(&mut body, part, PART_BYTES).await? {
                Gathered::Whole(bytes) => (bytes, true),
                Gathered::Beginning(bytes) => (bytes.freeze(), false),
            };
            if !bytes.is_empty() {
                upload.put(Payload::Bytes(bytes)).await?;
            }
            if last {
                break;
            }
            part = BytesMut::new();
        }
        drop(room);
        upload.complete(Vec::new()).await.map(drop)
    }

    /// Publishes parts, to the end whether or not anybody waits for it.
    pub(crate) async fn publish(
        self: &Arc<Self>,
        key: &Key,
        upload: &UploadId,
        parts: &[(String, u64)],
        etag: &ETag,
        put: &PutOptions,
    ) -> Result<ObjectInfo> {
        self.writable(key)?;
        self.keeps(&put.when)?;
        let (this, key, upload) = (Arc::clone(self), key.clone(), upload.clone());
        let (parts, etag, put) = (parts.to_vec(), etag.clone(), put.clone());
        detached(async move {
            let _turn = this.turn(&key).await;
            this.complete(&key, &upload, &parts, etag, &put).await
        })
        .await
    }

    async fn complete(
        self: &Arc<Self>,
        key: &Key,
        upload: &UploadId,
        parts: &[(String, u64)],
        etag: ETag,
        put: &PutOptions,
    ) -> Result<ObjectInfo> {
        let session = self.read_session(key, upload).await?;
        let unknown = |token: &str| Error::new(ErrorKind::NotFound, "part of an upload").with("token", token);
        let tokens = parts.iter().map(|(token, size)| Ok((Token::parse(token).ok_or_else(|| unknown(token))?, *size)));
        let tokens = tokens.collect::<Result<Vec<_>>>()?;
        // A condition that does not hold now spares the copies.
        drop(self.condition(key, &put.when).await?);
        let ready = if tokens.iter().any(|(token, _)| matches!(token, Token::Native(_))) {
            self.in_place(&session, upload, &tokens).await?
        } else {
            self.put_together(&session, upload, &tokens).await?
        };
        let record = Record::new(&session.name, &put.attributes, &etag);
        self.remote.write_record(&session.record, &record, &[]).await?;
        let ready = &ready;
        let answer = self.under(key, &put.when, |when| ready.complete(when)).await?;
        let size = parts.iter().map(|(_, size)| size).sum();
        if let Err(error) = self.forget(upload).await {
            // The object is there. What is left of the upload goes when it is aborted, or ended again.
            tracing::debug!(%error, "parts of a completed upload are left behind");
        }
        self.written(key, size, etag, put.attributes.clone(), &answer).await
    }

    /// The upload with its parts where they are, and those that were staged copied between them.
    async fn in_place(self: &Arc<Self>, session: &Session, upload: &UploadId, tokens: &[(Token, u64)]) -> Result<Upload> {
        let refused = |why: &'static str| Error::new(ErrorKind::Unsupported, "parts of an s3 mount").with("reason", why);
        let numbers: Vec<u16> = tokens.iter().map(|(token, _)| token.number()).collect();
        if !numbers.is_sorted_by(|a, b| a < b) {
            return Err(refused("they are not in order"));
        }
        if tokens.iter().rev().skip(1).any(|(_, size)| *size < MIN_PART_BYTES) {
            return Err(refused("a small part before others, of which one is large"));
        }
        let copies = tokens.iter().map(|(token, _)| async move {
            match token {
                Token::Native(part) => Ok(part.clone()),
                Token::Staged { number, id } => {
                    let from = self.staged_name(upload, id);
                    self.remote.copy_part((&from, None, None), None, &session.name, &session.upload, *number).await
                }
            }
        });
        let sent: Vec<SentPart> = stream::iter(copies.collect::<Vec<_>>()).buffered(ABREAST).try_collect().await?;
        Ok(Upload::lent(self, &session.name, &session.upload).with_parts(sent))
    }

    /// The upload with staged parts, in the order given, whatever their sizes: large ones are copied by the remote, small ones
    /// gathered until S3 takes them.
    async fn put_together(self: &Arc<Self>, session: &Session, upload: &UploadId, tokens: &[(Token, u64)]) -> Result<Upload> {
        let mut ready = Upload::lent(self, &session.name, &session.upload);
        let room = self.room(2 * GATHERED_BYTES as u64).await?;
        let mut small = BytesMut::new();
        for (token, size) in tokens {
            let Token::Staged { id, .. } = token else { continue };
            let name = self.staged_name(upload, id);
            let mut start = 0;
            if *size >= MIN_PART_BYTES {
                // What is gathered so far needs a few bytes of this one to be large enough.
                let wanted = if small.is_empty() { 0 } else { MIN_PART_BYTES.saturating_sub(small.len() as u64) };
                if *size - wanted >= MIN_PART_BYTES && *size <= MAX_PUT_BYTES {
                    if !small.is_empty() {
                        small.extend_from_slice(&self.read_staged(&name, 0..wanted).await?);
                        ready.put(Payload::Bytes(small.split().freeze())).await?;
                    }
                    let range = (wanted > 0).then_some(wanted..*size);
                    ready.copy((&name, None, None), range).await?;
                    continue;
                }
            } else if *size == 0 {
                // Nothing to read, but it must be there.
                self.remote.head(&name, None).await?;
            }
            while start < *size {
                let end = (*size).min(start + MIN_PART_BYTES);
                small.extend_from_slice(&self.read_staged(&name, start..end).await?);
                start = end;
                if small.len() as u64 >= MIN_PART_BYTES {
                    ready.put(Payload::Bytes(small.split().freeze())).await?;
                }
            }
        }
        if !small.is_empty() || ready.parts() == 0 {
            ready.put(Payload::Bytes(small.freeze())).await?;
        }
        drop(room);
        Ok(ready)
    }

    async fn read_staged(&self, name: &str, range: std::ops::Range<u64>) -> Result<Bytes> {
        let length = range.end - range.start;
        if length == 0 {
            return Ok(Bytes::new());
        }
        let header = format!("bytes={}-{}", range.start, range.end - 1);
        let opened = self.remote.get(name, None, Some(header)).await?;
        collect(self.remote.client.bytes(opened, length), GATHERED_BYTES).await
    }

    /// Removes what was kept of an upload: last what it is known by, so that it can be done again.
    async fn forget(self: &Arc<Self>, upload: &UploadId) -> Result<()> {
        self.sessions.lock().remove(upload.as_str());
        let prefix = format!("{}p/{upload}/", crate::remote::HIDDEN);
        loop {
            let names = self.hidden_names(&prefix).await?;
            if names.is_empty() {
                break;
            }
            let deletes = names.iter().map(|name| self.remote.erase(name));
            stream::iter(deletes.collect::<Vec<_>>()).buffered(ABREAST).try_collect::<Vec<()>>().await?;
        }
        self.remote.erase(&self.session_name(upload)).await
    }
}

/// What the body said is what the caller hears.
fn or_fault<T>(sent: Result<T>, fault: &Fault) -> Result<T> {
    fault.lock().take().map_or(sent, Err)
}

/// A body that breaks the connection when it breaks, and leaves its error behind. Its last piece goes out when it has ended, because
/// nobody asks a request for more once as many bytes went as were declared.
fn forwarded(body: PutBody, fault: Fault) -> stream::BoxStream<'static, std::io::Result<Bytes>> {
    stream::unfold(Some((body, None::<Bytes>)), move |state| {
        let fault = Arc::clone(&fault);
        async move {
            let (mut body, mut held) = state?;
            loop {
                match body.chunk().await {
                    Ok(Some(chunk)) => {
                        if let Some(ready) = held.replace(chunk) {
                            return Some((Ok(ready), Some((body, held))));
                        }
                    }
                    Ok(None) => return held.map(|last| (Ok(last), None)),
                    Err(error) => {
                        *fault.lock() = Some(error);
                        return Some((Err(std::io::Error::other("the body broke off")), None));
                    }
                }
            }
        }
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn tokens_come_back_and_nothing_else_is_one() {
        for token in [
            Token::Native(SentPart { number: 1, etag: "d41d8cd98f00b204e9800998ecf8427e".into() }),
            Token::Staged { number: 10_000, id: "00ff".into() },
        ] {
            assert_eq!(Token::parse(&token.to_string()), Some(token.clone()));
            assert!(token.to_string().len() <= 256);
        }
        for none in ["", "s-1", "s-0-00", "s-10001-00", "s-1-../x", "s-1-", "x-1-00", "n-1-0", "no-such-token", "../../k"] {
            assert_eq!(Token::parse(none), None, "{none}");
        }
    }
}
