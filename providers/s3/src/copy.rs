//! Copies, which the remote makes, and changes of attributes, which are changes of a record.

use std::sync::Arc;

use sluice_provider::{AttributeChange, CopyOptions, ETag, Error, ErrorKind, Guard, Key, ObjectInfo, PutWhen, Result, VersionId};

use crate::form::{self, Headers, Record};
use crate::provider::{Inner, TRIES, detached};
use crate::remote::{Found, date, name_version, quoted, to_seconds};
use crate::upload::Upload;
use crate::write::{MAX_PUT_BYTES, When, is_racy};

/// Objects larger than one copy takes are copied in parts of this size.
const COPIED_PART_BYTES: u64 = 1024 * 1024 * 1024;

impl Inner {
    pub(crate) async fn copy(
        self: &Arc<Self>,
        (from, version): (&Key, Option<&VersionId>),
        to: &Key,
        copy: &CopyOptions,
    ) -> Result<ObjectInfo> {
        self.writable(to)?;
        self.keeps(&copy.when)?;
        self.readable(from)?;
        let (this, from, version, to) = (Arc::clone(self), from.clone(), version.copied(), to.clone());
        let copy = copy.clone();
        detached(async move {
            let _turn = this.turn(&to).await;
            this.copy_now((&from, version.as_ref()), &to, &copy).await
        })
        .await
    }

    async fn copy_now(
        self: &Arc<Self>,
        (from, version): (&Key, Option<&VersionId>),
        to: &Key,
        copy: &CopyOptions,
    ) -> Result<ObjectInfo> {
        for _ in 0..TRIES {
            let (found, record) = self.remote.look(from, version).await?;
            let source = found.info(from, record.as_ref())?;
            if copy.source_if_match.as_ref().is_some_and(|etag| *etag != source.etag) {
                return Err(Error::new(ErrorKind::PreconditionFailed, "source of a copy").with("key", from));
            }
            let attributes = copy.attributes.clone().unwrap_or(source.attributes);
            let when = self.condition(to, &copy.when).await?;
            let (headers, record) = self.describe(to, &attributes, &source.etag).await?;
            let copied = self.copy_at_remote((from, &found), to, headers, when).await;
            match self.or_drop(copied, record.as_deref()).await {
                Ok((modified, version)) => {
                    let mut info = ObjectInfo { key: to.clone(), size: found.size, etag: source.etag, modified, attributes };
                    if self.remote.versions {
                        name_version(&mut info.attributes, version);
                    }
                    if self.exact() {
                        self.tell_time(&mut info).await;
                    }
                    return Ok(info);
                }
                Err(error) if *error.kind() == ErrorKind::PreconditionFailed => {
                    // Of the source or of the destination: only the source can tell.
                    let now = self.remote.head(&self.remote.name(from), version).await?;
                    if now.tag == found.tag && !is_racy(&copy.when) {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(ErrorKind::Conflict, "copy").with("from", from).with("to", to))
    }

    /// Copies what was seen, in one request or in parts. Answers when, and the version that it became.
    async fn copy_at_remote(
        self: &Arc<Self>,
        (from, found): (&Key, &Found),
        to: &Key,
        headers: Headers,
        when: When,
    ) -> Result<(std::time::SystemTime, Option<VersionId>)> {
        let (from, to, version) = (self.remote.name(from), self.remote.name(to), found.version.as_ref());
        if found.size <= MAX_PUT_BYTES && (when.is_empty() || self.able.copies) {
            let (modified, copied) = self.remote.copy((&from, version, &found.tag), &to, headers, &when).await?;
            return Ok((modified.unwrap_or_else(|| to_seconds(std::time::SystemTime::now())), copied));
        }
        let mut upload = Upload::begin(self, &to, headers).await?;
        let mut start = 0;
        while start < found.size || start == 0 {
            let end = found.size.min(start + COPIED_PART_BYTES);
            // A range may not be empty, nor name all of a small object.
            let range = (start > 0 || end < found.size).then_some(start..end);
            upload.copy((&from, version, Some(&found.tag)), range).await?;
            start = end.max(1);
        }
        let answer = upload.complete(when).await?;
        Ok((date(&answer), self.remote.version_of(&answer.headers)?))
    }

    pub(crate) async fn set_attributes(self: &Arc<Self>, key: &Key, change: &AttributeChange) -> Result<ObjectInfo> {
        self.writable(key)?;
        let (this, key, change) = (Arc::clone(self), key.clone(), change.clone());
        detached(async move {
            let _turn = this.turn(&key).await;
            this.change(&key, None, &change, &Guard::none()).await
        })
        .await
    }

    /// Changes attributes of an object, in the turn of its key.
    pub(crate) async fn change(
        self: &Arc<Self>,
        key: &Key,
        version: Option<&VersionId>,
        change: &AttributeChange,
        guard: &Guard,
    ) -> Result<ObjectInfo> {
        for _ in 0..TRIES {
            if let Some(info) = self.try_change(key, version, change, guard).await? {
                return Ok(info);
            }
        }
        Err(Error::new(ErrorKind::Conflict, "change of attributes").with("key", key))
    }

    /// Changes the record of an object; `None` when others were faster, or when it had none until now.
    async fn try_change(
        self: &Arc<Self>,
        key: &Key,
        version: Option<&VersionId>,
        change: &AttributeChange,
        guard: &Guard,
    ) -> Result<Option<ObjectInfo>> {
        let found = self.remote.head(&self.remote.name(key), version).await?;
        let Some(id) = found.record() else {
            let info = found.info(key, None)?;
            check(&info.etag, key, change)?;
            if self.remote.versions {
                let error = Error::new(ErrorKind::Unsupported, "change of attributes");
                return Err(error.with("reason", "a version that was not written with a record").with("key", key));
            }
            return self.give_record(key, &found, &info).await.map(|()| None);
        };
        let (record, tag) = match self.remote.read_record(id).await {
            Ok(read) => read,
            Err(error) if *error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut info = found.info(key, Some(&record))?;
        check(&info.etag, key, change)?;
        guard.check(&info)?;
        info.attributes.apply(change);
        let changed = Record::new(&self.remote.name(key), &info.attributes, &info.etag);
        match self.remote.write_record(id, &changed, &self.tied_to(&tag)).await {
            Ok(()) => Ok(Some(info)),
            Err(error) if matches!(error.kind(), ErrorKind::PreconditionFailed | ErrorKind::NotFound | ErrorKind::Conflict) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Gives an object a record with the attributes that it has. Whoever does it for the same state makes the same record, so that
    /// the changes that follow meet there.
    async fn give_record(self: &Arc<Self>, key: &Key, found: &Found, info: &ObjectInfo) -> Result<()> {
        let id = record_id(&self.remote.name(key), found);
        let record = Record::new(&self.remote.name(key), &info.attributes, &info.etag);
        let when = if self.able.puts { vec![("if-none-match", "*".to_owned())] } else { Vec::new() };
        match self.remote.write_record(&id, &record, &when).await {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::PreconditionFailed | ErrorKind::Conflict) => {}
            Err(error) => return Err(error),
        }
        let seconds = info.modified.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let headers = form::with_record(&info.attributes, &id, Some(seconds))?;
        match self.copy_at_remote((key, found), key, headers, self.tied_to(&found.tag)).await {
            Ok(_) => Ok(()),
            // It is another object now, and the record nobody's.
            Err(error) if matches!(error.kind(), ErrorKind::PreconditionFailed | ErrorKind::Conflict) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The condition that something at the remote is still what was seen, where the remote keeps such.
    fn tied_to(&self, tag: &ETag) -> When {
        if self.conditions() { vec![("if-match", quoted(tag))] } else { Vec::new() }
    }
}

fn check(etag: &ETag, key: &Key, change: &AttributeChange) -> Result<()> {
    let when = change.if_match.clone().map_or(PutWhen::Always, PutWhen::IfMatch);
    when.check(Some(etag)).map_err(|e| e.with("key", key))
}

/// The record of an object that was written without one.
fn record_id(name: &str, found: &Found) -> String {
    use sha2::{Digest, Sha256};
    let nonce = found.own.as_ref().map_or("", |own| own.nonce.as_str());
    let modified = found.modified.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let digest = Sha256::digest(format!("{name}\0{}\0{nonce}\0{modified}", found.tag));
    hex::encode(digest.get(..16).unwrap_or_default())
}
