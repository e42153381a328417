//! GetBucketTagging, PutBucketTagging, DeleteBucketTagging.

use http::StatusCode;

use crate::s3::call::{Answer, Call, document, empty};
use crate::s3::error::Code;
use crate::s3::tagging;

/// The settings document of a bucket that holds its tags.
const SETTING: &str = "tagging";

pub(crate) async fn get(call: &mut Call) -> Answer {
    let kept = call.parts.namespaces.setting(&call.bucket, SETTING).await?.ok_or(Code::NoSuchTagSet)?;
    Ok(document(tagging::to_xml(&tagging::from_attribute(&kept))))
}

pub(crate) async fn put(call: &mut Call) -> Answer {
    let tags = tagging::from_xml(&call.xml("Tagging").await?, tagging::MAX_BUCKET_TAGS)?;
    let kept = tagging::to_attribute(&tags);
    // An empty set is no set: reading it back says NoSuchTagSet.
    let kept = (!kept.is_empty()).then_some(kept.as_str());
    call.parts.namespaces.set_setting(&call.bucket, SETTING, kept).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

pub(crate) async fn delete(call: &mut Call) -> Answer {
    call.parts.namespaces.set_setting(&call.bucket, SETTING, None).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}
