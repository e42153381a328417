//! Where a read finds an object: at its key, or among the older versions.

use std::sync::Arc;

use sluice_provider as provider;
use sluice_provider::{Key, Object, ObjectInfo, Provider, ReadOptions, VersionId, Versioning, Versions, is_marker, version_of};

use crate::error::{Error, ErrorKind, Result};
use crate::mounts::is_stranded;
use crate::namespaces::Namespace;

/// How often a look begins again because the key was settled, or changed, under it.
const TRIES: usize = 4;

/// A version of an object on its mount.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) provider: Arc<dyn Provider>,
    pub(super) key: Key,
    pub(super) version: Option<VersionId>,
    versioning: Versioning,
}

/// The facet of a mount of a bucket that has versions.
pub(super) fn versions(provider: &dyn Provider) -> Result<&dyn Versions> {
    provider.versions().ok_or_else(|| {
        Error::new(ErrorKind::NotImplemented("The storage behind this bucket cannot keep versions.".into()), "versions")
    })
}

/// The answer for a delete marker that was named, or stands for the key.
pub(super) fn marked(info: &ObjectInfo, named: bool) -> Error {
    let version = version_of(&info.attributes).to_string();
    Error::new(ErrorKind::DeleteMarker { version, modified: info.modified, named }, "read")
}

impl Place {
    pub(super) fn new(ns: &Namespace, key: &str, version: Option<VersionId>) -> Result<Self> {
        let (provider, key, _) = ns.resolve(key)?;
        let versioning = ns.versioning();
        // In a bucket without versions, every object is the null version.
        let version = version.filter(|version| versioning != Versioning::Off || *version != VersionId::Null);
        Ok(Self { provider, key, version, versioning })
    }

    /// The metadata.
    ///
    /// # Errors
    /// The provider's; `NoSuchVersion`, `DeleteMarker`.
    pub(super) async fn head(&self) -> Result<ObjectInfo> {
        let read = ReadOptions::default();
        for _ in 0..TRIES {
            let Some(version) = &self.version else {
                match self.provider.head(&self.key, &read).await {
                    Ok(info) => return with_its_bytes(&info).map(|()| info),
                    Err(error) => Box::pin(self.look_behind(error)).await?,
                }
                continue;
            };
            let found = self.facet(version)?.head_version(&self.key, Some(version), &read).await;
            let info = found.map_err(|error| no_such_version(error, version))?;
            with_its_bytes(&info)?;
            return if is_marker(&info) { Err(marked(&info, true)) } else { Ok(info) };
        }
        Err(changing())
    }

    /// Opens it.
    ///
    /// # Errors
    /// As [`head`](Self::head).
    pub(super) async fn get(&self, read: &ReadOptions) -> Result<Object> {
        for _ in 0..TRIES {
            let Some(version) = &self.version else {
                match self.provider.get(&self.key, read).await {
                    Ok(object) => return with_its_bytes(&object.info).map(|()| object),
                    Err(error) => Box::pin(self.look_behind(error)).await?,
                }
                continue;
            };
            let found = self.facet(version)?.get_version(&self.key, version, read).await;
            let object = found.map_err(|error| no_such_version(error, version))?;
            with_its_bytes(&object.info)?;
            return if is_marker(&object.info) { Err(marked(&object.info, true)) } else { Ok(object) };
        }
        Err(changing())
    }

    fn facet(&self, version: &VersionId) -> Result<&dyn Versions> {
        let none = || Error::new(ErrorKind::NoSuchVersion(version.to_string()), "a mount without versions");
        self.provider.versions().ok_or_else(none)
    }

    /// Why a key has no object, in a bucket that has versions. Ok when there is one by now: what a call that was cut short left behind
    /// was brought in order by the look.
    async fn look_behind(&self, error: provider::Error) -> Result<()> {
        let missing = *error.kind() == provider::ErrorKind::NotFound && self.versioning != Versioning::Off;
        let Some(versions) = self.provider.versions().filter(|_| missing) else { return Err(error.into()) };
        match versions.head_version(&self.key, None, &ReadOptions::default()).await {
            Ok(info) if is_marker(&info) => Err(marked(&info, false)),
            Ok(_) => Ok(()),
            Err(_) => Err(error.into()),
        }
    }
}

/// Refuses what is left of an object whose bytes lie on a mount that this gateway does not know (yet).
fn with_its_bytes(info: &ObjectInfo) -> Result<()> {
    if !is_stranded(info) {
        return Ok(());
    }
    Err(provider::Error::new(provider::ErrorKind::Unavailable, "no mount keeps the storage class of the object").into())
}

fn no_such_version(error: provider::Error, version: &VersionId) -> Error {
    match error.kind() {
        provider::ErrorKind::NotFound => {
            Error::new(ErrorKind::NoSuchVersion(version.to_string()), "read a version").caused_by(error)
        }
        _ => error.into(),
    }
}

fn changing() -> Error {
    Error::new(ErrorKind::Provider(provider::ErrorKind::Conflict), "read of an object that keeps changing")
}
