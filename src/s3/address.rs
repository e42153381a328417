//! What a request is about: the bucket from the path or the host, the key from the path.

use std::net::IpAddr;

use percent_encoding::percent_decode_str;
use sluice_provider::MAX_KEY_BYTES;

use super::error::{Code, Result};

/// The bucket and key of a request; either may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Address {
    /// The bucket.
    pub(crate) bucket: String,
    /// The key.
    pub(crate) key: String,
}

/// The bucket that a host names: `bucket.s3.example.org` for the domain `s3.example.org`. An IP address, a domain itself and
/// an unknown host name none: the path does.
pub(crate) fn bucket_of_host<'h>(host: &'h str, domains: &[String]) -> Option<&'h str> {
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if domains.is_empty() || host.parse::<IpAddr>().is_ok() {
        return None;
    }
    // Of nested domains the longest that fits decides, so that `s3.example.org` is not a bucket of `example.org`.
    let fits = |domain: &String| -> Option<(usize, Option<&'h str>)> {
        let cut = host.len().checked_sub(domain.len())?;
        let tail = host.get(cut..)?;
        if !tail.eq_ignore_ascii_case(domain) {
            return None;
        }
        match host.get(..cut)? {
            "" => Some((domain.len(), None)),
            head => Some((domain.len(), Some(head.strip_suffix('.').filter(|b| !b.is_empty())?))),
        }
    };
    domains.iter().filter_map(fits).max_by_key(|(length, _)| *length).and_then(|(_, bucket)| bucket)
}

/// Reads path and host.
///
/// # Errors
/// `InvalidURI` when the path is not UTF-8, `KeyTooLongError` beyond 1024 bytes, `InvalidBucketName` for a key without a bucket.
pub(crate) fn read(path: &str, host: Option<&str>, domains: &[String]) -> Result<Address> {
    let path = percent_decode_str(path).decode_utf8().map_err(|_| Code::InvalidURI)?;
    let path = path.strip_prefix('/').unwrap_or(&path);
    let (bucket, key) = match host.and_then(|h| bucket_of_host(h, domains)) {
        Some(bucket) => (bucket, path),
        None => path.split_once('/').unwrap_or((path, "")),
    };
    if bucket.is_empty() && !key.is_empty() {
        return Err(Code::InvalidBucketName.into());
    }
    if key.len() > MAX_KEY_BYTES {
        return Err(Code::KeyTooLongError.into());
    }
    Ok(Address { bucket: bucket.to_owned(), key: key.to_owned() })
}

/// Whether a name can be a bucket (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>).
pub(crate) fn is_bucket_name(name: &str) -> bool {
    let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (3..=63).contains(&name.len())
        && name.bytes().all(|b| edge(b) || b == b'-' || b == b'.')
        && name.bytes().next().is_some_and(edge)
        && name.bytes().next_back().is_some_and(edge)
        && !name.contains("..")
        && name.parse::<std::net::Ipv4Addr>().is_err()
        && !["xn--", "sthree-", "amzn-s3-demo-"].iter().any(|p| name.starts_with(p))
        && !["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"].iter().any(|s| name.ends_with(s))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn at(bucket: &str, key: &str) -> Address {
        Address { bucket: bucket.into(), key: key.into() }
    }

    #[test]
    fn paths_are_taken_apart_as_they_are() {
        let path = |p| read(p, Some("127.0.0.1:9000"), &["s3.example.org".into()]).unwrap();
        assert_eq!(path("/"), at("", ""));
        assert_eq!(path("//"), at("", ""));
        assert_eq!(path("/b"), at("b", ""));
        assert_eq!(path("/b/"), at("b", ""));
        assert_eq!(path("/b//k"), at("b", "/k"));
        assert_eq!(path("/b/a%2Fb%20+/"), at("b", "a/b +/"));
        assert_eq!(read("/b/%ff", None, &[]).unwrap_err().code(), Code::InvalidURI);
        assert_eq!(read("//k", None, &[]).unwrap_err().code(), Code::InvalidBucketName);
        assert_eq!(read(&format!("/b/{}", "k".repeat(1025)), None, &[]).unwrap_err().code(), Code::KeyTooLongError);
    }

    #[test]
    fn hosts_name_buckets_under_our_domains_only() {
        let domains = ["s3.example.org".to_owned(), "example.org".to_owned()];
        let bucket = |h| bucket_of_host(h, &domains);
        assert_eq!(bucket("b.s3.example.org"), Some("b"));
        assert_eq!(bucket("B.x.S3.example.ORG:8000"), Some("B.x"));
        assert_eq!(bucket("s3.example.org"), None);
        assert_eq!(bucket("c.example.org"), Some("c"));
        assert_eq!(bucket("notexample.org"), None);
        assert_eq!(bucket("localhost:9000"), None);
        assert_eq!(bucket("10.0.0.1"), None);
        assert_eq!(bucket("[::1]:9000"), None);
        assert_eq!(read("/k/x", Some("b.s3.example.org"), &domains).unwrap(), at("b", "k/x"));
    }

    #[test]
    fn bucket_names_follow_the_rules() {
        for good in ["abc", "a.b-c", "123", "1.2.3.4.5", &"a".repeat(63)] {
            assert!(is_bucket_name(good), "{good}");
        }
        for bad in
            ["ab", "Abc", "a_b", "-ab", "ab-", "a..b", "192.168.5.4", "xn--abc", "abc-s3alias", "", &"a".repeat(64), ".ab", "ab."]
        {
            assert!(!is_bucket_name(bad), "{bad}");
        }
    }
}
