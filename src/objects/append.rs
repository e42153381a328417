//! Growing at the end.

use std::sync::{Arc, OnceLock};

use sluice_provider as provider;
use sluice_provider::{
    AppendOptions, Appended, Attributes, ETag, Growth, ObjectInfo, PutBody, PutOptions, ReadOptions, Seal, Versioning,
};

use super::layer::with_key;
use super::{Objects, attribute, lock};
use crate::encryption::is_encrypted;
use crate::error::{Error, ErrorKind, Result};
use crate::handles::Purpose;
use crate::mounts::is_stranded;
use crate::namespaces::{Namespace, watch};
use crate::transfer::{Algorithm, ChecksumType, combine, decode, encode, md5_hex};

const ENCRYPTED: &str = "Objects that are encrypted cannot be appended to.";

/// Why an object that is there does not grow.
#[derive(Clone, Copy)]
enum Obstacle {
    Locked,
    Encrypted,
    Metadata,
    /// Its bytes lie on a mount that this gateway does not know (yet).
    Elsewhere,
}

impl Objects {
    /// Appends a body to the object of a key, which must have `offset` bytes; an object of no bytes need not be there. The attributes
    /// of `put` are those of an object that is made; one that is there keeps its own.
    ///
    /// # Errors
    /// Those of [`put`](Self::put), the provider's WriteOffset; `NotImplemented` in a bucket with versions, on a mount that cannot and for
    /// an object that is encrypted; `InvalidRequest` for user metadata on an object that is there; `ObjectLocked`.
    pub async fn append(&self, ns: &Namespace, key: &str, body: PutBody, put: PutOptions, offset: u64) -> Result<ObjectInfo> {
        let refused = |why: &'static str| Error::new(ErrorKind::NotImplemented(why.into()), "append");
        if ns.versioning() != Versioning::Off {
            return Err(refused("Objects of a bucket with versions cannot be appended to."));
        }
        let (on, inner, prefix) = ns.resolve(key)?;
        let facet = on.appends().ok_or_else(|| refused("The storage behind this bucket cannot append to objects."))?;
        let guard = self.handle(ns, key, Purpose::Write);
        let (body, passage) = watch(body, Some(guard), Some(ns.gate().clone()));
        let obstacle = Arc::new(OnceLock::new());
        let with_metadata = put.attributes.with_prefix(attribute::USER_PREFIX).next().is_some();
        let growth = {
            let obstacle = Arc::clone(&obstacle);
            Growth::new(move |info, appended| match hindered(info, with_metadata) {
                Some(why) => {
                    let _ = obstacle.set(why);
                    Err(provider::Error::new(provider::ErrorKind::Guarded, "append"))
                }
                None => grown(info, appended),
            })
        };
        let stored = facet.append(&inner, body, &AppendOptions { offset, put, growth }).await;
        drop(passage);
        match stored {
            Ok(info) => {
                ns.still_serves(key, &on, &prefix)?;
                with_key(info, key)
            }
            Err(error) if ns.gate().is_closed() => {
                Err(Error::new(ErrorKind::NoSuchBucket, "append in a bucket that was deleted").caused_by(error))
            }
            // The size of what is encrypted is not the one that is stored.
            Err(error) if matches!(error.kind(), provider::ErrorKind::WriteOffset { .. }) => {
                match on.head(&inner, &ReadOptions::default()).await {
                    Ok(info) if is_encrypted(&info.attributes) => Err(refused(ENCRYPTED)),
                    _ => Err(error.into()),
                }
            }
            Err(error) if *error.kind() == provider::ErrorKind::Guarded => Err(match obstacle.get() {
                Some(Obstacle::Encrypted) => refused(ENCRYPTED),
                Some(Obstacle::Metadata) => {
                    let why =
                        "You cannot specify both a write offset value and user-defined object metadata for existing objects.";
                    Error::new(ErrorKind::InvalidRequest(why.into()), "append")
                }
                Some(Obstacle::Elsewhere) => {
                    provider::Error::new(provider::ErrorKind::Unavailable, "append to an object in a storage class").into()
                }
                Some(Obstacle::Locked) => Error::new(ErrorKind::ObjectLocked, "append to what is locked"),
                None => Error::new(ErrorKind::AccessDenied, "append to what is sealed").caused_by(error),
            }),
            Err(error) => Err(error.into()),
        }
    }
}

fn hindered(info: &ObjectInfo, with_metadata: bool) -> Option<Obstacle> {
    if is_stranded(info) {
        Some(Obstacle::Elsewhere)
    } else if !lock::may_remove(&info.attributes, false) {
        Some(Obstacle::Locked)
    } else if is_encrypted(&info.attributes) {
        Some(Obstacle::Encrypted)
    } else {
        with_metadata.then_some(Obstacle::Metadata)
    }
}

/// What an object becomes. Its ETag tells of all that was ever appended, and cannot be taken for an MD5; checksums that can be joined
/// are, those that cannot are gone; it is a plain object, whatever parts it was made of.
fn grown(info: &ObjectInfo, appended: &Appended) -> provider::Result<Seal> {
    let etag = format!("{}-append", md5_hex(format!("{}:{}", info.etag, appended.seal.etag).as_bytes()));
    let mut attributes = info.attributes.clone();
    let composite = attributes.get(attribute::CHECKSUM_TYPE) == Some(ChecksumType::Composite.name());
    for name in [attribute::CHECKSUM_TYPE, attribute::PARTS, attribute::UPLOAD] {
        attributes.remove(name);
    }
    for algorithm in Algorithm::ALL {
        let name = algorithm.attribute();
        let raw = |attributes: &Attributes| attributes.get(name).and_then(|text| decode(algorithm, text));
        let joined = match (raw(&info.attributes), raw(&appended.seal.attributes)) {
            (Some(first), Some(second)) if !composite => combine(algorithm, &first, &second, appended.bytes),
            _ => None,
        };
        match joined {
            Some(joined) => attributes.set(name, encode(&joined)),
            None => drop(attributes.remove(name)),
        }
    }
    Ok(Seal { etag: ETag::new(etag)?, attributes })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::time::SystemTime;

    use sluice_provider::Key;

    use super::*;
    use crate::transfer::Hasher;

    #[test]
    fn checksums_are_joined_or_gone() {
        let of = |algorithm: Algorithm, bytes: &[u8]| (algorithm.attribute(), encode(&Hasher::once(algorithm, bytes)));
        let attributes = |bytes: &[u8]| -> Attributes {
            [Algorithm::Crc32, Algorithm::Crc64Nvme, Algorithm::Sha256].into_iter().map(|a| of(a, bytes)).collect()
        };
        let mut was = attributes(b"first ");
        was.set(attribute::PARTS, "1:6");
        was.set(attribute::CONTENT_TYPE, "text/plain");
        let info = ObjectInfo {
            key: Key::new("k").unwrap(),
            size: 6,
            etag: ETag::new("e").unwrap(),
            modified: SystemTime::UNIX_EPOCH,
            attributes: was,
        };
        let seal = Seal { etag: ETag::new("f").unwrap(), attributes: attributes(b"second") };
        let seal = grown(&info, &Appended { bytes: 6, seal }).unwrap();
        let mut want: Attributes = [Algorithm::Crc32, Algorithm::Crc64Nvme].into_iter().map(|a| of(a, b"first second")).collect();
        want.set(attribute::CONTENT_TYPE, "text/plain");
        assert_eq!(seal.attributes, want);
        assert!(crate::transfer::md5_of_etag(seal.etag.as_str()).is_none());
        let none = Seal { etag: ETag::new("f").unwrap(), attributes: Attributes::new() };
        let other = grown(&info, &Appended { bytes: 6, seal: none }).unwrap();
        assert_eq!(other.attributes.len(), 1);
        assert_eq!(other.etag, seal.etag);
    }
}
