//! Names: keys and entity tags.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use crate::{Error, ErrorKind, Result};

/// The longest key, in bytes of UTF-8 (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html>).
pub const MAX_KEY_BYTES: usize = 1024;

/// The name of an object: 1 to 1024 bytes of UTF-8, compared and sorted byte by byte. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// Takes a name of 1 to [`MAX_KEY_BYTES`] bytes.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidKey`] when it is empty or longer.
    pub fn new(name: impl AsRef<str>) -> Result<Self> {
        let name = name.as_ref();
        if name.is_empty() || name.len() > MAX_KEY_BYTES {
            return Err(Error::new(ErrorKind::InvalidKey, "key").with("bytes", name.len()));
        }
        Ok(Self(Arc::from(name)))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Key {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// An entity tag: opaque, never empty, without quotes (RFC 9110 section 8.8.3, always strong).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ETag(Arc<str>);

impl ETag {
    /// Takes a tag without its quotes.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] when it is empty, holds a quote, a control or a non-ASCII character.
    pub fn new(tag: impl AsRef<str>) -> Result<Self> {
        let tag = tag.as_ref();
        let sound = |b: u8| b.is_ascii_graphic() && b != b'"';
        if tag.is_empty() || !tag.bytes().all(sound) {
            return Err(Error::new(ErrorKind::Corrupt, "etag"));
        }
        Ok(Self(Arc::from(tag)))
    }

    /// The tag, without quotes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_key_is_1_to_1024_bytes() {
        assert_eq!(Key::new("").unwrap_err().kind(), &ErrorKind::InvalidKey);
        assert!(Key::new("x".repeat(1024)).is_ok());
        assert_eq!(Key::new("é".repeat(513)).unwrap_err().kind(), &ErrorKind::InvalidKey);
    }

    #[test]
    fn keys_sort_by_bytes() {
        let (dash, slash) = (Key::new("a-b").unwrap(), Key::new("a/b").unwrap());
        assert!(dash < slash);
    }

    #[test]
    fn an_etag_is_never_empty_nor_quoted() {
        assert!(ETag::new("").is_err());
        assert!(ETag::new("\"x\"").is_err());
        assert!(ETag::new("d41d8cd98f00b204e9800998ecf8427e-3").is_ok());
    }
}
