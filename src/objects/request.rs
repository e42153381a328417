//! What the calls say, and what they answer.

use std::fmt;
use std::time::SystemTime;

use sluice_provider::{Attributes, ByteStream, ETag, ObjectInfo, PartNumber, PutWhen, RangeSpec, VersionId};

use crate::encryption::{CustomerKey, Wish};
use crate::transfer::{Algorithm, PieceStream};

/// What a conditional header names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ETagCondition {
    /// `*`: any object.
    Any,
    /// One of these.
    OneOf(Vec<ETag>),
}

/// Conditions on a read, evaluated in the order of RFC 9110 section 13.2.2.
#[derive(Clone, Debug, Default)]
pub struct ReadConditions {
    /// If-Match.
    pub if_match: Option<ETagCondition>,
    /// If-None-Match.
    pub if_none_match: Option<ETagCondition>,
    /// If-Modified-Since.
    pub if_modified_since: Option<SystemTime>,
    /// If-Unmodified-Since.
    pub if_unmodified_since: Option<SystemTime>,
}

/// If-Range.
#[derive(Clone, Debug)]
pub enum IfRange {
    /// The range applies only to the object with this ETag.
    ETag(ETag),
    /// The range applies only to the object last modified at this second.
    Date(SystemTime),
}

/// How to read.
#[derive(Clone, Debug, Default)]
pub struct ReadRequest {
    /// Only this range.
    pub range: Option<RangeSpec>,
    /// The range applies only if this holds.
    pub if_range: Option<IfRange>,
    /// Only this part of a multipart object. A plain object has one part. Not together with a range.
    pub part: Option<PartNumber>,
    /// Conditions.
    pub conditions: ReadConditions,
    /// Whether the reader can send files by itself: a body that is a large file may then be [`OpenBody::Pieces`].
    pub pieces: bool,
    /// This version; the current one when `None`.
    pub version: Option<VersionId>,
    /// The key of an object that is encrypted with one of the customer's. Opening asks for it, looking at metadata does not.
    pub customer_key: Option<CustomerKey>,
}

/// What a reader who is sent elsewhere expects of the answer there.
#[derive(Clone, Debug, Default)]
pub struct LinkRequest {
    /// Headers, with names in lower case, that it shows instead of what is stored.
    pub shown: Vec<(&'static str, String)>,
    /// Whether the checksums that the gateway keeps are to be shown with a whole object.
    pub checksums: bool,
}

/// An answer to a read, without its bytes.
#[derive(Clone, Debug)]
pub struct Found {
    /// Metadata.
    pub info: ObjectInfo,
    /// The range that was asked for and applies; `None` when the whole object is meant. Empty only for a part without bytes.
    pub range: Option<std::ops::Range<u64>>,
    /// How many parts the object was made of; `None` for a plain object.
    pub parts: Option<usize>,
}

/// An object open for reading. The handle closes when the body is dropped.
pub struct Opened {
    /// What was found.
    pub found: Found,
    /// The bytes, in frames of at most 1 MiB (one frame for up to 1 MiB, reads of 256 KiB beyond).
    pub body: OpenBody,
}

/// The bytes of an opened object.
pub enum OpenBody {
    /// All at once. Nothing is open any more.
    Full(bytes::Bytes),
    /// Frame by frame.
    Stream(ByteStream),
    /// A file piece by piece, for readers that asked for it.
    Pieces(PieceStream),
}

/// How to copy.
#[derive(Clone, Debug, Default)]
pub struct CopyRequest {
    /// Conditions on the source.
    pub source: ReadConditions,
    /// This version of the source; the current one when `None`.
    pub version: Option<VersionId>,
    /// The condition on the destination.
    pub when: PutWhen,
    /// The destination's attributes; `None` keeps the source's (user metadata, system headers).
    pub attributes: Option<Attributes>,
    /// A checksum to compute for the destination.
    pub checksum: Option<Algorithm>,
    /// The key of the source, where it is encrypted with one of the customer's.
    pub source_key: Option<CustomerKey>,
    /// How the destination is encrypted; not at all when `None`.
    pub encryption: Option<Wish>,
}

/// How to copy into a part of an upload.
#[derive(Clone, Debug, Default)]
pub struct PartCopy {
    /// Conditions on the source.
    pub source: ReadConditions,
    /// Only this range of the source, first and last byte.
    pub range: Option<(u64, u64)>,
    /// The key of the source, where it is encrypted with one of the customer's.
    pub source_key: Option<CustomerKey>,
    /// The key of the upload, where it is encrypted with one of the customer's.
    pub customer_key: Option<CustomerKey>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("found", &self.found).field("body", &self.body).finish()
    }
}

impl fmt::Debug for OpenBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(bytes) => write!(f, "Full({})", bytes.len()),
            Self::Stream(_) => f.write_str("Stream"),
            Self::Pieces(_) => f.write_str("Pieces"),
        }
    }
}
