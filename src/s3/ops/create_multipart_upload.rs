//! CreateMultipartUpload.

use crate::objects::attribute;
use crate::s3::call::{Answer, Call, document, set};
use crate::s3::error::{Failure, Result};
use crate::s3::xml::Xml;
use crate::s3::{acl, checksums, encryption, headers, lock, tagging};
use crate::transfer::{Algorithm, ChecksumType};
use crate::uploads::NewUpload;

pub(crate) async fn call(call: &mut Call) -> Answer {
    headers::refuse_unkept(&call.headers)?;
    let mut attributes = headers::to_attributes(&call.headers)?;
    let tags = tagging::from_header(call.header("x-amz-tagging")?.unwrap_or_default())?;
    if !tags.is_empty() {
        attributes.set(attribute::TAGS, tagging::to_attribute(&tags));
    }
    let algorithm = checksums::named(call.header("x-amz-checksum-algorithm")?)?;
    let kind = checksums::type_named(call.header("x-amz-checksum-type")?)?;
    let checksum = checksum(algorithm, kind)?;
    let namespace = call.namespace()?;
    acl::new_object(&call.parts, &call.identity, &namespace, &call.headers, &mut attributes).await?;
    lock::new_object(&namespace, &call.headers, &mut attributes)?;
    let wish = encryption::wish(&call.headers, &namespace)?;
    let customer_key = encryption::customer_of(wish.as_ref()).cloned();
    let new = NewUpload { attributes, initiator: call.identity.id.clone(), checksum, encryption: wish };
    let upload = call.parts.uploads.create(&namespace, &call.key, new).await?;

    let mut xml = Xml::document();
    xml.root("InitiateMultipartUploadResult");
    xml.text("Bucket", &call.bucket);
    xml.text("Key", &call.key);
    xml.text("UploadId", &upload.upload_id);
    xml.close("InitiateMultipartUploadResult");
    let mut response = document(xml);
    encryption::to_headers(&upload.attributes.into_iter().collect(), customer_key.as_ref(), response.headers_mut())?;
    if let Some((algorithm, kind)) = checksum {
        set(&mut response, "x-amz-checksum-algorithm", algorithm.name());
        set(&mut response, "x-amz-checksum-type", kind.name());
    }
    Ok(response)
}

/// Which algorithm goes with which type (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html>):
/// only CRCs can be combined to one of the whole object, and CRC64NVME is nothing else.
fn checksum(algorithm: Option<Algorithm>, kind: Option<ChecksumType>) -> Result<Option<(Algorithm, ChecksumType)>> {
    let Some(algorithm) = algorithm else {
        return match kind {
            None => Ok(None),
            Some(_) => {
                Err(Failure::request("The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header."))
            }
        };
    };
    let hash = matches!(algorithm, Algorithm::Sha1 | Algorithm::Sha256);
    let kind = kind.unwrap_or(match algorithm {
        Algorithm::Crc64Nvme => ChecksumType::FullObject,
        _ => ChecksumType::Composite,
    });
    let possible = match kind {
        ChecksumType::FullObject => !hash,
        ChecksumType::Composite => algorithm != Algorithm::Crc64Nvme,
    };
    if possible {
        Ok(Some((algorithm, kind)))
    } else {
        Err(Failure::request(format!(
            "The {} checksum type cannot be used with the {} checksum algorithm.",
            kind.name(),
            algorithm.name().to_ascii_lowercase()
        )))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn types_go_with_their_algorithms() {
        use Algorithm::{Crc32, Crc64Nvme, Sha256};
        use ChecksumType::{Composite, FullObject};
        assert_eq!(checksum(Some(Crc32), None).unwrap(), Some((Crc32, Composite)));
        assert_eq!(checksum(Some(Crc32), Some(FullObject)).unwrap(), Some((Crc32, FullObject)));
        assert_eq!(checksum(Some(Crc64Nvme), None).unwrap(), Some((Crc64Nvme, FullObject)));
        assert!(checksum(Some(Crc64Nvme), Some(Composite)).is_err());
        assert!(checksum(Some(Sha256), Some(FullObject)).is_err());
        assert!(checksum(None, Some(FullObject)).is_err());
    }
}
