//! Uploads in parts: held as blocks, joined without being copied.

use std::collections::HashMap;

use async_trait::async_trait;
use sluice_provider::{
    Attributes, ETag, Error, ErrorKind, Key, Multipart, ObjectInfo, PartNumber, PutBody, PutOptions, Result, UploadId, Versioning,
};

use crate::Memory;
use crate::blocks::Blocks;
use crate::provider::{Draft, hold_for};
use crate::quota::Hold;

/// What a part costs beside its bytes.
const PART_BYTES: u64 = 256;

/// All uploads.
#[derive(Debug, Default)]
pub(crate) struct Uploads(HashMap<UploadId, Upload>);

#[derive(Debug)]
struct Upload {
    key: Key,
    parts: HashMap<String, Part>,
    /// Tokens are numbered, so that a part that is uploaded again gets another one.
    next_token: u64,
    _hold: Hold,
}

#[derive(Debug)]
struct Part {
    blocks: Blocks,
    _hold: Hold,
}

impl Uploads {
    fn find(&self, key: &Key, upload: &UploadId) -> Result<&Upload> {
        self.0.get(upload).filter(|found| found.key == *key).ok_or_else(|| gone(upload))
    }

    fn find_mut(&mut self, key: &Key, upload: &UploadId) -> Result<&mut Upload> {
        self.0.get_mut(upload).filter(|found| found.key == *key).ok_or_else(|| gone(upload))
    }
}

impl Upload {
    /// The listed parts, in their order.
    fn pick(&self, upload: &UploadId, parts: &[(String, u64)]) -> Result<Vec<Blocks>> {
        let pick = |(token, size): &(String, u64)| match self.parts.get(token) {
            Some(part) if part.blocks.size() == *size => Ok(part.blocks.clone()),
            Some(part) => {
                let error = Error::new(ErrorKind::Corrupt, "size of a part").with("upload", upload).with("token", token);
                Err(error.with("listed", size).with("stored", part.blocks.size()))
            }
            None => Err(Error::new(ErrorKind::NotFound, "part").with("upload", upload).with("token", token)),
        };
        parts.iter().map(pick).collect()
    }
}

fn gone(upload: &UploadId) -> Error {
    Error::new(ErrorKind::NotFound, "upload").with("upload", upload)
}

impl Memory {
    /// Makes the parts an object, or a version.
    pub(crate) fn complete_upload(
        &self,
        key: &Key,
        upload: &UploadId,
        parts: &[(String, u64)],
        etag: &ETag,
        put: &PutOptions,
        versioning: Versioning,
    ) -> Result<ObjectInfo> {
        let picked = self.state().read().uploads.find(key, upload)?.pick(upload, parts)?;
        let blocks = Blocks::join(self.quota(), &picked)?;
        drop(picked);
        let draft = Draft::new(self.quota(), key, blocks, etag.clone(), put.attributes.clone())?;
        let mut state = self.state().write();
        // Looked up again: another complete, an abort or a discard may have come in between.
        state.uploads.find(key, upload)?.pick(upload, parts)?;
        let (info, replaced) = draft.publish(&mut state, &put.when, versioning)?;
        let finished = state.uploads.0.remove(upload);
        drop(state);
        drop((replaced, finished));
        Ok(info)
    }
}

// === impl Multipart ===

#[async_trait]
impl Multipart for Memory {
    async fn create(&self, key: &Key, upload: &UploadId) -> Result<()> {
        let hold = hold_for(self.quota(), key, &Attributes::new())?;
        let fresh = Upload { key: key.clone(), parts: HashMap::new(), next_token: 0, _hold: hold };
        let mut state = self.state().write();
        match state.uploads.0.get(upload) {
            // A second try of the same call.
            Some(there) if there.key == *key => {}
            Some(_) => return Err(Error::new(ErrorKind::Conflict, "upload of another key").with("upload", upload)),
            None => drop(state.uploads.0.insert(upload.clone(), fresh)),
        }
        Ok(())
    }

    async fn put_part(&self, key: &Key, upload: &UploadId, part: PartNumber, mut body: PutBody) -> Result<String> {
        // Known before the body is read, or a client sends a part that nobody can take.
        self.state().read().uploads.find(key, upload)?;
        let hold = self.quota().take(PART_BYTES)?;
        let blocks = Blocks::gather(self.quota(), &mut body).await?;
        // The seal tells that the body ended cleanly.
        body.seal()?;
        let mut state = self.state().write();
        let upload = state.uploads.find_mut(key, upload)?;
        let token = format!("{part}-{}", upload.next_token);
        upload.next_token += 1;
        upload.parts.insert(token.clone(), Part { blocks, _hold: hold });
        Ok(token)
    }

    async fn discard_part(&self, key: &Key, upload: &UploadId, token: &str) -> Result<()> {
        let mut state = self.state().write();
        let discarded = state.uploads.find_mut(key, upload).ok().and_then(|upload| upload.parts.remove(token));
        // Freed after the lock.
        drop(state);
        drop(discarded);
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
        self.complete_upload(key, upload, parts, etag, put, Versioning::Off)
    }

    async fn abort(&self, key: &Key, upload: &UploadId) -> Result<()> {
        let mut state = self.state().write();
        let aborted = match state.uploads.find(key, upload) {
            Ok(_) => state.uploads.0.remove(upload),
            Err(_) => None,
        };
        drop(state);
        drop(aborted);
        Ok(())
    }
}
