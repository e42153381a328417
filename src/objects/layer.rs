//! The layer itself, and what its calls have in common.

use std::sync::Arc;

use sluice_provider::{Key, ObjectInfo, known_size};

use crate::encryption::{At, CustomerKey, Encryption};
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

    /// What encrypts.
    #[must_use]
    pub fn encryption(&self) -> &Encryption {
        self.uploads.encryption()
    }

    /// Whether somebody who brings this key may be told of an object that was found: refuses what [`get`](Self::get) would refuse.
    ///
    /// # Errors
    /// `Encryption`.
    pub async fn check_key(&self, ns: &Namespace, info: &ObjectInfo, customer: Option<&CustomerKey>) -> Result<()> {
        let at = At { bucket: &ns.bucket.name, key: info.key.as_str() };
        self.encryption().check(at, &info.attributes, customer).await
    }

    pub(super) fn handle(&self, ns: &Namespace, key: &str, purpose: Purpose) -> Guard {
        self.handles.open(&ns.bucket.name, key, purpose)
    }
}

/// The provider's answer, under the key and with the size that the caller knows.
pub(super) fn with_key(info: ObjectInfo, key: &str) -> Result<ObjectInfo> {
    let info = ObjectInfo { size: known_size(&info), ..info };
    if info.key.as_str() == key {
        return Ok(info);
    }
    Ok(ObjectInfo { key: Key::new(key)?, ..info })
}
