//! The layer itself, and what its calls have in common.

use std::sync::Arc;

use sluice_provider::{Key, ObjectInfo};

use crate::error::Result;
use crate::handles::{Guard, Purpose, Registry};
use crate::namespaces::Namespace;
use crate::uploads::Uploads;

/// The object layer.
#[derive(Debug)]
pub struct Objects {
    pub(super) uploads: Arc<Uploads>,
    handles: Registry,
}

impl Objects {
    /// Over the layers beneath.
    #[must_use]
    pub fn new(uploads: Arc<Uploads>, handles: Registry) -> Self {
        Self { uploads, handles }
    }

    pub(super) fn handle(&self, ns: &Namespace, key: &str, purpose: Purpose) -> Guard {
        self.handles.open(&ns.bucket.name, key, purpose)
    }
}

/// The provider's answer, under the key that the caller knows.
pub(super) fn with_key(info: ObjectInfo, key: &str) -> Result<ObjectInfo> {
    if info.key.as_str() == key {
        return Ok(info);
    }
    Ok(ObjectInfo { key: Key::new(key)?, ..info })
}
