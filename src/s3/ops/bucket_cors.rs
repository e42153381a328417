//! GetBucketCors, PutBucketCors, DeleteBucketCors.

use http::StatusCode;

use crate::s3::call::{Answer, Call, document, empty};
use crate::s3::cors::{Configuration, SETTING};
use crate::s3::error::Code;

pub(crate) fn get(call: &mut Call) -> Answer {
    let rules = call.namespace()?.compiled(SETTING, Configuration::from_json).ok_or(Code::NoSuchCORSConfiguration)?;
    Ok(document(rules.to_xml()))
}

pub(crate) async fn put(call: &mut Call) -> Answer {
    let rules = Configuration::from_xml(&call.xml("CORSConfiguration").await?)?;
    call.parts.namespaces.set_setting(&call.bucket, SETTING, Some(&rules.to_json())).await?;
    Ok(empty(StatusCode::OK))
}

pub(crate) async fn delete(call: &mut Call) -> Answer {
    call.parts.namespaces.set_setting(&call.bucket, SETTING, None).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}
