//! HeadBucket.

use http::StatusCode;

use crate::s3::call::{Answer, Call, empty, set};

pub(crate) fn call(call: &mut Call) -> Answer {
    let namespace = call.namespace()?;
    let mut response = empty(StatusCode::OK);
    set(&mut response, "x-amz-bucket-region", call.region(&namespace));
    set(&mut response, "x-amz-access-point-alias", "false");
    set(&mut response, "content-type", "application/xml");
    Ok(response)
}
