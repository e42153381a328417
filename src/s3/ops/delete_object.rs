//! DeleteObject.

use http::StatusCode;
use sluice_provider::Key;

use crate::objects::Removal;
use crate::s3::call::{Answer, Call, empty, set};
use crate::s3::conditions;
use crate::s3::error::{Code, Failure};

pub(crate) async fn call(call: &mut Call) -> Answer {
    let version = call.version()?;
    let when = conditions::delete_one(&call.headers)?;
    let key = Key::new(&call.key).map_err(Failure::from)?;
    let namespace = call.namespace()?;
    let bypass = call.bypasses_governance(&namespace)?;
    let mut outcomes = call.parts.objects.remove(&namespace, vec![Removal { key, version, when }], bypass).await;
    let removed = outcomes.pop().ok_or(Code::InternalError)??;
    let mut response = empty(StatusCode::NO_CONTENT);
    if let Some(version) = removed.version {
        set(&mut response, "x-amz-version-id", &version.to_string());
    }
    if removed.marker {
        set(&mut response, "x-amz-delete-marker", "true");
    }
    Ok(response)
}
