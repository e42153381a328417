//! CreateBucket.

use http::StatusCode;

use crate::error::ErrorKind;
use crate::s3::acl;
use crate::s3::address::is_bucket_name;
use crate::s3::call::{Answer, Call, empty, set};
use crate::s3::error::{Code, Failure, Result};
use crate::s3::xml;

/// The region of AWS where creating one's own bucket again succeeds.
const FORGIVING_REGION: &str = "us-east-1";

pub(crate) async fn call(call: &mut Call) -> Answer {
    if !is_bucket_name(&call.bucket) {
        return Err(Code::InvalidBucketName.into());
    }
    acl::check_headers(&call.headers)?;
    if call.header("x-amz-bucket-object-lock-enabled")?.is_some_and(|v| v.eq_ignore_ascii_case("true")) {
        return Err(
            Failure::not_implemented("Object Lock is not implemented.").field("Header", "x-amz-bucket-object-lock-enabled")
        );
    }
    match call.header("x-amz-object-ownership")? {
        None | Some("BucketOwnerEnforced" | "BucketOwnerPreferred" | "ObjectWriter") => {}
        Some(other) => return Err(Failure::argument("x-amz-object-ownership", other, "Invalid x-amz-object-ownership header")),
    }
    let body = call.document().await?;
    let location = location(&body)?;
    match call.parts.namespaces.create(&call.bucket, &call.identity.id, &location).await {
        Ok(_) => {}
        Err(e) if matches!(e.kind(), ErrorKind::BucketAlreadyOwnedByYou) && call.parts.settings.region == FORGIVING_REGION => {}
        Err(e) => return Err(e.into()),
    }
    let mut response = empty(StatusCode::OK);
    set(&mut response, "location", &format!("/{}", call.bucket));
    Ok(response)
}

/// The location constraint. Any region goes, since a signature may name any: the client's own is the one it expects to read back.
fn location(body: &[u8]) -> Result<String> {
    if body.is_empty() {
        return Ok(String::new());
    }
    let root = xml::parse(body, "CreateBucketConfiguration")?;
    let location = root.text_of("LocationConstraint").unwrap_or_default().trim();
    let sound = location.len() <= 64 && location.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if sound {
        Ok(location.to_owned())
    } else {
        Err(Failure::new(Code::InvalidLocationConstraint).field("LocationConstraint", location))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_location_is_read_or_refused() {
        let doc = |l: &str| {
            format!("<CreateBucketConfiguration><LocationConstraint>{l}</LocationConstraint></CreateBucketConfiguration>")
        };
        assert_eq!(location(b"").unwrap(), "");
        assert_eq!(location(doc("eu-west-1").as_bytes()).unwrap(), "eu-west-1");
        assert_eq!(location(b"<CreateBucketConfiguration/>").unwrap(), "");
        assert_eq!(location(doc("a b").as_bytes()).unwrap_err().code(), Code::InvalidLocationConstraint);
        assert_eq!(location(b"<x/>").unwrap_err().code(), Code::MalformedXML);
    }
}
