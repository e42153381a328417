//! Multipart uploads as durable rows: sessions and parts in the metadata store, bytes on the mount.

mod settings;

use std::sync::Arc;

use sluice_provider::{Attributes, ObjectInfo, PartNumber, PutBody, PutWhen};

use crate::error::Result;
use crate::meta::{MetaStore, PartRecord, UploadCursor, UploadRecord};
use crate::namespaces::Namespace;
use crate::transfer::{Algorithm, ChecksumType};

pub use settings::Settings;

/// The smallest part but the last, in bytes (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>).
pub const MIN_PART_BYTES: u64 = 5 * 1024 * 1024;

/// How an upload begins.
#[derive(Clone, Debug, Default)]
pub struct NewUpload {
    /// Attributes of the object to be.
    pub attributes: Attributes,
    /// The identity that begins it.
    pub initiator: String,
    /// The checksum it was begun with.
    pub checksum: Option<(Algorithm, ChecksumType)>,
}

/// A part as a Complete names it.
#[derive(Clone, Debug)]
pub struct NamedPart {
    /// Its number.
    pub number: PartNumber,
    /// Its ETag, without quotes.
    pub etag: String,
    /// Checksums that it must have, raw.
    pub checksums: Vec<(Algorithm, Vec<u8>)>,
}

/// How an upload ends.
#[derive(Clone, Debug, Default)]
pub struct CompleteRequest {
    /// The parts, in ascending order.
    pub parts: Vec<NamedPart>,
    /// The condition.
    pub when: PutWhen,
    /// A checksum of the whole that must come out: base64, composite ones with their `-N`.
    pub checksum: Option<(Algorithm, String)>,
    /// The type the request names, which must be the session's.
    pub checksum_type: Option<ChecksumType>,
    /// The size in bytes that must come out (`x-amz-mp-object-size`).
    pub size: Option<u64>,
}

/// A page of uploads.
#[derive(Clone, Debug, Default)]
pub struct UploadPage {
    /// Uploads, sorted by key and upload id.
    pub uploads: Vec<UploadRecord>,
    /// Keys rolled up under the delimiter.
    pub prefixes: Vec<String>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<UploadCursor>,
}

/// The multipart layer.
#[derive(Debug)]
pub struct Uploads;

impl Uploads {
    /// Over a store.
    #[must_use]
    pub fn new(_store: Arc<dyn MetaStore>) -> Self {
        todo!()
    }
    /// Begins an upload.
    ///
    /// # Errors
    /// `NotImplemented` when the mount cannot take parts.
    pub async fn create(&self, _ns: &Namespace, _key: &str, _new: NewUpload) -> Result<UploadRecord> {
        todo!()
    }
    /// The session, if it is one of this bucket and key.
    ///
    /// # Errors
    /// `NoSuchUpload`.
    pub async fn get(&self, _ns: &Namespace, _key: &str, _upload_id: &str) -> Result<UploadRecord> {
        todo!()
    }
    /// Stores a part, replacing one of the same number once the new one is safe.
    ///
    /// # Errors
    /// `NoSuchUpload`, the body's own.
    pub async fn put_part(
        &self,
        _ns: &Namespace,
        _key: &str,
        _upload_id: &str,
        _number: PartNumber,
        _body: PutBody,
    ) -> Result<PartRecord> {
        todo!()
    }
    /// Makes the parts an object. Repeating a Complete that succeeded answers the same again.
    ///
    /// # Errors
    /// `NoSuchUpload`, `InvalidPart`, `InvalidPartOrder`, `EntityTooSmall`, `InvalidRequest`, the condition's.
    pub async fn complete(&self, _ns: &Namespace, _key: &str, _upload_id: &str, _request: CompleteRequest) -> Result<ObjectInfo> {
        todo!()
    }
    /// Forgets an upload and frees its parts.
    ///
    /// # Errors
    /// `NoSuchUpload`.
    pub async fn abort(&self, _ns: &Namespace, _key: &str, _upload_id: &str) -> Result<()> {
        todo!()
    }
    /// Parts after a number, and whether more follow.
    pub async fn parts(
        &self,
        _ns: &Namespace,
        _key: &str,
        _upload_id: &str,
        _after: u16,
        _limit: usize,
    ) -> Result<(UploadRecord, Vec<PartRecord>, bool)> {
        todo!()
    }
    /// Uploads of the bucket.
    pub async fn list(
        &self,
        _ns: &Namespace,
        _prefix: &str,
        _delimiter: Option<&str>,
        _after: &UploadCursor,
        _limit: usize,
    ) -> Result<UploadPage> {
        todo!()
    }
}
