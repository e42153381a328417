//! GetBucketPolicy, PutBucketPolicy, DeleteBucketPolicy, GetBucketPolicyStatus.

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use s3s::Body;

use crate::s3::acl::{self, PublicAccessBlock};
use crate::s3::call::{Answer, Call, document, empty};
use crate::s3::error::{Code, Failure};
use crate::s3::policy::{SETTING, is_public};
use crate::s3::xml::Xml;
use crate::tokens::policy::Policy;

pub(crate) async fn get(call: &mut Call) -> Answer {
    let text = call.parts.namespaces.setting(&call.bucket, SETTING).await?.ok_or(Code::NoSuchBucketPolicy)?;
    let mut response = Response::new(Body::from(text.as_bytes().to_vec()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

pub(crate) async fn put(call: &mut Call) -> Answer {
    let bytes = call.document().await?;
    if bytes.is_empty() {
        return Err(Code::MissingRequestBodyError.into());
    }
    let malformed = |message: String| Failure::because(Code::MalformedPolicy, message);
    let text = String::from_utf8(bytes).map_err(|_| malformed("Policies must be valid JSON: it is not UTF-8".to_owned()))?;
    let policy = Policy::parse(&text, &call.bucket).map_err(|wrong| malformed(wrong.to_string()))?;
    if PublicAccessBlock::of(&*call.namespace()?).block_public_policy && policy.is_public() {
        let message = "Access Denied: public policies are prevented by the BlockPublicPolicy setting in S3 Block Public Access.";
        return Err(Failure::because(Code::AccessDenied, message));
    }
    call.parts.namespaces.set_setting(&call.bucket, SETTING, Some(&text)).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn delete(call: &mut Call) -> Answer {
    call.parts.namespaces.set_setting(&call.bucket, SETTING, None).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Whether the bucket is public, by its policy or by its list. AWS knows no status without a policy; lists open a bucket no less.
pub(crate) fn status(call: &mut Call) -> Answer {
    let namespace = call.namespace()?;
    let mut xml = Xml::document();
    xml.root("PolicyStatus");
    xml.plain("IsPublic", is_public(&namespace) || acl::is_public_bucket(&namespace));
    xml.close("PolicyStatus");
    Ok(document(xml))
}
