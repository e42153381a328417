//! What the bytes of a moved object are called on the mount of their class.
//!
//! `bucket/key.version.number`: whoever finds them there knows whose they are. The number is random and never used again. A key that is
//! too long for that is cut, and `~` stands in the place of the first dot; the bytes then carry it whole as an attribute.

use sluice_provider::{Error, ErrorKind, Key, MAX_KEY_BYTES, Result, Version, VersionId};

use super::{CLASS_PREFIX, CLASSES};

/// The attribute that holds a key that was cut.
pub(super) const KEY_ATTRIBUTE: &str = "tier-key";
/// How many characters the number has.
const NUMBER: usize = 32;

/// The storage class that a mount at this prefix keeps; `None` for one that serves keys.
#[must_use]
pub fn class_of(prefix: &str) -> Option<&'static str> {
    let class = prefix.strip_prefix(CLASS_PREFIX)?;
    CLASSES.into_iter().find(|known| *known == class)
}

/// How cheap a class is; objects move to a higher one only. 0 for STANDARD and what is like it.
#[must_use]
pub fn rank(class: Option<&str>) -> usize {
    class.and_then(|class| CLASSES.iter().position(|known| *known == class)).map_or(0, |at| at + 1)
}

/// Whose the bytes of a name are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// The key in the bucket; `None` when it was cut.
    pub key: Option<String>,
    /// The version.
    pub version: VersionId,
}

impl Blob {
    /// What all names of a bucket begin with.
    #[must_use]
    pub fn prefix(bucket: &str) -> String {
        format!("{bucket}/")
    }

    /// Reads a name; `None` for what is none.
    #[must_use]
    pub fn parse(bucket: &str, name: &str) -> Option<Self> {
        let rest = name.strip_prefix(bucket)?.strip_prefix('/')?;
        let (rest, number) = rest.rsplit_once('.')?;
        if number.len() != NUMBER || !number.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let at = rest.rfind(['.', '~'])?;
        let (key, version) = rest.split_at(at);
        let version = match &version[1..] {
            "null" => VersionId::Null,
            // Nothing is moved from a mount that gives other names.
            name => VersionId::Named(Version::parse(name).ok()?),
        };
        let whole = rest.as_bytes().get(at) == Some(&b'.');
        Some(Self { key: whole.then(|| key.to_owned()), version })
    }
}

/// A new name, and whether the key had to be cut.
pub(super) fn new(bucket: &str, key: &str, version: VersionId) -> Result<(Key, bool)> {
    let mut raw = [0_u8; NUMBER / 2];
    getrandom::fill(&mut raw).map_err(|e| Error::new(ErrorKind::Unavailable, "random name").with("cause", e))?;
    let number: String = raw.iter().map(|byte| format!("{byte:02x}")).collect();
    let room = MAX_KEY_BYTES.saturating_sub(bucket.len() + version.to_string().len() + NUMBER + 3);
    let cut = key.len() > room;
    let end = (0..=room.min(key.len())).rev().find(|end| key.is_char_boundary(*end)).unwrap_or(0);
    let (key, dot) = (&key[..end], if cut { '~' } else { '.' });
    Ok((Key::new(format!("{bucket}/{key}{dot}{version}.{number}"))?, cut))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_name_tells_whose_it_is() {
        let version = VersionId::Named(Version::after(None).unwrap());
        for key in ["k", "a/b.c~d.null", ".", "ü/".repeat(300).as_str()] {
            for version in [VersionId::Null, version] {
                let (name, cut) = new("bucket", key, version).unwrap();
                assert!(!cut);
                assert_eq!(Blob::parse("bucket", name.as_str()), Some(Blob { key: Some(key.to_owned()), version }));
                assert_eq!(Blob::parse("bucke", name.as_str()), None);
                assert_ne!(new("bucket", key, version).unwrap().0, name);
            }
        }
        let long = "ü".repeat(512);
        let (name, cut) = new("bucket", &long, version).unwrap();
        assert!(cut && name.as_str().len() <= MAX_KEY_BYTES);
        assert_eq!(Blob::parse("bucket", name.as_str()), Some(Blob { key: None, version }));
        for other in ["bucket/k", "bucket/k.null.x", "bucket/k.nil.0123456789abcdef0123456789abcdef", "bucket"] {
            assert_eq!(Blob::parse("bucket", other), None);
        }
    }

    #[test]
    fn classes_have_an_order() {
        assert_eq!(class_of("storage-class:GLACIER_IR"), Some("GLACIER_IR"));
        assert!(class_of("storage-class:WARM").is_none() && class_of("GLACIER").is_none());
        assert!(rank(None) == 0 && rank(Some("REDUCED_REDUNDANCY")) == 0);
        assert!(rank(Some("STANDARD_IA")) < rank(Some("GLACIER_IR")) && rank(Some("GLACIER_IR")) < rank(Some("DEEP_ARCHIVE")));
    }
}
