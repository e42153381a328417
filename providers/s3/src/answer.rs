//! What the remote answers, in the words of the contract.

use bytes::Bytes;
use http::header::HeaderMap;
use http::{Method, StatusCode};
use serde::Deserialize;
use sluice_provider::{Error, ErrorKind, Result};

/// The body of an error, or of any answer that is itself XML.
#[derive(Debug, Default, Deserialize)]
struct Fault {
    #[serde(rename = "Code", default)]
    code: String,
    #[serde(rename = "Message", default)]
    message: String,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// A header that is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Whether it is about a delete marker.
    pub(crate) fn is_marker(&self) -> bool {
        self.header("x-amz-delete-marker") == Some("true")
    }

    /// The XML of a success. Some operations answer 200 and an `Error` document.
    pub(crate) fn xml<T: for<'de> Deserialize<'de>>(&self, operation: &'static str) -> Result<T> {
        let garbage = || Error::new(ErrorKind::Unavailable, operation).with("reason", "the remote's answer is not S3's XML");
        let text = std::str::from_utf8(&self.body).map_err(|e| garbage().caused_by(e))?;
        if let Some(fault) = fault(text) {
            return Err(failed(&Method::POST, self.status, Some(fault), operation));
        }
        quick_xml::de::from_str(text).map_err(|e| garbage().caused_by(e))
    }
}

/// The fault that a document tells of, if it is one.
fn fault(text: &str) -> Option<Fault> {
    let start = text.find("<Error")?;
    // Only as the root: nothing but a declaration may stand before it.
    let before = text.get(..start)?.trim();
    if !(before.is_empty() || before.starts_with("<?") && before.matches('<').count() == 1) {
        return None;
    }
    quick_xml::de::from_str::<Fault>(text).ok().filter(|fault| !fault.code.is_empty())
}

/// The error that an answer other than a success is. A 404 without a code (as HEAD gives it) is [`ErrorKind::NotFound`] here: the
/// caller must know that there is a bucket.
pub(crate) fn error_of(method: &Method, answer: &Answer, operation: &'static str) -> Error {
    let fault = std::str::from_utf8(&answer.body).ok().and_then(fault);
    failed(method, answer.status, fault, operation)
}

fn failed(method: &Method, status: StatusCode, fault: Option<Fault>, operation: &'static str) -> Error {
    let code = fault.as_ref().map_or("", |fault| fault.code.as_str());
    let kind = match (code, status.as_u16()) {
        ("NoSuchKey" | "NoSuchUpload" | "NoSuchVersion" | "InvalidPart", _) => ErrorKind::NotFound,
        ("PreconditionFailed", _) | ("", 412) => ErrorKind::PreconditionFailed,
        ("ConditionalRequestConflict" | "OperationAborted", _) => ErrorKind::Conflict,
        ("InvalidRange", _) | (_, 416) => ErrorKind::RangeNotSatisfiable { size: 0 },
        ("EntityTooLarge", _) => ErrorKind::TooLarge,
        ("KeyTooLongError", _) => ErrorKind::InvalidKey,
        ("QuotaExceeded" | "XMinioAdminBucketQuotaExceeded", _) => ErrorKind::QuotaExceeded,
        ("XMinioStorageFull", _) | (_, 507) => ErrorKind::NoSpace,
        ("NotImplemented" | "MethodNotAllowed", _) | (_, 501) => ErrorKind::Unsupported,
        ("RequestTimeout", _) => ErrorKind::TimedOut,
        ("SlowDown" | "ServiceUnavailable" | "TooManyRequests", _) | (_, 429 | 503) => ErrorKind::Busy,
        (_, 401 | 403) => ErrorKind::PermissionDenied,
        ("BadDigest" | "XAmzContentSHA256Mismatch" | "IncompleteBody", _) => ErrorKind::Unavailable,
        // A HEAD tells no code. Any other 404 without one, and every one of another code, is not about the key.
        ("", 404) if *method == Method::HEAD => ErrorKind::NotFound,
        _ => ErrorKind::Unavailable,
    };
    let mut error = Error::new(kind, operation).with("status", status.as_u16());
    if let Some(fault) = fault {
        error = error.with("code", fault.code).with("message", fault.message.chars().take(200).collect::<String>());
    }
    error
}

/// Whether an answer says that the remote wants to be left alone for a moment, or failed in a way that may pass.
pub(crate) fn passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 500 | 502 | 503 | 504)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(method: &Method, status: u16, body: &'static str) -> ErrorKind {
        let status = StatusCode::from_u16(status).unwrap_or_default();
        let answer = Answer { status, headers: HeaderMap::new(), body: Bytes::from(body) };
        *error_of(method, &answer, "test").kind()
    }

    #[test]
    fn only_a_key_that_is_missing_is_not_found() {
        let coded = |code: &str| -> &'static str {
            Box::leak(format!("<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>m</Message></Error>").into_boxed_str())
        };
        assert_eq!(kind(&Method::GET, 404, coded("NoSuchKey")), ErrorKind::NotFound);
        assert_eq!(kind(&Method::HEAD, 404, ""), ErrorKind::NotFound);
        assert_eq!(kind(&Method::GET, 404, coded("NoSuchBucket")), ErrorKind::Unavailable);
        assert_eq!(kind(&Method::GET, 404, "<html>no such page</html>"), ErrorKind::Unavailable);
        assert_eq!(kind(&Method::GET, 404, ""), ErrorKind::Unavailable);
        assert_eq!(kind(&Method::GET, 503, coded("SlowDown")), ErrorKind::Busy);
        assert_eq!(kind(&Method::GET, 500, "garbage"), ErrorKind::Unavailable);
        assert_eq!(kind(&Method::GET, 403, coded("AccessDenied")), ErrorKind::PermissionDenied);
        assert_eq!(kind(&Method::PUT, 409, coded("ConditionalRequestConflict")), ErrorKind::Conflict);
        assert_eq!(kind(&Method::HEAD, 412, ""), ErrorKind::PreconditionFailed);
        assert_eq!(kind(&Method::GET, 301, coded("PermanentRedirect")), ErrorKind::Unavailable);
    }

    #[test]
    fn an_error_in_a_success_is_an_error() {
        #[derive(Debug, Deserialize)]
        struct Any {}
        let answer = |body: &'static str| Answer { status: StatusCode::OK, headers: HeaderMap::new(), body: body.into() };
        let late = answer("<?xml version=\"1.0\"?>\n<Error><Code>PreconditionFailed</Code></Error>").xml::<Any>("test");
        assert_eq!(late.err().map(|e| *e.kind()), Some(ErrorKind::PreconditionFailed));
        assert!(answer("<Result><Error/></Result>").xml::<Any>("test").is_ok());
        assert!(answer("nonsense").xml::<Any>("test").is_err() && answer("").xml::<Any>("test").is_err());
    }
}
