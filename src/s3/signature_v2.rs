//! Signature Version 2 beyond the signature itself (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/RESTAuthentication.html>).
//!
//! The framework verifies it, and with it every `x-amz-*` header. Of the query, though, Version 2 signs only the names of a fixed
//! list, and the framework takes a name that is there twice for one that is not there. So that nobody turns the URL they were
//! given into another request, nothing outside the signature may choose the operation. docs/adr/0002-signature-v2.md has the why.

use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Uri};

use super::address::{self, Address};
use super::error::{Code, Failure, Result};
use super::operation::{self, Op};
use super::query::Query;
use super::{Settings, signature};
use crate::tokens::Tokens;
use crate::transfer::{Algorithm, Hasher};

/// The names of a query that the signature covers.
const SIGNED: [&str; 35] = [
    "accelerate",
    "acl",
    "analytics",
    "cors",
    "defaultObjectAcl",
    "delete",
    "inventory",
    "lifecycle",
    "location",
    "logging",
    "metrics",
    "notification",
    "object-lock",
    "partNumber",
    "policy",
    "replication",
    "requestPayment",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "restore",
    "select",
    "select-type",
    "storageClass",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "website",
];

/// Whether that is worth a closer look, which most queries of Version 4 are not: a name may be encoded.
fn may_be_in_query(query: &str) -> bool {
    let mut names = query.split('&').map(|pair| pair.split_once('=').map_or(pair, |(name, _)| name));
    names.any(|name| name == "Signature" || name.contains(['%', '+']))
}

/// Whether the query carries a signature of Version 2: the framework looks at this name alone.
fn in_query(query: &Query) -> bool {
    query.has("Signature")
}

/// Whether the Authorization header carries a signature of Version 2. Of two headers the framework takes neither.
pub(crate) fn in_header(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    matches!((values.next(), values.next()), (Some(value), None) if value.as_bytes().starts_with(b"AWS "))
}

/// Whether a request whose signature was verified has one of Version 2. That signs the bucket itself, wherever it is named.
pub(crate) fn is_used(headers: &HeaderMap, query: &Query) -> bool {
    in_query(query) || in_header(headers)
}

/// Ends the path of a bucket in a slash if that is what was signed. boto and others sign `/bucket/` and send `/bucket`, and AWS takes
/// the two for the same; the framework verifies the path as it came. This decides nothing: the signature is verified after it.
pub(crate) async fn with_signed_path<B>(request: Request<B>, tokens: &Tokens, domains: &[String]) -> Request<B> {
    let request = with_signed_token(request);
    match signed_path(&request, tokens, domains).await {
        Some(uri) => {
            let (mut head, body) = request.into_parts();
            head.uri = uri;
            Request::from_parts(head, body)
        }
        None => request,
    }
}

/// Puts the session token of a URL among the headers, where its signer had it: a header is signed, a parameter of this name is not.
fn with_signed_token<B>(mut request: Request<B>) -> Request<B> {
    const NAME: HeaderName = HeaderName::from_static("x-amz-security-token");
    if !request.uri().query().is_some_and(may_be_in_query) {
        return request;
    }
    let Ok(query) = Query::parse(request.uri().query()) else { return request };
    if in_query(&query)
        && !request.headers().contains_key(NAME)
        && let Some(Ok(token)) = query.named_any_case(NAME.as_str()).map(HeaderValue::from_str)
    {
        request.headers_mut().insert(NAME, token);
    }
    request
}

async fn signed_path<B>(request: &Request<B>, tokens: &Tokens, domains: &[String]) -> Option<Uri> {
    let (uri, headers) = (request.uri(), request.headers());
    let host = headers.get(HOST).and_then(|h| h.to_str().ok());
    let in_path = host.and_then(|h| address::bucket_of_host(h, domains)).is_none();
    let bucket = uri.path().strip_prefix('/').filter(|b| in_path && !b.is_empty() && !b.contains('/'))?;
    let query = Query::parse(uri.query()).ok()?;
    let (mode, access_key, given) = if in_query(&query) {
        (s3s_sigv2::Mode::PresignedUrl, query.get("AWSAccessKeyId")?, query.get("Signature")?)
    } else if in_header(headers) {
        let (access_key, given) = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("AWS ")?.split_once(':')?;
        (s3s_sigv2::Mode::HeaderAuth, access_key, given)
    } else {
        return None;
    };
    let credential = tokens.credential(access_key).await.ok()??;
    let pairs: Vec<_> = headers.iter().filter_map(|(n, v)| Some((n.as_str(), std::str::from_utf8(v.as_bytes()).ok()?))).collect();
    let path = format!("/{bucket}/");
    let text = s3s_sigv2::create_string_to_sign(mode, request.method().as_str(), &path, Some(&query.sorted()), &pairs, None);
    let signature = s3s_sigv2::calculate_signature(credential.secret.expose(), &text);
    // Their hashes are compared, so that the time it takes says nothing about the signature.
    let hash = |text: &str| Hasher::once(Algorithm::Sha256, text.as_bytes());
    if hash(&signature) != hash(given) {
        return None;
    }
    let target = uri.query().map_or_else(|| path.clone(), |q| format!("{path}?{q}"));
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(target.parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// A signature that does not match, with what was signed as it was understood, as AWS shows it.
pub(crate) fn explained(failure: Failure, method: &Method, uri: &Uri, headers: &HeaderMap, settings: &Settings) -> Failure {
    let Ok(query) = Query::parse(uri.query()) else { return failure };
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|text| text.strip_prefix("AWS "));
    let (mode, access_key, given) = match (in_query(&query), header.and_then(|text| text.split_once(':'))) {
        (true, _) => {
            let (key, given) = (query.get("AWSAccessKeyId"), query.get("Signature"));
            (s3s_sigv2::Mode::PresignedUrl, key.unwrap_or_default(), given.unwrap_or_default())
        }
        (false, Some((key, given))) => (s3s_sigv2::Mode::HeaderAuth, key, given),
        (false, None) => return failure,
    };
    let pairs: Vec<_> = headers.iter().filter_map(|(n, v)| Some((n.as_str(), std::str::from_utf8(v.as_bytes()).ok()?))).collect();
    let bucket = headers.get(HOST).and_then(|h| h.to_str().ok()).and_then(|h| address::bucket_of_host(h, &settings.domains));
    let query = query.sorted();
    let text = s3s_sigv2::create_string_to_sign(mode, method.as_str(), uri.path(), Some(&query), &pairs, bucket);
    let bytes = signature::bytes(&text);
    failure
        .field("AWSAccessKeyId", access_key)
        .field("StringToSign", text)
        .field("SignatureProvided", given)
        .field("StringToSignBytes", bytes)
}

/// What a request is told whose signature is not accepted here.
pub(crate) fn refusal() -> Failure {
    Failure::request("The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.")
}

/// Refuses a verified request that became another one by what its signature does not cover.
///
/// # Errors
/// `AccessDenied`.
pub(crate) fn check(method: &Method, address: &Address, query: &Query, headers: &HeaderMap, op: Op) -> Result<()> {
    if !is_used(headers, query) {
        return Ok(());
    }
    let denied = |what: &'static str| Err(Failure::because(Code::AccessDenied, what));
    if query.repeats() {
        return denied("A parameter of the query was given twice, which Signature Version 2 cannot sign");
    }
    let twice = |name: HeaderName| headers.get_all(name).iter().count() > 1;
    if twice(CONTENT_TYPE) || twice(HeaderName::from_static("content-md5")) {
        return denied("A signed header was given twice, which Signature Version 2 cannot sign");
    }
    let signed = operation::resolve(method, address, &query.only(|name| SIGNED.contains(&name)), headers)?;
    // `list-type` is not signed, and both listings tell the same.
    let same = signed == op || matches!((signed, op), (Op::ListObjects, Op::ListObjectsV2));
    if same { Ok(()) } else { denied("There were query parameters present in the request which were not signed") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn checked(method: &str, target: &str) -> Result<()> {
        let method: Method = method.parse().unwrap();
        let (path, query) = target.split_once('?').unwrap();
        let (address, query) = (crate::s3::address::read(path, None, &[]).unwrap(), Query::parse(Some(query)).unwrap());
        let op = operation::resolve(&method, &address, &query, &HeaderMap::new()).unwrap();
        check(&method, &address, &query, &HeaderMap::new(), op)
    }

    #[test]
    fn the_token_of_a_url_is_found_however_its_signature_is_spelt() {
        let token = |query: &str| {
            let request = with_signed_token(Request::get(format!("http://h/b/k?{query}")).body(()).unwrap());
            request.headers().get("x-amz-security-token").map(|token| token.to_str().unwrap().to_owned())
        };
        for signature in ["Signature=s", "Signatur%65=s", "%53ignature", "Signature"] {
            assert_eq!(token(&format!("X-Amz-Security-Token=t&{signature}")).as_deref(), Some("t"), "{signature}");
        }
        for signature in ["X-Amz-Signature=s", "signature=s", "a=Signature", "Sig+nature=s"] {
            assert_eq!(token(&format!("X-Amz-Security-Token=t&{signature}")), None, "{signature}");
        }
    }

    #[test]
    fn the_operation_is_chosen_by_what_is_signed() {
        let signature = "AWSAccessKeyId=A&Expires=1&Signature=s";
        for fine in [
            "GET /b/k?",
            "GET /b/k?response-content-type=a&",
            "PUT /b/k?partNumber=1&uploadId=u&",
            "GET /b?list-type=2&prefix=a&",
        ] {
            let (method, target) = fine.split_once(' ').unwrap();
            assert!(checked(method, &format!("{target}{signature}")).is_ok(), "{fine}");
        }
        for other in [
            "GET /b/k?attributes&",
            "PUT /b/k?retention&",
            "PUT /b/k?legal-hold&",
            "PUT /b?encryption&",
            "PUT /b?publicAccessBlock&",
            "DELETE /b?ownershipControls&",
            "PUT /b/k?tagging&tagging&",
            "GET /b/k?versionId=a&versionId=b&",
        ] {
            let (method, target) = other.split_once(' ').unwrap();
            assert_eq!(checked(method, &format!("{target}{signature}")).unwrap_err().code(), Code::AccessDenied, "{other}");
        }
        assert!(checked("GET", "/b/k?attributes&X-Amz-Signature=s").is_ok(), "Version 4 signs the whole query");
    }

    #[test]
    fn a_header_is_one_header() {
        let mut headers = HeaderMap::new();
        assert!(!in_header(&headers));
        headers.append(AUTHORIZATION, HeaderValue::from_static("AWS a:b"));
        assert!(in_header(&headers));
        headers.append(AUTHORIZATION, HeaderValue::from_static("AWS a:b"));
        assert!(!in_header(&headers), "the framework ignores both");
        headers.insert(AUTHORIZATION, HeaderValue::from_static("AWS4-HMAC-SHA256 x"));
        assert!(!in_header(&headers));
    }
}
