//! PutObject.

use http::StatusCode;
use sluice_provider::{PutBody, PutOptions, SEQUENCE_ATTRIBUTE};

use crate::namespaces::Namespace;
use crate::objects::attribute;
use crate::s3::call::{Answer, Call, empty, set, set_etag, set_new_version, with_condition};
use crate::s3::encryption::{self, customer_of};
use crate::s3::error::{Failure, Result};
use crate::s3::{acl, checksums, conditions, headers, lifecycle, lock, tagging};

pub(crate) async fn call(call: &mut Call) -> Answer {
    let offset = headers::write_offset(&call.headers)?;
    let when = conditions::write(&call.headers)?;
    let mut attributes = headers::to_attributes(&call.headers)?;
    if let Some(text) = call.header("x-amz-tagging")? {
        let tags = tagging::from_header(text)?;
        if !tags.is_empty() {
            attributes.set(attribute::TAGS, tagging::to_attribute(&tags));
        }
    }
    let namespace = call.namespace()?;
    acl::new_object(&call.parts, &call.identity, &namespace, &call.headers, &mut attributes).await?;
    lock::check_digest(&call.headers)?;
    lock::new_object(&namespace, &call.headers, &mut attributes)?;
    let declared = call.declared()?;
    let wish = encryption::wish(&call.headers, &namespace)?;
    if let Some(offset) = offset {
        check_append(wish.is_some(), declared.size)?;
        let body = call.take_body(declared);
        return Box::pin(append(call, &namespace, body, PutOptions { when, attributes }, offset)).await;
    }
    let body = call.take_sealed_body(declared, wish.as_ref()).await?;
    let put = PutOptions { when: when.clone(), attributes };
    let info = call.parts.objects.put(&namespace, &call.key, body, put).await.map_err(|e| with_condition(e.into(), &when))?;
    let mut response = empty(StatusCode::OK);
    if let Some(sequence) = info.attributes.get(SEQUENCE_ATTRIBUTE) {
        set(&mut response, "x-sluice-seq", sequence);
    }
    set_etag(response.headers_mut(), info.etag.as_str());
    set_new_version(response.headers_mut(), &info.attributes);
    checksums::to_headers(&info.attributes, response.headers_mut());
    encryption::to_headers(&info.attributes, customer_of(wish.as_ref()), response.headers_mut())?;
    lifecycle::tell_expiry(&namespace, &info, response.headers_mut());
    Ok(response)
}

/// What S3 refuses to append.
fn check_append(encrypted: bool, size: Option<u64>) -> Result<()> {
    if encrypted {
        return Err(Failure::not_implemented("Objects that are encrypted cannot be appended to."));
    }
    if size == Some(0) {
        return Err(Failure::request("Request body cannot be empty when 'write offset' is specified."));
    }
    Ok(())
}

/// Appends to the object (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/directory-buckets-objects-append.html>).
async fn append(call: &Call, namespace: &Namespace, body: PutBody, put: PutOptions, offset: u64) -> Answer {
    let when = put.when.clone();
    let info = call.parts.objects.append(namespace, &call.key, body, put, offset).await;
    let info = info.map_err(|e| with_condition(e.into(), &when))?;
    let mut response = empty(StatusCode::OK);
    set_etag(response.headers_mut(), info.etag.as_str());
    set(&mut response, "x-amz-object-size", &info.size.to_string());
    if let Some(sequence) = info.attributes.get(SEQUENCE_ATTRIBUTE) {
        set(&mut response, "x-sluice-seq", sequence);
    }
    checksums::to_headers(&info.attributes, response.headers_mut());
    lifecycle::tell_expiry(namespace, &info, response.headers_mut());
    Ok(response)
}
