//! Copying.

use std::sync::Arc;

use sluice_provider as provider;
use sluice_provider::{
    Attributes, CopyOptions, ETag, ObjectInfo, PartNumber, PutBody, PutOptions, PutWhen, RangeSpec, ReadOptions, SIZE_ATTRIBUTE,
    VersionId, Versioning, known_size,
};

use super::body::chunks;
use super::layer::with_key;
use super::place::{Place, versions};
use super::{CopyRequest, Objects, PartCopy, ReadConditions, attribute};
use crate::encryption::{self, At, CustomerKey, is_encrypted};
use crate::error::{Error, ErrorKind, Result};
use crate::handles::Purpose;
use crate::meta::PartRecord;
use crate::namespaces::Namespace;
use crate::transfer::{Algorithm, Declared, frames, verify};
use crate::uploads::session_checksum;

/// How often a copy starts over when its source changed under it.
const TRIES: usize = 4;

/// Where a copy reads from.
struct Source<'a> {
    ns: &'a Namespace,
    key: &'a str,
    place: Place,
}

impl Objects {
    /// Copies, across mounts and buckets too. The destination's ETag is the MD5 of its bytes.
    ///
    /// # Errors
    /// `PreconditionFailed` for the source's conditions, and those of [`put`](Self::put).
    pub async fn copy(&self, from: (&Namespace, &str), to: (&Namespace, &str), copy: CopyRequest) -> Result<ObjectInfo> {
        let source = Source::new((from.0, from.1, copy.version))?;
        for _ in 0..TRIES {
            let info = source.head(&copy.source).await?;
            let copied = match self.copy_inside(&source, &info, to, &copy).await {
                Ok(None) => self.copy_through(&source, &info, to, &copy).await.map(Some),
                inside => inside,
            };
            match copied {
                Ok(Some(copied)) => return Ok(copied),
                Ok(None) => {}
                // Of the two conditions it may be the source's that failed: then the copy begins anew.
                Err(error) if error.is_provider(provider::ErrorKind::PreconditionFailed) => {
                    if copy.when != PutWhen::Always && source.is_still(&info.etag).await? {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(changing())
    }

    /// Copies (a range of) an object into a part of an upload. The range must lie within the source.
    ///
    /// # Errors
    /// As [`copy`](Self::copy), `RangeNotSatisfiable` for a range outside of the source, and `NoSuchUpload`.
    pub async fn copy_part(
        &self,
        from: (&Namespace, &str, Option<VersionId>),
        copy: &PartCopy,
        to: (&Namespace, &str),
        upload_id: &str,
        number: PartNumber,
    ) -> Result<PartRecord> {
        let upload = self.uploads.get(to.0, to.1, upload_id).await?;
        let compute: Vec<_> = session_checksum(&upload).into_iter().map(|(algorithm, _)| algorithm).collect();
        let source = Source::new(from)?;
        for _ in 0..TRIES {
            let info = source.head(&copy.source).await?;
            if let Some((first, last)) = copy.range
                && (first > last || last >= known_size(&info))
            {
                let kind = provider::ErrorKind::RangeNotSatisfiable { size: known_size(&info) };
                return Err(Error::new(ErrorKind::Provider(kind), "copy a part"));
            }
            match self.open(&source, &info, copy.range, copy.source_key.as_ref(), compute.clone()).await {
                Ok(body) => {
                    let key = copy.customer_key.as_ref();
                    return self.uploads.put_part_with_key(to.0, to.1, upload_id, number, body, key).await;
                }
                Err(error) if error.is_provider(provider::ErrorKind::PreconditionFailed) => {}
                Err(error) => return Err(error),
            }
        }
        Err(changing())
    }

    /// The provider's own copy, where source and destination are on the same one and what it answers is right: the ETag is the MD5
    /// of the bytes already, and no other checksum is wanted.
    async fn copy_inside(
        &self,
        source: &Source<'_>,
        info: &ObjectInfo,
        to: (&Namespace, &str),
        copy: &CopyRequest,
    ) -> Result<Option<ObjectInfo>> {
        let (provider, inner, prefix) = to.0.resolve(to.1)?;
        let wanted = copy.checksum.is_none_or(|a| info.attributes.get(a.attribute()).is_some() && checksums(info) == [a]);
        if !Arc::ptr_eq(&provider, &source.place.provider) || !is_md5(&info.etag) || !wanted {
            return Ok(None);
        }
        // A data key belongs to one place. (A key for what is not encrypted is refused on the way through.)
        if is_encrypted(&info.attributes) || copy.source_key.is_some() || copy.encryption.is_some() {
            return Ok(None);
        }
        let _read = self.handle(source.ns, source.key, Purpose::Read);
        let _write = self.handle(to.0, to.1, Purpose::Write);
        let _busy = (_read.busy(), _write.busy());
        // Always named: an attribute that belongs to other bytes must not come along.
        let mut attributes = kept(info, copy);
        for algorithm in checksums(info) {
            attributes.extend(info.attributes.get(algorithm.attribute()).map(|value| (algorithm.attribute(), value)));
        }
        let options =
            CopyOptions { source_if_match: Some(info.etag.clone()), when: copy.when.clone(), attributes: Some(attributes) };
        let permit = to.0.publishing().await?;
        let (from, into, on) = (source.place.clone(), inner, Arc::clone(&provider));
        let versioning = to.0.versioning();
        // Given up or not, it goes on until it has ended, and holds the gate as long.
        let copied = tokio::spawn(async move {
            let copied = match (versioning, &from.version) {
                (Versioning::Off, None) => on.copy(&from.key, &into, &options).await.map_err(Error::from),
                (_, version) => match versions(&*on) {
                    Ok(facet) => {
                        let from = (&from.key, version.as_ref());
                        facet.copy_version(from, &into, &options, versioning).await.map_err(Error::from)
                    }
                    Err(error) => Err(error),
                },
            };
            drop(permit);
            copied
        });
        let copied = copied.await.map_err(|e| Error::new(ErrorKind::Internal, "copy").caused_by(e))??;
        to.0.still_serves(to.1, &provider, &prefix)?;
        with_key(copied, to.1).map(Some)
    }

    /// Reads the source and writes the destination, hashing on the way.
    async fn copy_through(
        &self,
        source: &Source<'_>,
        info: &ObjectInfo,
        to: (&Namespace, &str),
        copy: &CopyRequest,
    ) -> Result<ObjectInfo> {
        let compute = copy.checksum.map_or_else(|| checksums(info), |algorithm| vec![algorithm]);
        let body = self.open(source, info, None, copy.source_key.as_ref(), compute).await?;
        let at = At { bucket: &to.0.bucket.name, key: to.1 };
        let body = match &copy.encryption {
            Some(wish) => self.encryption().seal(at, wish, body).await?,
            None => body,
        };
        let put = PutOptions { when: copy.when.clone(), attributes: kept(info, copy) };
        let guard = self.handle(to.0, to.1, Purpose::Write);
        self.store(to.0, to.1, body, put, guard).await
    }

    /// The source's bytes on their way into something else. PreconditionFailed when it is another object by now.
    async fn open(
        &self,
        source: &Source<'_>,
        info: &ObjectInfo,
        range: Option<(u64, u64)>,
        key: Option<&CustomerKey>,
        compute: Vec<Algorithm>,
    ) -> Result<PutBody> {
        let guard = self.handle(source.ns, source.key, Purpose::Read);
        let (bytes, body) = if key.is_some() || is_encrypted(&info.attributes) {
            let _busy = guard.busy();
            let range = range.map_or(0..known_size(info), |(first, last)| first..last.saturating_add(1));
            let bytes = range.end.saturating_sub(range.start);
            let body = self.decrypted((source.ns, source.key), &source.place, info, key, range).await?;
            (bytes, frames(body, bytes).await?)
        } else {
            let (etag, range) = (&info.etag, range.map(|(first, last)| RangeSpec::Between(first, last)));
            let _busy = guard.busy();
            let object = source.place.get(&ReadOptions { range, if_match: Some(etag.clone()) }).await?;
            let bytes = object.range.end.saturating_sub(object.range.start);
            (bytes, frames(object.body, bytes).await?)
        };
        let declared = Declared { size: Some(bytes), compute, ..Declared::default() };
        Ok(verify(chunks(body, guard), declared))
    }
}

// === impl Source ===

impl<'a> Source<'a> {
    fn new((ns, key, version): (&'a Namespace, &'a str, Option<VersionId>)) -> Result<Self> {
        Ok(Self { ns, key, place: Place::new(ns, key, version)? })
    }

    async fn head(&self, conditions: &ReadConditions) -> Result<ObjectInfo> {
        let info = self.place.head().await?;
        conditions.check_source(&info)?;
        Ok(info)
    }

    async fn is_still(&self, etag: &ETag) -> Result<bool> {
        match self.place.head().await {
            Ok(info) => Ok(info.etag == *etag),
            Err(error) if error.is_provider(provider::ErrorKind::NotFound) => Ok(false),
            Err(error) if matches!(error.kind(), ErrorKind::DeleteMarker { .. } | ErrorKind::NoSuchVersion(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The attributes that the destination gets, without anything that was computed from the source's bytes: its checksums are
/// computed anew, and it is a plain object, whatever parts the source was made of.
fn kept(info: &ObjectInfo, copy: &CopyRequest) -> Attributes {
    let mut attributes = copy.attributes.clone().unwrap_or_else(|| {
        let mut attributes = info.attributes.clone();
        // Whose the source is, who may read it, and where it lies, is not a property of the copy.
        for name in [attribute::ACL, attribute::OWNER, attribute::STORAGE_CLASS, attribute::RENAME] {
            attributes.remove(name);
        }
        // Nor is what protects it, or its name.
        for name in [attribute::LOCK_MODE, attribute::LOCK_UNTIL, attribute::LOCK_HOLD, attribute::VERSION] {
            attributes.remove(name);
        }
        attributes
    });
    let computed = Algorithm::ALL.into_iter().map(Algorithm::attribute);
    let of_bytes = [attribute::CHECKSUM_TYPE, attribute::PARTS, attribute::UPLOAD, SIZE_ATTRIBUTE];
    for name in computed.chain(of_bytes).chain(encryption::ATTRIBUTES) {
        attributes.remove(name);
    }
    attributes
}

/// The checksums that the source has.
fn checksums(info: &ObjectInfo) -> Vec<Algorithm> {
    Algorithm::ALL.into_iter().filter(|algorithm| info.attributes.get(algorithm.attribute()).is_some()).collect()
}

fn is_md5(etag: &ETag) -> bool {
    crate::transfer::md5_of_etag(etag.as_str()).is_some()
}

fn changing() -> Error {
    Error::new(ErrorKind::Provider(provider::ErrorKind::Conflict), "copy of an object that keeps changing")
}
