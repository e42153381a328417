//! A call of the S3 API, and its signature
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>).

use std::time::Duration;

use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use s3s_sigv4::AmzDate;
use sluice_provider::{Error, ErrorKind, Result};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::credentials::Credentials;
use crate::payload::Payload;

/// What stays as it is in a query (RFC 3986 section 2.3).
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// What stays as it is in a path. Every other byte is escaped, so that a key can hold anything.
const PATH: &AsciiSet = &QUERY.remove(b'/');

/// A call, before it is signed.
pub(crate) struct Call {
    pub(crate) operation: &'static str,
    pub(crate) method: Method,
    /// The key at the remote; `None` for the bucket itself.
    pub(crate) key: Option<String>,
    pub(crate) query: Vec<(&'static str, String)>,
    /// Names in lower case, values in printable ASCII.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) payload: Payload,
    /// Whether doing it twice is the same as doing it once.
    pub(crate) repeatable: bool,
    /// Not to be repeated here, because there is somewhere else to ask.
    pub(crate) hasty: bool,
    /// Made while another call's answer is still being read: it does not wait for a turn, which that one may hold.
    pub(crate) within: bool,
}

impl Call {
    /// A call without a body, which may be repeated.
    pub(crate) fn new(operation: &'static str, method: Method, key: Option<String>) -> Self {
        Self {
            operation,
            method,
            key,
            query: Vec::new(),
            headers: Vec::new(),
            payload: Payload::empty(),
            repeatable: true,
            hasty: false,
            within: false,
        }
    }

    pub(crate) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    pub(crate) fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(crate) fn headers(mut self, headers: impl IntoIterator<Item = (String, String)>) -> Self {
        self.headers.extend(headers);
        self
    }

    pub(crate) fn payload(mut self, payload: Payload) -> Self {
        self.payload = payload;
        self
    }

    /// Not to be repeated when nobody knows whether it was done.
    pub(crate) fn once(mut self) -> Self {
        self.repeatable = false;
        self
    }

    pub(crate) fn hasty(mut self, hasty: bool) -> Self {
        self.hasty = hasty;
        self
    }

    pub(crate) fn within(mut self) -> Self {
        self.within = true;
        self
    }

    /// The same call once more; `None` when its body is gone.
    pub(crate) fn again(&self) -> Option<Self> {
        Some(Self {
            operation: self.operation,
            method: self.method.clone(),
            key: self.key.clone(),
            query: self.query.clone(),
            headers: self.headers.clone(),
            payload: self.payload.again()?,
            repeatable: self.repeatable,
            hasty: self.hasty,
            within: self.within,
        })
    }
}

/// A path segment as it stands in a URL; slashes stay.
pub(crate) fn escape_path(path: &str) -> String {
    utf8_percent_encode(path, PATH).to_string()
}

/// A query in the order of its names, as it is both sent and signed.
pub(crate) fn escape_query(query: &[(&'static str, String)]) -> String {
    let mut text = String::new();
    for (name, value) in query {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        text.extend(utf8_percent_encode(value, QUERY));
    }
    text
}

/// What a signature is made for.
pub(crate) struct Scope<'a> {
    pub(crate) credentials: &'a Credentials,
    pub(crate) region: &'a str,
    pub(crate) host: &'a str,
    /// The escaped path.
    pub(crate) path: &'a str,
    /// SHA-256 of the body in hex, or `None` when it is not signed.
    pub(crate) sha256: Option<&'a str>,
    pub(crate) now: OffsetDateTime,
}

/// Adds what a signed call carries: host, date, the digest of the body, the session token and the signature.
pub(crate) fn sign(call: &mut Call, scope: &Scope<'_>) -> Result<()> {
    let (stamp, date) = stamp(scope.now)?;
    let own = ["host", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token", "authorization"];
    call.headers.retain(|(name, _)| !own.contains(&name.as_str()));
    call.headers.push(("host".into(), scope.host.into()));
    call.headers.push(("x-amz-date".into(), stamp));
    call.headers.push(("x-amz-content-sha256".into(), scope.sha256.unwrap_or("UNSIGNED-PAYLOAD").into()));
    if let Some(token) = &scope.credentials.session_token {
        call.headers.push(("x-amz-security-token".into(), token.clone()));
    }
    call.headers.sort();
    let headers: Vec<(&str, &str)> = call.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let payload = scope.sha256.map_or(s3s_sigv4::Payload::Unsigned, s3s_sigv4::Payload::SingleChunk);
    let canonical =
        s3s_sigv4::create_canonical_request_with_raw_uri_path(call.method.as_str(), scope.path, &call.query, &headers, payload);
    let to_sign = s3s_sigv4::create_string_to_sign(&canonical, &date, scope.region, "s3");
    let signature = s3s_sigv4::calculate_signature(&to_sign, scope.credentials.secret.as_bytes(), &date, scope.region, "s3");
    let mut names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    names.dedup();
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{}/{}/s3/aws4_request,SignedHeaders={},Signature={signature}",
        scope.credentials.access_key,
        date.fmt_date(),
        scope.region,
        names.join(";"),
    );
    call.headers.push(("authorization".into(), authorization));
    Ok(())
}

/// The query of a URL that lets whoever has it make a GET for some time, with these parameters in it
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>).
pub(crate) fn presign(mut query: Vec<(&'static str, String)>, scope: &Scope<'_>, time: Duration) -> Result<String> {
    let (stamp, date) = stamp(scope.now)?;
    let credential = format!("{}/{}/{}/s3/aws4_request", scope.credentials.access_key, date.fmt_date(), scope.region);
    query.push(("X-Amz-Algorithm", "AWS4-HMAC-SHA256".to_owned()));
    query.push(("X-Amz-Credential", credential));
    query.push(("X-Amz-Date", stamp));
    query.push(("X-Amz-Expires", time.as_secs().to_string()));
    query.push(("X-Amz-SignedHeaders", "host".to_owned()));
    if let Some(token) = &scope.credentials.session_token {
        query.push(("X-Amz-Security-Token", token.clone()));
    }
    query.sort();
    let canonical = s3s_sigv4::create_canonical_request_with_raw_uri_path(
        "GET",
        scope.path,
        &query,
        [("host", scope.host)],
        s3s_sigv4::Payload::Unsigned,
    );
    let to_sign = s3s_sigv4::create_string_to_sign(&canonical, &date, scope.region, "s3");
    let signature = s3s_sigv4::calculate_signature(&to_sign, scope.credentials.secret.as_bytes(), &date, scope.region, "s3");
    Ok(format!("{}&X-Amz-Signature={signature}", escape_query(&query)))
}

/// A time as signatures have it: as text, and as the signer knows it.
fn stamp(now: OffsetDateTime) -> Result<(String, AmzDate)> {
    let internal = || Error::new(ErrorKind::Internal, "date of a signature");
    let stamp = now
        .to_offset(time::UtcOffset::UTC)
        .format(format_description!("[year][month][day]T[hour][minute][second]Z"))
        .map_err(|e| internal().caused_by(e))?;
    let date = AmzDate::parse(&stamp).map_err(|e| internal().caused_by(e))?;
    Ok((stamp, date))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    /// The example "GET Object" of AWS.
    #[test]
    fn the_example_of_aws() {
        let credentials = Credentials {
            access_key: "AKIAIOSFODNN7EXAMPLE".into(),
            secret: zeroize::Zeroizing::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into()),
            session_token: None,
        };
        let mut call = Call::new("test", Method::GET, Some("test.txt".into())).header("range", "bytes=0-9");
        let scope = Scope {
            credentials: &credentials,
            region: "us-east-1",
            host: "examplebucket.s3.amazonaws.com",
            path: "/test.txt",
            sha256: Some(s3s_sigv4::EMPTY_STRING_SHA256_HASH),
            now: time::macros::datetime!(2013-05-24 00:00 UTC),
        };
        sign(&mut call, &scope).unwrap();
        let signature = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
        assert!(call.headers.iter().any(|(n, v)| n == "authorization" && v.ends_with(signature)), "{:?}", call.headers);
    }

    /// The example of AWS for a URL, and one with a session.
    #[test]
    fn a_link_is_signed() {
        let credentials = |session: Option<&str>| Credentials {
            access_key: "AKIAIOSFODNN7EXAMPLE".into(),
            secret: zeroize::Zeroizing::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into()),
            session_token: session.map(str::to_owned),
        };
        let scope = |credentials| Scope {
            credentials,
            region: "us-east-1",
            host: "examplebucket.s3.amazonaws.com",
            path: "/test.txt",
            sha256: None,
            now: time::macros::datetime!(2013-05-24 00:00 UTC),
        };
        let (plain, session) = (credentials(None), credentials(Some("a+b")));
        let query = presign(Vec::new(), &scope(&plain), Duration::from_secs(86_400)).unwrap();
        assert_eq!(
            query,
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&\
             X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&\
             X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
        );
        let shown = vec![("response-content-type", "a/b c".to_owned())];
        let query = presign(shown, &scope(&session), Duration::from_secs(1)).unwrap();
        assert!(query.contains("&X-Amz-Security-Token=a%2Bb&") && query.contains("&response-content-type=a%2Fb%20c&"), "{query}");
    }

    #[test]
    fn every_byte_of_a_key_is_escaped_but_slashes() {
        assert_eq!(escape_path("a/../é+%\0~"), "a/../%C3%A9%2B%25%00~");
        assert_eq!(escape_query(&[("prefix", "a/b c".into()), ("uploads", String::new())]), "prefix=a%2Fb%20c&uploads=");
    }
}
