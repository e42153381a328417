//! What the edge answers by itself, when the service cannot.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use crate::telemetry::{ErrorCode, RequestId, host_id};

/// Why the edge answers instead of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Too many requests at once.
    SlowDown,
    /// The service took too long.
    TimedOut,
    /// The service panicked.
    Panicked,
    /// What came is no HTTP request.
    Unreadable,
    /// The head of the request is larger than any that has a meaning.
    HeadTooLarge,
}

/// The fault as S3 says it (<https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>).
#[must_use]
pub fn s3_fault(fault: Fault, path: &str, request_id: &RequestId) -> Response<Bytes> {
    let (status, code, message) = match fault {
        Fault::SlowDown => (StatusCode::SERVICE_UNAVAILABLE, "SlowDown", "Please reduce your request rate."),
        Fault::TimedOut => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", "Service is unable to handle request."),
        Fault::Panicked => {
            (StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "We encountered an internal error. Please try again.")
        }
        Fault::Unreadable => (StatusCode::BAD_REQUEST, "BadRequest", "An error occurred when parsing the HTTP request."),
        Fault::HeadTooLarge => (
            StatusCode::BAD_REQUEST,
            "RequestHeaderSectionTooLarge",
            "Your request header section exceeds the maximum allowed size.",
        ),
    };
    let resource = quick_xml::escape::escape(path);
    let host_id = host_id();
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message>\
         <Resource>{resource}</Resource><RequestId>{request_id}</RequestId><HostId>{host_id}</HostId></Error>"
    );
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response.extensions_mut().insert(ErrorCode(code));
    response
}
