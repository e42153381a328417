//! What a row says.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use sluice_provider::{Attributes, ETag, Key, ObjectInfo, Result};

use crate::error::corrupt;

/// An object as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) size: i64,
    pub(crate) etag: String,
    /// Nanoseconds since the epoch.
    pub(crate) modified: i64,
    /// JSON.
    pub(crate) attributes: String,
    /// 0 for a value.
    pub(crate) body: i64,
    pub(crate) page_bytes: i64,
}

impl Stored {
    /// An object that is written now.
    pub(crate) fn new(size: u64, etag: &ETag, attributes: &Attributes, body: i64, page_bytes: u32) -> Result<Self> {
        Ok(Self {
            size: i64::try_from(size).map_err(|_| corrupt("size of an object"))?,
            etag: etag.as_str().to_owned(),
            modified: now(),
            attributes: to_json(attributes)?,
            body,
            page_bytes: page_bytes.into(),
        })
    }

    pub(crate) fn info(&self, key: Key) -> Result<ObjectInfo> {
        Ok(ObjectInfo {
            key,
            size: self.bytes(),
            etag: ETag::new(&self.etag)?,
            modified: SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::try_from(self.modified).unwrap_or(0)),
            attributes: from_json(&self.attributes)?,
        })
    }

    pub(crate) fn bytes(&self) -> u64 {
        u64::try_from(self.size).unwrap_or(0)
    }

    /// The size of its pages.
    pub(crate) fn page(&self) -> u64 {
        u64::try_from(self.page_bytes).unwrap_or(1).max(1)
    }
}

/// Nanoseconds since the epoch.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

pub(crate) fn to_json(attributes: &Attributes) -> Result<String> {
    let map: BTreeMap<&str, &str> = attributes.iter().collect();
    serde_json::to_string(&map).map_err(|e| corrupt("attributes").caused_by(e))
}

fn from_json(text: &str) -> Result<Attributes> {
    let map: BTreeMap<String, String> = serde_json::from_str(text).map_err(|e| corrupt("attributes").caused_by(e))?;
    Ok(map.into_iter().collect())
}

/// A number that nobody else has, for a body.
pub(crate) fn new_body() -> Result<i64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|e| sluice_provider::Error::new(sluice_provider::ErrorKind::Unavailable, "random").with("cause", e))?;
    // Never 0, which is no body.
    Ok((i64::from_le_bytes(bytes) & i64::MAX).max(1))
}
