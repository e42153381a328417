//! The S3 front end: one file per operation, the auth and access adapters, the only S3 error table.

mod settings;

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;

use crate::namespaces::Namespaces;
use crate::objects::Objects;
use crate::tokens::Tokens;
use crate::uploads::Uploads;

pub use settings::Settings;

/// What the front end stands on.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Buckets.
    pub namespaces: Arc<Namespaces>,
    /// Objects.
    pub objects: Arc<Objects>,
    /// Multipart uploads.
    pub uploads: Arc<Uploads>,
    /// Who is who.
    pub tokens: Arc<Tokens>,
    /// Settings.
    pub settings: Settings,
}

/// The operation a request turned out to be, as S3 names it (`GetObject` …). Among the response's extensions, for logs and metrics.
#[derive(Clone, Copy, Debug)]
pub struct Operation(pub &'static str);

/// The S3 service.
#[derive(Clone)]
pub struct Front;

impl Front {
    /// Builds the service.
    #[must_use]
    pub fn new(_parts: Parts) -> Self {
        todo!()
    }

    /// Answers a request. The edge has put a [`crate::telemetry::RequestId`] into its extensions. Every error is an answer.
    pub async fn call(&self, _request: Request<Incoming>) -> Response<s3s::Body> {
        todo!()
    }
}
