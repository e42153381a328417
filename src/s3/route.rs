//! The take-over: every request but a form comes here once its signature has been verified.

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{Extensions, HeaderMap, Method, Response, Uri, request};
use s3s::host::{S3Host, VirtualHost};
use s3s::route::S3Route;
use s3s::{Body, S3Request, S3Response, S3Result, TrailingHeaders};

use super::access::{Admitted, Asked, Ground, admit};
use super::address::{self, Address};
use super::call::Call;
use super::error::{Code, Failure, Result, Scene};
use super::file_body::SendsFiles;
use super::front::{Operation, Parts, RequestFacts, peer, request_id, strip_body};
use super::iam;
use super::operation::{self, Op};
use super::ops;
use super::query::Query;
use super::signature_v2;
use crate::telemetry::host_id;
use crate::tokens::Credential;

/// The route.
#[derive(Clone)]
pub(crate) struct Route {
    parts: Arc<Parts>,
}

impl Route {
    /// Over the layers beneath.
    pub(crate) fn new(parts: Arc<Parts>) -> Self {
        Self { parts }
    }
}

/// Whether a request is a POST form, which the framework reads.
pub(crate) fn is_form(method: &Method, headers: &HeaderMap) -> bool {
    let form = b"multipart/form-data";
    method == Method::POST
        && headers.get(CONTENT_TYPE).and_then(|v| v.as_bytes().get(..form.len())).is_some_and(|v| v.eq_ignore_ascii_case(form))
}

/// A request whose signature was verified, or that has none.
pub(crate) struct Verified {
    pub(crate) head: request::Parts,
    pub(crate) body: Body,
    /// The trailers of a body that is being decoded.
    pub(crate) trailers: Option<TrailingHeaders>,
    /// The service that it was signed for.
    pub(crate) service: Option<String>,
    /// The access key; `None` for an anonymous request.
    pub(crate) access_key: Option<String>,
    /// What that is, where it was looked up.
    pub(crate) credential: Option<Arc<Credential>>,
    /// The query, where it was read.
    pub(crate) query: Option<Query>,
}

impl From<S3Request<Body>> for Verified {
    fn from(request: S3Request<Body>) -> Self {
        let (mut head, ()) = http::Request::new(()).into_parts();
        (head.method, head.uri, head.headers, head.extensions) =
            (request.method, request.uri, request.headers, request.extensions);
        let access_key = request.credentials.map(|credentials| credentials.access_key);
        let (service, trailers) = (request.service, request.trailing_headers);
        Self { head, body: request.input, trailers, service, access_key, credential: None, query: None }
    }
}

/// What can be told of a request before it is carried out.
struct Read {
    address: Address,
    query: Query,
    op: Op,
}

fn read(parts: &Parts, verified: &mut Verified) -> Result<Read> {
    let Verified { head, query, .. } = verified;
    let host = head.headers.get(http::header::HOST).and_then(|v| v.to_str().ok());
    let address = address::read(head.uri.path(), host, &parts.settings.domains)?;
    let query = query.take().map_or_else(|| Query::parse(head.uri.query()), Ok)?;
    let op = operation::resolve(&head.method, &address, &query, &head.headers)?;
    Ok(Read { address, query, op })
}

impl Route {
    /// Carries a request out. Every error is an answer.
    pub(crate) async fn answer(&self, mut verified: Verified) -> Response<Body> {
        let uri = verified.head.uri.clone();
        let head = verified.head.method == Method::HEAD;
        let request_id = request_id(&verified.head.extensions);
        let access_key = verified.access_key.clone().unwrap_or_default();
        let (op, (answer, address)) = match read(&self.parts, &mut verified) {
            Ok(read) => (read.op.name(), self.carry_out(verified, read, &request_id).await),
            Err(failure) => ("Unknown", (Err(failure), Address::default())),
        };
        let mut facts = RequestFacts { bucket: address.bucket, key: address.key, access_key, error: "" };
        let mut response = match answer {
            Ok(response) => response,
            Err(failure) => {
                facts.error = failure.code().name();
                let scene = Scene {
                    resource: uri.path(),
                    bucket: &facts.bucket,
                    key: &facts.key,
                    request_id: &request_id,
                    host_id: host_id(),
                };
                self.told(&failure, op, scene, head)
            }
        };
        if response.status() == http::StatusCode::NO_CONTENT || response.status() == http::StatusCode::NOT_MODIFIED {
            strip_body(&mut response);
        }
        response.extensions_mut().insert(Operation(op));
        response.extensions_mut().insert(facts);
        response
    }

    async fn carry_out(&self, verified: Verified, read: Read, request_id: &Arc<str>) -> (Result<Response<Body>>, Address) {
        let Read { address, query, op } = read;
        let Verified { head: request, body, trailers, service, access_key, credential, .. } = verified;
        // What was signed for another service was not meant for this one.
        if service.as_deref().is_some_and(|service| service != "s3") {
            let wrong = Failure::because(
                Code::AuthorizationHeaderMalformed,
                "The authorization header is malformed; incorrect service. This endpoint belongs to 's3'.",
            );
            return (Err(wrong), address);
        }
        if let Err(failure) = signature_v2::check(&request.method, &address, &query, &request.headers, op) {
            return (Err(failure), address);
        }
        let peer = peer(&request.extensions);
        let asked = Asked {
            access_key: access_key.as_deref(),
            credential: credential.as_ref(),
            op: Some(op),
            bucket: &address.bucket,
            key: &address.key,
            peer,
            headers: &request.headers,
            query: &query,
        };
        let Admitted { identity, actor, namespace, ground } = match admit(&self.parts, asked).await {
            Ok(admitted) => admitted,
            Err(failure) => return (Err(failure), address),
        };
        let sends_files = request.extensions.get::<SendsFiles>().is_some();
        let mut call = Call {
            parts: self.parts.clone(),
            op,
            bucket: address.bucket,
            key: address.key,
            query,
            headers: request.headers,
            body,
            trailers,
            identity,
            actor,
            namespace,
            ground,
            peer,
            sends_files,
            source_ground: Ground::Lists,
            uri: request.uri,
            request_id: request_id.clone(),
        };
        let answer = ops::dispatch(&mut call).await;
        (answer, Address { bucket: call.bucket, key: call.key })
    }

    fn told(&self, failure: &Failure, op: &'static str, scene: Scene<'_>, bodyless: bool) -> Response<Body> {
        if failure.code().status().is_server_error() {
            match failure.cause() {
                Some(cause) => tracing::error!(request_id = scene.request_id, operation = op, error = %cause, "request failed"),
                // The sender's doing, and counted: a line for each would be a way to fill the log.
                None if failure.code() == Code::SlowDown => {}
                None => {
                    tracing::warn!(request_id = scene.request_id, operation = op, code = failure.code().name(), "request refused")
                }
            }
        } else if let Some(cause) = failure.cause() {
            tracing::debug!(request_id = scene.request_id, operation = op, error = %cause, "request refused");
        }
        failure.answer(scene, bodyless)
    }
}

#[async_trait::async_trait]
impl S3Route for Route {
    fn is_match(&self, method: &Method, _uri: &Uri, headers: &HeaderMap, _extensions: &mut Extensions) -> bool {
        !is_form(method, headers)
    }

    async fn check_access(&self, _request: &mut S3Request<Body>) -> S3Result<()> {
        // Decided in `call`, where a refusal can be told as AWS tells it.
        Ok(())
    }

    async fn call(&self, request: S3Request<Body>) -> S3Result<S3Response<Body>> {
        if let Some(form) = request.extensions.get::<iam::Form>().cloned() {
            let (parts, body) = Box::pin(iam::answer(&self.parts, &request, &form)).await.into_parts();
            let mut response = S3Response::with_headers(body, parts.headers);
            (response.status, response.extensions) = (Some(parts.status), parts.extensions);
            return Ok(response);
        }
        let response = self.answer(request.into()).await;
        let (parts, body) = response.into_parts();
        let mut response = S3Response::with_headers(body, parts.headers);
        (response.status, response.extensions) = (Some(parts.status), parts.extensions);
        Ok(response)
    }
}

/// Virtual hosts as the framework wants them: for forms, and for nothing else.
pub(crate) struct Hosts(Arc<[String]>);

impl Hosts {
    /// Under these domains.
    pub(crate) fn new(domains: Arc<[String]>) -> Self {
        Self(domains)
    }
}

impl S3Host for Hosts {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let virtual_host = VirtualHost::new(host);
        Ok(match address::bucket_of_host(host, &self.0) {
            Some(bucket) => virtual_host.with_bucket(bucket),
            None => virtual_host,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn forms_are_left_to_the_framework_and_nothing_else() {
        let with = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
            headers
        };
        assert!(is_form(&Method::POST, &with("multipart/form-data; boundary=x")));
        assert!(is_form(&Method::POST, &with("Multipart/Form-Data")));
        assert!(!is_form(&Method::PUT, &with("multipart/form-data")));
        assert!(!is_form(&Method::POST, &with("application/xml")));
        assert!(!is_form(&Method::POST, &HeaderMap::new()));
    }
}
