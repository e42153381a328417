//! PutObject.

use http::StatusCode;
use sluice_provider::PutOptions;

use crate::objects::attribute;
use crate::s3::call::{Answer, Call, empty, set_etag, set_new_version, with_condition};
use crate::s3::encryption::{self, customer_of};
use crate::s3::{acl, checksums, conditions, headers, lifecycle, lock, tagging};

pub(crate) async fn call(call: &mut Call) -> Answer {
    headers::refuse_unkept(&call.headers)?;
    let when = conditions::write(&call.headers)?;
    let mut attributes = headers::to_attributes(&call.headers)?;
    if let Some(text) = call.header("x-amz-tagging")? {
        let tags = tagging::from_header(text)?;
        if !tags.is_empty() {
            attributes.set(attribute::TAGS, tagging::to_attribute(&tags));
        }
    }
    let namespace = call.namespace()?;
    acl::new_object(&call.parts, &call.identity, &namespace, &call.headers, &mut attributes).await?;
    lock::check_digest(&call.headers)?;
    lock::new_object(&namespace, &call.headers, &mut attributes)?;
    let declared = call.declared()?;
    let wish = encryption::wish(&call.headers, &namespace)?;
    let body = call.take_sealed_body(declared, wish.as_ref()).await?;
    let put = PutOptions { when: when.clone(), attributes };
    let info = call.parts.objects.put(&namespace, &call.key, body, put).await.map_err(|e| with_condition(e.into(), &when))?;
    let mut response = empty(StatusCode::OK);
    set_etag(response.headers_mut(), info.etag.as_str());
    set_new_version(response.headers_mut(), &info.attributes);
    checksums::to_headers(&info.attributes, response.headers_mut());
    encryption::to_headers(&info.attributes, customer_of(wish.as_ref()), response.headers_mut())?;
    lifecycle::tell_expiry(&namespace, &info, response.headers_mut());
    Ok(response)
}
