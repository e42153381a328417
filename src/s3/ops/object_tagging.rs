//! GetObjectTagging, PutObjectTagging, DeleteObjectTagging.

use http::StatusCode;
use sluice_provider::AttributeChange;

use crate::objects::{ReadRequest, attribute};
use crate::s3::call::{Answer, Call, document, empty};
use crate::s3::error::Result;
use crate::s3::tagging;

pub(crate) async fn get(call: &mut Call) -> Answer {
    call.only_null_version()?;
    let found = call.parts.objects.head(&*call.namespace()?, &call.key, &ReadRequest::default()).await?;
    let tags = tagging::from_attribute(found.info.attributes.get(attribute::TAGS).unwrap_or_default());
    Ok(document(tagging::to_xml(&tags)))
}

pub(crate) async fn put(call: &mut Call) -> Answer {
    call.only_null_version()?;
    let tags = tagging::from_xml(&call.xml("Tagging").await?, tagging::MAX_OBJECT_TAGS)?;
    call.check_policy(&call.key, false, Some(&tags)).await?;
    set(call, (!tags.is_empty()).then(|| tagging::to_attribute(&tags))).await?;
    Ok(empty(StatusCode::OK))
}

pub(crate) async fn delete(call: &mut Call) -> Answer {
    call.only_null_version()?;
    set(call, None).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

async fn set(call: &Call, tags: Option<String>) -> Result<()> {
    let change = AttributeChange { if_match: None, set: vec![(attribute::TAGS.to_owned(), tags)] };
    call.parts.objects.set_attributes(&*call.namespace()?, &call.key, &change).await?;
    Ok(())
}
