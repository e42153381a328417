//! The service: from a request to an answer, whatever happens.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{Extensions, HeaderMap, Method, Request, Response, Uri};
use http_body_util::Either;
use s3s::Body;
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};

use super::access::Access;
use super::address::Address;
use super::auth::Auth;
use super::cors::{self, Asking};
use super::error::{Code, Failure, Result, Scene};
use super::form::{self, Copied, Copying, Forms, MAX_FIELDS_BYTES};
use super::headers::first;
use super::iam::{self, Fault};
use super::operation::Op;
use super::query::Query;
use super::route::{self, Hosts, Route, Verified};
use super::signature::{self, Head};
use super::terminal::Terminated;
use super::{Settings, SignatureV2, address, operation, signature_v2, wellformed, xml};
use crate::limits::Rates;
use crate::namespaces::Namespaces;
use crate::objects::Objects;
use crate::runtime::Drain;
use crate::telemetry::{ErrorCode, RequestId, host_id};
use crate::tokens::Tokens;
use crate::transfer::Lanes;
use crate::uploads::Uploads;

/// The largest signed chunk of an aws-chunked body in bytes: it is held in memory until its signature has been verified. Clients
/// send 64 KiB to 1 MiB.
const MAX_SIGNED_CHUNK_BYTES: usize = 16 * 1024 * 1024;
/// The largest field of a POST form in bytes (<https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTForms.html>: 20 KB for all).
const MAX_FORM_FIELD_BYTES: usize = 64 * 1024;

/// The payload mode whose end only the terminal chunk tells.
const SIGNED_CHUNKS: &[u8] = b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD";

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
    /// Where large bodies are hashed side by side, if anywhere.
    pub lanes: Option<Lanes>,
    /// Rates of senders and buckets.
    pub rates: Rates,
    /// When the gateway stops: what has no end of its own ends then.
    pub drain: Drain,
    /// Settings.
    pub settings: Settings,
}

/// The operation a request turned out to be, as S3 names it (`GetObject` …). Among the response's extensions, for logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation(pub &'static str);

/// What a log line about a request wants to know. Among the response's extensions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestFacts {
    /// The bucket; empty for none.
    pub bucket: String,
    /// The key; empty for none.
    pub key: String,
    /// The access key, once its signature has been verified; empty before.
    pub access_key: String,
    /// The S3 error code; empty when all went well.
    pub error: &'static str,
}

/// Who is at the other end. Among the request's extensions, for policies that look at `aws:SourceIp` and `aws:SecureTransport`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The client's address; behind a proxy that is known, the one that it tells.
    pub address: IpAddr,
    /// Whether it speaks TLS, to us or to that proxy.
    pub secure: bool,
}

/// The S3 service. Cheap to clone.
#[derive(Clone)]
pub struct Front {
    service: S3Service,
    route: Route,
    keys: Arc<signature::Keys>,
    parts: Arc<Parts>,
    domains: Arc<[String]>,
    signature_v2: SignatureV2,
    tokens: Arc<Tokens>,
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").finish_non_exhaustive()
    }
}

impl Front {
    /// Builds the service.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let domains: Arc<[String]> = parts.settings.domains.clone().into();

        let mut config = S3Config::default();
        config.xml_max_body_size = parts.settings.max_xml_size_bytes;
        config.post_object_max_file_size = parts.settings.max_write_size_bytes;
        config.put_object_max_size = None;
        // Bodies of routes are bounded per operation by what they declare.
        config.custom_route_max_body_size = None;
        config.aws_chunked_stream_max_chunk_size = MAX_SIGNED_CHUNK_BYTES;
        config.form_max_field_size = MAX_FORM_FIELD_BYTES;
        config.form_max_fields_size = MAX_FIELDS_BYTES / 2;
        let signature_v2 = parts.settings.signature_v2;
        config.expected_region = parts.settings.check_region.then(|| parts.settings.region.parse().ok()).flatten();
        config.enable_sig_v2 = signature_v2 != SignatureV2::Off;
        config.sig_v4_allowed_services = ["s3", "sts", "iam"].map(str::to_owned).to_vec();

        let tokens = parts.tokens.clone();
        let parts = Arc::new(parts);
        let mut builder = S3ServiceBuilder::new(Forms::new(parts.clone()));
        builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
        builder.set_auth(Auth::new(parts.tokens.clone()));
        builder.set_access(Access::new(parts.clone()));
        builder.set_host(Hosts::new(domains.clone()));
        let route = Route::new(parts.clone());
        builder.set_route(route.clone());
        Self { service: builder.build(), route, keys: Arc::default(), parts, domains, signature_v2, tokens }
    }

    /// Answers a request. The edge has put a [`RequestId`] into its extensions; the answer has [`Operation`] and [`RequestFacts`]
    /// among its own. Every error is an answer.
    pub async fn call<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + Sync + Unpin + 'static,
        B::Error: Into<s3s::StdError>,
    {
        let settings = &self.parts.settings;
        let request = if settings.public_hosts.is_empty() {
            request
        } else {
            Box::pin(signature::with_public_host(request, &self.tokens, settings)).await
        };
        let usual = match settings.fast_signatures {
            true => signature::usual(&request, &self.tokens, settings, &self.keys).await,
            false => Ok(None),
        };
        let usual = match usual {
            Ok(Some(usual)) => usual,
            Ok(None) => return Box::pin(self.call_framework(request)).await,
            Err(failure) => return Box::pin(self.refused(failure, &request)).await,
        };
        let asking = Asking::of(request.method(), request.headers());
        let (head, body) = prepared(request, None).into_parts();
        let verified = Verified {
            head,
            body,
            trailers: None,
            service: None,
            access_key: Some(usual.credential.access_key.as_ref().to_owned()),
            credential: Some(usual.credential),
            query: Some(usual.query),
        };
        // Boxed, so that it is not moved about with what carries it, which is moved more than once.
        let response = Box::pin(self.route.answer(verified)).await;
        self.shared(asking, response).await
    }

    /// The answer to a request whose key is unknown or cannot be looked up.
    async fn refused<B>(&self, failure: Failure, request: &Request<B>) -> Response<Body>
    where
        B: Sync,
    {
        let (method, uri, host) = (request.method(), request.uri(), request.headers().get(http::header::HOST));
        let request_id = request_id(request.extensions());
        let failure = self.explained(failure, Head::of(request).as_ref(), &request_id).await;
        let response = self.retold(Err(failure), method, uri, host, &request_id);
        self.shared(Asking::of(method, request.headers()), response).await
    }

    /// Answers a request whose signature the framework has to look at, or that has none.
    async fn call_framework<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + Sync + Unpin + 'static,
        B::Error: Into<s3s::StdError>,
    {
        let request_id = request_id(request.extensions());
        let method = request.method().clone();
        let uri = request.uri().clone();
        let host = request.headers().get(http::header::HOST).cloned();
        if method == Method::OPTIONS {
            // Before the signature is looked at: browsers send no credentials with a preflight, but whatever query the URL has.
            return Box::pin(self.preflight(request.headers(), &uri, host.as_ref(), &request_id)).await;
        }
        let bucket = host.as_ref().and_then(|h| h.to_str().ok()).and_then(|h| address::bucket_of_host(h, &self.domains));
        if iam::is_request(&method, uri.path(), bucket, request.headers()) {
            let mut response = Box::pin(self.identities(request, &uri, &request_id)).await;
            name_error(&mut response);
            return response;
        }
        let asking = Asking::of(&method, request.headers());
        let request = if signature::v4a::is_used(&uri, request.headers()) {
            Box::pin(signature::v4a::translated(request, &self.tokens, &self.parts.settings, MAX_SIGNED_CHUNK_BYTES)).await
        } else {
            Ok(request.map(Either::Left))
        };
        let request = match request {
            Ok(request) => request,
            Err(failure) => {
                let mut response = self.retold(Err(failure), &method, &uri, host.as_ref(), &request_id);
                name_error(&mut response);
                return response;
            }
        };
        let signed = Head::of(&request);
        let response = if let Err(failure) = wellformed::check(&request) {
            self.retold(Err(failure), &method, &uri, host.as_ref(), &request_id)
        } else if self.signature_v2 != SignatureV2::On && signature_v2::in_header(request.headers()) {
            self.retold(Err(signature_v2::refusal()), &method, &uri, host.as_ref(), &request_id)
        } else {
            let request = if self.signature_v2 == SignatureV2::Off {
                request
            } else {
                Box::pin(signature_v2::with_signed_path(request, &self.tokens, &self.domains)).await
            };
            let form = route::is_form(&method, request.headers()).then(|| (Copied::default(), request.headers().clone()));
            match self.service.call(prepared(request, form.as_ref().map(|(copied, _)| copied))).await {
                Ok(response) if response.extensions().get::<Operation>().is_some() => response,
                Ok(response) => {
                    let status = response.status();
                    let failed = status.is_client_error() || status.is_server_error();
                    let outcome = match form {
                        Some((copied, headers)) if failed => form::refuse_unsigned_policy(&copied, &headers),
                        _ => Ok(()),
                    };
                    let outcome = match outcome {
                        Ok(()) if failed => Err(self.explained(failure_of(&response, &uri), signed.as_ref(), &request_id).await),
                        Ok(()) => Ok(response),
                        Err(failure) => Err(failure),
                    };
                    let mut response = self.retold(outcome, &method, &uri, host.as_ref(), &request_id);
                    if failed && method == Method::HEAD {
                        // The code went with the body: the status is all that is known.
                        *response.status_mut() = status;
                    }
                    response
                }
                Err(error) => {
                    tracing::error!(%request_id, %error, "the S3 service gave no answer");
                    self.retold(Err(Code::InternalError.into()), &method, &uri, host.as_ref(), &request_id)
                }
            }
        };
        self.shared(asking, response).await
    }

    /// An answer with what the bucket's rules say to the page that asks, and its error where logs and metrics look for it.
    async fn shared(&self, asking: Option<Asking>, mut response: Response<Body>) -> Response<Body> {
        if let Some(asking) = asking {
            let bucket = response.extensions().get::<RequestFacts>().map(|f| f.bucket.clone()).unwrap_or_default();
            // Boxed, as all that is rare here: its future would be carried along, and moved about, by every request.
            Box::pin(asking.share(&self.parts.namespaces, &bucket, &mut response)).await;
        }
        name_error(&mut response);
        response
    }

    /// Answers a request to the IAM and STS APIs.
    async fn identities<B>(&self, request: Request<B>, uri: &Uri, request_id: &str) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<s3s::StdError>,
    {
        let fault = match iam::Form::read(request).await {
            Err(fault) => fault,
            Ok(request) => {
                let signed = Head::of(&request);
                match self.service.call(request).await {
                    Ok(response) if response.extensions().get::<Operation>().is_some() => return response,
                    Ok(response) => Fault::from(&self.explained(failure_of(&response, uri), signed.as_ref(), request_id).await),
                    Err(error) => {
                        tracing::error!(%request_id, %error, "the S3 service gave no answer");
                        Fault::new(500, "InternalFailure", "The request processing has failed because of an unknown error.")
                    }
                }
            }
        };
        iam::refused(&fault, "sts", "UnknownAction", RequestFacts::default(), request_id)
    }

    /// A failure with what is to be said of the signature, if it is about that.
    async fn explained(&self, failure: Failure, signed: Option<&Head>, request_id: &str) -> Failure {
        match signed {
            Some(head) if signature::is_about(failure.code()) => {
                Box::pin(signature::explain(failure, head, &self.tokens, &self.parts.settings, request_id)).await
            }
            _ => failure,
        }
    }

    async fn preflight(&self, headers: &HeaderMap, uri: &Uri, host: Option<&HeaderValue>, request_id: &str) -> Response<Body> {
        let read = address::read(uri.path(), host.and_then(|h| h.to_str().ok()), &self.domains);
        let (answer, address) = match read {
            Ok(address) => (cors::preflight(&self.parts.namespaces, &address, headers).await, address),
            Err(failure) => (Err(failure), Address::default()),
        };
        let mut facts = RequestFacts { bucket: address.bucket, key: address.key, ..RequestFacts::default() };
        let mut response = answer.unwrap_or_else(|failure| {
            facts.error = failure.code().name();
            let scene = Scene { resource: uri.path(), bucket: &facts.bucket, key: &facts.key, request_id, host_id: host_id() };
            failure.answer(scene, false)
        });
        if !facts.error.is_empty() {
            response.extensions_mut().insert(ErrorCode(facts.error));
        }
        response.extensions_mut().insert(Operation(Op::Options.name()));
        response.extensions_mut().insert(facts);
        response
    }

    /// An answer of the framework's own, in AWS's shape and words.
    fn retold(
        &self,
        outcome: Result<Response<Body>>,
        method: &Method,
        uri: &Uri,
        host: Option<&HeaderValue>,
        request_id: &str,
    ) -> Response<Body> {
        let host = host.and_then(|h| h.to_str().ok());
        let address = address::read(uri.path(), host, &self.domains).unwrap_or_default();
        let query = Query::parse(uri.query()).unwrap_or_default();
        let operation = match operation::resolve(method, &address, &query, &HeaderMap::new()) {
            Ok(op) => op.name(),
            // All that a router of ours does not know and the framework does is a form.
            Err(_) => "PostObject",
        };
        let mut facts = RequestFacts { bucket: address.bucket, key: address.key, ..RequestFacts::default() };
        let mut response = match outcome {
            Ok(response) => response,
            Err(failure) => {
                facts.error = failure.code().name();
                let scene =
                    Scene { resource: uri.path(), bucket: &facts.bucket, key: &facts.key, request_id, host_id: host_id() };
                failure.answer(scene, method == Method::HEAD)
            }
        };
        response.extensions_mut().insert(Operation(operation));
        response.extensions_mut().insert(facts);
        response
    }
}

/// Tells the error of an answer to logs and metrics.
fn name_error(response: &mut Response<Body>) {
    if let Some(code) = response.extensions().get::<RequestFacts>().map(|f| f.error).filter(|e| !e.is_empty()) {
        response.extensions_mut().insert(ErrorCode(code));
    }
}

/// The other end of a request's connection.
pub(super) fn peer(extensions: &Extensions) -> Option<Peer> {
    extensions.get::<Peer>().copied()
}

/// The id of a request.
pub(super) fn request_id(extensions: &Extensions) -> Arc<str> {
    extensions.get::<RequestId>().map_or_else(|| Arc::from(""), |id| id.0.clone())
}

/// A request with a body that the framework takes, watched where the framework does not look.
fn prepared<B>(request: Request<B>, form: Option<&Copied>) -> Request<Body>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<s3s::StdError>,
{
    let (mut head, body) = request.into_parts();
    let chunked = || first(&head.headers, "x-amz-content-sha256").is_some_and(|v| v.as_bytes() == SIGNED_CHUNKS);
    let body = if let Some(copied) = form {
        head.extensions.insert(copied.clone());
        boxed(Copying::new(body, copied.clone()))
    } else if chunked() {
        boxed(Terminated::new(body))
    } else if body.is_end_stream() {
        Body::empty()
    } else {
        boxed(body)
    };
    Request::from_parts(head, body)
}

fn boxed<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<s3s::StdError>,
{
    Body::http_body_unsync(http_body_util::BodyExt::map_err(body, Into::into))
}

/// Reads an error back out of the framework's answer.
fn failure_of(response: &Response<Body>, uri: &Uri) -> Failure {
    let told = response.body().bytes().filter(|b| !b.is_empty()).and_then(|b| xml::parse(&b, "Error").ok());
    let code = told.as_ref().and_then(|e| e.text_of("Code")).and_then(Code::from_name);
    let message = told.as_ref().and_then(|e| e.text_of("Message")).filter(|m| !m.is_empty());
    match (code, message) {
        (Some(Code::SignatureDoesNotMatch), Some("invalid header: x-amz-content-sha256")) => Failure::argument(
            "x-amz-content-sha256",
            "",
            "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, \
             STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value.",
        ),
        (Some(Code::InvalidRequest), Some("invalid header: authorization")) => Code::AuthorizationHeaderMalformed.into(),
        (Some(Code::InvalidRequest), Some("missing header: x-amz-content-sha256")) => {
            Failure::request("Missing required header for this request: x-amz-content-sha256")
        }
        (Some(Code::NotImplemented), Some(message)) if message.starts_with("unknown service") => {
            let code = match expires(uri) {
                Some(_) => Code::AuthorizationQueryParametersError,
                None => Code::AuthorizationHeaderMalformed,
            };
            Failure::because(code, "The credential is malformed; incorrect service. This endpoint belongs to \"s3\".")
        }
        (Some(Code::NotImplemented), Some(message)) if message.starts_with("X-Amz-Algorithm") => {
            Failure::because(Code::AuthorizationQueryParametersError, "X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\"")
        }
        (Some(Code::InvalidRequest), Some("missing boundary" | "failed to read file stream")) => {
            Code::MalformedPOSTRequest.into()
        }
        (Some(Code::InvalidRequest), Some("invalid field: policy")) => {
            Failure::because(Code::InvalidPolicyDocument, "Invalid Policy: Invalid Base64 encoding.")
        }
        (Some(code @ (Code::AuthorizationHeaderMalformed | Code::AuthorizationQueryParametersError)), Some(message))
            if message.contains("the region is wrong") =>
        {
            let expected = message.split('\'').nth(1).unwrap_or_default();
            let code = if expires(uri).is_some() { Code::AuthorizationQueryParametersError } else { code };
            let what = if expires(uri).is_some() {
                "Error parsing the X-Amz-Credential parameter"
            } else {
                "The authorization header is malformed"
            };
            Failure::because(code, format!("{what}; the region is wrong; expecting '{expected}'")).field("Region", expected)
        }
        // The framework says these in its own words.
        (Some(code @ (Code::SignatureDoesNotMatch | Code::RequestTimeTooSkewed | Code::InvalidAccessKeyId)), _) => code.into(),
        (Some(Code::AuthorizationQueryParametersError), _) if expires(uri).is_some_and(|seconds| seconds < 0) => {
            Failure::because(Code::AccessDenied, "Request has expired")
        }
        (Some(Code::AuthorizationQueryParametersError), _) if expires(uri).is_some_and(|seconds| seconds > 604_800) => {
            Failure::because(
                Code::AuthorizationQueryParametersError,
                "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds",
            )
        }
        (Some(Code::AccessDenied), Some(message)) if message.starts_with("Signature Version 2 is disabled") => {
            signature_v2::refusal()
        }
        (Some(Code::InvalidRequest), Some("missing presigned url v2 fields")) => Failure::because(
            Code::AccessDenied,
            "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters",
        ),
        (
            Some(Code::InvalidRequest),
            Some(
                "missing date"
                | "invalid date"
                | "invalid x-amz-date"
                | "missing header: x-amz-date"
                | "invalid header: x-amz-date",
            ),
        ) => Failure::because(Code::AccessDenied, "AWS authentication requires a valid Date or x-amz-date header"),
        // A policy that a form breaks forbids the form; only a policy that cannot be read is a bad document.
        (Some(Code::InvalidPolicyDocument), Some(message)) if breaks_policy(message) => {
            Failure::because(Code::AccessDenied, format!("Invalid according to Policy: {message}"))
        }
        (Some(code), Some(message)) => Failure::because(code, message.to_owned()),
        (Some(code), None) => code.into(),
        (None, message) => {
            let code = match response.status().as_u16() {
                403 => Code::AccessDenied,
                404 => Code::NoSuchKey,
                405 => Code::MethodNotAllowed,
                411 => Code::MissingContentLength,
                501 => Code::NotImplemented,
                503 => Code::ServiceUnavailable,
                status if status < 500 => Code::InvalidRequest,
                _ => Code::InternalError,
            };
            match message {
                Some(message) => Failure::because(code, message.to_owned()),
                None => code.into(),
            }
        }
    }
}

fn breaks_policy(message: &str) -> bool {
    message.starts_with("Policy condition") || message.starts_with("Bucket in form field")
}

/// How many seconds a presigned URL lives.
fn expires(uri: &Uri) -> Option<i64> {
    Query::parse(uri.query()).unwrap_or_default().get("X-Amz-Expires")?.parse().ok()
}

/// Takes headers off an answer that has no body.
pub(super) fn strip_body(response: &mut Response<Body>) {
    *response.body_mut() = Body::empty();
    response.headers_mut().remove(CONTENT_LENGTH);
    response.headers_mut().remove(CONTENT_TYPE);
}
