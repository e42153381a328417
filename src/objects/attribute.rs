//! The names of the attributes that the gateway keeps on an object. Checksums are named by [`crate::transfer::Algorithm::attribute`].

/// Content-Type.
pub const CONTENT_TYPE: &str = "content-type";
/// Content-Encoding, without `aws-chunked`.
pub const CONTENT_ENCODING: &str = "content-encoding";
/// Content-Disposition.
pub const CONTENT_DISPOSITION: &str = "content-disposition";
/// Content-Language.
pub const CONTENT_LANGUAGE: &str = "content-language";
/// Cache-Control.
pub const CACHE_CONTROL: &str = "cache-control";
/// Expires, as it was sent.
pub const EXPIRES: &str = "expires";
/// x-amz-website-redirect-location.
pub const WEBSITE_REDIRECT: &str = "website-redirect";
/// x-amz-storage-class, when not STANDARD.
pub const STORAGE_CLASS: &str = crate::mounts::CLASS_ATTRIBUTE;
/// User metadata: this prefix and the lower-case name after `x-amz-meta-`.
pub const USER_PREFIX: &str = "meta.";
/// Tags, URL-encoded as `x-amz-tagging` sends them.
pub const TAGS: &str = "tags";
/// The access control list as [`crate::tokens::acl::Acl::to_json`] writes it; only when it is not private.
pub const ACL: &str = "acl";
/// The canonical id of the owner, when that is not the owner of the bucket.
pub const OWNER: &str = "owner";
/// The mode of the retention: `GOVERNANCE` or `COMPLIANCE`.
pub const LOCK_MODE: &str = "lock.mode";
/// Until when the retention holds, in milliseconds since the epoch.
pub const LOCK_UNTIL: &str = "lock.until";
/// The legal hold: `ON` or `OFF`; none when there never was one.
pub const LOCK_HOLD: &str = "lock.hold";
/// The version id, written by the provider; none on a null version.
pub const VERSION: &str = sluice_provider::VERSION_ATTRIBUTE;
/// What the checksum covers: `FULL_OBJECT` or `COMPOSITE`; only on multipart objects, which otherwise are `FULL_OBJECT`.
pub const CHECKSUM_TYPE: &str = crate::uploads::CHECKSUM_TYPE_ATTRIBUTE;
/// The parts of a multipart object, written by `uploads`: `number:size` separated by commas, each optionally followed by
/// `:ALGORITHM=base64`. To be read with [`crate::uploads::parse_parts`], which knows the short forms of long lists too.
pub const PARTS: &str = crate::uploads::PARTS_ATTRIBUTE;
/// How the object got its name, when it was renamed with a token: the token and the name before.
pub const RENAME: &str = "rename";
/// The id of the upload that a multipart object came from, written by `uploads`. Not for anybody else's eyes.
pub const UPLOAD: &str = crate::uploads::UPLOAD_ATTRIBUTE;

/// The tags of an object: names and values.
#[must_use]
pub fn tags(attributes: &sluice_provider::Attributes) -> Vec<(String, String)> {
    parse_tags(attributes.get(TAGS).unwrap_or_default())
}

/// Reads tags as [`TAGS`] keeps them.
#[must_use]
pub fn parse_tags(text: &str) -> Vec<(String, String)> {
    let decode = |part: &str| percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned();
    text.split('&').filter_map(|pair| pair.split_once('=')).map(|(name, value)| (decode(name), decode(value))).collect()
}
