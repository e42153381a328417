//! The only place where an error becomes S3: a code, a status, AWS's words, and the XML around them.
//!
//! Both matches below are exhaustive on purpose: a new kind of error does not compile until somebody has decided what a client
//! is told (<https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>).

use std::borrow::Cow;

use http::header::{CONTENT_RANGE, ETAG, HeaderName, HeaderValue, LAST_MODIFIED, RETRY_AFTER};
use http::{Response, StatusCode};
use s3s::Body;
use sluice_provider::{self as provider, BodyFault, ObjectInfo};

use super::dates;
use super::xml::Xml;
use crate::error::{EncryptionFault, Error, ErrorKind, MOUNT};

macro_rules! codes {
    ($($name:ident $status:ident $message:literal;)*) => {
        /// An S3 error code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Code { $($name,)* }

        impl Code {
            /// As it stands in `<Code>`.
            #[allow(unreachable_patterns, reason = "the names with a dot stand in the list too, without it")]
            pub(crate) fn name(self) -> &'static str {
                match self {
                    // The one family of names with a dot in it.
                    Self::KmsDisabledException => "KMS.DisabledException",
                    Self::KmsNotFoundException => "KMS.NotFoundException",
                    $(Self::$name => stringify!($name),)*
                }
            }
            /// The HTTP status it comes with.
            pub(crate) fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }
            /// AWS's words for it.
            pub(crate) fn message(self) -> &'static str {
                match self { $(Self::$name => $message,)* }
            }
            /// By name.
            pub(crate) fn from_name(name: &str) -> Option<Self> {
                match name {
                    "KMS.DisabledException" => Some(Self::KmsDisabledException),
                    "KMS.NotFoundException" => Some(Self::KmsNotFoundException),
                    $(stringify!($name) => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

codes! {
    AccessControlListNotSupported BAD_REQUEST "The bucket does not allow ACLs";
    AccessDenied FORBIDDEN "Access Denied";
    AccessForbidden FORBIDDEN "CORSResponse: CORS is not enabled for this bucket.";
    AuthorizationHeaderMalformed BAD_REQUEST "The authorization header that you provided is not valid.";
    AuthorizationQueryParametersError BAD_REQUEST "The authorization query parameters that you provided are not valid.";
    BadDigest BAD_REQUEST "The Content-MD5 or checksum value that you specified did not match what the server received.";
    BadRequest BAD_REQUEST "Bad Request";
    BucketAlreadyExists CONFLICT "The requested bucket name is not available. The bucket namespace is shared by all users of the system. Please select a different name and try again.";
    BucketAlreadyOwnedByYou CONFLICT "Your previous request to create the named bucket succeeded and you already own it.";
    BucketNotEmpty CONFLICT "The bucket you tried to delete is not empty";
    ConditionalRequestConflict CONFLICT "The conditional request cannot succeed due to a conflicting operation against this resource.";
    DeleteConflict CONFLICT "Something is still attached to what was to be deleted.";
    EntityAlreadyExists CONFLICT "The name is taken.";
    EntityTooLarge BAD_REQUEST "Your proposed upload exceeds the maximum allowed size";
    EntityTooSmall BAD_REQUEST "Your proposed upload is smaller than the minimum allowed size";
    IllegalVersioningConfigurationException BAD_REQUEST "The Versioning element must be specified";
    InvalidRetentionPeriod BAD_REQUEST "Default retention period must be a positive integer value.";
    ExpiredToken BAD_REQUEST "The provided token has expired.";
    IllegalLocationConstraintException BAD_REQUEST "The specified location constraint is not valid.";
    IncompleteBody BAD_REQUEST "You did not provide the number of bytes specified by the Content-Length HTTP header";
    InsufficientStorage INSUFFICIENT_STORAGE "The storage behind this bucket is full.";
    InternalError INTERNAL_SERVER_ERROR "We encountered an internal error. Please try again.";
    InvalidAccessKeyId FORBIDDEN "The AWS Access Key Id you provided does not exist in our records.";
    InvalidArgument BAD_REQUEST "Invalid Argument";
    InvalidBucketState CONFLICT "Object Lock configuration cannot be enabled on existing buckets";
    InvalidBucketAclWithObjectOwnership BAD_REQUEST "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting";
    InvalidBucketName BAD_REQUEST "The specified bucket is not valid.";
    InvalidDigest BAD_REQUEST "The Content-MD5 you specified was invalid.";
    InvalidEncryptionAlgorithmError BAD_REQUEST "The encryption request that you specified is not valid.";
    InvalidLocationConstraint BAD_REQUEST "The specified location-constraint is not valid";
    InvalidPart BAD_REQUEST "One or more of the specified parts could not be found.  The part may not have been uploaded, or the specified entity tag may not match the part's entity tag.";
    InvalidPartOrder BAD_REQUEST "The list of parts was not in ascending order. Parts must be ordered by part number.";
    InvalidPolicyDocument BAD_REQUEST "The content of the form does not meet the conditions specified in the policy document.";
    InvalidRange RANGE_NOT_SATISFIABLE "The requested range is not satisfiable";
    InvalidRedirectLocation BAD_REQUEST "The website redirect location must have a prefix of 'http://' or 'https://' or '/'.";
    InvalidRequest BAD_REQUEST "Invalid Request";
    InvalidSecurity FORBIDDEN "The provided security credentials are not valid.";
    InvalidStorageClass BAD_REQUEST "The storage class you specified is not valid";
    InvalidTag BAD_REQUEST "The tag provided was not a valid tag.";
    InvalidToken BAD_REQUEST "The provided token is malformed or otherwise invalid.";
    InvalidURI BAD_REQUEST "Couldn't parse the specified URI.";
    LimitExceeded CONFLICT "There may be no more of these.";
    IdempotencyParameterMismatch BAD_REQUEST "Parameters on this idempotent request are inconsistent with parameters used in previous request(s).";
    InvalidWriteOffset BAD_REQUEST "The write offset value that you specified does not match the current object size.";
    KmsDisabledException BAD_REQUEST "The key of the key management service is disabled.";
    KmsNotFoundException BAD_REQUEST "The key of the key management service does not exist.";
    KeyTooLongError BAD_REQUEST "Your key is too long";
    MalformedACLError BAD_REQUEST "The XML you provided was not well-formed or did not validate against our published schema";
    MalformedPolicy BAD_REQUEST "Policy has invalid resource";
    MalformedPOSTRequest BAD_REQUEST "The body of your POST request is not well-formed multipart/form-data.";
    MalformedTrailerError BAD_REQUEST "The request contained trailing data that was not well-formed or did not conform to our published schema.";
    MalformedXML BAD_REQUEST "The XML you provided was not well-formed or did not validate against our published schema";
    MaxMessageLengthExceeded BAD_REQUEST "Your request was too large.";
    MaxPostPreDataLengthExceededError BAD_REQUEST "Your POST request fields preceding the upload file were too large.";
    MetadataTooLarge BAD_REQUEST "Your metadata headers exceed the maximum allowed metadata size";
    MethodNotAllowed METHOD_NOT_ALLOWED "The specified method is not allowed against this resource.";
    MissingContentLength LENGTH_REQUIRED "You must provide the Content-Length HTTP header.";
    MissingRequestBodyError BAD_REQUEST "Request body is empty.";
    MissingSecurityHeader BAD_REQUEST "Your request was missing a required header";
    NoSuchBucket NOT_FOUND "The specified bucket does not exist";
    NoSuchBucketPolicy NOT_FOUND "The bucket policy does not exist";
    NoSuchConfiguration NOT_FOUND "The specified configuration does not exist.";
    NoSuchCORSConfiguration NOT_FOUND "The CORS configuration does not exist";
    NoSuchEntity NOT_FOUND "There is nothing of that name.";
    NoSuchKey NOT_FOUND "The specified key does not exist.";
    NoSuchLifecycleConfiguration NOT_FOUND "The lifecycle configuration does not exist";
    NoSuchObjectLockConfiguration NOT_FOUND "The specified object does not have a ObjectLock configuration";
    NoSuchPublicAccessBlockConfiguration NOT_FOUND "The public access block configuration was not found";
    NoSuchTagSet NOT_FOUND "The TagSet does not exist";
    NoSuchUpload NOT_FOUND "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.";
    NoSuchVersion NOT_FOUND "The specified version does not exist.";
    NoSuchWebsiteConfiguration NOT_FOUND "The specified bucket does not have a website configuration";
    NotImplemented NOT_IMPLEMENTED "A header you provided implies functionality that is not implemented";
    NotModified NOT_MODIFIED "Not Modified";
    ObjectLockConfigurationNotFoundError NOT_FOUND "Object Lock configuration does not exist for this bucket";
    OwnershipControlsNotFoundError NOT_FOUND "The bucket ownership controls were not found";
    PreconditionFailed PRECONDITION_FAILED "At least one of the pre-conditions you specified did not hold";
    QuotaExceeded FORBIDDEN "The quota of the storage behind this bucket is used up.";
    ReplicationConfigurationNotFoundError NOT_FOUND "The replication configuration was not found";
    RequestTimeout BAD_REQUEST "Your socket connection to the server was not read from or written to within the timeout period. Idle connections will be closed.";
    RequestTimeTooSkewed FORBIDDEN "The difference between the request time and the current time is too large.";
    ServerSideEncryptionConfigurationNotFoundError NOT_FOUND "The server side encryption configuration was not found";
    ServiceUnavailable SERVICE_UNAVAILABLE "Service is unable to handle request.";
    SignatureDoesNotMatch FORBIDDEN "The request signature we calculated does not match the signature you provided. Check your key and signing method.";
    SlowDown SERVICE_UNAVAILABLE "Please reduce your request rate.";
    UnexpectedContent BAD_REQUEST "This request does not support content";
    UnresolvableGrantByEmailAddress BAD_REQUEST "The e-mail address you provided does not match any account on record.";
    UserKeyMustBeSpecified BAD_REQUEST "The bucket POST must contain the specified field name. If it is specified, check the order of the fields.";
    XAmzContentSHA256Mismatch BAD_REQUEST "The provided 'x-amz-content-sha256' header does not match what was computed.";
}

/// An answer that is an error.
#[derive(Debug)]
pub(crate) struct Failure(Box<Details>);

#[derive(Debug)]
struct Details {
    code: Code,
    message: Cow<'static, str>,
    fields: Vec<(&'static str, String)>,
    headers: Vec<(HeaderName, HeaderValue)>,
    cause: Option<Error>,
}

/// What an operation comes to.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// What the error document names besides the error.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scene<'a> {
    /// The path as it was asked for.
    pub(crate) resource: &'a str,
    /// The bucket; empty for none.
    pub(crate) bucket: &'a str,
    /// The key; empty for none.
    pub(crate) key: &'a str,
    /// `x-amz-request-id`.
    pub(crate) request_id: &'a str,
    /// `x-amz-id-2`.
    pub(crate) host_id: &'a str,
}

impl Failure {
    /// This code in AWS's words.
    pub(crate) fn new(code: Code) -> Self {
        Self::because(code, code.message())
    }

    /// This code in other words.
    pub(crate) fn because(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Details { code, message: message.into(), fields: Vec::new(), headers: Vec::new(), cause: None }))
    }

    /// `InvalidArgument` as AWS shapes it: with the argument's name and value.
    pub(crate) fn argument(name: impl Into<String>, value: impl Into<String>, message: impl Into<Cow<'static, str>>) -> Self {
        Self::because(Code::InvalidArgument, message).field("ArgumentName", name).field("ArgumentValue", value)
    }

    /// `InvalidRequest` for this reason.
    pub(crate) fn request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::because(Code::InvalidRequest, message)
    }

    /// `NotImplemented` for this reason.
    pub(crate) fn not_implemented(message: impl Into<Cow<'static, str>>) -> Self {
        Self::because(Code::NotImplemented, message)
    }

    /// Adds an element to the error document. The first of a name counts.
    #[must_use]
    pub(crate) fn field(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.0.fields.push((name, value.into()));
        self
    }

    /// Adds a header to the answer.
    #[must_use]
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// The code.
    pub(crate) fn code(&self) -> Code {
        self.0.code
    }

    /// The message.
    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    /// What happened inside, for the log.
    pub(crate) fn cause(&self) -> Option<&Error> {
        self.0.cause.as_ref()
    }

    /// The `<Error>` element.
    pub(crate) fn write(&self, xml: &mut Xml, scene: Scene<'_>) {
        let Details { code, message, fields, .. } = &*self.0;
        xml.open("Error");
        xml.text("Code", code.name());
        xml.text("Message", message);
        for (name, value) in fields {
            xml.text(name, value);
        }
        let named = |name| fields.iter().any(|(n, _)| *n == name);
        match code {
            Code::NoSuchKey | Code::KeyTooLongError | Code::NoSuchVersion if !scene.key.is_empty() && !named("Key") => {
                xml.text("Key", scene.key);
            }
            Code::NoSuchBucket
            | Code::BucketNotEmpty
            | Code::BucketAlreadyExists
            | Code::BucketAlreadyOwnedByYou
            | Code::InvalidBucketName
            | Code::NoSuchTagSet
            | Code::NoSuchBucketPolicy
            | Code::NoSuchCORSConfiguration
            | Code::NoSuchLifecycleConfiguration
            | Code::NoSuchWebsiteConfiguration
            | Code::NoSuchPublicAccessBlockConfiguration
            | Code::ObjectLockConfigurationNotFoundError
            | Code::OwnershipControlsNotFoundError
            | Code::ReplicationConfigurationNotFoundError
            | Code::ServerSideEncryptionConfigurationNotFoundError
                if !scene.bucket.is_empty() && !named("BucketName") =>
            {
                xml.text("BucketName", scene.bucket);
            }
            _ => {}
        }
        xml.text("Resource", scene.resource);
        xml.text("RequestId", scene.request_id);
        xml.text("HostId", scene.host_id);
        xml.close("Error");
    }

    /// The whole answer. A HEAD and a 304 carry no body.
    pub(crate) fn answer(&self, scene: Scene<'_>, bodyless: bool) -> Response<Body> {
        let status = self.0.code.status();
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        for (name, value) in &self.0.headers {
            response.headers_mut().insert(name.clone(), value.clone());
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status == StatusCode::NOT_MODIFIED {
            return response;
        }
        response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        if !bodyless {
            let mut xml = Xml::document();
            self.write(&mut xml, scene);
            *response.body_mut() = Body::from(xml.finish());
        }
        response
    }
}

impl From<Code> for Failure {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let mut failure = from_kind(error.kind());
        if let (Code::ServiceUnavailable | Code::SlowDown, Some(prefix)) = (failure.0.code, error.context(MOUNT)) {
            let place = if prefix.is_empty() { "the root of the bucket".to_owned() } else { format!("`{prefix}`") };
            let state = if failure.0.code == Code::SlowDown { "is busy" } else { "does not answer" };
            failure.0.message = format!("The storage mounted at {place} {state}.").into();
        }
        failure.0.cause = Some(error);
        failure
    }
}

impl From<provider::Error> for Failure {
    fn from(error: provider::Error) -> Self {
        Error::from(error).into()
    }
}

fn from_kind(kind: &ErrorKind) -> Failure {
    match kind {
        ErrorKind::Provider(kind) => from_provider(*kind),
        ErrorKind::NoSuchBucket => Code::NoSuchBucket.into(),
        ErrorKind::BucketAlreadyExists => Code::BucketAlreadyExists.into(),
        ErrorKind::BucketAlreadyOwnedByYou => Code::BucketAlreadyOwnedByYou.into(),
        ErrorKind::BucketNotEmpty => Code::BucketNotEmpty.into(),
        ErrorKind::InvalidBucketName => Code::InvalidBucketName.into(),
        ErrorKind::NoSuchUpload => Code::NoSuchUpload.into(),
        ErrorKind::InvalidPart => Code::InvalidPart.into(),
        ErrorKind::InvalidPartOrder => Code::InvalidPartOrder.into(),
        ErrorKind::EntityTooSmall => Code::EntityTooSmall.into(),
        ErrorKind::InvalidPartNumber => Failure::because(Code::InvalidPart, "The requested partnumber is not satisfiable"),
        ErrorKind::NoSuchVersion(version) => Failure::new(Code::NoSuchVersion).field("VersionId", version.clone()),
        ErrorKind::DeleteMarker { version, modified, named } => delete_marker(version, *modified, *named),
        ErrorKind::ObjectLocked => Failure::because(Code::AccessDenied, "Access Denied because object protected by object lock."),
        ErrorKind::NotModified(info) => not_modified(info),
        ErrorKind::PreconditionFailed(condition) => Failure::new(Code::PreconditionFailed).field("Condition", *condition),
        ErrorKind::InvalidArgument(message) => Failure::because(Code::InvalidArgument, message.clone()),
        ErrorKind::InvalidRequest(message) => Failure::because(Code::InvalidRequest, message.clone()),
        ErrorKind::AccessDenied => Code::AccessDenied.into(),
        ErrorKind::NotImplemented(message) => Failure::because(Code::NotImplemented, message.clone()),
        ErrorKind::NoSuchEntity => Code::NoSuchEntity.into(),
        ErrorKind::EntityExists => Code::EntityAlreadyExists.into(),
        ErrorKind::DeleteConflict => Code::DeleteConflict.into(),
        ErrorKind::LimitExceeded => Code::LimitExceeded.into(),
        ErrorKind::MetaUnavailable => Code::ServiceUnavailable.into(),
        ErrorKind::Encryption(fault) => from_encryption(fault),
        ErrorKind::IdempotencyMismatch => Code::IdempotencyParameterMismatch.into(),
        ErrorKind::SlowDown => Code::SlowDown.into(),
        ErrorKind::Internal => Code::InternalError.into(),
    }
}

fn from_encryption(fault: &EncryptionFault) -> Failure {
    match fault {
        EncryptionFault::KeyNeeded => Failure::request(
            "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve \
             the object.",
        ),
        // https://docs.aws.amazon.com/AmazonS3/latest/userguide/ServerSideEncryptionCustomerKeys.html: whoever has another key has no access.
        EncryptionFault::OtherKey => Code::AccessDenied.into(),
        EncryptionFault::UploadOtherKey => {
            Failure::request("The provided encryption parameters did not match the ones used originally.")
        }
        EncryptionFault::NotApplicable => Failure::request("The encryption parameters are not applicable to this object."),
        EncryptionFault::UploadKeyNeeded => Failure::request(
            "The multipart upload initiate requested encryption. Subsequent part requests must include the appropriate encryption \
             parameters.",
        ),
        EncryptionFault::UploadNotEncrypted => Failure::request(
            "The multipart upload initiate requested no encryption with a customer provided key. Subsequent part requests must not \
             include one.",
        ),
        EncryptionFault::NoDefaultKey => Failure::because(
            Code::KmsNotFoundException,
            "The request names no key of the key management service, and the gateway has no default.",
        ),
        EncryptionFault::KeyDisabled(name) => {
            Failure::because(Code::KmsDisabledException, format!("{name} is disabled.")).field("KeyId", name.clone())
        }
        EncryptionFault::Refused => Failure::because(Code::AccessDenied, "The key management service refuses to use the key."),
        EncryptionFault::ServiceUnavailable => Code::ServiceUnavailable.into(),
        EncryptionFault::NoSuchKey(name) => {
            Failure::because(Code::KmsNotFoundException, format!("Key '{name}' does not exist")).field("KeyId", name.clone())
        }
    }
}

fn from_provider(kind: provider::ErrorKind) -> Failure {
    use provider::ErrorKind as Kind;
    match kind {
        Kind::NotFound => Code::NoSuchKey.into(),
        Kind::PreconditionFailed => Code::PreconditionFailed.into(),
        Kind::Conflict => Code::ConditionalRequestConflict.into(),
        Kind::RangeNotSatisfiable { size } => {
            let failure = Failure::new(Code::InvalidRange).field("ActualObjectSize", size.to_string());
            match HeaderValue::from_str(&format!("bytes */{size}")) {
                Ok(value) => failure.header(CONTENT_RANGE, value),
                Err(_) => failure,
            }
        }
        Kind::WriteOffset { size } => Failure::new(Code::InvalidWriteOffset).field("ActualObjectSize", size.to_string()),
        Kind::InvalidKey => {
            Failure::because(Code::InvalidArgument, "The storage behind this bucket cannot hold an object of this name.")
        }
        Kind::TooLarge => Code::EntityTooLarge.into(),
        Kind::NoSpace => Code::InsufficientStorage.into(),
        Kind::QuotaExceeded => Code::QuotaExceeded.into(),
        Kind::Guarded => Code::AccessDenied.into(),
        Kind::PermissionDenied => Failure::because(Code::AccessDenied, "The storage behind this bucket refuses access."),
        Kind::Unsupported => Failure::not_implemented("The storage behind this bucket cannot do this."),
        Kind::Unavailable | Kind::TimedOut => Code::ServiceUnavailable.into(),
        Kind::Busy => Code::SlowDown.into(),
        Kind::Corrupt | Kind::Internal => Code::InternalError.into(),
        Kind::Body(fault) => from_body(fault),
    }
}

fn from_body(fault: BodyFault) -> Failure {
    match fault {
        BodyFault::Incomplete => Code::IncompleteBody.into(),
        BodyFault::TooLong => {
            Failure::because(Code::IncompleteBody, "The request body holds more bytes than the length that was declared.")
        }
        BodyFault::TooLarge => Code::EntityTooLarge.into(),
        BodyFault::Md5Mismatch => Code::BadDigest.into(),
        BodyFault::Sha256Mismatch => Code::XAmzContentSHA256Mismatch.into(),
        BodyFault::ChecksumMismatch(algorithm) => {
            Failure::because(Code::BadDigest, format!("The {algorithm} you specified did not match the calculated checksum."))
        }
        BodyFault::Trailer => Code::MalformedTrailerError.into(),
        BodyFault::Signature => Code::SignatureDoesNotMatch.into(),
        BodyFault::TimedOut => Code::RequestTimeout.into(),
    }
}

/// A delete marker where an object was asked for
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/DeleteMarker.html>): nothing is there, or nothing that can be read.
fn delete_marker(version: &str, modified: std::time::SystemTime, named: bool) -> Failure {
    let mut failure = if named {
        let failure = Failure::new(Code::MethodNotAllowed).field("ResourceType", "DeleteMarker");
        let failure = failure.header(http::header::ALLOW, HeaderValue::from_static("DELETE"));
        match dates::http_header(modified) {
            Some(value) => failure.header(LAST_MODIFIED, value),
            None => failure,
        }
    } else {
        Code::NoSuchKey.into()
    };
    failure = failure.header(HeaderName::from_static("x-amz-delete-marker"), HeaderValue::from_static("true"));
    match HeaderValue::from_str(version) {
        Ok(value) => failure.header(HeaderName::from_static("x-amz-version-id"), value),
        Err(_) => failure,
    }
}

/// 304 with the validators that RFC 9110 section 15.4.5 asks for.
fn not_modified(info: &ObjectInfo) -> Failure {
    let mut failure = Failure::new(Code::NotModified);
    if let Ok(value) = HeaderValue::from_str(&format!("\"{}\"", info.etag)) {
        failure = failure.header(ETAG, value);
    }
    if let Some(value) = dates::http_header(info.modified) {
        failure = failure.header(LAST_MODIFIED, value);
    }
    for name in ["cache-control", "expires"] {
        if let Some(Ok(value)) = info.attributes.get(name).map(HeaderValue::from_str) {
            failure = failure.header(HeaderName::from_static(name), value);
        }
    }
    failure
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn scene() -> Scene<'static> {
        Scene { resource: "/b/a&b", bucket: "b", key: "a&b", request_id: "R1", host_id: "H1" }
    }

    #[test]
    fn an_error_document_tells_what_aws_tells() {
        let response =
            Failure::from(Error::new(ErrorKind::Provider(provider::ErrorKind::NotFound), "get")).answer(scene(), false);
        assert_eq!(response.status(), 404);
        assert_eq!(response.headers()["content-type"], "application/xml");
        let text = String::from_utf8(response.into_body().bytes().unwrap().to_vec()).unwrap();
        assert_eq!(
            text,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.\
             </Message><Key>a&amp;b</Key><Resource>/b/a&amp;b</Resource><RequestId>R1</RequestId><HostId>H1</HostId></Error>"
        );
    }

    #[test]
    fn who_loses_a_race_may_try_again() {
        let conflict = Failure::from(provider::Error::new(provider::ErrorKind::Conflict, "put"));
        let response = conflict.answer(scene(), false);
        assert_eq!((response.status().as_u16(), conflict.code().name()), (409, "ConditionalRequestConflict"));
    }

    #[test]
    fn a_head_has_no_body_and_a_416_names_the_size() {
        let kind = ErrorKind::Provider(provider::ErrorKind::RangeNotSatisfiable { size: 7 });
        let response = Failure::from(Error::new(kind, "get")).answer(scene(), true);
        assert_eq!(response.status(), 416);
        assert_eq!(response.headers()["content-range"], "bytes */7");
        assert!(response.into_body().bytes().unwrap().is_empty());
    }

    #[test]
    fn a_broken_body_has_its_own_code() {
        let code = |fault| from_body(fault).code().name();
        assert_eq!(code(BodyFault::Sha256Mismatch), "XAmzContentSHA256Mismatch");
        assert_eq!(code(BodyFault::Incomplete), "IncompleteBody");
        assert_eq!(code(BodyFault::Signature), "SignatureDoesNotMatch");
        assert_eq!(code(BodyFault::Md5Mismatch), "BadDigest");
        assert_eq!(code(BodyFault::ChecksumMismatch("CRC32")), "BadDigest");
    }

    #[test]
    fn overload_asks_to_come_again() {
        let response = Failure::from(Error::new(ErrorKind::SlowDown, "put")).answer(scene(), false);
        assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (503, &HeaderValue::from_static("1")));
    }
}
