//! Verification on the way in.

use sluice_provider::{ByteStream, PutBody};

use super::Algorithm;

/// Reads a trailer after the body has ended: its base64 value, or `None` when it did not come.
pub type TrailerSource = Box<dyn FnOnce(Algorithm) -> Option<String> + Send + Sync>;

/// What a client declared about its body.
#[derive(Default)]
pub struct Declared {
    /// The exact length in bytes.
    pub size: Option<u64>,
    /// The largest length accepted in bytes.
    pub max_size: Option<u64>,
    /// Content-MD5, raw.
    pub md5: Option<[u8; 16]>,
    /// Checksums given in headers, raw values.
    pub checksums: Vec<(Algorithm, Vec<u8>)>,
    /// A checksum that a trailer will give.
    pub trailer: Option<(Algorithm, TrailerSource)>,
    /// Checksums to compute and store even if none was declared.
    pub compute: Vec<Algorithm>,
}

/// Wraps a client's stream so that it is verified as declared. The seal is the MD5 in hexadecimal as the ETag, and every
/// checksum that was declared or computed as `checksum.*` attributes in base64.
#[must_use]
pub fn verify(_stream: ByteStream, _declared: Declared) -> PutBody {
    todo!()
}
