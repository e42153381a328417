//! Making the parts an object.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sluice_provider as provider;
use sluice_provider::{
    Attributes, BodyFault, ETag, Key, ListEntry, ListQuery, ObjectInfo, Provider, PutOptions, PutWhen, ReadOptions, Versioning,
};

use super::layout::{CHECKSUM_TYPE_ATTRIBUTE, ObjectPart, PARTS_ATTRIBUTE, UPLOAD_ATTRIBUTE, format_parts};
use super::sessions::{Place, is, no_such_upload, place};
use super::{CompleteRequest, MIN_PART_BYTES, NamedPart, Uploads, session_checksum};
use crate::encryption::{At, is_encrypted, stored_part_bytes};
use crate::error::{Error, ErrorKind, Result};
use crate::handles::Purpose;
use crate::meta::{PartRecord, UploadRecord};
use crate::namespaces::Namespace;
use crate::transfer::{Algorithm, ChecksumType, Hasher, composite, decode, encode, full_object, md5_of_etag, multipart_etag};

/// How often a Complete starts over when a part was replaced under it.
const TRIES: usize = 3;
/// How many older versions are looked at for what an upload became.
const OLDER_VERSIONS: usize = 1000;

/// Whether an upload was begun with a retention.
const RETENTION_ATTRIBUTE: &str = "lock.mode";

/// What is to be published.
struct Plan {
    /// Token and stored size of each.
    parts: Vec<(String, u64)>,
    /// Number and content of each.
    content: Vec<(u16, u64)>,
    etag: ETag,
    attributes: Attributes,
}

impl Uploads {
    /// Makes the parts an object. Repeating a Complete that succeeded answers the same again.
    ///
    /// # Errors
    /// `NoSuchUpload`, `InvalidPart`, `InvalidPartOrder`, `EntityTooSmall`, `InvalidRequest`, the condition's.
    pub async fn complete(&self, ns: &Namespace, key: &str, upload_id: &str, request: CompleteRequest) -> Result<ObjectInfo> {
        check_order(&request.parts)?;
        let digest = digest(&request.parts);
        let _handle = self.handle(ns, key, Purpose::Write);
        let mut tried: Option<Vec<(String, u64)>> = None;
        for _ in 0..TRIES {
            let Some(upload) = self.find(ns, key, upload_id).await? else {
                return self.completed(ns, key, upload_id, &digest).await;
            };
            let place = place(ns, &upload)?;
            check_mount(ns, &upload)?;
            let stored = self.all_parts(upload_id).await?;
            let mut plan = match Plan::new(&upload, stored, &request) {
                Ok(plan) => plan,
                // The parts may be missing because the upload ended since its row was read.
                Err(error) if self.find(ns, key, upload_id).await?.is_some() => return Err(error),
                Err(_) => return self.completed(ns, key, upload_id, &digest).await,
            };
            if tried.as_ref() == Some(&plan.parts) {
                // The rows name bytes that are not there, again.
                break;
            }
            let at = At { bucket: &ns.bucket.name, key };
            self.encryption().finish_upload(at, &mut plan.attributes, &plan.content).await?;
            let put = PutOptions { when: request.when.clone(), attributes: plan.attributes };
            let permit = ns.publishing().await?;
            let versioning = ns.versioning();
            let (to, parts) = (place.clone(), plan.parts.clone());
            // Given up or not, it goes on until it has ended, and holds the gate as long.
            let publishing = tokio::spawn(async move {
                let multipart = to.multipart()?;
                let published = match versioning {
                    Versioning::Off => multipart.complete(&to.key, &to.upload, &parts, &plan.etag, &put).await,
                    _ => to.versions()?.complete_version(&to.key, &to.upload, &parts, &plan.etag, &put, versioning).await,
                };
                drop(permit);
                Ok::<_, Error>(published)
            });
            match publishing.await.map_err(|e| Error::new(ErrorKind::Internal, "complete upload").caused_by(e))?? {
                Ok(info) => {
                    ns.still_serves(key, place.shared_provider(), &upload.mount_prefix)?;
                    self.forget_completed(&upload, &digest, info.etag.as_str()).await;
                    return with_key(info, key);
                }
                Err(error) => {
                    // Perhaps an earlier try, or one at the same time, has published already and only the rows are still here.
                    if let Some(info) = became(&place, &error).await? {
                        self.forget_completed(&upload, &digest, info.etag.as_str()).await;
                        return with_key(info, key);
                    }
                    let missing = is(&error, provider::ErrorKind::NotFound);
                    if !missing || missing_object(&place, &request.when).await? {
                        return Err(error.into());
                    }
                    tried = Some(plan.parts);
                }
            }
        }
        Err(no_such_upload(upload_id))
    }

    /// The answer to a Complete of an upload that is gone: what it became, while that is still there.
    async fn completed(&self, ns: &Namespace, key: &str, upload_id: &str, digest: &str) -> Result<ObjectInfo> {
        let gone = || no_such_upload(upload_id);
        let (had_key, had_digest, etag) = self.store.completed(&ns.bucket.name, upload_id).await?.ok_or_else(gone)?;
        if had_key != key || had_digest != digest {
            return Err(gone());
        }
        let (provider, inner, _) = ns.resolve(key)?;
        let found = match provider.head(&inner, &ReadOptions::default()).await {
            Ok(info) if info.etag.as_str() == etag => Some(info),
            Ok(_) => older(&*provider, &inner, upload_id).await?,
            Err(error) if is(&error, provider::ErrorKind::NotFound) => older(&*provider, &inner, upload_id).await?,
            Err(error) => return Err(error.into()),
        };
        with_key(found.ok_or_else(gone)?, key)
    }

    /// Remembers the answer and ends the session. The object is published: nothing that fails here is an error of the Complete,
    /// and a session that stays is recognised by the next Complete or freed by the sweep.
    async fn forget_completed(&self, upload: &UploadRecord, digest: &str, etag: &str) {
        let remembered = self.store.remember_completed(&upload.bucket, &upload.key, &upload.upload_id, digest, etag).await;
        let forgotten = match remembered {
            Ok(()) => self.store.delete_upload(&upload.upload_id).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = forgotten {
            tracing::warn!(upload = upload.upload_id, %error, "completed upload is still in the metadata store");
        }
    }

    async fn all_parts(&self, upload_id: &str) -> Result<BTreeMap<u16, PartRecord>> {
        // There are at most 10 000.
        let parts = self.store.parts(upload_id, 0, usize::from(provider::PartNumber::MAX)).await?;
        Ok(parts.into_iter().map(|part| (part.number, part)).collect())
    }
}

// === impl Plan ===

impl Plan {
    fn new(upload: &UploadRecord, mut stored: BTreeMap<u16, PartRecord>, request: &CompleteRequest) -> Result<Self> {
        let parts = request.parts.iter().map(|named| choose(&mut stored, named)).collect::<Result<Vec<_>>>()?;
        if let Some((_, all_but_last)) = parts.split_last()
            && let Some(small) = all_but_last.iter().find(|part| part.size < MIN_PART_BYTES)
        {
            let too_small = Error::new(ErrorKind::EntityTooSmall, "complete upload");
            return Err(too_small.with("part", small.number).with("bytes", small.size));
        }
        let size: u64 = parts.iter().map(|part| part.size).sum();
        if let Some(wanted) = request.size
            && wanted != size
        {
            return Err(invalid(format!(
                "The provided 'x-amz-mp-object-size' header value {wanted} does not match what was computed: {size}"
            )));
        }
        let mut attributes: Attributes = upload.attributes.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        if attributes.get(RETENTION_ATTRIBUTE).is_none() {
            attributes.extend(request.defaults.iter());
        }
        if let Some((algorithm, kind, value)) = whole_checksum(upload, &parts, request)? {
            attributes.set(algorithm.attribute(), value);
            attributes.set(CHECKSUM_TYPE_ATTRIBUTE, kind.name());
        }
        let encrypted = is_encrypted(&attributes);
        match format_parts(&parts.iter().map(object_part).collect::<Vec<_>>()) {
            Some(layout) => attributes.set(PARTS_ATTRIBUTE, layout),
            None if encrypted => {
                let message = "The parts of an encrypted object of thousands of parts must not all differ in size.";
                return Err(Error::new(ErrorKind::NotImplemented(message.into()), "complete upload"));
            }
            None => {}
        }
        attributes.set(UPLOAD_ATTRIBUTE, upload.upload_id.as_str());
        let md5s: Option<Vec<_>> = parts.iter().map(|part| md5_of_etag(&part.etag)).collect();
        let md5s = md5s.ok_or_else(|| Error::new(ErrorKind::Internal, "part whose etag is not an MD5"))?;
        let etag = ETag::new(multipart_etag(&md5s))?;
        let content = parts.iter().map(|part| (part.number, part.size)).collect();
        let stored = |part: &PartRecord| if encrypted { stored_part_bytes(part.size) } else { part.size };
        let parts = parts.into_iter().map(|part| (part.token.clone(), stored(&part))).collect();
        Ok(Self { parts, content, etag, attributes })
    }
}

/// The stored part that a Complete names.
fn choose(stored: &mut BTreeMap<u16, PartRecord>, named: &NamedPart) -> Result<PartRecord> {
    let number = named.number.get();
    let invalid =
        |why: &'static str| Error::new(ErrorKind::InvalidPart, "complete upload").with("part", number).with("reason", why);
    let part = stored.remove(&number).ok_or_else(|| invalid("was never uploaded"))?;
    if part.etag != named.etag {
        return Err(invalid("has another ETag"));
    }
    for (algorithm, raw) in &named.checksums {
        if part.checksums.get(algorithm.attribute()) != Some(&encode(raw)) {
            return Err(invalid("has another checksum").with("algorithm", algorithm.name()));
        }
    }
    Ok(part)
}

/// The checksum of the whole, from those of the parts; checked against what the request says of it.
fn whole_checksum(
    upload: &UploadRecord,
    parts: &[PartRecord],
    request: &CompleteRequest,
) -> Result<Option<(Algorithm, ChecksumType, String)>> {
    let (algorithm, kind) = match (session_checksum(upload), &request.checksum) {
        (Some((algorithm, kind)), declared) => {
            if request.checksum_type.is_some_and(|named| named != kind) {
                let kind = kind.name();
                return Err(invalid(format!(
                    "The upload was created using the {kind} checksum mode. The complete request must use the same checksum mode."
                )));
            }
            if let Some((other, _)) = declared
                && *other != algorithm
            {
                let algorithm = algorithm.name();
                return Err(invalid(format!(
                    "The upload was created using the {algorithm} checksum algorithm. The complete request must use the same algorithm."
                )));
            }
            (algorithm, kind)
        }
        (None, Some((algorithm, value))) => {
            let suffixed = if value.contains('-') { ChecksumType::Composite } else { ChecksumType::FullObject };
            (*algorithm, request.checksum_type.unwrap_or(suffixed))
        }
        (None, None) => return Ok(None),
    };
    let raw = |part: &PartRecord| decode(algorithm, part.checksums.get(algorithm.attribute())?).map(|raw| (raw, part.size));
    let Some(raw) = parts.iter().map(raw).collect::<Option<Vec<_>>>() else {
        let name = algorithm.name();
        return Err(invalid(format!("Every part must have a {name} checksum for the object to have one.")));
    };
    let value = match kind {
        ChecksumType::Composite => composite(algorithm, &raw.into_iter().map(|(raw, _)| raw).collect::<Vec<_>>()),
        ChecksumType::FullObject => match full_object(algorithm, &raw) {
            Some(whole) => encode(&whole),
            None => {
                let name = algorithm.name();
                return Err(invalid(format!("The FULL_OBJECT checksum type cannot be used with the {name} checksum algorithm.")));
            }
        },
    };
    // Some clients leave out the count of a composite checksum.
    let same = |declared: &str| {
        declared == value || (kind == ChecksumType::Composite && value.rsplit_once('-').is_some_and(|(v, _)| v == declared))
    };
    match &request.checksum {
        Some((_, declared)) if !same(declared) => {
            let fault = provider::ErrorKind::Body(BodyFault::ChecksumMismatch(algorithm.name()));
            Err(Error::new(ErrorKind::Provider(fault), "complete upload"))
        }
        _ => Ok(Some((algorithm, kind, value))),
    }
}

fn object_part(part: &PartRecord) -> ObjectPart {
    let checksum = |algorithm: Algorithm| Some((algorithm, part.checksums.get(algorithm.attribute())?.clone()));
    ObjectPart { number: part.number, size: part.size, checksums: Algorithm::ALL.into_iter().filter_map(checksum).collect() }
}

fn check_order(parts: &[NamedPart]) -> Result<()> {
    if parts.is_empty() {
        return Err(invalid("You must specify at least one part".to_owned()));
    }
    if parts.is_sorted_by(|a, b| a.number < b.number) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidPartOrder, "complete upload"))
}

/// An object that its own mount would hide must not be published: the client could not find what it was told is there.
fn check_mount(ns: &Namespace, upload: &UploadRecord) -> Result<()> {
    let (_, _, prefix) = ns.resolve(&upload.key)?;
    if *prefix == upload.mount_prefix {
        return Ok(());
    }
    Err(invalid("Another mount serves this key since the upload began; abort the upload and begin anew".to_owned()))
}

/// The object that this very upload became, when a failed publication means that it had happened before.
async fn became(place: &Place, error: &provider::Error) -> Result<Option<ObjectInfo>> {
    use provider::ErrorKind::{Conflict, NotFound, PreconditionFailed};
    if ![NotFound, PreconditionFailed, Conflict].iter().any(|kind| is(error, *kind)) {
        return Ok(None);
    }
    match place.provider().head(&place.key, &ReadOptions::default()).await {
        Ok(info) if info.attributes.get(UPLOAD_ATTRIBUTE) == Some(place.upload.as_str()) => Ok(Some(info)),
        Ok(_) => older(place.provider(), &place.key, place.upload.as_str()).await,
        Err(error) if is(&error, NotFound) => older(place.provider(), &place.key, place.upload.as_str()).await,
        Err(error) => Err(error.into()),
    }
}

/// The older version of a key that came from this upload. Looks at so many as can be between two tries of one client.
async fn older(provider: &dyn Provider, key: &Key, upload_id: &str) -> Result<Option<ObjectInfo>> {
    let Some(versions) = provider.versions() else { return Ok(None) };
    let query = ListQuery { prefix: key.as_str().to_owned(), limit: OLDER_VERSIONS, ..ListQuery::default() };
    let page = versions.list_versions(&query).await?;
    let from_upload = |entry| match entry {
        ListEntry::Object(info) if info.key == *key && info.attributes.get(UPLOAD_ATTRIBUTE) == Some(upload_id) => Some(info),
        _ => None,
    };
    Ok(page.entries.into_iter().find_map(from_upload))
}

/// Whether NotFound is about the object that the condition needs, and not about the upload.
async fn missing_object(place: &Place, when: &PutWhen) -> Result<bool> {
    if !matches!(when, PutWhen::IfMatch(_) | PutWhen::IfPresent) {
        return Ok(false);
    }
    match place.provider().head(&place.key, &ReadOptions::default()).await {
        Ok(_) => Ok(false),
        Err(error) if is(&error, provider::ErrorKind::NotFound) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// A digest of the list of parts: what makes two Completes the same.
fn digest(parts: &[NamedPart]) -> String {
    let mut text = String::new();
    for part in parts {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{} {}", part.number, part.etag);
    }
    encode(&Hasher::once(Algorithm::Sha256, text.as_bytes()))
}

fn with_key(info: ObjectInfo, key: &str) -> Result<ObjectInfo> {
    Ok(ObjectInfo { key: Key::new(key)?, ..info })
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidRequest(message.into()), "complete upload")
}

#[cfg(test)]
mod tests;
