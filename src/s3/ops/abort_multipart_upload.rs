//! AbortMultipartUpload.

use http::StatusCode;

use crate::s3::call::{Answer, Call, empty};

pub(crate) async fn call(call: &mut Call) -> Answer {
    let upload = call.query.get("uploadId").unwrap_or_default();
    let namespace = call.namespace()?;
    call.check_upload_of(&namespace, upload).await?;
    call.parts.uploads.abort(&namespace, &call.key, upload).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}
