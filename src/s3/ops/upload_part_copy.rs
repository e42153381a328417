//! UploadPartCopy.

use sluice_provider::{Versioning, version_of};

use super::upload_part::target;
use crate::objects::{ETagCondition, PartCopy, ReadConditions, ReadRequest, attribute};
use crate::s3::call::{Answer, Call, document, set};
use crate::s3::error::{Code, Failure};
use crate::s3::xml::Xml;
use crate::s3::{acl, checksums, conditions, dates, encryption, headers, range};
use crate::transfer::Algorithm;

pub(crate) async fn call(call: &mut Call) -> Answer {
    headers::refuse_unkept(&call.headers)?;
    let (bucket, key, version) = headers::copy_source(&call.headers)?;
    let from = call.source(&bucket, &key).await?;
    let version = version.map(|text| call.version_in(&from, &key, &text)).transpose()?;
    let (number, id) = target(call)?;
    let mut source = conditions::copy_source(&call.headers)?;
    let header = call.header("x-amz-copy-source-range")?;
    let range = header.map(range::copy_source).transpose()?;
    let to = call.namespace()?;
    call.check_upload_of(&to, id).await?;
    let of_source = |failure: Failure| match failure.code() {
        Code::NoSuchKey => failure.field("Key", key.clone()),
        Code::NotModified => Code::PreconditionFailed.into(),
        _ => failure,
    };
    let read = ReadRequest { version, conditions: source.clone(), ..ReadRequest::default() };
    let found = match call.parts.objects.head(&from, &key, &read).await {
        Ok(found) => found.info,
        Err(error) => return Err(of_source(call.unread(&from, &key, error.into()).await)),
    };
    call.check_read(&from, &found.attributes)?;
    if !acl::may_use(&call.identity, &from) || found.attributes.get(attribute::OWNER).is_some() {
        // What the sender may read must be what is copied.
        source = ReadConditions { if_match: Some(ETagCondition::OneOf(vec![found.etag.clone()])), ..source };
    }
    let customer_key = encryption::customer_key(&call.headers)?;
    let copy = PartCopy { source, range, source_key: encryption::source_key(&call.headers)?, customer_key };
    let part = call.parts.objects.copy_part((&from, &key, version), &copy, (&to, &call.key), id, number).await;
    let part = part.map_err(Failure::from).map_err(|failure| match failure.code() {
        Code::InvalidRange => Failure::because(Code::InvalidRange, "Range specified is not valid for source object")
            .field("RangeRequested", header.unwrap_or_default()),
        _ => of_source(failure),
    })?;

    let mut xml = Xml::document();
    xml.root("CopyPartResult");
    xml.plain("LastModified", dates::iso(dates::from_millis(part.modified)));
    xml.etag(&part.etag);
    for algorithm in Algorithm::ALL {
        if let Some(value) = part.checksums.get(algorithm.attribute()) {
            xml.text(checksums::element(algorithm), value);
        }
    }
    xml.close("CopyPartResult");
    let mut response = document(xml);
    let upload = call.parts.uploads.get(&to, &call.key, id).await.map(|upload| upload.attributes).unwrap_or_default();
    encryption::to_headers(&upload.into_iter().collect(), copy.customer_key.as_ref(), response.headers_mut())?;
    if from.versioning() != Versioning::Off {
        set(&mut response, "x-amz-copy-source-version-id", &version_of(&found.attributes).to_string());
    }
    Ok(response)
}
