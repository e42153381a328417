//! The provider kinds. A new provider is one line here.

use std::sync::Arc;

use futures::future::BoxFuture;
use sluice_provider::{MAX_KEY_BYTES, Provider};

use crate::error::{Error, ErrorKind, Result};
use crate::meta::MountRecord;

/// Opens the provider of a mount. Injected, so that a test can count and fail.
pub type Opener = Arc<dyn Fn(MountRecord) -> BoxFuture<'static, Result<Arc<dyn Provider>>> + Send + Sync>;

/// The longest mount prefix in bytes: one byte of the key must be left to the provider.
pub const MAX_PREFIX_BYTES: usize = MAX_KEY_BYTES - 1;

/// The kinds, for messages.
const KINDS: &str = "local, memory";

/// Opens the provider of a mount.
///
/// # Errors
/// `InvalidArgument` for an unknown kind or setting, the provider's own error when it cannot start.
pub async fn open(mount: &MountRecord) -> Result<Arc<dyn Provider>> {
    match mount.provider.as_str() {
        #[cfg(any())]
        "memory" => {
            Ok(Arc::new(sluice_provider_memory::Memory::new(sluice_provider_memory::Settings::from_map(&mount.settings)?)))
        }
        #[cfg(any())]
        "local" => {
            Ok(Arc::new(sluice_provider_local::Local::open(sluice_provider_local::Settings::from_map(&mount.settings)?).await?))
        }
        other => Err(Error::new(
            ErrorKind::InvalidArgument(format!("Unknown provider kind {other:?}; known kinds: {KINDS}").into()),
            "open mount",
        )
        .with("bucket", &mount.bucket)
        .with("prefix", &mount.prefix)),
    }
}

/// [`open`] as an [`Opener`].
#[must_use]
pub fn opener() -> Opener {
    Arc::new(|mount| Box::pin(async move { open(&mount).await }))
}

/// Whether two mounts of this kind with the same settings are the same storage, so that they can share one provider. Memory never
/// is: each mount of it is a store of its own.
#[must_use]
pub fn shareable(kind: &str) -> bool {
    kind != "memory"
}

/// Refuses what cannot be a mount's prefix.
///
/// # Errors
/// `InvalidArgument` when it is longer than [`MAX_PREFIX_BYTES`].
pub fn check_prefix(prefix: &str) -> Result<()> {
    if prefix.len() > MAX_PREFIX_BYTES {
        let message = format!("A mount prefix has at most {MAX_PREFIX_BYTES} bytes, this one has {}", prefix.len());
        return Err(Error::new(ErrorKind::InvalidArgument(message.into()), "mount prefix"));
    }
    Ok(())
}
