//! The metadata store: what the gateway must remember beyond the objects themselves. One trait, so that another database can
//! follow; the only room that names sqlx.

mod both;
mod copy;
mod dsn;
mod guarded;
pub(crate) mod identities;
mod open;
pub(crate) mod postgres;
mod prefix;
mod records;
mod settings;
mod sqlite;
#[cfg(test)]
pub(crate) mod suite;

use std::fmt;

use async_trait::async_trait;

use crate::error::Result;

pub use crate::runtime::{Circuit, CircuitState};
pub use copy::copy;
pub use dsn::shown;
pub use identities::{
    AccessKeyRecord, AccountRecord, AppliedPolicy, CHANGES_KEPT_SECS, ChangeRecord, CredentialRecord, EntityKind, EntityRecord,
    IdentityStore, KeyRecord, PolicyRecord, PolicyRef, PolicySource, PolicyUse, PolicyVersionRecord, RevocationRecord, Revoked,
    ServiceAccount, SessionKind, SessionRecord, Topic,
};
pub use open::open;
pub use postgres::PostgresStore;
pub use records::{BucketRecord, MountRecord, PartRecord, UploadCursor, UploadRecord};
pub use settings::Settings;
pub use sqlite::SqliteStore;

/// The store. Every method is one transaction. Errors: `MetaUnavailable` when the database fails; others as named.
#[async_trait]
pub trait MetaStore: IdentityStore + fmt::Debug + Send + Sync + 'static {
    /// Creates a bucket with its first mounts.
    ///
    /// # Errors
    /// `BucketAlreadyOwnedByYou` or `BucketAlreadyExists` when the name is taken.
    async fn create_bucket(&self, bucket: &BucketRecord, mounts: &[MountRecord]) -> Result<()>;
    /// One bucket.
    async fn bucket(&self, name: &str) -> Result<Option<BucketRecord>>;
    /// Buckets in name order (all owners' when `owner` is `None`), names beginning with `prefix` and after `after`.
    async fn buckets(&self, owner: Option<&str>, prefix: &str, after: &str, limit: usize) -> Result<Vec<BucketRecord>>;
    /// Removes a bucket with its mounts, settings and uploads; false when there was none.
    async fn delete_bucket(&self, name: &str) -> Result<bool>;
    /// Sets (or with `None` removes) a named document of a bucket, such as `cors` or `tagging`. False when there is no such bucket.
    async fn set_bucket_setting(&self, bucket: &str, name: &str, document: Option<&str>) -> Result<bool>;
    /// All documents of a bucket.
    async fn bucket_settings(&self, bucket: &str) -> Result<Vec<(String, String)>>;

    /// The mounts of a bucket.
    async fn mounts(&self, bucket: &str) -> Result<Vec<MountRecord>>;
    /// Adds a mount.
    ///
    /// # Errors
    /// `NoSuchBucket`; `EntityExists` when the prefix is mounted already.
    async fn add_mount(&self, mount: &MountRecord) -> Result<()>;
    /// Removes a mount; false when there was none.
    async fn remove_mount(&self, bucket: &str, prefix: &str) -> Result<bool>;

    /// Begins an upload.
    ///
    /// # Errors
    /// `NoSuchBucket`; `EntityExists` when the upload id is taken.
    async fn create_upload(&self, upload: &UploadRecord) -> Result<()>;
    /// An upload of this bucket.
    async fn upload(&self, bucket: &str, upload_id: &str) -> Result<Option<UploadRecord>>;
    /// Uploads of a bucket sorted by key and then upload id, keys beginning with `prefix`, after the cursor.
    async fn uploads(&self, bucket: &str, prefix: &str, after: &UploadCursor, limit: usize) -> Result<Vec<UploadRecord>>;
    /// Uploads of any bucket that began before this moment (milliseconds since the epoch), oldest first, for the sweep.
    async fn uploads_before(&self, created_before: i64, limit: usize) -> Result<Vec<UploadRecord>>;
    /// Records a part; answers the one it replaced.
    ///
    /// # Errors
    /// `NoSuchUpload` when the upload is gone.
    async fn put_part(&self, upload_id: &str, part: &PartRecord) -> Result<Option<PartRecord>>;
    /// Parts with a number greater than `after`, in order.
    async fn parts(&self, upload_id: &str, after: u16, limit: usize) -> Result<Vec<PartRecord>>;
    /// Ends an upload: the session and its parts are forgotten. False when there was none. Exactly one of racing callers gets true.
    async fn delete_upload(&self, upload_id: &str) -> Result<bool>;
    /// Remembers what a completed upload became, so that a repeated Complete gets the same answer. Kept for a day; the last word
    /// counts. `request` is a digest of the parts list.
    ///
    /// # Errors
    /// `NoSuchBucket`.
    async fn remember_completed(&self, bucket: &str, key: &str, upload_id: &str, request: &str, etag: &str) -> Result<()>;
    /// What a completed upload became: (key, request digest, etag).
    async fn completed(&self, bucket: &str, upload_id: &str) -> Result<Option<(String, String, String)>>;

    /// A named value of the installation, such as the sealed-key check or the installation id.
    async fn value(&self, name: &str) -> Result<Option<String>>;
    /// Sets a value only if there is none; answers the value that is there afterwards.
    async fn value_or_insert(&self, name: &str, value: &str) -> Result<String>;
    /// Replaces a value if it is still `from`; false when it is not.
    async fn replace_value(&self, name: &str, from: &str, to: &str) -> Result<bool>;
    /// Documents of the overlay: what services cannot keep of the objects of a space. Pairs of name and document, in no order; names without
    /// a document are left out.
    async fn overlay(&self, space: &str, names: &[String]) -> Result<Vec<(String, String)>>;
    /// Replaces a document of the overlay if it is still `from`, where `None` stands for no document, in one step; false when it is not.
    async fn swap_overlay(&self, space: &str, name: &str, from: Option<&str>, to: Option<&str>) -> Result<bool>;
    /// The breaker in front of the database, where there is one.
    fn circuit(&self) -> Circuit;
    /// Whether the database answers.
    async fn check(&self) -> Result<()>;
    /// Flushes and closes. Later calls fail.
    async fn close(&self);
}
