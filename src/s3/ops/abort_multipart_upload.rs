//! AbortMultipartUpload.

use http::StatusCode;

use crate::s3::call::{Answer, Call, empty};

pub(crate) async fn call(call: &mut Call) -> Answer {
    let upload = call.query.get("uploadId").unwrap_or_default();
    call.parts.uploads.abort(&*call.namespace()?, &call.key, upload).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}
