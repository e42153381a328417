//! What is answered when something is refused
//! (<https://docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html>).

use std::borrow::Cow;

use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use s3s::Body;

use super::answer::namespace;
use crate::error::{Error, ErrorKind};
use crate::s3::error::{Code, Failure};
use crate::s3::xml::Xml;
use crate::tokens::WebRefusal;

/// A refusal.
#[derive(Debug)]
pub(crate) struct Fault {
    status: u16,
    code: &'static str,
    message: Cow<'static, str>,
    cause: Option<Error>,
}

impl Fault {
    pub(crate) fn new(status: u16, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, message: message.into(), cause: None }
    }

    pub(crate) fn validation(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, "ValidationError", message)
    }

    pub(super) fn input(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, "InvalidInput", message)
    }

    pub(super) fn malformed(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, "MalformedPolicyDocument", message)
    }

    pub(super) fn no_such(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(404, "NoSuchEntity", message)
    }

    pub(super) fn limit(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(409, "LimitExceeded", message)
    }

    pub(super) fn denied(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(403, "AccessDenied", message)
    }

    /// Others changed the same, over and over.
    pub(super) fn changed_meanwhile() -> Self {
        let message = "The request was rejected because multiple requests to change this object were submitted simultaneously.";
        Self::new(409, "ConcurrentModification", message)
    }

    /// The same with other words, when it is this code.
    pub(super) fn told(mut self, code: &str, message: impl FnOnce() -> String) -> Self {
        if self.code == code {
            self.message = message().into();
        }
        self
    }

    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    pub(super) fn cause(&self) -> Option<&Error> {
        self.cause.as_ref().filter(|_| self.status >= 500)
    }

    pub(super) fn answer(&self, service: &str, request_id: &str) -> Response<Body> {
        let mut xml = Xml::without_declaration();
        xml.open_with("ErrorResponse", &format!("xmlns=\"{}\"", namespace(service)));
        xml.open("Error");
        xml.text("Type", if self.status < 500 { "Sender" } else { "Receiver" });
        xml.text("Code", self.code);
        xml.text("Message", &self.message);
        xml.close("Error");
        xml.text("RequestId", request_id);
        xml.close("ErrorResponse");
        let mut response = Response::new(Body::from(xml.finish()));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/xml"));
        if self.status == 503 {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let mut fault = match error.kind() {
            ErrorKind::NoSuchEntity => Self::no_such("There is nothing of that name."),
            ErrorKind::EntityExists => Self::new(409, "EntityAlreadyExists", "The name is taken."),
            ErrorKind::DeleteConflict => {
                Self::new(409, "DeleteConflict", "Something is still attached to what was to be deleted.")
            }
            ErrorKind::LimitExceeded => Self::limit("There may be no more of these."),
            ErrorKind::InvalidArgument(message) | ErrorKind::InvalidRequest(message) => Self::input(message.clone()),
            ErrorKind::AccessDenied => Self::denied("Access Denied"),
            ErrorKind::MetaUnavailable | ErrorKind::SlowDown => {
                Self::new(503, "ServiceUnavailable", "The request has failed due to a temporary failure of the server.")
            }
            _ => Self::new(500, "InternalFailure", "The request processing has failed because of an unknown error."),
        };
        fault.cause = Some(error);
        fault
    }
}

impl From<WebRefusal> for Fault {
    fn from(refusal: WebRefusal) -> Self {
        match refusal {
            WebRefusal::Invalid(why) => Self::new(400, "InvalidIdentityToken", why),
            WebRefusal::Expired => Self::new(400, "ExpiredTokenException", "The token is expired"),
            // Why is for the log: it tells of hosts that only the gateway sees.
            WebRefusal::Unreachable(_) => {
                Self::new(400, "IDPCommunicationError", "The identity provider does not give its keys: try again later")
            }
        }
    }
}

impl From<&Failure> for Fault {
    /// What the check of the signature said.
    fn from(failure: &Failure) -> Self {
        let message = failure.message().to_owned();
        match failure.code() {
            Code::InvalidAccessKeyId | Code::InvalidToken => {
                Self::new(403, "InvalidClientTokenId", "The security token included in the request is invalid.")
            }
            Code::ExpiredToken => Self::new(403, "ExpiredToken", "The security token included in the request is expired"),
            Code::SignatureDoesNotMatch => Self::new(403, "SignatureDoesNotMatch", message),
            Code::RequestTimeTooSkewed => {
                Self::new(403, "SignatureDoesNotMatch", "Signature expired: the clocks are too far apart.")
            }
            Code::ServiceUnavailable | Code::SlowDown => Self::new(503, "ServiceUnavailable", message),
            Code::AccessDenied => Self::new(403, "AccessDenied", message),
            code if code.status().is_server_error() && code != Code::NotImplemented => Self::new(500, "InternalFailure", message),
            _ => Self::new(400, "IncompleteSignature", message),
        }
    }
}
