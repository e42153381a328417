//! GetBucketAcl, PutBucketAcl, GetObjectAcl, PutObjectAcl: everything is its owner's, and an ACL that says so is accepted.

use http::StatusCode;

use crate::objects::ReadRequest;
use crate::s3::acl;
use crate::s3::call::{Answer, Call, document, empty};
use crate::s3::error::{Code, Result};
use crate::s3::xml;

pub(crate) fn get_bucket(call: &mut Call) -> Answer {
    let namespace = call.namespace()?;
    Ok(document(acl::to_xml(call.owner(&namespace))))
}

pub(crate) async fn get_object(call: &mut Call) -> Answer {
    must_exist(call).await?;
    get_bucket(call)
}

pub(crate) async fn put_bucket(call: &mut Call) -> Answer {
    let canned = acl::check_headers(&call.headers)?;
    let body = call.document().await?;
    if !body.is_empty() {
        if canned {
            return Err(Code::UnexpectedContent.into());
        }
        let policy = xml::parse(&body, "AccessControlPolicy").map_err(|_| Code::MalformedACLError)?;
        acl::check_policy(&policy, &call.namespace()?.bucket.owner)?;
    } else if !canned {
        return Err(Code::MissingSecurityHeader.into());
    }
    Ok(empty(StatusCode::OK))
}

pub(crate) async fn put_object(call: &mut Call) -> Answer {
    must_exist(call).await?;
    put_bucket(call).await
}

async fn must_exist(call: &Call) -> Result<()> {
    call.only_null_version()?;
    call.parts.objects.head(&*call.namespace()?, &call.key, &ReadRequest::default()).await?;
    Ok(())
}
