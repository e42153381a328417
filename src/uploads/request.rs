//! What the calls say, and what they answer.

use sluice_provider::{Attributes, PartNumber, PutWhen};

use crate::encryption::Wish;
use crate::meta::{UploadCursor, UploadRecord};
use crate::transfer::{Algorithm, ChecksumType};

/// How an upload begins.
#[derive(Clone, Debug, Default)]
pub struct NewUpload {
    /// Attributes of the object to be.
    pub attributes: Attributes,
    /// The identity that begins it.
    pub initiator: String,
    /// The checksum it was begun with.
    pub checksum: Option<(Algorithm, ChecksumType)>,
    /// How it is encrypted; not at all when `None`.
    pub encryption: Option<Wish>,
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
    /// Attributes that the object gets unless the upload was begun with retention of its own: the default of the bucket.
    pub defaults: Attributes,
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
