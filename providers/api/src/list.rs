//! Listing.

use crate::{ObjectInfo, VersionId};

/// Where a page begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListFrom {
    /// At the first key.
    #[default]
    Start,
    /// After this key, which need not exist.
    After(String),
    /// After every key that starts with this prefix.
    AfterPrefix(String),
    /// After this version of this key, which need not exist. Of a listing without versions: at this key.
    AfterVersion(String, VersionId),
}

impl ListFrom {
    /// Whether `key` lies before the start, so that it is left out.
    #[must_use]
    pub fn skips(&self, key: &str) -> bool {
        match self {
            Self::Start => false,
            Self::After(after) => key <= after.as_str(),
            Self::AfterPrefix(prefix) => key < prefix.as_str() || key.starts_with(prefix.as_str()),
            Self::AfterVersion(at, _) => key < at.as_str(),
        }
    }
}

/// Which page of which listing.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// Only keys that start with this.
    pub prefix: String,
    /// Keys that contain this, non-empty, string after the prefix are rolled up into one entry that ends with its first occurrence.
    pub delimiter: Option<String>,
    /// Where to begin. It selects keys before they are rolled up.
    pub from: ListFrom,
    /// The largest number of entries to return; at least 1.
    pub limit: usize,
}

/// One line of a listing.
#[derive(Clone, Debug)]
pub enum ListEntry {
    /// An object.
    Object(ObjectInfo),
    /// Keys rolled up under their common prefix, which ends with the delimiter. At least one object lies beneath it.
    Prefix(String),
}

impl ListEntry {
    /// The key or the common prefix: what the listing is sorted by.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Object(info) => info.key.as_str(),
            Self::Prefix(prefix) => prefix,
        }
    }
}

/// A page.
#[derive(Clone, Debug, Default)]
pub struct ListPage {
    /// At most `limit` entries, sorted by name in UTF-8 byte order, without repetition.
    pub entries: Vec<ListEntry>,
    /// Whether at least one further entry follows.
    pub more: bool,
}
