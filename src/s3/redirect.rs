//! Readers that are sent to where the bytes are: 307 with a link of the store's own.
//!
//! The link is a secret as long as it holds: it is in the header of this one answer and nowhere else.

use http::header::{CACHE_CONTROL, CONTENT_LENGTH, HeaderValue, LOCATION, USER_AGENT};
use http::{HeaderMap, Response, StatusCode};
use s3s::Body;
use sluice_provider::Link;

use super::call::{Answer, Call};
use super::error::{Code, Failure, Result};
use super::{checksums, headers};
use crate::mounts::hops;
use crate::objects::LinkRequest;
use crate::telemetry::metrics;

/// Parts of the names of clients that get no further with a redirect. Some take it for a wrong region (botocore, and with it boto3, s3fs
/// and the aws command line: <https://github.com/boto/botocore/blob/develop/botocore/utils.py>, `S3RegionRedirectorv2`; s3cmd); the
/// others go there with the headers that they signed for here, and AWS refuses links together with `x-amz-` headers that are not signed.
const STAY: [&str; 9] = ["botocore", "aws-cli", "aws-sdk", "s3cmd", "s5cmd", "rclone", "minio", "object_store", "opendal"];

/// What a reader who may be sent elsewhere expects there; `None` for one that is known not to go, and for one that asks for what cannot be
/// a header, which the answer here refuses.
pub(super) fn wish(call: &Call) -> Option<LinkRequest> {
    if stays(&call.headers) {
        return None;
    }
    let shown = headers::overridden(&call.query).map(|replaced| replaced.map(|(header, value, _)| (header, value.to_owned())));
    Some(LinkRequest { shown: shown.collect::<Result<_>>().ok()?, checksums: checksums::are_asked_for(&call.headers) })
}

fn stays(headers: &HeaderMap) -> bool {
    // Another gateway, which mounts this one, passes on what it reads.
    if hops(headers).is_some() {
        return true;
    }
    let Some(agent) = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()) else { return false };
    let agent = agent.to_ascii_lowercase();
    STAY.iter().any(|name| agent.contains(name))
}

/// The answer that sends a reader there. The caller has seen that it may read the object.
///
/// # Errors
/// `InternalError` for a link that cannot be a header.
pub(super) fn to(link: &Link) -> Answer {
    let location = HeaderValue::try_from(link.reveal());
    let mut location = location.map_err(|_| Failure::because(Code::InternalError, "The link to the object cannot be told."))?;
    // Not to be kept in anybody's table of headers.
    location.set_sensitive(true);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    let shown = response.headers_mut();
    shown.insert(LOCATION, location);
    shown.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    shown.insert(CONTENT_LENGTH, HeaderValue::from(0));
    metrics().redirected();
    Ok(response)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn clients_that_do_not_follow_are_known() {
        let agent = |name: &'static str| stays(&[(USER_AGENT, HeaderValue::from_static(name))].into_iter().collect());
        assert!(
            agent("Boto3/1.40.1 md/Botocore#1.40.1 ua/2.1 os/linux") && agent("aws-cli/2.9 Python/3.11") && agent("s3cmd/2.3")
        );
        assert!(
            agent("aws-sdk-go-v2/1.30.3 lang/go") && agent("MinIO (Linux; x86_64) minio-py/7.2.8") && agent("rclone/v1.60.1")
        );
        assert!(!agent("curl/7.88.1") && !agent("Mozilla/5.0") && !stays(&HeaderMap::new()));
    }

    #[cfg(feature = "s3")]
    #[test]
    fn gateways_that_mount_this_one_stay() {
        assert!(stays(&[("x-sluice-hops".parse().unwrap(), HeaderValue::from_static("a"))].into_iter().collect()));
    }

    #[test]
    fn a_link_is_told_once() {
        let answer = to(&Link::new("https://far/b/k?X-Amz-Signature=s3cret")).unwrap();
        assert_eq!(answer.status(), 307);
        assert_eq!(answer.headers()[LOCATION], "https://far/b/k?X-Amz-Signature=s3cret");
        assert_eq!(answer.headers()[CACHE_CONTROL], "no-store");
        assert!(!format!("{:?}", answer.headers()).contains("s3cret"));
        assert!(to(&Link::new("https://far/\n")).is_err());
    }
}
