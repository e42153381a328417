//! GetPublicAccessBlock, PutPublicAccessBlock, DeletePublicAccessBlock, GetBucketPolicyStatus.

use http::StatusCode;

use crate::s3::acl::{self, PublicAccessBlock};
use crate::s3::call::{Answer, Call, document, empty};
use crate::s3::error::Code;
use crate::s3::xml::Xml;

pub(crate) fn get(call: &mut Call) -> Answer {
    let block = PublicAccessBlock::kept(&*call.namespace()?).ok_or(Code::NoSuchPublicAccessBlockConfiguration)?;
    Ok(document(block.to_xml()))
}

pub(crate) async fn put(call: &mut Call) -> Answer {
    let block = PublicAccessBlock::from_xml(&call.xml("PublicAccessBlockConfiguration").await?)?;
    call.parts.namespaces.set_setting(&call.bucket, PublicAccessBlock::SETTING, Some(&block.to_json())).await?;
    Ok(empty(StatusCode::OK))
}

pub(crate) async fn delete(call: &mut Call) -> Answer {
    call.parts.namespaces.set_setting(&call.bucket, PublicAccessBlock::SETTING, None).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Whether the bucket is public, by its list.
pub(crate) fn status(call: &mut Call) -> Answer {
    let mut xml = Xml::document();
    xml.root("PolicyStatus");
    xml.plain("IsPublic", acl::is_public_bucket(&*call.namespace()?));
    xml.close("PolicyStatus");
    Ok(document(xml))
}
