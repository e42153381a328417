//! The contract between the Sluice gateway and the storage it mounts.
//!
//! A [`Provider`] keeps objects: a [`Key`], a body, and [`Attributes`]. It knows nothing of S3, HTTP, buckets or users.
//! What the contract promises, and the conformance suite (feature `conformance`) checks:
//!
//! - **Whole or not at all.** A put, copy or completed upload appears at once and complete, or leaves what was there before.
//!   A body that ends in an error is never published.
//! - **Conditions are atomic.** [`PutWhen`] and [`DeleteWhen`] are decided in one step with the change they guard: of N racing
//!   writers exactly one wins. A provider that cannot keep a condition answers [`ErrorKind::Unsupported`].
//! - **Keys, not paths.** `a`, `a/`, `a/b`, `a//b`, `.` and `..` are different objects that live side by side.
//! - **Every answer carries its metadata**, taken in the same step as the data it describes.
//! - **Listing is in UTF-8 byte order**, one page at a time, and a page costs what it returns.
//! - **Nothing blocks** the thread that polls a future: a provider brings its own bounded pool for work that can.
//!
//! There are no default methods: a wrapper that forgets one does not compile. The exceptions are [`Provider::links`], because a wrapper
//! that forgets it passes bytes on, which is never wrong, and [`Provider::upstreams`], which only tells operators something.

mod attributes;
mod body;
mod error;
mod facets;
mod key;
mod list;
mod options;
mod socket;
mod versions;

#[cfg(feature = "conformance")]
pub mod conformance;

use std::fmt;

use async_trait::async_trait;

pub use attributes::{AttributeChange, Attributes, CLASS_ATTRIBUTE, SIZE_ATTRIBUTE, known_size};
pub use body::{Body, ByteStream, Object, PutBody, Seal};
pub use error::{BodyFault, Error, ErrorKind, Result};
pub use facets::{
    Append, AppendOptions, Appended, Event, Follow, FollowFrom, Followed, Growth, Link, Linked, Links, Rename, RenameOptions,
    SEQUENCE_ATTRIBUTE, Upstream,
};
pub use key::{ETag, Key, MAX_KEY_BYTES};
pub use list::{ListEntry, ListFrom, ListPage, ListQuery, end_of_prefix};
pub use options::{
    CopyOptions, DeleteKey, DeleteOutcome, DeleteWhen, Features, ObjectInfo, PartNumber, PutOptions, PutWhen, RangeSpec,
    ReadOptions, UploadId,
};
pub use socket::{Pipe, PipePiece, SocketBody, SocketPiece};
pub use versions::{
    ForeignVersion, Guard, MARKER_ATTRIBUTE, Plan, Slot, VERSION_ATTRIBUTE, Version, VersionFeatures, VersionId, Versioning,
    Versions, first_null, hidden_slots, is_marker, version_of,
};

/// Storage that a namespace can mount.
///
/// All methods may be called concurrently, for the same key too. A future that is dropped half way leaves the store as it was
/// before the call, or as it would be after it; never in between.
#[async_trait]
pub trait Provider: fmt::Debug + Send + Sync + 'static {
    /// What this mount can keep. Constant for the life of the provider.
    fn features(&self) -> Features;

    /// The metadata of the current object.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::PreconditionFailed`] when `read.if_match` names another ETag.
    async fn head(&self, key: &Key, read: &ReadOptions) -> Result<ObjectInfo>;

    /// The current object, metadata and body in one open. `read.range` is resolved against the size found in that open.
    ///
    /// # Errors
    /// As [`head`](Self::head), and [`ErrorKind::RangeNotSatisfiable`].
    async fn get(&self, key: &Key, read: &ReadOptions) -> Result<Object>;

    /// Stores the body under the key, replacing what is there. The ETag and the extra attributes of [`PutBody::seal`] are stored
    /// with it. Nothing is visible before the body has ended cleanly.
    ///
    /// # Errors
    /// [`ErrorKind::PreconditionFailed`], [`ErrorKind::NotFound`] (`IfMatch` on a key that is not there), the body's own
    /// error, [`ErrorKind::NoSpace`], [`ErrorKind::TooLarge`].
    async fn put(&self, key: &Key, body: PutBody, put: &PutOptions) -> Result<ObjectInfo>;

    /// Deletes keys; one outcome per key, in order. A key that is not there is not an error unless its condition says so.
    async fn delete(&self, keys: &[DeleteKey]) -> Vec<Result<DeleteOutcome>>;

    /// Copies within this provider, data and (unless replaced) attributes; the ETag stays. `from` and `to` may be the same key.
    ///
    /// # Errors
    /// As [`get`](Self::get) for the source and [`put`](Self::put) for the destination.
    async fn copy(&self, from: &Key, to: &Key, copy: &CopyOptions) -> Result<ObjectInfo>;

    /// Changes attributes in one step without rewriting data. Neither ETag nor modification time changes.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::PreconditionFailed`] when `change.if_match` names another ETag.
    async fn set_attributes(&self, key: &Key, change: &AttributeChange) -> Result<ObjectInfo>;

    /// One page of the listing, in UTF-8 byte order of the entries' names.
    async fn list(&self, query: &ListQuery) -> Result<ListPage>;

    /// Whether the store can be used right now: cheap, read-only, for readiness.
    async fn check(&self) -> Result<()>;

    /// Uploads in parts, where the provider can take them without rewriting them.
    fn multipart(&self) -> Option<&dyn Multipart>;

    /// Older versions, where the provider can keep them.
    fn versions(&self) -> Option<&dyn Versions>;

    /// Growing at the end, where objects can without being rewritten.
    fn appends(&self) -> Option<&dyn Append>;

    /// Other names, where objects can get them without being copied.
    fn renames(&self) -> Option<&dyn Rename>;

    /// Being told of what comes, where objects grow or are topics.
    fn follows(&self) -> Option<&dyn Follow>;

    /// Handing out bytes past the gateway, where the store can and the operator wants it.
    fn links(&self) -> Option<&dyn Links> {
        None
    }

    /// The places that are read from, where there are several.
    fn upstreams(&self) -> Vec<Upstream> {
        Vec::new()
    }
}

/// Parts that arrive in any order and become one object at once.
///
/// The gateway remembers sessions and parts in its metadata store; the provider keeps only bytes. Each stored part is named by
/// a token of the provider's choice. Uploading the same number again yields a new token and leaves the old part intact, so that
/// a failed second try loses nothing.
#[async_trait]
pub trait Multipart: Send + Sync {
    /// Prepares for an upload. `upload` is unique, URL-safe and at most 64 bytes.
    ///
    /// # Errors
    /// [`ErrorKind::NoSpace`], [`ErrorKind::Unavailable`].
    async fn create(&self, key: &Key, upload: &UploadId) -> Result<()>;

    /// Stores a part durably and returns its token (at most 256 bytes of printable ASCII).
    ///
    /// # Errors
    /// The body's own error, [`ErrorKind::NoSpace`], [`ErrorKind::NotFound`] when the upload is gone.
    async fn put_part(&self, key: &Key, upload: &UploadId, part: PartNumber, body: PutBody) -> Result<String>;

    /// Forgets a part that another one replaced. Unknown tokens are ignored.
    async fn discard_part(&self, key: &Key, upload: &UploadId, token: &str) -> Result<()>;

    /// Publishes the listed parts (token and size in bytes, in order) as the object, with `etag` and the attributes of `put`. On success the
    /// upload and its remaining parts are gone. On error all parts are still there, unless it says NotFound.
    ///
    /// # Errors
    /// As [`Provider::put`]; [`ErrorKind::NotFound`] when the upload or a part is gone.
    async fn complete(
        &self,
        key: &Key,
        upload: &UploadId,
        parts: &[(String, u64)],
        etag: &ETag,
        put: &PutOptions,
    ) -> Result<ObjectInfo>;

    /// Frees everything the upload holds. Idempotent.
    async fn abort(&self, key: &Key, upload: &UploadId) -> Result<()>;
}
