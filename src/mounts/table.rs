//! The longest-prefix table.

use std::sync::Arc;

use sluice_provider::{Key, Provider};

/// A provider at a prefix.
#[derive(Clone, Debug)]
pub struct Mount {
    /// The prefix, empty for the whole bucket.
    pub prefix: Arc<str>,
    /// The kind of provider, for people.
    pub kind: Arc<str>,
    /// The provider. It sees keys without the prefix.
    pub provider: Arc<dyn Provider>,
}

/// The mounts of one namespace. Immutable: a change makes a new table.
#[derive(Clone, Debug, Default)]
pub struct MountTable;

impl MountTable {
    /// A table of these mounts.
    #[must_use]
    pub fn new(_mounts: Vec<Mount>) -> Self {
        todo!()
    }
    /// The mount with the longest prefix that is shorter than the key and that the key starts with, and the key without it. A key that
    /// equals a mount's prefix belongs to the next shorter mount, so that a provider never sees an empty key.
    #[must_use]
    pub fn resolve(&self, _key: &str) -> Option<(&Mount, Key)> {
        todo!()
    }
    /// All mounts in prefix order.
    pub fn iter(&self) -> impl Iterator<Item = &Mount> {
        std::iter::empty()
    }
}
