//! UploadPart.

use http::StatusCode;
use http::header::HeaderValue;
use sluice_provider::PartNumber;

use crate::meta::UploadRecord;
use crate::s3::call::{Answer, Call, empty, set_etag};
use crate::s3::error::{Failure, Result};
use crate::s3::{encryption, headers};
use crate::transfer::{Algorithm, Declared};

/// The part number and upload id of a request.
///
/// # Errors
/// `InvalidArgument`.
pub(super) fn target(call: &Call) -> Result<(PartNumber, &str)> {
    let text = call.query.get("partNumber").unwrap_or_default();
    let number =
        text.parse().ok().and_then(PartNumber::new).ok_or_else(|| {
            Failure::argument("partNumber", text, "Part number must be an integer between 1 and 10000, inclusive")
        })?;
    Ok((number, call.query.get("uploadId").unwrap_or_default()))
}

pub(crate) async fn call(call: &mut Call) -> Answer {
    headers::refuse_unkept(&call.headers)?;
    let namespace = call.namespace()?;
    let mut declared = call.declared()?;
    let (number, id) = target(call)?;
    let id = id.to_owned();
    let upload = call.parts.uploads.get(&namespace, &call.key, &id).await?;
    call.check_upload(&namespace, &upload)?;
    match_session(&mut declared, &upload)?;
    let body = call.take_body(declared);
    let customer = encryption::customer_key(&call.headers)?;
    let uploads = &call.parts.uploads;
    let part = uploads.put_part_with_key(&namespace, &call.key, &id, number, body, customer.as_ref()).await?;

    let mut response = empty(StatusCode::OK);
    set_etag(response.headers_mut(), &part.etag);
    encryption::to_headers(&upload.attributes.into_iter().collect(), customer.as_ref(), response.headers_mut())?;
    for algorithm in Algorithm::ALL {
        if let Some(Ok(value)) = part.checksums.get(algorithm.attribute()).map(|v| HeaderValue::from_str(v)) {
            response.headers_mut().insert(algorithm.header(), value);
        }
    }
    Ok(response)
}

/// Makes a part fit the checksum its upload was begun with: another algorithm is refused, a missing checksum is computed.
fn match_session(declared: &mut Declared, upload: &UploadRecord) -> Result<()> {
    let Some(wanted) = Algorithm::from_name(&upload.checksum_algorithm) else { return Ok(()) };
    let given = declared.checksums.first().map(|(a, _)| *a).or(declared.trailer.as_ref().map(|(a, _)| *a));
    match given {
        None => declared.compute.push(wanted),
        Some(given) if given == wanted => {}
        Some(given) => {
            return Err(Failure::request(format!(
                "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
                wanted.name().to_ascii_lowercase(),
                given.name().to_ascii_lowercase()
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn upload(algorithm: &str) -> UploadRecord {
        UploadRecord {
            upload_id: "u".into(),
            bucket: "b".into(),
            key: "k".into(),
            mount_prefix: String::new(),
            initiator: "me".into(),
            created: 0,
            attributes: std::collections::BTreeMap::new(),
            checksum_algorithm: algorithm.into(),
            checksum_type: String::new(),
        }
    }

    #[test]
    fn a_part_fits_its_upload() {
        let mut declared = Declared::default();
        match_session(&mut declared, &upload("CRC32C")).unwrap();
        assert_eq!(declared.compute, [Algorithm::Crc32c]);
        let mut declared = Declared { checksums: vec![(Algorithm::Sha1, vec![0; 20])], ..Declared::default() };
        assert!(match_session(&mut declared, &upload("CRC32C")).is_err());
        assert!(match_session(&mut declared, &upload("SHA1")).is_ok() && declared.compute.is_empty());
        assert!(match_session(&mut declared, &upload("")).is_ok());
    }
}
