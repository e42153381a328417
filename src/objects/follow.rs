//! Following what grows, and sealing it.

use futures::StreamExt;
use sluice_provider::{FollowFrom, Followed, ObjectInfo};

use super::Objects;
use super::body::guarded;
use super::layer::with_key;
use crate::error::{Error, ErrorKind, Result};
use crate::handles::Purpose;
use crate::namespaces::Namespace;

fn unable() -> Error {
    let why = "The storage behind this key cannot be followed; mounts of the kinds `stream` and `pubsub` can.";
    Error::new(ErrorKind::NotImplemented(why.into()), "follow")
}

impl Objects {
    /// Begins to follow an object. The handle closes when the events are dropped.
    ///
    /// # Errors
    /// `NotImplemented` on a mount that cannot; the provider's.
    pub async fn follow(&self, ns: &Namespace, key: &str, from: FollowFrom) -> Result<Followed> {
        let (provider, inner, _) = ns.resolve(key)?;
        let guard = self.handle(ns, key, Purpose::Read);
        let followed = provider.follows().ok_or_else(unable)?.follow(&inner, from).await?;
        let info = with_key(followed.info, key)?;
        Ok(Followed { info, events: guarded(followed.events, guard).boxed(), ..followed })
    }

    /// Seals an object: nothing is added to it any more, and those who follow it come to its end.
    ///
    /// # Errors
    /// `NotImplemented` on a mount that cannot; the provider's.
    pub async fn seal(&self, ns: &Namespace, key: &str) -> Result<ObjectInfo> {
        let (provider, inner, _) = ns.resolve(key)?;
        with_key(provider.follows().ok_or_else(unable)?.seal(&inner).await?, key)
    }
}
