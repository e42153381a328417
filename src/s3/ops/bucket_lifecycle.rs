//! GetBucketLifecycleConfiguration, PutBucketLifecycleConfiguration, DeleteBucketLifecycle.

use http::{HeaderName, HeaderValue, StatusCode};

use crate::lifecycle::{Configuration, SETTING};
use crate::s3::call::{Answer, Call, document, empty};
use crate::s3::error::Code;
use crate::s3::lifecycle;

/// What both answers say of transitions: what is smaller than this moves only by rules that ask for sizes themselves.
const MINIMUM_SIZE: (HeaderName, HeaderValue) = (
    HeaderName::from_static("x-amz-transition-default-minimum-object-size"),
    HeaderValue::from_static("all_storage_classes_128K"),
);

pub(crate) fn get(call: &mut Call) -> Answer {
    let configuration =
        call.namespace()?.compiled(SETTING, Configuration::from_json).ok_or(Code::NoSuchLifecycleConfiguration)?;
    let mut answer = document(lifecycle::to_xml(&configuration));
    answer.headers_mut().insert(MINIMUM_SIZE.0, MINIMUM_SIZE.1);
    Ok(answer)
}

pub(crate) async fn put(call: &mut Call) -> Answer {
    let configuration = lifecycle::from_xml(&call.xml("LifecycleConfiguration").await?)?;
    call.parts.namespaces.set_setting(&call.bucket, SETTING, Some(&configuration.to_json())).await?;
    let mut answer = empty(StatusCode::OK);
    answer.headers_mut().insert(MINIMUM_SIZE.0, MINIMUM_SIZE.1);
    Ok(answer)
}

pub(crate) async fn delete(call: &mut Call) -> Answer {
    call.parts.namespaces.set_setting(&call.bucket, SETTING, None).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}
