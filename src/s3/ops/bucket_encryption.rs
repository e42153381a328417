//! GetBucketEncryption, PutBucketEncryption, DeleteBucketEncryption.

use http::StatusCode;

use crate::s3::bucket_encryption::{Configuration, SETTING};
use crate::s3::call::{Answer, Call, document, empty};
use crate::s3::error::Code;

pub(crate) fn get(call: &mut Call) -> Answer {
    let configuration = call.namespace()?.compiled(SETTING, Configuration::from_json);
    let configuration = configuration.ok_or(Code::ServerSideEncryptionConfigurationNotFoundError)?;
    Ok(document(configuration.to_xml()))
}

pub(crate) async fn put(call: &mut Call) -> Answer {
    let configuration = Configuration::from_xml(&call.xml("ServerSideEncryptionConfiguration").await?)?;
    call.parts.namespaces.set_setting(&call.bucket, SETTING, Some(&configuration.to_json()?)).await?;
    Ok(empty(StatusCode::OK))
}

pub(crate) async fn delete(call: &mut Call) -> Answer {
    call.parts.namespaces.set_setting(&call.bucket, SETTING, None).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}
