//! DeleteObject.

use http::StatusCode;
use sluice_provider::{DeleteKey, Key};

use crate::s3::call::{Answer, Call, empty};
use crate::s3::conditions;
use crate::s3::error::{Code, Failure};

pub(crate) async fn call(call: &mut Call) -> Answer {
    call.only_null_version()?;
    let when = conditions::delete_one(&call.headers)?;
    let key = Key::new(&call.key).map_err(Failure::from)?;
    let mut outcomes = call.parts.objects.delete(&*call.namespace()?, vec![DeleteKey { key, when }]).await;
    match outcomes.pop() {
        Some(Ok(_)) => Ok(empty(StatusCode::NO_CONTENT)),
        Some(Err(error)) => Err(error.into()),
        None => Err(Code::InternalError.into()),
    }
}
