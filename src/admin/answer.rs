//! JSON answers, and what goes wrong.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde::Serialize;

use crate::error::{Error, ErrorKind};
use crate::telemetry::{ErrorCode, RequestId};

/// An answer of this listener.
pub(super) type Answer = Response<Full<Bytes>>;

/// Why a call fails.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
    /// For 405.
    pub(super) allow: Option<&'static str>,
}

#[derive(Serialize)]
struct Document<'a> {
    error: Inner<'a>,
}

#[derive(Serialize)]
struct Inner<'a> {
    code: &'a str,
    message: &'a str,
    request_id: &'a str,
}

impl Failure {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), allow: None }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidRequest", message)
    }

    pub(super) fn no_such(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", format!("There is no {what}."))
    }

    pub(super) fn answer(&self, request_id: &RequestId) -> Answer {
        let error = Inner { code: self.code, message: &self.message, request_id: &request_id.0 };
        let mut answer = json(self.status, &Document { error });
        let headers = answer.headers_mut();
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"sluice\""));
        }
        answer.extensions_mut().insert(ErrorCode(self.code));
        answer
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (status, code) = match error.kind() {
            ErrorKind::NoSuchBucket => (StatusCode::NOT_FOUND, "NoSuchBucket"),
            ErrorKind::NoSuchEntity => (StatusCode::NOT_FOUND, "NotFound"),
            ErrorKind::EntityExists => (StatusCode::CONFLICT, "AlreadyExists"),
            ErrorKind::DeleteConflict => (StatusCode::CONFLICT, "DeleteConflict"),
            ErrorKind::LimitExceeded => (StatusCode::CONFLICT, "LimitExceeded"),
            ErrorKind::InvalidArgument(_) | ErrorKind::InvalidRequest(_) | ErrorKind::InvalidBucketName => {
                (StatusCode::BAD_REQUEST, "InvalidRequest")
            }
            ErrorKind::NotImplemented(_) => (StatusCode::NOT_IMPLEMENTED, "NotImplemented"),
            ErrorKind::AccessDenied => (StatusCode::FORBIDDEN, "AccessDenied"),
            ErrorKind::IdempotencyMismatch => (StatusCode::BAD_REQUEST, "IdempotencyParameterMismatch"),
            ErrorKind::SlowDown => (StatusCode::TOO_MANY_REQUESTS, "SlowDown"),
            ErrorKind::MetaUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "Unavailable"),
            // A mount that does not open: the operator asked for it and has to know why.
            ErrorKind::Provider(_) => (StatusCode::BAD_GATEWAY, "ProviderFailed"),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        };
        let message = match error.kind() {
            ErrorKind::InvalidArgument(message) | ErrorKind::InvalidRequest(message) | ErrorKind::NotImplemented(message) => {
                message.clone().into_owned()
            }
            _ => error.to_string(),
        };
        if status.is_server_error() {
            tracing::warn!(%error, "admin call");
        }
        Self::new(status, code, message)
    }
}

/// What the edge has to say, as this listener says it.
#[must_use]
pub fn fault_document(status: StatusCode, code: &'static str, message: &str, request_id: &RequestId) -> Response<Bytes> {
    let error = Inner { code, message, request_id: &request_id.0 };
    let body = serde_json::to_vec(&Document { error }).unwrap_or_default();
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(value).unwrap_or_default();
    with(status, "application/json", Bytes::from(body))
}

pub(super) fn with(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

pub(super) fn empty() -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}
