//! Deleting in buckets that have versions, and what cannot be deleted.

use std::sync::Arc;

use futures::StreamExt;
use sluice_provider as provider;
use sluice_provider::{
    AttributeChange, DeleteKey, DeleteWhen, Guard, Key, ListPage, ListQuery, ObjectInfo, VersionFeatures, VersionId, Versioning,
    is_marker, version_of,
};

use super::layer::with_key;
use super::place::{Place, versions};
use super::{Objects, lock};
use crate::error::{Error, ErrorKind, Result};
use crate::namespaces::Namespace;

/// How many keys are deleted at once.
const KEYS_AT_ONCE: usize = 16;

/// What is to be deleted.
#[derive(Clone, Debug)]
pub struct Removal {
    /// The key.
    pub key: Key,
    /// This version, for good; without one, the key gets a delete marker if the bucket has versions.
    pub version: Option<VersionId>,
    /// The condition.
    pub when: DeleteWhen,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// The marker that was made, or the version that is gone; `None` in a bucket without versions.
    pub version: Option<VersionId>,
    /// Whether that is a delete marker.
    pub marker: bool,
}

impl Objects {
    /// Deletes keys and versions; one outcome per removal, in order. `bypass` overrides retention in governance mode.
    ///
    /// In each outcome: the condition's error, `ObjectLocked`, the provider's.
    pub async fn remove(&self, ns: &Namespace, removals: Vec<Removal>, bypass: bool) -> Vec<Result<Removed>> {
        let versioning = ns.versioning();
        let plain = |removal: &Removal| versioning == Versioning::Off && removal.version.is_none_or(|v| v == VersionId::Null);
        if removals.iter().all(plain) {
            let named: Vec<_> = removals.iter().map(|removal| removal.version).collect();
            let keys = removals.into_iter().map(|Removal { key, when, .. }| DeleteKey { key, when }).collect();
            let outcomes = self.delete_for_good(ns, keys).await.into_iter().zip(named);
            return outcomes.map(|(outcome, version)| outcome.map(|_| Removed { version, marker: false })).collect();
        }
        let removing = removals.into_iter().map(|removal| self.remove_one(ns, removal, versioning, bypass));
        futures::stream::iter(removing.collect::<Vec<_>>()).buffered(KEYS_AT_ONCE).collect().await
    }

    async fn remove_one(&self, ns: &Namespace, removal: Removal, versioning: Versioning, bypass: bool) -> Result<Removed> {
        let (provider, key, prefix) = ns.resolve(removal.key.as_str())?;
        let when = removal.when;
        let Some(version) = removal.version else {
            if versioning == Versioning::Off {
                return only(self.delete_for_good(ns, vec![DeleteKey { key: removal.key, when }]).await)
                    .map(|_| Removed::default());
            }
            let permit = ns.publishing().await?;
            let (on, at) = (Arc::clone(&provider), key.clone());
            // Given up or not, it goes on until it has ended, and holds the gate as long.
            let marking = tokio::spawn(async move {
                let marked = match versions(&*on) {
                    Ok(versions) => versions.mark_deleted(&at, &when, versioning).await.map_err(Error::from),
                    Err(error) => Err(error),
                };
                drop(permit);
                marked
            });
            let marker = marking.await.map_err(|e| Error::new(ErrorKind::Internal, "mark as deleted").caused_by(e))??;
            ns.still_serves(removal.key.as_str(), &provider, &prefix)?;
            return Ok(Removed { version: Some(version_of(&marker.attributes)), marker: true });
        };
        let Some(facet) = provider.versions() else {
            // Where no versions are kept, there is none but the object itself.
            return match version {
                VersionId::Null => only(self.delete_for_good(ns, vec![DeleteKey { key: removal.key, when }]).await)
                    .map(|_| Removed { version: Some(version), marker: false }),
                VersionId::Named(_) | VersionId::Foreign(_) => Ok(Removed { version: Some(version), marker: false }),
            };
        };
        let guard = Guard::new(move |info| lock::may_remove(&info.attributes, bypass));
        let removed = facet.remove_version(&key, &version, &when, &guard).await.map_err(locked)?;
        Ok(Removed { version: Some(version), marker: removed.as_ref().is_some_and(is_marker) })
    }

    /// Changes attributes of a version (or of the current object) in one step, if the guard allows. Neither the data nor the
    /// modification time changes.
    ///
    /// # Errors
    /// The provider's NotFound and PreconditionFailed; `NoSuchVersion`, `DeleteMarker`; `ObjectLocked` when the guard says no.
    pub async fn change(
        &self,
        ns: &Namespace,
        key: &str,
        version: Option<VersionId>,
        change: &AttributeChange,
        guard: &Guard,
    ) -> Result<ObjectInfo> {
        let place = Place::new(ns, key, version)?;
        let Some(facet) = place.provider.versions() else { return self.set_attributes(ns, key, change).await };
        match facet.change_version(&place.key, place.version.as_ref(), change, guard).await {
            Ok(info) => with_key(info, key),
            // Looking for it tells what is wrong.
            Err(error) if *error.kind() == provider::ErrorKind::NotFound => match place.head().await {
                Ok(_) => Err(error.into()),
                Err(error) => Err(error),
            },
            Err(error) => Err(locked(error)),
        }
    }

    /// A page of all versions and delete markers, merged over the mounts in key order; the versions of a key from the newest to the
    /// oldest. A mount that keeps none shows its objects.
    ///
    /// # Errors
    /// The provider's of any mount that the page touches.
    pub async fn list_versions(&self, ns: &Namespace, query: &ListQuery) -> Result<ListPage> {
        super::list::page(ns, query, super::list::What::Versions).await
    }

    /// Whether every mount of a bucket can keep versions.
    #[must_use]
    pub fn keeps_versions(&self, ns: &Namespace) -> bool {
        ns.mounts.load().iter().all(|mount| mount.provider.versions().is_some())
    }

    /// Whether every mount of a bucket that can keep versions does this with them too.
    #[must_use]
    pub fn versions_allow(&self, ns: &Namespace, does: impl Fn(VersionFeatures) -> bool) -> bool {
        ns.mounts.load().iter().filter_map(|mount| mount.provider.versions()).all(|facet| does(facet.version_features()))
    }
}

fn only<T>(mut outcomes: Vec<Result<T>>) -> Result<T> {
    outcomes.pop().unwrap_or_else(|| Err(Error::new(ErrorKind::Internal, "delete without an outcome")))
}

fn locked(error: provider::Error) -> Error {
    match error.kind() {
        provider::ErrorKind::Guarded => Error::new(ErrorKind::ObjectLocked, "change what is locked").caused_by(error),
        _ => error.into(),
    }
}
