//! `[s3]`

use serde::{Deserialize, Serialize};

/// How the S3 protocol is spoken.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The region that buckets report. A signature may name any region.
    pub region: String,
    /// Host names for virtual-host style: with `s3.example.org`, `bucket.s3.example.org` addresses the bucket.
    pub domains: Vec<String>,
    /// The largest body of a PUT or a part in bytes.
    pub max_write_size_bytes: u64,
    /// The largest XML body in bytes.
    pub max_xml_size_bytes: usize,
    /// Accept the old Signature Version 2 (header, presigned URL and form). It signs neither the body nor all headers.
    pub signature_v2: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            region: "us-east-1".to_owned(),
            domains: Vec::new(),
            max_write_size_bytes: 5 * 1024 * 1024 * 1024,
            max_xml_size_bytes: 20 * 1024 * 1024,
            signature_v2: false,
        }
    }
}
