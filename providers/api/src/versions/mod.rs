//! Older states of objects: what a provider keeps beside the current ones, out of reach of every key.
//!
//! The current object of a key lies where it always did, so that [`Provider`](crate::Provider) reads and lists it as ever. What is
//! replaced under [`Versioning::Enabled`] becomes an older version; what is deleted leaves a *delete marker*, an older version
//! without content. The promises:
//!
//! - **The newest is the current one.** A marker is current while the key has no object; when the newest version is removed, the next
//!   takes its place, as the object of the key if it is one.
//! - **Nothing is lost on the way.** Of N racing writers each makes a version. Whatever stops a call half way, each version is whole and
//!   is there; what the call would have changed besides, the next look at the key or the next sweep settles.
//! - **A version has a name for life** ([`VersionId`]), which says where it stands among the versions of its key.
//! - **Only versions are listed as versions**: what is kept here is no key, and no key reaches it.
//!
//! A version's name is in its attributes ([`VERSION_ATTRIBUTE`]); without one it is the null version, of which a key has one at most.
//! Objects that were there before anybody spoke of versions, and files of others, are null versions.

mod name;
mod plan;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

pub use name::{ForeignVersion, Slot, Version, VersionId};
pub use plan::{Plan, Versioning, first_null, hidden_slots};

use crate::{
    AttributeChange, Attributes, CopyOptions, DeleteWhen, ETag, Error, ErrorKind, Key, ListPage, ListQuery, Object, ObjectInfo,
    PutBody, PutOptions, ReadOptions, Result, UploadId,
};

/// The attribute that holds the name of a version. Kept by the provider; no null version has it.
pub const VERSION_ATTRIBUTE: &str = "version";
/// The attribute that tells a delete marker in the answers of [`Versions`]. Never stored.
pub const MARKER_ATTRIBUTE: &str = "delete-marker";

/// The name of the version that these are the attributes of.
#[must_use]
pub fn version_of(attributes: &Attributes) -> VersionId {
    attributes.get(VERSION_ATTRIBUTE).and_then(|name| VersionId::parse(name).ok()).unwrap_or(VersionId::Null)
}

/// Whether an answer of [`Versions`] is about a delete marker.
#[must_use]
pub fn is_marker(info: &ObjectInfo) -> bool {
    info.attributes.get(MARKER_ATTRIBUTE).is_some()
}

/// The caller's last word on a change, asked of the object that is about to be touched, in one step with the change.
#[derive(Clone, Default)]
pub struct Guard(Option<Arc<Allows>>);

type Allows = dyn Fn(&ObjectInfo) -> bool + Send + Sync;

impl Guard {
    /// Nothing speaks against it.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// Goes ahead only if this says yes. It must be quick and must not block.
    pub fn new(allows: impl Fn(&ObjectInfo) -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(allows)))
    }

    /// Asks.
    ///
    /// # Errors
    /// [`ErrorKind::Guarded`].
    pub fn check(&self, info: &ObjectInfo) -> Result<()> {
        match &self.0 {
            Some(allows) if !allows(info) => Err(Error::new(ErrorKind::Guarded, "guard").with("key", &info.key)),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Guard" } else { "Guard(none)" })
    }
}

/// What a facet does beyond keeping what is replaced under [`Versioning::Enabled`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionFeatures {
    /// Writes under [`Versioning::Suspended`]; without it they are [`ErrorKind::Unsupported`].
    pub suspends: bool,
    /// Asks a [`Guard`] in one step with the change, whoever else changes the version. Without it nothing may depend on a guard.
    pub locks: bool,
    /// Gives all names itself, so that what does not read as a [`Version`] is none.
    pub own_names: bool,
}

impl VersionFeatures {
    /// All of it.
    pub const ALL: Self = Self { suspends: true, locks: true, own_names: true };
}

/// The facet of a provider that keeps versions.
#[async_trait]
pub trait Versions: Send + Sync {
    /// What it does of what not every facet does. No I/O.
    fn version_features(&self) -> VersionFeatures {
        VersionFeatures::ALL
    }

    /// The metadata of a version, a delete marker included; of the newest when `version` is `None`.
    ///
    /// # Errors
    /// As [`Provider::head`](crate::Provider::head).
    async fn head_version(&self, key: &Key, version: Option<&VersionId>, read: &ReadOptions) -> Result<ObjectInfo>;

    /// A version with its body. Of a delete marker, the body is empty.
    ///
    /// # Errors
    /// As [`Provider::get`](crate::Provider::get).
    async fn get_version(&self, key: &Key, version: &VersionId, read: &ReadOptions) -> Result<Object>;

    /// Stores a new version. The condition looks at the current object, as it does in [`Provider::put`](crate::Provider::put).
    ///
    /// # Errors
    /// As [`Provider::put`](crate::Provider::put).
    async fn put_version(&self, key: &Key, body: PutBody, put: &PutOptions, versioning: Versioning) -> Result<ObjectInfo>;

    /// Copies a version (or the current object) into a new version.
    ///
    /// # Errors
    /// As [`Provider::copy`](crate::Provider::copy); NotFound for a delete marker.
    async fn copy_version(
        &self,
        from: (&Key, Option<&VersionId>),
        to: &Key,
        copy: &CopyOptions,
        versioning: Versioning,
    ) -> Result<ObjectInfo>;

    /// Publishes parts as a new version. See [`Multipart::complete`](crate::Multipart::complete).
    ///
    /// # Errors
    /// As there.
    async fn complete_version(
        &self,
        key: &Key,
        upload: &UploadId,
        parts: &[(String, u64)],
        etag: &ETag,
        put: &PutOptions,
        versioning: Versioning,
    ) -> Result<ObjectInfo>;

    /// Puts a delete marker on a key, whether it has an object or not; answers the marker. The condition looks at the current object.
    /// `versioning` is never `Off`.
    ///
    /// # Errors
    /// As [`Provider::delete`](crate::Provider::delete).
    async fn mark_deleted(&self, key: &Key, when: &DeleteWhen, versioning: Versioning) -> Result<ObjectInfo>;

    /// Removes a version (or a marker) for good, if the condition and the guard allow; answers what it was. `None` when there was none.
    ///
    /// # Errors
    /// [`ErrorKind::Guarded`]; as [`Provider::delete`](crate::Provider::delete).
    async fn remove_version(
        &self,
        key: &Key,
        version: &VersionId,
        when: &DeleteWhen,
        guard: &Guard,
    ) -> Result<Option<ObjectInfo>>;

    /// Changes the attributes of a version; of the current object when `version` is `None`.
    ///
    /// # Errors
    /// [`ErrorKind::Guarded`]; as [`Provider::set_attributes`](crate::Provider::set_attributes), NotFound for a delete marker.
    async fn change_version(
        &self,
        key: &Key,
        version: Option<&VersionId>,
        change: &AttributeChange,
        guard: &Guard,
    ) -> Result<ObjectInfo>;

    /// Gives up the bytes of a version, because they lie elsewhere by now, and keeps all else: its name, its ETag, its modification time,
    /// and its attributes with this change. From then on it is 0 bytes long. In one step: whoever stops it half way leaves the version
    /// as it was, or as it is to be.
    ///
    /// # Errors
    /// As [`change_version`](Self::change_version).
    async fn hollow_version(&self, key: &Key, version: &VersionId, change: &AttributeChange, guard: &Guard)
    -> Result<ObjectInfo>;

    /// One page of all versions and markers: keys in order, the versions of each from the newest to the oldest. Entries carry all their
    /// attributes.
    async fn list_versions(&self, query: &ListQuery) -> Result<ListPage>;
}
