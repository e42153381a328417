//! What a request is about, as far as the edge can tell without understanding it: for logs and metrics only.

use http::{HeaderMap, HeaderValue, Uri, header};

/// Kept from a request's head until its answer has ended. All parts share the head's memory.
#[derive(Debug)]
pub(super) struct Labels {
    uri: Uri,
    host: Option<HeaderValue>,
    authorization: Option<HeaderValue>,
}

impl Labels {
    /// `virtual_hosts`: whether a host name can name a bucket at all.
    pub(super) fn of(uri: &Uri, headers: &HeaderMap, virtual_hosts: bool) -> Self {
        let host = if virtual_hosts { headers.get(header::HOST).cloned() } else { None };
        Self { uri: uri.clone(), host, authorization: headers.get(header::AUTHORIZATION).cloned() }
    }

    /// The path, as it came.
    pub(super) fn path(&self) -> &str {
        self.uri.path()
    }

    /// Bucket and key; empty where there is none.
    pub(super) fn bucket_and_key(&self, domains: &[String]) -> (&str, &str) {
        let path = self.uri.path();
        let path = path.strip_prefix('/').unwrap_or(path);
        let host = self.host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or("");
        let host = host.rsplit_once(':').map_or(host, |(name, _port)| name);
        let bucket = domains.iter().find_map(|domain| host.strip_suffix(domain.as_str())?.strip_suffix('.'));
        match bucket {
            Some(bucket) => (bucket, path),
            None => path.split_once('/').unwrap_or((path, "")),
        }
    }

    /// The access key that the request names.
    pub(super) fn access_key(&self) -> &str {
        let header = self.authorization.as_ref().and_then(|value| value.to_str().ok());
        if let Some(header) = header {
            let credential = header.split_once("Credential=").map_or("", |(_, rest)| rest);
            return credential.split(['/', ',']).next().unwrap_or("");
        }
        let query = self.uri.query().unwrap_or("");
        let credential = query.split('&').find_map(|pair| pair.strip_prefix("X-Amz-Credential=")).unwrap_or("");
        // The slash may be percent-encoded; an access key has neither.
        credential.split(['/', '%']).next().unwrap_or("")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn labels(uri: &str, headers: &[(header::HeaderName, &str)]) -> Labels {
        let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect();
        Labels::of(&uri.parse().unwrap(), &headers, true)
    }

    #[test]
    fn path_style_and_virtual_hosts() {
        let domains = ["s3.example.org".to_owned()];
        assert_eq!(labels("/photos/a/b?x=1", &[]).bucket_and_key(&domains), ("photos", "a/b"));
        assert_eq!(labels("/photos", &[]).bucket_and_key(&domains), ("photos", ""));
        assert_eq!(labels("/", &[]).bucket_and_key(&domains), ("", ""));
        let host = [(header::HOST, "photos.s3.example.org:9000")];
        assert_eq!(labels("/a/b", &host).bucket_and_key(&domains), ("photos", "a/b"));
        let other = [(header::HOST, "s3.example.org")];
        assert_eq!(labels("/photos/a", &other).bucket_and_key(&domains), ("photos", "a"));
    }

    #[test]
    fn the_access_key_of_each_way_to_sign() {
        let signed = "AWS4-HMAC-SHA256 Credential=SLKEY/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00";
        assert_eq!(labels("/", &[(header::AUTHORIZATION, signed)]).access_key(), "SLKEY");
        assert_eq!(labels("/a?X-Amz-Credential=SLKEY%2F20260101%2F&x=1", &[]).access_key(), "SLKEY");
        assert_eq!(labels("/a", &[]).access_key(), "");
    }
}
