//! `[s3]`

use serde::{Deserialize, Serialize};

/// How the S3 protocol is spoken.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The region that buckets report.
    pub region: String,
    /// Whether a signature must name that region: AWS refuses others, and tells the right one. Without it a signature may name any.
    pub check_region: bool,
    /// The names by which clients know this gateway where a proxy before it changes the `Host` header: `s3.example.org`, with the port where
    /// clients name one. A signature that does not hold for the host that came is tried with each of these in turn, at most 16; so is what
    /// `X-Forwarded-Host` says, if it is one of these or a bucket of one.
    pub public_hosts: Vec<String>,
    /// Host names for virtual-host style: with `s3.example.org`, `bucket.s3.example.org` addresses the bucket.
    pub domains: Vec<String>,
    /// The largest body of a PUT or a part in bytes.
    pub max_write_size_bytes: u64,
    /// The largest XML body in bytes.
    pub max_xml_size_bytes: usize,
    /// Where the old Signature Version 2 is accepted: `presigned` is in the query of a URL and in POST forms, where clients still
    /// make it; `on` is in the Authorization header too; `off` is nowhere. It signs no body and only some headers, and it is HMAC-SHA1.
    pub signature_v2: SignatureV2,
    /// Whether a signature of Version 4 in its usual form is verified on a shorter way than all others. It saves a fifth of the processor
    /// time of a small request; off only to find out whether it is the cause of something.
    pub fast_signatures: bool,
}

/// Where Signature Version 2 is accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignatureV2 {
    /// Nowhere.
    Off,
    /// In the query of a URL and in POST forms: what boto3, aws-cli and older upload forms make unless they are told otherwise.
    #[default]
    Presigned,
    /// Everywhere.
    On,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            region: "us-east-1".to_owned(),
            check_region: false,
            public_hosts: Vec::new(),
            domains: Vec::new(),
            max_write_size_bytes: 5 * 1024 * 1024 * 1024,
            max_xml_size_bytes: 20 * 1024 * 1024,
            signature_v2: SignatureV2::default(),
            fast_signatures: true,
        }
    }
}
