//! The IAM and STS APIs, as `aws iam` and `aws sts` speak them: a form is posted to `/`, signed for the service `iam` or `sts`, and the
//! answer is XML (<https://docs.aws.amazon.com/IAM/latest/APIReference/>, <https://docs.aws.amazon.com/STS/latest/APIReference/>).
//!
//! The framework verifies the signature: what it needs for a service that sends no `x-amz-content-sha256` is the digest of the body, which is
//! read first ([`Form::read`]). Then the request comes here instead of to an operation of S3.
//!
//! Everybody acts in their own account only; what they may do there, their policies say. An account's own keys may do everything.

mod answer;
mod api;
mod entities;
mod fault;
mod groups;
mod keys;
mod managed;
mod names;
mod openid;
mod policies;
mod simulate;
mod sts;
mod summary;
mod web_identity;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Request, Response};
use s3s::{Body, S3Request};

use super::access::{Asked, anybody, sender};
use super::error::{Code, Failure};
use super::front::{Operation, Parts, RequestFacts, peer, request_id};
use super::operation::Op;
use super::query::Query;
use crate::limits::Sender;
use crate::meta::SessionKind;
use crate::tokens::Actor;
use crate::transfer::{Algorithm, Hasher};
pub(crate) use api::Api;
pub(crate) use fault::Fault;

/// The largest form in bytes: the longest document, with every character escaped, and the rest.
const MAX_FORM_BYTES: usize = 256 * 1024;

/// A form that was read, among the extensions of a request.
#[derive(Clone, Debug)]
pub(crate) struct Form(String);

/// Whether a request is one of these, as far as its head tells.
pub(crate) fn is_request(method: &Method, path: &str, bucket: Option<&str>, headers: &HeaderMap) -> bool {
    let form = b"application/x-www-form-urlencoded";
    method == Method::POST
        && path == "/"
        && bucket.is_none()
        && headers.get(CONTENT_TYPE).and_then(|v| v.as_bytes().get(..form.len())).is_some_and(|v| v.eq_ignore_ascii_case(form))
}

impl Form {
    /// Reads the body of a request, and tells the framework its digest.
    ///
    /// # Errors
    /// `RequestEntityTooLarge`, `IncompleteSignature` when it breaks off or is no text.
    pub(crate) async fn read<B>(request: Request<B>) -> Result<Request<Body>, Fault>
    where
        B: http_body::Body<Data = bytes::Bytes> + Send,
        B::Error: Into<s3s::StdError>,
    {
        let (mut head, body) = request.into_parts();
        let body = Box::pin(http_body_util::Limited::new(body, MAX_FORM_BYTES));
        let bytes = match http_body_util::BodyExt::collect(body).await {
            Ok(collected) => collected.to_bytes(),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                return Err(Fault::new(413, "RequestEntityTooLarge", format!("A form has at most {MAX_FORM_BYTES} bytes.")));
            }
            Err(_) => return Err(Fault::validation("The form broke off.")),
        };
        let text = std::str::from_utf8(&bytes).map_err(|_| Fault::validation("The form is not UTF-8."))?;
        let digest = hex::encode(Hasher::once(Algorithm::Sha256, &bytes));
        if let Ok(digest) = HeaderValue::from_str(&digest) {
            // Whatever was said before: what is signed is what has come.
            head.headers.insert(HeaderName::from_static("x-amz-content-sha256"), digest);
        }
        head.headers.remove(TRANSFER_ENCODING);
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
        head.extensions.insert(Self(text.to_owned()));
        Ok(Request::from_parts(head, Body::from(bytes)))
    }
}

/// Answers a request whose signature was verified.
pub(crate) async fn answer(parts: &Parts, request: &S3Request<Body>, form: &Form) -> Response<Body> {
    let request_id = request_id(&request.extensions);
    let mut name = "UnknownAction";
    let mut service = "sts";
    let outcome = match Query::parse(Some(&form.0)) {
        Err(_) => Err(Fault::validation("The form cannot be decoded.")),
        Ok(params) => {
            if let Some((action, of)) = api::action(params.get("Action").unwrap_or_default()) {
                (name, service) = (action, of);
            }
            Box::pin(act(parts, request, params, name)).await
        }
    };
    let facts = RequestFacts {
        access_key: request.credentials.as_ref().map(|c| c.access_key.clone()).unwrap_or_default(),
        ..RequestFacts::default()
    };
    match outcome {
        Ok(inner) => finished(answer::document(service, name, inner, &request_id), name, facts),
        Err(fault) => refused(&fault, service, name, facts, &request_id),
    }
}

async fn act(
    parts: &Parts,
    request: &S3Request<Body>,
    params: Query,
    name: &'static str,
) -> Result<Option<super::xml::Xml>, Fault> {
    let query = Query::parse(request.uri.query()).map_err(|_| Fault::validation("The query cannot be decoded."))?;
    let peer = peer(&request.extensions);
    if name == web_identity::ACTION {
        // The token says who it is; nobody has to be known here. What that costs counts for the address, as all that is not signed.
        peer.map_or(Ok(()), |peer| parts.rates.take_user(Sender::Address(peer.address)))
            .map_err(|_| Fault::from(&Failure::from(Code::SlowDown)))?;
        let api = Api::new(parts, Actor::unbound(anybody()), params, &request.headers, &query, peer);
        return api::dispatch(&api, name).await;
    }
    let Some(credentials) = &request.credentials else {
        return Err(Fault::new(403, "MissingAuthenticationToken", "Request is missing Authentication Token"));
    };
    if !["iam", "sts"].contains(&request.service.as_deref().unwrap_or_default()) {
        return Err(Fault::new(403, "SignatureDoesNotMatch", "Credential should be scoped to the service iam or sts."));
    }
    let asked = Asked {
        access_key: Some(&credentials.access_key),
        credential: None,
        op: Some(Op::NotImplemented),
        bucket: "",
        key: "",
        peer,
        headers: &request.headers,
        query: &query,
    };
    if name == sts::RENEW {
        // With credentials that may be over, which nothing else takes.
        return sts::renew_session(parts, &credentials.access_key, asked).await;
    }
    let actor = sender(parts, asked).await.map_err(|failure| Fault::from(&failure))?;
    refuse_for_session(&actor, name)?;
    api::dispatch(&Api::new(parts, actor, params, &request.headers, &query, peer), name).await
}

/// What temporary credentials cannot do, whatever their policies say
/// (<https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_sts-comparison.html>): those that were not given for a role must not be able
/// to make lasting ones. Neither may a service account, whose policy only narrows what its owner may.
fn refuse_for_session(actor: &Actor, name: &str) -> Result<(), Fault> {
    let of_iam = api::action(name).is_some_and(|(_, service)| service == "iam");
    let refused = match actor.session().map(|session| session.kind) {
        Some(SessionKind::Federated) => name != "GetCallerIdentity",
        Some(SessionKind::SessionToken) => of_iam,
        Some(SessionKind::AssumedRole | SessionKind::WebIdentity) => false,
        None => of_iam && actor.has_limits(),
    };
    if refused { Err(Fault::denied(format!("Cannot call {name} with these credentials"))) } else { Ok(()) }
}

/// A refusal in the shape of these APIs.
pub(crate) fn refused(fault: &Fault, service: &str, name: &'static str, facts: RequestFacts, request_id: &str) -> Response<Body> {
    if let Some(cause) = fault.cause() {
        tracing::error!(request_id, operation = name, error = %cause, "request failed");
    }
    finished(fault.answer(service, request_id), name, RequestFacts { error: fault.code(), ..facts })
}

fn finished(mut response: Response<Body>, name: &'static str, facts: RequestFacts) -> Response<Body> {
    response.extensions_mut().insert(Operation(name));
    response.extensions_mut().insert(facts);
    response
}
