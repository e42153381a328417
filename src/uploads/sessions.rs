//! Sessions: begin, find, abort.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sluice_provider as provider;
use sluice_provider::{Key, Multipart, Provider, UploadId, Versions};

use super::NewUpload;
use crate::encryption::{At, Encryption};
use crate::error::{Error, ErrorKind, Result};
use crate::handles::{Guard, Purpose, Registry};
use crate::meta::{MetaStore, PartRecord, UploadRecord};
use crate::namespaces::Namespace;
use crate::runtime::unix_millis;
use crate::transfer::{Algorithm, ChecksumType};

/// The smallest part but the last, in bytes (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>).
pub const MIN_PART_BYTES: u64 = 5 * 1024 * 1024;

/// The multipart layer.
#[derive(Debug)]
pub struct Uploads {
    pub(super) store: Arc<dyn MetaStore>,
    handles: Option<Registry>,
    encryption: Arc<Encryption>,
}

/// The mount that holds an upload's bytes, as the provider names them.
#[derive(Clone)]
pub(super) struct Place {
    provider: Arc<dyn Provider>,
    pub(super) key: Key,
    pub(super) upload: UploadId,
}

// === impl Place ===

impl Place {
    pub(super) fn provider(&self) -> &dyn Provider {
        &*self.provider
    }

    pub(super) fn shared_provider(&self) -> &Arc<dyn Provider> {
        &self.provider
    }

    pub(super) fn versions(&self) -> Result<&dyn Versions> {
        self.provider.versions().ok_or_else(|| {
            Error::new(
                ErrorKind::NotImplemented("The storage behind this bucket cannot keep versions.".into()),
                "multipart upload",
            )
        })
    }

    pub(super) fn multipart(&self) -> Result<&dyn Multipart> {
        self.provider.multipart().ok_or_else(|| {
            Error::new(ErrorKind::NotImplemented("This mount does not take uploads in parts".into()), "multipart upload")
        })
    }
}

// === impl Uploads ===

impl Uploads {
    /// Over a store.
    #[must_use]
    pub fn new(store: Arc<dyn MetaStore>) -> Self {
        Self { store, handles: None, encryption: Arc::new(Encryption::without_keys()) }
    }

    /// With the keys that encrypt.
    #[must_use]
    pub fn with_encryption(mut self, encryption: Arc<Encryption>) -> Self {
        self.encryption = encryption;
        self
    }

    /// What encrypts.
    #[must_use]
    pub fn encryption(&self) -> &Encryption {
        &self.encryption
    }

    /// Every part and Complete holds a handle of this registry.
    #[must_use]
    pub fn with_handles(mut self, handles: Registry) -> Self {
        self.handles = Some(handles);
        self
    }

    /// Begins an upload.
    ///
    /// # Errors
    /// `NotImplemented` when the mount cannot take parts; `Encryption`.
    pub async fn create(&self, ns: &Namespace, key: &str, new: NewUpload) -> Result<UploadRecord> {
        let (provider, inner, mount_prefix) = ns.resolve(key)?;
        let upload = new_id()?;
        let place = Place { provider, key: inner, upload };
        let multipart = place.multipart()?;
        let mut attributes = new.attributes;
        if let Some(wish) = &new.encryption {
            let at = At { bucket: &ns.bucket.name, key };
            self.encryption.begin_upload(at, wish, &mut attributes).await?;
        }
        let (checksum_algorithm, checksum_type) = new.checksum.map_or(("", ""), |(a, t)| (a.name(), t.name()));
        let record = UploadRecord {
            upload_id: place.upload.as_str().to_owned(),
            bucket: ns.bucket.name.clone(),
            key: key.to_owned(),
            mount_prefix: mount_prefix.to_string(),
            initiator: new.initiator,
            created: unix_millis(),
            attributes: attributes.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect::<BTreeMap<_, _>>(),
            checksum_algorithm: checksum_algorithm.to_owned(),
            checksum_type: checksum_type.to_owned(),
        };
        let _permit = ns.publishing().await?;
        // The row first: space that no row names would never be freed.
        self.store.create_upload(&record).await?;
        if let Err(error) = multipart.create(&place.key, &place.upload).await {
            if let Err(forgetting) = self.store.delete_upload(&record.upload_id).await {
                tracing::warn!(upload = record.upload_id, error = %forgetting, "upload that did not begin was not forgotten");
            }
            return Err(error.into());
        }
        Ok(record)
    }

    /// The session, if it is one of this bucket and key.
    ///
    /// # Errors
    /// `NoSuchUpload`.
    pub async fn get(&self, ns: &Namespace, key: &str, upload_id: &str) -> Result<UploadRecord> {
        self.find(ns, key, upload_id).await?.ok_or_else(|| no_such_upload(upload_id))
    }

    /// Forgets an upload and frees its parts.
    ///
    /// # Errors
    /// `NoSuchUpload`.
    pub async fn abort(&self, ns: &Namespace, key: &str, upload_id: &str) -> Result<()> {
        let record = self.get(ns, key, upload_id).await?;
        if self.free(ns, &record).await? { Ok(()) } else { Err(no_such_upload(upload_id)) }
    }

    /// Parts after a number, and whether more follow.
    ///
    /// # Errors
    /// `NoSuchUpload`.
    pub async fn parts(
        &self,
        ns: &Namespace,
        key: &str,
        upload_id: &str,
        after: u16,
        limit: usize,
    ) -> Result<(UploadRecord, Vec<PartRecord>, bool)> {
        let record = self.get(ns, key, upload_id).await?;
        let mut parts = self.store.parts(upload_id, after, limit.saturating_add(1)).await?;
        let more = parts.len() > limit;
        parts.truncate(limit);
        Ok((record, parts, more))
    }

    /// Frees what an upload holds and forgets it; false when it was gone already.
    pub(super) async fn free(&self, ns: &Namespace, record: &UploadRecord) -> Result<bool> {
        // Without its mount there is nothing that could be freed.
        if let Ok(place) = place(ns, record) {
            place.multipart()?.abort(&place.key, &place.upload).await?;
        }
        self.store.delete_upload(&record.upload_id).await
    }

    pub(super) async fn find(&self, ns: &Namespace, key: &str, upload_id: &str) -> Result<Option<UploadRecord>> {
        if UploadId::new(upload_id).is_err() {
            return Ok(None);
        }
        Ok(self.store.upload(&ns.bucket.name, upload_id).await?.filter(|upload| upload.key == key))
    }

    pub(super) fn handle(&self, ns: &Namespace, key: &str, purpose: Purpose) -> Option<Guard> {
        self.handles.as_ref().map(|handles| handles.open(&ns.bucket.name, key, purpose))
    }
}

/// The checksum that an upload was begun with.
#[must_use]
pub fn session_checksum(upload: &UploadRecord) -> Option<(Algorithm, ChecksumType)> {
    Some((Algorithm::from_name(&upload.checksum_algorithm)?, ChecksumType::from_name(&upload.checksum_type)?))
}

/// Where an upload's bytes are: on the mount that took it, even if another one serves the key by now.
pub(super) fn place(ns: &Namespace, upload: &UploadRecord) -> Result<Place> {
    let mount = ns.mounts.load().at(&upload.mount_prefix).cloned();
    let Some((mount, key)) = mount.zip(upload.key.strip_prefix(&upload.mount_prefix)) else {
        return Err(no_such_upload(&upload.upload_id).with("unmounted", format!("{:?}", upload.mount_prefix)));
    };
    Ok(Place { provider: mount.provider, key: Key::new(key)?, upload: UploadId::new(upload.upload_id.as_str())? })
}

pub(super) fn no_such_upload(upload_id: &str) -> Error {
    Error::new(ErrorKind::NoSuchUpload, "upload").with("upload", format!("{upload_id:?}"))
}

/// Whether it is the provider's word of this kind.
pub(super) fn is(error: &provider::Error, kind: provider::ErrorKind) -> bool {
    *error.kind() == kind
}

/// 128 random bits, so that knowing one id does not help to guess another.
fn new_id() -> Result<UploadId> {
    let mut raw = [0; 16];
    getrandom::fill(&mut raw).map_err(|e| Error::new(ErrorKind::Internal, "random upload id").with("cause", e))?;
    Ok(UploadId::new(URL_SAFE_NO_PAD.encode(raw))?)
}
