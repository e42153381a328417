//! Storing a part.

use sluice_provider as provider;
use sluice_provider::{PartNumber, PutBody, SIZE_ATTRIBUTE};

use super::Uploads;
use super::sessions::{Place, is, no_such_upload, place};
use crate::encryption::{At, CustomerKey};
use crate::error::{Error, ErrorKind, Result};
use crate::handles::Purpose;
use crate::meta::PartRecord;
use crate::namespaces::{Namespace, watch};
use crate::runtime::unix_millis;

impl Uploads {
    /// Stores a part, replacing one of the same number once the new one is safe.
    ///
    /// # Errors
    /// `NoSuchUpload`, the body's own.
    pub async fn put_part(
        &self,
        ns: &Namespace,
        key: &str,
        upload_id: &str,
        number: PartNumber,
        body: PutBody,
    ) -> Result<PartRecord> {
        self.put_part_with_key(ns, key, upload_id, number, body, None).await
    }

    /// Stores a part of an upload that was begun with a key of the customer's.
    ///
    /// # Errors
    /// As [`put_part`](Self::put_part), and `Encryption` when the key is not the one it was begun with.
    pub async fn put_part_with_key(
        &self,
        ns: &Namespace,
        key: &str,
        upload_id: &str,
        number: PartNumber,
        body: PutBody,
        customer: Option<&CustomerKey>,
    ) -> Result<PartRecord> {
        let upload = self.get(ns, key, upload_id).await?;
        let place = place(ns, &upload)?;
        let at = At { bucket: &ns.bucket.name, key };
        let body = self.encryption().seal_part(at, &upload.attributes, number, customer, body).await?;
        let (body, passage) = watch(body, self.handle(ns, key, Purpose::Part), None);
        let stored = place.multipart()?.put_part(&place.key, &place.upload, number, body).await;
        let token = stored.map_err(|error| match is(&error, provider::ErrorKind::NotFound) {
            true => no_such_upload(upload_id).caused_by(error),
            false => error.into(),
        })?;
        let seal = passage.seal().ok_or_else(|| Error::new(ErrorKind::Internal, "part stored before its body ended"))?;
        let content = seal.attributes.get(SIZE_ATTRIBUTE).and_then(|size| size.parse().ok());
        let checksums = seal.attributes.iter().filter(|(name, _)| name.starts_with("checksum."));
        let part = PartRecord {
            number: number.get(),
            token,
            size: content.unwrap_or_else(|| passage.bytes()),
            etag: seal.etag.as_str().to_owned(),
            checksums: checksums.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            modified: unix_millis(),
        };
        match self.store.put_part(upload_id, &part).await {
            Ok(None) => Ok(part),
            Ok(Some(replaced)) => {
                discard(&place, &replaced.token).await;
                Ok(part)
            }
            Err(error) => {
                // After any other failure the row may be there; then the bytes must be too.
                if matches!(error.kind(), ErrorKind::NoSuchUpload) {
                    discard(&place, &part.token).await;
                }
                Err(error)
            }
        }
    }
}

/// Frees bytes that no row names. What stays behind is freed with the upload.
async fn discard(place: &Place, token: &str) {
    let discarded = match place.multipart() {
        Ok(multipart) => multipart.discard_part(&place.key, &place.upload, token).await.map_err(Error::from),
        Err(error) => Err(error),
    };
    if let Err(error) = discarded {
        tracing::warn!(upload = place.upload.as_str(), %error, "a replaced part was not freed yet");
    }
}
