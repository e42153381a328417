//! Who may do what. There are no policies and no open ACLs yet: a request is signed, its sender owns the bucket or is root.

use std::sync::Arc;

use http::{HeaderMap, Uri};
use s3s::S3Result;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::Credentials;

use super::Parts;
use super::auth::to_framework;
use super::error::{Code, Failure, Result};
use super::headers::{overrides, text};
use super::operation::Op;
use super::query::Query;
use super::signature_v2;
use crate::namespaces::Namespace;
use crate::tokens::Identity;

/// Who asks, and the bucket they may use.
#[derive(Clone, Debug)]
pub(crate) struct Admitted {
    /// The sender.
    pub(crate) identity: Arc<Identity>,
    /// The bucket; `None` for operations that need none.
    pub(crate) namespace: Option<Arc<Namespace>>,
}

/// A request as far as access is concerned.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// Whose signature was verified; `None` for an anonymous request.
    pub(crate) credentials: Option<&'a Credentials>,
    /// The operation; `None` for a form.
    pub(crate) op: Option<Op>,
    /// The bucket; empty for none.
    pub(crate) bucket: &'a str,
    /// The headers.
    pub(crate) headers: &'a HeaderMap,
    /// The query.
    pub(crate) query: &'a Query,
}

/// Decides.
///
/// # Errors
/// `AccessDenied`, `InvalidToken`, `InvalidRequest`, `NoSuchBucket`.
pub(crate) async fn admit(parts: &Parts, asked: Asked<'_>) -> Result<Admitted> {
    let Asked { credentials, op, bucket, headers, query } = asked;
    let Some(credentials) = credentials else {
        if overrides(query) {
            return Err(Failure::request("Request specific response headers cannot be used for anonymous GET requests."));
        }
        let denied = Failure::new(Code::AccessDenied);
        return Err(match (op, http::HeaderValue::from_str(&parts.settings.region)) {
            // This is how clients find out a bucket's region before they can sign for it.
            (Some(Op::HeadBucket), Ok(region)) => denied.header(http::HeaderName::from_static("x-amz-bucket-region"), region),
            _ => denied,
        });
    };
    if op.is_some() && !signature_v2::is_used(headers, query) && !host_is_signed(headers, query) {
        return Err(Failure::because(Code::AccessDenied, "There were headers present in the request which were not signed")
            .field("HeadersNotSigned", "host"));
    }
    // No session tokens are given out, so none is valid.
    if text(headers, "x-amz-security-token")?.is_some() || query.any_case("x-amz-security-token") {
        return Err(Code::InvalidToken.into());
    }
    let credential = parts.tokens.credential(&credentials.access_key).await?.ok_or(Code::InvalidAccessKeyId)?;
    let identity = credential.identity.clone();
    if bucket.is_empty() || matches!(op, Some(Op::CreateBucket)) {
        return Ok(Admitted { identity, namespace: None });
    }
    let namespace = parts.namespaces.get(bucket).await?;
    if !identity.root && identity.id != namespace.bucket.owner {
        return Err(Code::AccessDenied.into());
    }
    if let Some(expected) = text(headers, "x-amz-expected-bucket-owner")? {
        let owner = &namespace.bucket.owner;
        if expected != owner && !(identity.id == *owner && expected == identity.name) {
            return Err(Code::AccessDenied.into());
        }
    }
    Ok(Admitted { identity, namespace: Some(namespace) })
}

/// Whether `host` is among the signed headers. Without it a signed request can be replayed against another bucket of a
/// virtual-host domain, since SigV4 signs only the path.
fn host_is_signed(headers: &HeaderMap, query: &Query) -> bool {
    let has_host = |list: &str| list.split(';').any(|h| h.trim().eq_ignore_ascii_case("host"));
    if let Some(list) = query.get("X-Amz-SignedHeaders") {
        return has_host(list);
    }
    let Some(authorization) = headers.get(http::header::AUTHORIZATION).and_then(|v| v.to_str().ok()) else { return false };
    authorization
        .split_once("SignedHeaders=")
        .is_some_and(|(_, rest)| has_host(rest.split([',', ' ']).next().unwrap_or_default()))
}

/// The access check of forms, which the framework parses itself.
pub(crate) struct Access(Arc<Parts>);

impl Access {
    /// Over the layers beneath.
    pub(crate) fn new(parts: Arc<Parts>) -> Self {
        Self(parts)
    }
}

#[async_trait::async_trait]
impl S3Access for Access {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let query = query_of(cx.uri()).map_err(|f| to_framework(&f))?;
        let bucket = cx.s3_path().get_bucket_name().unwrap_or_default().to_owned();
        // Only forms come this way: the route takes everything else.
        let asked = Asked { credentials: cx.credentials(), op: None, bucket: &bucket, headers: cx.headers(), query: &query };
        let admitted = admit(&self.0, asked).await.map_err(|f| to_framework(&f))?;
        cx.extensions_mut().insert(admitted);
        Ok(())
    }
}

fn query_of(uri: &Uri) -> Result<Query> {
    Query::parse(uri.query())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use http::HeaderValue;

    #[test]
    fn the_host_must_be_signed() {
        let signed = |authorization: &'static str, query: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("authorization", HeaderValue::from_static(authorization));
            host_is_signed(&headers, &Query::parse(Some(query)).unwrap())
        };
        assert!(signed("AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host;x-amz-date, Signature=s", ""));
        assert!(signed("AWS4-HMAC-SHA256 Credential=a/b,SignedHeaders=x-amz-date;host,Signature=s", ""));
        assert!(!signed("AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=x-amz-date;x-host, Signature=s", ""));
        assert!(signed("", "X-Amz-SignedHeaders=content-type%3Bhost"));
        assert!(!signed("", "X-Amz-SignedHeaders=content-type"));
    }
}
