//! What browsers are told.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD,
    HeaderMap, HeaderValue, ORIGIN, VARY,
};
use http::{Method, Response, StatusCode};
use s3s::Body;

use super::rules::{Configuration, Rule, is_method};
use crate::namespaces::Namespaces;
use crate::s3::address::Address;
use crate::s3::call::{Answer, empty};
use crate::s3::error::{Code, Failure};

/// What an answer depends on beside the URL.
const VARIES: HeaderValue = HeaderValue::from_static("Origin, Access-Control-Request-Headers, Access-Control-Request-Method");

/// A request that a page of some origin makes.
#[derive(Debug)]
pub(crate) struct Asking {
    origin: HeaderValue,
    method: String,
}

impl Asking {
    /// What a request says; `None` without `Origin`.
    pub(crate) fn of(method: &Method, headers: &HeaderMap) -> Option<Self> {
        let origin = headers.get(ORIGIN)?.clone();
        // Browsers name the method only in a preflight; where somebody names it, it counts.
        let named = headers.get(ACCESS_CONTROL_REQUEST_METHOD).and_then(|m| m.to_str().ok());
        Some(Self { origin, method: named.unwrap_or(method.as_str()).to_owned() })
    }

    /// Adds to the answer of an actual request what the bucket's rules say about it.
    pub(crate) async fn share(&self, namespaces: &Namespaces, bucket: &str, response: &mut Response<Body>) {
        if bucket.is_empty() || response.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
            return;
        }
        let Ok(namespace) = namespaces.get(bucket).await else { return };
        let Some(rules) = namespace.compiled(super::SETTING, Configuration::from_json) else { return };
        // Also without a match: a cache must not serve this answer to an origin that has one.
        response.headers_mut().append(VARY, VARIES);
        let Ok(origin) = self.origin.to_str() else { return };
        if let Some(rule) = rules.rule(origin, &self.method, &[]) {
            write(rule, origin, &self.origin, response.headers_mut());
        }
    }
}

fn write(rule: &Rule, origin: &str, value: &HeaderValue, headers: &mut HeaderMap) {
    if rule.is_for_all(origin) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    } else {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, value.clone());
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    let lists = [(ACCESS_CONTROL_ALLOW_METHODS, &rule.methods), (ACCESS_CONTROL_EXPOSE_HEADERS, &rule.exposed)];
    for (name, list) in lists {
        if let Some(value) = Some(list).filter(|l| !l.is_empty()).and_then(|l| HeaderValue::from_str(&l.join(", ")).ok()) {
            headers.insert(name, value);
        }
    }
    if let Some(seconds) = rule.max_age {
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(seconds));
    }
}

/// Answers a preflight (<https://docs.aws.amazon.com/AmazonS3/latest/API/RESTOPTIONSobject.html>), which is never signed.
///
/// # Errors
/// `BadRequest` when it does not say who asks for what, `AccessForbidden` when no rule allows it.
pub(crate) async fn preflight(namespaces: &Namespaces, address: &Address, asked: &HeaderMap) -> Answer {
    let bad = |message: String| Failure::because(Code::BadRequest, message);
    let origin = asked.get(ORIGIN).and_then(|o| Some((o, o.to_str().ok()?)));
    let Some((value, origin)) = origin else {
        return Err(bad("Insufficient information. Origin request header needed.".to_owned()));
    };
    let method = asked.get(ACCESS_CONTROL_REQUEST_METHOD).and_then(|m| m.to_str().ok()).unwrap_or("null");
    if !is_method(method) {
        return Err(bad(format!("Invalid Access-Control-Request-Method: {method}")));
    }
    let forbidden = |message: &'static str| {
        let resource = if address.key.is_empty() { "BUCKET" } else { "OBJECT" };
        Failure::because(Code::AccessForbidden, message).field("Method", method).field("ResourceType", resource)
    };
    if address.bucket.is_empty() {
        return Err(forbidden(Code::AccessForbidden.message()));
    }
    let namespace = match namespaces.get(&address.bucket).await.map_err(Failure::from) {
        Ok(namespace) => namespace,
        Err(failure) if failure.code() == Code::NoSuchBucket => return Err(forbidden("CORSResponse: Bucket not found")),
        Err(failure) => return Err(failure),
    };
    let rules =
        namespace.compiled(super::SETTING, Configuration::from_json).ok_or_else(|| forbidden(Code::AccessForbidden.message()))?;
    let headers: Vec<String> = asked
        .get_all(ACCESS_CONTROL_REQUEST_HEADERS)
        .iter()
        .flat_map(|list| {
            String::from_utf8_lossy(list.as_bytes()).split(',').map(|h| h.trim().to_ascii_lowercase()).collect::<Vec<_>>()
        })
        .filter(|name| !name.is_empty())
        .collect();
    let rule = rules.rule(origin, method, &headers).ok_or_else(|| {
        forbidden(
            "CORSResponse: This CORS request is not allowed. This is usually because the evalution of Origin, request method / \
             Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted by the resource's CORS spec.",
        )
    })?;
    let mut response = empty(StatusCode::OK);
    write(rule, origin, value, response.headers_mut());
    if let Some(value) = Some(headers).filter(|h| !h.is_empty()).and_then(|h| HeaderValue::from_str(&h.join(", ")).ok()) {
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_HEADERS, value);
    }
    response.headers_mut().insert(VARY, VARIES);
    Ok(response)
}
