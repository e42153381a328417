//! What a request must be before anybody looks at its signature. The framework takes what is wrong here for something else: a stray
//! percent sign for part of a name, a mechanism that it does not know for a broken header, one of two signatures for the only one.

use http::header::{AUTHORIZATION, HOST};
use http::{Request, Uri, Version};

use super::error::{Code, Failure, Result};
use super::query::Query;

/// Checks the head of a request.
///
/// # Errors
/// `BadRequest` without a Host, `InvalidURI` for what cannot be decoded, `InvalidArgument` for a mechanism that nobody knows and for
/// two at once, `AccessDenied` for an empty one.
pub(crate) fn check<B>(request: &Request<B>) -> Result<()> {
    if request.version() == Version::HTTP_11 && !request.headers().contains_key(HOST) {
        // RFC 9112 section 3.2.
        return Err(Failure::because(Code::BadRequest, "An HTTP/1.1 request must have a Host header."));
    }
    let uri = request.uri();
    if !is_decodable(uri.path()) || !uri.query().is_none_or(is_decodable) {
        return Err(Code::InvalidURI.into());
    }
    match request.headers().get(AUTHORIZATION) {
        Some(value) => mechanism(value.as_bytes(), uri),
        None => Ok(()),
    }
}

/// Whether each percent sign begins an encoded byte.
fn is_decodable(text: &str) -> bool {
    let text = text.as_bytes();
    memchr::memchr_iter(b'%', text).all(|at| {
        let escape = text.get(at + 1..at + 3);
        matches!(escape, Some([high, low]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
    })
}

/// Checks how a request wants to be authenticated (<https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html>).
fn mechanism(authorization: &[u8], uri: &Uri) -> Result<()> {
    // The value is not repeated to the sender: it may be a secret, as in `Basic`.
    let refuse = |message: &'static str| Err(Failure::argument("Authorization", "", message));
    if authorization.trim_ascii().is_empty() {
        return Err(Code::AccessDenied.into());
    }
    if uri.query().is_some_and(|query| query.contains("Signature") || query.contains("X-Amz-Algorithm")) {
        let query = Query::parse(uri.query())?;
        if ["X-Amz-Algorithm", "X-Amz-Signature", "Signature"].iter().any(|name| query.has(name)) {
            return refuse(
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the \
                 Authorization header should be specified",
            );
        }
    }
    let name = authorization.split(|b| b.is_ascii_whitespace()).next().unwrap_or_default();
    if name == b"AWS4-HMAC-SHA256" || name == b"AWS" { Ok(()) } else { refuse("Unsupported Authorization Type") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn code(target: &str, headers: &[(&str, &str)]) -> Option<Code> {
        let request = Request::builder().uri(target).header("host", "h");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        check(&request.body(()).unwrap()).err().map(|failure| failure.code())
    }

    #[test]
    fn a_percent_sign_begins_a_byte() {
        for good in ["/b/k", "/b/%25", "/b/a%2Fb%c3%bc", "/b?prefix=%20", "/"] {
            assert_eq!(code(good, &[]), None, "{good}");
        }
        for bad in ["/b/%", "/b/%z0", "/b/%2", "/b/%%41", "/b?prefix=%", "/b?%gg"] {
            assert_eq!(code(bad, &[]), Some(Code::InvalidURI), "{bad}");
        }
    }

    #[test]
    fn a_request_says_where_it_goes() {
        let request = |version| Request::builder().version(version).uri("/").body(()).unwrap();
        assert_eq!(check(&request(Version::HTTP_11)).unwrap_err().code(), Code::BadRequest);
        assert!(check(&request(Version::HTTP_10)).is_ok());
    }

    #[test]
    fn one_mechanism_that_is_known() {
        let auth = |value: &'static str| [("authorization", value)];
        assert_eq!(code("/b", &auth("AWS4-HMAC-SHA256 Credential=x")), None);
        assert_eq!(code("/b", &auth("AWS a:b")), None);
        for unknown in ["Basic dTpw", "Bearer x", "nonsense", "AWS4-HMAC-SHA512 x", "AWS4-ECDSA-P256-SHA256 x"] {
            assert_eq!(code("/b", &auth(unknown)), Some(Code::InvalidArgument), "{unknown}");
        }
        assert_eq!(code("/b", &auth("")), Some(Code::AccessDenied));
        for query in ["X-Amz-Signature=s", "X-Amz-Algorithm=AWS4-HMAC-SHA256", "AWSAccessKeyId=a&Signature=s"] {
            assert_eq!(code(&format!("/b?{query}"), &auth("AWS4-HMAC-SHA256 x")), Some(Code::InvalidArgument), "{query}");
        }
        assert_eq!(code("/b?prefix=Signature", &auth("AWS a:b")), None);
    }
}
