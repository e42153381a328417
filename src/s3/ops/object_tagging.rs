//! GetObjectTagging, PutObjectTagging, DeleteObjectTagging.

use http::StatusCode;
use sluice_provider::{AttributeChange, Guard};

use crate::objects::{ReadRequest, attribute};
use crate::s3::call::{Answer, Call, document, empty, set_version};
use crate::s3::tagging;

pub(crate) async fn get(call: &mut Call) -> Answer {
    let read = ReadRequest { version: call.version()?, ..ReadRequest::default() };
    let namespace = call.namespace()?;
    let found = call.parts.objects.head(&namespace, &call.key, &read).await?;
    let tags = tagging::from_attribute(found.info.attributes.get(attribute::TAGS).unwrap_or_default());
    let mut response = document(tagging::to_xml(&tags));
    set_version(response.headers_mut(), &namespace, &found.info.attributes);
    Ok(response)
}

pub(crate) async fn put(call: &mut Call) -> Answer {
    let tags = tagging::from_xml(&call.xml("Tagging").await?, tagging::MAX_OBJECT_TAGS)?;
    call.check_policy(&call.key, false, Some(&tags)).await?;
    set(call, (!tags.is_empty()).then(|| tagging::to_attribute(&tags)), StatusCode::OK).await
}

pub(crate) async fn delete(call: &mut Call) -> Answer {
    set(call, None, StatusCode::NO_CONTENT).await
}

async fn set(call: &Call, tags: Option<String>, status: StatusCode) -> Answer {
    let change = AttributeChange { if_match: None, set: vec![(attribute::TAGS.to_owned(), tags)] };
    let namespace = call.namespace()?;
    let info = call.parts.objects.change(&namespace, &call.key, call.version()?, &change, &Guard::none()).await?;
    let mut response = empty(status);
    set_version(response.headers_mut(), &namespace, &info.attributes);
    Ok(response)
}
