//! What a call says, and what an answer carries.

use std::fmt;
use std::num::NonZeroU16;
use std::ops::Range;
use std::time::SystemTime;

use crate::{Attributes, ETag, Error, ErrorKind, Key, Result, known_size};

/// What a provider can keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// [`PutWhen`] and [`DeleteWhen`] other than `Always` are atomic, across processes that share the store too.
    pub conditions: bool,
    /// [`Attributes`] are kept.
    pub attributes: bool,
    /// What was acknowledged survives the end of the process.
    pub persistent: bool,
    /// Objects can be changed at all.
    pub writable: bool,
    /// The largest object in bytes.
    pub max_object_bytes: Option<u64>,
}

/// The metadata of an object.
#[derive(Clone, Debug)]
pub struct ObjectInfo {
    /// Its key.
    pub key: Key,
    /// How many bytes are stored. It may be known by another size ([`known_size`](crate::known_size)).
    pub size: u64,
    /// Its entity tag, never empty.
    pub etag: ETag,
    /// When it was last written.
    pub modified: SystemTime,
    /// What is stored beside it. Complete in answers to everything but a listing, which may leave out all but
    /// [`SIZE_ATTRIBUTE`](crate::SIZE_ATTRIBUTE).
    pub attributes: Attributes,
}

/// Part of an object, before its size is known (RFC 9110 section 14.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeSpec {
    /// From a first to a last byte, both included.
    Between(u64, u64),
    /// From a byte to the end.
    From(u64),
    /// The last so many bytes.
    Last(u64),
}

impl RangeSpec {
    /// The offsets in an object of `size` bytes, clamped to its end.
    ///
    /// # Errors
    /// [`ErrorKind::RangeNotSatisfiable`] when no byte of the object is in the range.
    pub fn resolve(self, size: u64) -> Result<Range<u64>> {
        let (start, end) = match self {
            Self::Between(first, last) => (first, last.saturating_add(1).min(size)),
            Self::From(first) => (first, size),
            Self::Last(count) => (size.saturating_sub(count), size),
        };
        if start < end {
            Ok(start..end)
        } else {
            Err(Error::new(ErrorKind::RangeNotSatisfiable { size }, "range").with("range", format!("{self:?}")))
        }
    }
}

/// How to read.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// Only this part.
    pub range: Option<RangeSpec>,
    /// Only when the object has this ETag.
    pub if_match: Option<ETag>,
}

/// Under which condition a write may happen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PutWhen {
    /// In any case.
    #[default]
    Always,
    /// Only when there is no object.
    IfAbsent,
    /// Only when the object is there, with any ETag.
    IfPresent,
    /// Only when the object has this ETag.
    IfMatch(ETag),
    /// Only when there is no object, or one with another ETag.
    IfNoneMatch(ETag),
}

/// How to write.
#[derive(Clone, Debug, Default)]
pub struct PutOptions {
    /// The condition.
    pub when: PutWhen,
    /// Attributes to store.
    pub attributes: Attributes,
}

/// How to copy.
#[derive(Clone, Debug, Default)]
pub struct CopyOptions {
    /// Only when the source has this ETag.
    pub source_if_match: Option<ETag>,
    /// The condition on the destination.
    pub when: PutWhen,
    /// Attributes of the destination; those of the source when `None`.
    pub attributes: Option<Attributes>,
}

/// Under which condition a delete may happen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeleteWhen {
    /// In any case.
    #[default]
    Always,
    /// Only when the object is there and everything given matches.
    IfMatch {
        /// Its ETag; any when `None`.
        etag: Option<ETag>,
        /// Its modification time, to the second.
        modified: Option<SystemTime>,
        /// The size in bytes that it is known by.
        size: Option<u64>,
    },
}

impl DeleteWhen {
    /// Whether an object (or its absence) satisfies the condition.
    #[must_use]
    pub fn holds(&self, current: Option<&ObjectInfo>) -> bool {
        match (self, current) {
            (Self::Always, _) => true,
            (Self::IfMatch { .. }, None) => false,
            (Self::IfMatch { etag, modified, size }, Some(info)) => {
                let seconds = |t: SystemTime| t.duration_since(SystemTime::UNIX_EPOCH).map(|d| d.as_secs()).ok();
                etag.as_ref().is_none_or(|e| *e == info.etag)
                    && modified.is_none_or(|m| seconds(m) == seconds(info.modified))
                    && size.is_none_or(|s| s == known_size(info))
            }
        }
    }
}

impl PutWhen {
    /// Whether the current object (or its absence) satisfies the condition.
    ///
    /// # Errors
    /// [`ErrorKind::PreconditionFailed`], or [`ErrorKind::NotFound`] where an object is needed and there is none.
    pub fn check(&self, current: Option<&ETag>) -> Result<()> {
        match (self, current) {
            (Self::Always, _) | (Self::IfAbsent, None) | (Self::IfPresent, Some(_)) => Ok(()),
            (Self::IfNoneMatch(_), None) => Ok(()),
            (Self::IfMatch(want), Some(have)) if want == have => Ok(()),
            (Self::IfNoneMatch(unwanted), Some(have)) if unwanted != have => Ok(()),
            (Self::IfMatch(_) | Self::IfPresent, None) => Err(Error::new(ErrorKind::NotFound, "condition on a missing object")),
            (Self::IfMatch(_) | Self::IfAbsent | Self::IfNoneMatch(_), Some(_)) => {
                Err(Error::new(ErrorKind::PreconditionFailed, "condition").with("when", format!("{self:?}")))
            }
        }
    }
}

/// A key to delete.
#[derive(Clone, Debug)]
pub struct DeleteKey {
    /// The key.
    pub key: Key,
    /// The condition.
    pub when: DeleteWhen,
}

impl From<Key> for DeleteKey {
    fn from(key: Key) -> Self {
        Self { key, when: DeleteWhen::Always }
    }
}

/// What a delete found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteOutcome {
    /// There was an object of this many bytes; it is gone.
    Deleted {
        /// The size of what was deleted.
        size: u64,
    },
    /// There was none.
    Absent,
}

/// The name of a multipart upload: 1 to 64 characters of `[A-Za-z0-9_-]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UploadId(String);

impl UploadId {
    /// Takes a name.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when it cannot be the name of any upload.
    pub fn new(id: impl Into<String>) -> Result<Self> {
        let id = id.into();
        let sound = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if id.is_empty() || id.len() > 64 || !id.bytes().all(sound) {
            return Err(Error::new(ErrorKind::NotFound, "upload id"));
        }
        Ok(Self(id))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number of a part, 1 to 10 000 (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartNumber(NonZeroU16);

impl PartNumber {
    /// The largest part number.
    pub const MAX: u16 = 10_000;

    /// Takes a number of 1 to 10 000; `None` otherwise.
    #[must_use]
    pub fn new(number: i64) -> Option<Self> {
        u16::try_from(number).ok().filter(|n| *n <= Self::MAX).and_then(NonZeroU16::new).map(Self)
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for PartNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn ranges_resolve_as_rfc_9110_says() {
        let r = |spec: RangeSpec, size| spec.resolve(size).map_err(|e| *e.kind());
        assert_eq!(r(RangeSpec::Between(0, 499), 1000), Ok(0..500));
        assert_eq!(r(RangeSpec::From(500), 1000), Ok(500..1000));
        assert_eq!(r(RangeSpec::Last(200), 1000), Ok(800..1000));
        assert_eq!(r(RangeSpec::Between(0, 1000), 1000), Ok(0..1000));
        assert_eq!(r(RangeSpec::Last(2000), 1000), Ok(0..1000));
        assert_eq!(r(RangeSpec::Between(0, u64::MAX), 10), Ok(0..10));
        for (spec, size) in
            [(RangeSpec::From(1000), 1000), (RangeSpec::Last(0), 1000), (RangeSpec::From(0), 0), (RangeSpec::Last(5), 0)]
        {
            assert_eq!(r(spec, size), Err(ErrorKind::RangeNotSatisfiable { size }));
        }
    }

    #[test]
    fn part_numbers_are_1_to_10000() {
        assert!(PartNumber::new(0).is_none() && PartNumber::new(10_001).is_none() && PartNumber::new(-1).is_none());
        assert_eq!(PartNumber::new(10_000).unwrap().get(), 10_000);
    }
}
