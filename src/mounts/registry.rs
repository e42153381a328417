//! The provider kinds. A new provider is one line here.

use std::sync::Arc;

use sluice_provider::Provider;

use crate::error::Result;
use crate::meta::MountRecord;

/// Opens the provider of a mount.
///
/// # Errors
/// `InvalidArgument` for an unknown kind or setting, the provider's own error when it cannot start.
pub async fn open(_mount: &MountRecord) -> Result<Arc<dyn Provider>> {
    todo!()
}
