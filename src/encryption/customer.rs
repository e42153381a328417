//! Keys that customers bring along.

use std::fmt;
use std::sync::Arc;

use super::cipher::DataKey;

/// A key that came with a request. Wiped when it is dropped, never stored, never shown.
#[derive(Clone)]
pub struct CustomerKey {
    pub(super) key: Arc<DataKey>,
    md5: Arc<str>,
}

impl CustomerKey {
    /// Takes 32 bytes, and their MD5 in base64 as the client wrote it; `None` for any other length.
    #[must_use]
    pub fn new(key: &[u8], md5: &str) -> Option<Self> {
        Some(Self { key: Arc::new(DataKey::from_slice(key)?), md5: md5.into() })
    }

    /// The MD5 in base64, for the answer.
    #[must_use]
    pub fn md5(&self) -> &str {
        &self.md5
    }
}

impl fmt::Debug for CustomerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomerKey(…)")
    }
}
