//! DeleteBucket.

use http::StatusCode;

use crate::s3::call::{Answer, Call, empty};
use crate::s3::error::Code;

pub(crate) async fn call(call: &mut Call) -> Answer {
    if !call.parts.objects.is_empty(&*call.namespace()?).await? {
        return Err(Code::BucketNotEmpty.into());
    }
    call.parts.namespaces.delete(&call.bucket).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}
