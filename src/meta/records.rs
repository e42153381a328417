//! The rows. Times are milliseconds since the Unix epoch.

use std::collections::BTreeMap;

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketRecord {
    /// Its name, as S3 restricts it.
    pub name: String,
    /// The id of the account that owns it.
    pub owner: String,
    /// When it was created.
    pub created: i64,
    /// The location constraint it was created with; empty for the default region.
    pub location: String,
}

/// A mount: which provider serves the keys of a bucket that begin with a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountRecord {
    /// The bucket.
    pub bucket: String,
    /// The prefix; empty for the whole bucket.
    pub prefix: String,
    /// The kind of provider: `memory`, `local` …
    pub provider: String,
    /// The provider's own settings.
    pub settings: BTreeMap<String, String>,
}

/// A multipart upload in progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadRecord {
    /// Its id.
    pub upload_id: String,
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// The prefix of the mount that holds its parts.
    pub mount_prefix: String,
    /// The id of the account that began it.
    pub initiator: String,
    /// When it began.
    pub created: i64,
    /// The attributes that the object will have.
    pub attributes: BTreeMap<String, String>,
    /// The checksum algorithm it was begun with, as S3 names it; empty for none.
    pub checksum_algorithm: String,
    /// `COMPOSITE`, `FULL_OBJECT` or empty.
    pub checksum_type: String,
}

/// A part that was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartRecord {
    /// Its number.
    pub number: u16,
    /// The provider's token.
    pub token: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its ETag.
    pub etag: String,
    /// Its checksums: attribute name to base64 value.
    pub checksums: BTreeMap<String, String>,
    /// When it was stored.
    pub modified: i64,
}

/// Where a page of uploads begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadCursor {
    /// After this key …
    pub key: String,
    /// … or at it, after this upload id; when empty, after all uploads of the key.
    pub upload_id: String,
}
