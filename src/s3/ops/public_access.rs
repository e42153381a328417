//! GetPublicAccessBlock, PutPublicAccessBlock, DeletePublicAccessBlock.

use http::StatusCode;

use crate::s3::acl::PublicAccessBlock;
use crate::s3::call::{Answer, Call, document, empty};
use crate::s3::error::Code;

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
