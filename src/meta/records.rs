//! The rows. Times are milliseconds since the Unix epoch.

use std::collections::BTreeMap;

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketRecord {
    /// Its name, as S3 restricts it.
    pub name: String,
    /// The id of the identity that owns it.
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

/// Somebody who owns buckets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityRecord {
    /// The canonical id: 64 hexadecimal digits.
    pub id: String,
    /// The name, unique; shown as the display name.
    pub name: String,
    /// May do everything, to everybody's buckets too.
    pub root: bool,
    /// When it was created.
    pub created: i64,
}

/// An access key of an identity.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessKeyRecord {
    /// The public half.
    pub access_key: String,
    /// The secret half, sealed by `tokens`.
    pub sealed_secret: Vec<u8>,
    /// The identity's id.
    pub identity: String,
    /// Whether it may be used.
    pub active: bool,
    /// When it was created.
    pub created: i64,
}

impl std::fmt::Debug for AccessKeyRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessKeyRecord")
            .field("access_key", &self.access_key)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
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
    /// The id of the identity that began it.
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
