//! `[encryption]`

use serde::{Deserialize, Serialize};

/// Encryption at rest.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// A file with the keys of SSE-KMS (`aws:kms`), mode 0600: in each line a name and one or several keys, each 64 hexadecimal digits or
    /// base64 of 32 bytes. The first key of a line wraps, the others only open, so that keys can rotate. Read at the start, and again when
    /// a name or a key is met that is not known. Empty: no such keys.
    pub keyring_file: String,
    /// The key of requests that ask for `aws:kms` and name none. Empty: the gateway's own, `aws/s3`, which its master keys wrap; where
    /// `kms_endpoint` is set, such a request is refused.
    pub default_kms_key: String,
    /// Whether keys of customers (SSE-C) are taken only from requests that came over TLS, here or at a trusted proxy
    /// (`server.trusted_proxies`), as on AWS.
    pub customer_keys_need_tls: bool,
    /// The URL of a service that speaks the protocol of AWS KMS, such as `https://kms.eu-west-1.amazonaws.com`: it is asked for keys that
    /// the keyring does not have, with the credential of `SLUICE_KMS_ACCESS_KEY` and `SLUICE_KMS_SECRET_KEY`. Empty: none.
    pub kms_endpoint: String,
    /// The region that calls of the service are signed for.
    pub kms_region: String,
    /// Seconds for one try of a call of the service; there are three at most.
    pub kms_timeout_secs: u64,
    /// Seconds for which a key that the service opened is remembered, and for which objects of a bucket share one where bucket keys
    /// are enabled. A key that is disabled there goes on here for as long.
    pub kms_cache_secs: u64,
    /// How many keys of the service are remembered.
    pub kms_cache_entries: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keyring_file: String::new(),
            default_kms_key: String::new(),
            customer_keys_need_tls: false,
            kms_endpoint: String::new(),
            kms_region: "us-east-1".to_owned(),
            kms_timeout_secs: 5,
            kms_cache_secs: 300,
            kms_cache_entries: 10_000,
        }
    }
}
