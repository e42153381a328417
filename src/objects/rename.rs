//! Another name for an object.

use std::sync::Arc;

use sluice_provider as provider;
use sluice_provider::{ObjectInfo, PutWhen, RenameOptions, Versioning};

use super::layer::with_key;
use super::place::Place;
use super::{ETagCondition, Objects, ReadConditions, attribute, lock};
use crate::encryption::is_encrypted;
use crate::error::{Error, ErrorKind, Result};
use crate::handles::Purpose;
use crate::namespaces::Namespace;

/// How often a rename starts over when one of its objects changed under it.
const TRIES: usize = 4;

/// How to rename.
#[derive(Clone, Debug, Default)]
pub struct RenameRequest {
    /// Conditions on the source.
    pub source: ReadConditions,
    /// Conditions on the destination; one that asks for an object is not met by none.
    pub destination: ReadConditions,
    /// What tells a second try from another request.
    pub token: Option<String>,
}

impl Objects {
    /// Renames within a bucket, in a time that does not depend on the size. Asked again with the same token, it answers as it did.
    ///
    /// # Errors
    /// The provider's NotFound for the source, `PreconditionFailed`, `IdempotencyMismatch`; `NotImplemented` in a bucket with versions, on a
    /// mount that cannot, from mount to mount and for an object that is encrypted; `ObjectLocked`.
    pub async fn rename(&self, ns: &Namespace, from: &str, to: &str, rename: &RenameRequest) -> Result<ObjectInfo> {
        let refused = |why: &'static str| Error::new(ErrorKind::NotImplemented(why.into()), "rename");
        if ns.versioning() != Versioning::Off {
            return Err(refused("Objects of a bucket with versions cannot be renamed."));
        }
        let (source, destination) = (Place::new(ns, from, None)?, Place::new(ns, to, None)?);
        if !Arc::ptr_eq(&source.provider, &destination.provider) {
            return Err(refused("An object cannot be renamed from one mount to another."));
        }
        if source.provider.renames().is_none() {
            return Err(refused("The storage behind this bucket cannot rename objects."));
        }
        let _handle = self.handle(ns, to, Purpose::Write);
        let _busy = _handle.busy();
        let trace = rename.token.as_ref().map(|token| format!("{token} {from}"));
        for _ in 0..TRIES {
            let there = found(destination.head().await)?;
            let info = match source.head().await {
                Ok(info) => info,
                Err(error) if error.is_provider(provider::ErrorKind::NotFound) => {
                    return match there {
                        Some(there) if is_second_try(&there, trace.as_deref())? => with_key(there, to),
                        _ => Err(error),
                    };
                }
                Err(error) => return Err(error),
            };
            if let Some(there) = &there {
                is_second_try(there, trace.as_deref())?;
                check_removable(there)?;
            }
            rename.source.check(&info).map_err(|error| named(error, &rename.source))?;
            let when = condition(&rename.destination, there.as_ref())?;
            check_removable(&info)?;
            if is_encrypted(&info.attributes) {
                // A data key belongs to one place.
                return Err(refused("Objects that are encrypted cannot be renamed."));
            }
            let set = vec![(attribute::RENAME.to_owned(), trace.clone())];
            let set = if trace.is_some() || info.attributes.get(attribute::RENAME).is_some() { set } else { Vec::new() };
            let options = RenameOptions { source_if_match: Some(info.etag), when, set };
            let permit = ns.publishing().await?;
            let (on, old, new) = (Arc::clone(&source.provider), source.key.clone(), destination.key.clone());
            // Given up or not, it goes on until it has ended, and holds the gate as long.
            let renaming = tokio::spawn(async move {
                let renamed = match on.renames() {
                    Some(facet) => facet.rename(&old, &new, &options).await,
                    None => Err(provider::Error::new(provider::ErrorKind::Unsupported, "rename")),
                };
                drop(permit);
                renamed
            });
            match renaming.await.map_err(|e| Error::new(ErrorKind::Internal, "rename").caused_by(e))? {
                Ok(info) => return with_key(info, to),
                // Looked at again: what does not hold any more is told by name.
                Err(error) if *error.kind() == provider::ErrorKind::PreconditionFailed => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::new(ErrorKind::Provider(provider::ErrorKind::Conflict), "rename of an object that keeps changing"))
    }
}

fn found(head: Result<ObjectInfo>) -> Result<Option<ObjectInfo>> {
    match head {
        Ok(info) => Ok(Some(info)),
        Err(error) if error.is_provider(provider::ErrorKind::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the object came here by the same request, sent once before.
fn is_second_try(there: &ObjectInfo, trace: Option<&str>) -> Result<bool> {
    let token = |trace: &str| trace.split_once(' ').map(|(token, _)| token.to_owned());
    match (there.attributes.get(attribute::RENAME), trace) {
        (Some(was), Some(now)) if was == now => Ok(true),
        (Some(was), Some(now)) if token(was) == token(now) => {
            Err(Error::new(ErrorKind::IdempotencyMismatch, "rename with a token of another request"))
        }
        _ => Ok(false),
    }
}

/// A condition on the source that does not hold, by the name of its header.
fn named(error: Error, source: &ReadConditions) -> Error {
    let header = match error.kind() {
        ErrorKind::PreconditionFailed("If-Match") => "x-amz-rename-source-If-Match",
        ErrorKind::PreconditionFailed(_) => "x-amz-rename-source-If-Unmodified-Since",
        ErrorKind::NotModified(_) if source.if_none_match.is_some() => "x-amz-rename-source-If-None-Match",
        ErrorKind::NotModified(_) => "x-amz-rename-source-If-Modified-Since",
        _ => return error,
    };
    Error::new(ErrorKind::PreconditionFailed(header), "rename source")
}

fn check_removable(info: &ObjectInfo) -> Result<()> {
    let locked = || Error::new(ErrorKind::ObjectLocked, "rename what is locked");
    if lock::may_remove(&info.attributes, false) { Ok(()) } else { Err(locked()) }
}

/// The condition on the destination, as the provider keeps it: what was looked at must be what is replaced.
fn condition(asked: &ReadConditions, there: Option<&ObjectInfo>) -> Result<PutWhen> {
    if asked.is_empty() {
        return Ok(PutWhen::Always);
    }
    let Some(there) = there else {
        let wanted = asked.if_match.is_some();
        let failed = || Error::new(ErrorKind::PreconditionFailed("If-Match"), "rename");
        return if wanted { Err(failed()) } else { Ok(PutWhen::IfAbsent) };
    };
    asked.check(there).map_err(|error| match error.kind() {
        ErrorKind::NotModified(_) if asked.if_none_match.is_some() => {
            Error::new(ErrorKind::PreconditionFailed("If-None-Match"), "rename")
        }
        ErrorKind::NotModified(_) => Error::new(ErrorKind::PreconditionFailed("If-Modified-Since"), "rename"),
        _ => error,
    })?;
    debug_assert!(asked.if_none_match != Some(ETagCondition::Any), "an object is there");
    Ok(PutWhen::IfMatch(there.etag.clone()))
}
