//! GetBucketOwnershipControls, PutBucketOwnershipControls, DeleteBucketOwnershipControls.

use http::StatusCode;

use crate::s3::acl::{self, Ownership};
use crate::s3::call::{Answer, Call, document, empty};
use crate::s3::error::Code;

pub(crate) fn get(call: &mut Call) -> Answer {
    let ownership = Ownership::of(&*call.namespace()?).ok_or(Code::OwnershipControlsNotFoundError)?;
    Ok(document(ownership.to_xml()))
}

pub(crate) async fn put(call: &mut Call) -> Answer {
    let ownership = Ownership::from_xml(&call.xml("OwnershipControls").await?)?;
    if ownership == Ownership::BucketOwnerEnforced && !acl::bucket_list(&*call.namespace()?).is_private() {
        return Err(Code::InvalidBucketAclWithObjectOwnership.into());
    }
    call.parts.namespaces.set_setting(&call.bucket, Ownership::SETTING, Some(ownership.name())).await?;
    Ok(empty(StatusCode::OK))
}

pub(crate) async fn delete(call: &mut Call) -> Answer {
    call.parts.namespaces.set_setting(&call.bucket, Ownership::SETTING, None).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}
