//! Moving objects to the mounts of storage classes.

use std::sync::Arc;

use super::Objects;
use crate::error::{Error, ErrorKind, Result};
use crate::handles::Purpose;
use crate::mounts::Transition;
use crate::namespaces::Namespace;

impl Objects {
    /// Moves the bytes of a version to the mount of a storage class, if it is still the one that is meant; how many they are. What is
    /// told of it stays the same, its class aside. Given up at any point, it is as it was, or moved.
    ///
    /// # Errors
    /// The provider's PreconditionFailed and NotFound when it is another one by now, or gone; `NotImplemented` where no mount keeps a
    /// storage class; those of both mounts.
    pub async fn transition(&self, ns: &Namespace, key: &str, to: &Transition) -> Result<u64> {
        let Some((tiered, inner)) = ns.mounts.load().tiered(key) else {
            let message = "No mount of this bucket keeps a storage class.";
            return Err(Error::new(ErrorKind::NotImplemented(message.into()), "move to a storage class"));
        };
        let guard = self.handle(ns, key, Purpose::Read);
        let _busy = guard.busy();
        let carried = tiered.carry(&inner, (&ns.bucket.name, key), to).await?;
        // From here to the end no mount goes.
        let permit = ns.publishing().await?;
        let still = ns.mounts.load().tiered(key).is_some_and(|(now, _)| Arc::ptr_eq(&now, &tiered));
        if !still {
            drop(permit);
            carried.give_up().await;
            return Err(Error::new(ErrorKind::SlowDown, "move to a storage class of a mount that went"));
        }
        let moved = carried.settle().await;
        drop(permit);
        Ok(moved?)
    }
}
