//! DeleteBucket.

use futures::future::BoxFuture;
use http::StatusCode;

use crate::error::Result;
use crate::namespaces::Namespaces;
use crate::s3::call::{Answer, Call, empty};

pub(crate) async fn call(call: &mut Call) -> Answer {
    delete(&call.parts.namespaces, &call.bucket).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Boxed where the lifetimes have names: inside of a caller's future, where they have none, it cannot be shown to be `Send`.
pub(super) fn delete<'a>(namespaces: &'a Namespaces, bucket: &'a str) -> BoxFuture<'a, Result<()>> {
    Box::pin(namespaces.delete(bucket))
}
