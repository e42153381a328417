//! The product: objects on (namespace, key). Speaks no protocol.

pub mod attribute;

use std::sync::Arc;
use std::time::SystemTime;

use sluice_provider::{
    Attributes, ByteStream, DeleteKey, DeleteOutcome, ETag, ListPage, ListQuery, ObjectInfo, PartNumber, PutBody, PutOptions,
    PutWhen, RangeSpec,
};

use crate::error::Result;
use crate::handles;
use crate::meta::PartRecord;
use crate::namespaces::Namespace;
use crate::transfer::Algorithm;
use crate::uploads::Uploads;

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
    /// Only this part of a multipart object. A plain object has one part.
    pub part: Option<PartNumber>,
    /// Conditions.
    pub conditions: ReadConditions,
}

/// An answer to a read, without its bytes.
#[derive(Clone, Debug)]
pub struct Found {
    /// Metadata.
    pub info: ObjectInfo,
    /// The range that was asked for and applies; `None` when the whole object is meant.
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
    /// All at once.
    Full(bytes::Bytes),
    /// Frame by frame.
    Stream(ByteStream),
}

/// How to copy.
#[derive(Clone, Debug, Default)]
pub struct CopyRequest {
    /// Conditions on the source.
    pub source: ReadConditions,
    /// The condition on the destination.
    pub when: PutWhen,
    /// The destination's attributes; `None` keeps the source's (user metadata, system headers).
    pub attributes: Option<Attributes>,
    /// A checksum to compute for the destination.
    pub checksum: Option<Algorithm>,
}

/// The object layer.
#[derive(Debug)]
pub struct Objects;

impl Objects {
    /// Over the layers beneath.
    #[must_use]
    pub fn new(_uploads: Arc<Uploads>, _handles: handles::Registry) -> Self {
        todo!()
    }
    /// Metadata; conditions are evaluated, a range is resolved.
    ///
    /// # Errors
    /// The provider's NotFound, `NotModified`, `PreconditionFailed`, RangeNotSatisfiable, `InvalidPartNumber`.
    pub async fn head(&self, _ns: &Namespace, _key: &str, _read: &ReadRequest) -> Result<Found> {
        todo!()
    }
    /// Opens for reading.
    ///
    /// # Errors
    /// As [`head`](Self::head).
    pub async fn get(&self, _ns: &Namespace, _key: &str, _read: &ReadRequest) -> Result<Opened> {
        todo!()
    }
    /// Stores a body.
    ///
    /// # Errors
    /// The body's own, the condition's, the provider's.
    pub async fn put(&self, _ns: &Namespace, _key: &str, _body: PutBody, _put: PutOptions) -> Result<ObjectInfo> {
        todo!()
    }
    /// Copies, across mounts and buckets too. The destination's ETag is the MD5 of its bytes.
    ///
    /// # Errors
    /// `PreconditionFailed` for the source's conditions, and those of [`put`](Self::put).
    pub async fn copy(&self, _from: (&Namespace, &str), _to: (&Namespace, &str), _copy: CopyRequest) -> Result<ObjectInfo> {
        todo!()
    }
    /// Copies (a range of) an object into a part of an upload. `range` must lie within the source.
    ///
    /// # Errors
    /// As [`copy`](Self::copy), and `NoSuchUpload`.
    pub async fn copy_part(
        &self,
        _from: (&Namespace, &str),
        _conditions: &ReadConditions,
        _range: Option<(u64, u64)>,
        _to: (&Namespace, &str),
        _upload_id: &str,
        _number: PartNumber,
    ) -> Result<PartRecord> {
        todo!()
    }
    /// Deletes keys; one outcome per key, in order.
    pub async fn delete(&self, _ns: &Namespace, _keys: Vec<DeleteKey>) -> Vec<Result<DeleteOutcome>> {
        todo!()
    }
    /// A page of the listing, merged over the mounts in key order.
    pub async fn list(&self, _ns: &Namespace, _query: &ListQuery) -> Result<ListPage> {
        todo!()
    }
    /// Whether the namespace holds no object at all.
    pub async fn is_empty(&self, _ns: &Namespace) -> Result<bool> {
        todo!()
    }
}
