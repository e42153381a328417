//! The checksums of S3 (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html>).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::CrcAlgorithm;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use super::crc;

/// A checksum algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// CRC-32 (ISO-HDLC).
    Crc32,
    /// CRC-32C (Castagnoli).
    Crc32c,
    /// CRC-64/NVME.
    Crc64Nvme,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Crc32, Self::Crc32c, Self::Crc64Nvme, Self::Sha1, Self::Sha256];

    /// As S3 names it: `CRC32`, `CRC32C`, `CRC64NVME`, `SHA1`, `SHA256`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    /// The header and trailer name: `x-amz-checksum-crc32` …
    #[must_use]
    pub fn header(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
        }
    }

    /// The attribute under which an object keeps it: `checksum.crc32` …
    #[must_use]
    pub fn attribute(self) -> &'static str {
        match self {
            Self::Crc32 => "checksum.crc32",
            Self::Crc32c => "checksum.crc32c",
            Self::Crc64Nvme => "checksum.crc64nvme",
            Self::Sha1 => "checksum.sha1",
            Self::Sha256 => "checksum.sha256",
        }
    }

    /// By S3's name, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.name().eq_ignore_ascii_case(name))
    }

    /// By header name, in any case.
    #[must_use]
    pub fn from_header(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.header().eq_ignore_ascii_case(name))
    }

    /// The length of a raw value in bytes.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }
}

/// What the checksum of a multipart object covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumType {
    /// All bytes of the object.
    FullObject,
    /// The checksums of the parts; written with a `-N` suffix.
    Composite,
}

impl ChecksumType {
    /// `FULL_OBJECT` or `COMPOSITE`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::FullObject => "FULL_OBJECT",
            Self::Composite => "COMPOSITE",
        }
    }

    /// By S3's name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::FullObject, Self::Composite].into_iter().find(|t| t.name() == name)
    }
}

/// A running checksum.
#[derive(Clone, Debug)]
pub struct Hasher(Running);

#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "one lives as long as its body: a box would cost an allocation and save nothing")]
enum Running {
    Crc { digest: crc_fast::Digest, bytes: usize },
    Sha1(Sha1),
    Sha256(Sha256),
}

impl Hasher {
    /// Begins.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        let crc = |of| Running::Crc { digest: crc_fast::Digest::new(of), bytes: algorithm.bytes() };
        Self(match algorithm {
            Algorithm::Crc32 => crc(CrcAlgorithm::Crc32IsoHdlc),
            Algorithm::Crc32c => crc(CrcAlgorithm::Crc32Iscsi),
            Algorithm::Crc64Nvme => crc(CrcAlgorithm::Crc64Nvme),
            Algorithm::Sha1 => Running::Sha1(Sha1::new()),
            Algorithm::Sha256 => Running::Sha256(Sha256::new()),
        })
    }

    /// Takes more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Running::Crc { digest, .. } => digest.update(bytes),
            Running::Sha1(digest) => digest.update(bytes),
            Running::Sha256(digest) => digest.update(bytes),
        }
    }

    /// The raw value, big endian.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        match self.0 {
            Running::Crc { digest, bytes } => big_endian(digest.finalize(), bytes),
            Running::Sha1(digest) => digest.finalize().to_vec(),
            Running::Sha256(digest) => digest.finalize().to_vec(),
        }
    }

    /// The raw value of bytes at hand.
    #[must_use]
    pub fn once(algorithm: Algorithm, bytes: &[u8]) -> Vec<u8> {
        let mut hasher = Self::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }
}

/// The low `bytes` bytes of a CRC.
pub(super) fn big_endian(crc: u64, bytes: usize) -> Vec<u8> {
    crc.to_be_bytes()[8 - bytes..].to_vec()
}

/// The CRC of two byte strings joined, from the CRCs of each and the length of the second. `None` for hashes that cannot be
/// combined, and for values of the wrong length.
#[must_use]
pub fn combine(algorithm: Algorithm, first: &[u8], second: &[u8], second_bytes: u64) -> Option<Vec<u8>> {
    let shift = crc::Shift::new(algorithm, second_bytes)?;
    Some(big_endian(shift.join(crc::value(algorithm, first)?, crc::value(algorithm, second)?), algorithm.bytes()))
}

/// A raw checksum as S3 writes it: standard base64 with padding.
#[must_use]
pub fn encode(raw: &[u8]) -> String {
    STANDARD.encode(raw)
}

/// A checksum as S3 writes it, raw. `None` when it is not canonical base64 of exactly the algorithm's length.
#[must_use]
pub fn decode(algorithm: Algorithm, base64: &str) -> Option<Vec<u8>> {
    STANDARD.decode(base64).ok().filter(|raw| raw.len() == algorithm.bytes())
}

/// The value of a Content-MD5 header (RFC 1864), raw. `None` when it is not canonical base64 of 16 bytes.
#[must_use]
pub fn decode_md5(base64: &str) -> Option<[u8; 16]> {
    STANDARD.decode(base64).ok()?.try_into().ok()
}

/// The MD5 of bytes at hand in lower-case hexadecimal: their ETag.
#[must_use]
pub fn md5_hex(bytes: &[u8]) -> String {
    hex::encode(Md5::digest(bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use proptest::prelude::*;

    use super::*;

    // The check values of the CRC catalogue (https://reveng.sourceforge.io/crc-catalogue/all.htm) and of FIPS 180 tools.
    #[test]
    fn known_values() {
        let hex_of = |a| hex::encode(Hasher::once(a, b"123456789"));
        assert_eq!(hex_of(Algorithm::Crc32), "cbf43926");
        assert_eq!(hex_of(Algorithm::Crc32c), "e3069283");
        assert_eq!(hex_of(Algorithm::Crc64Nvme), "ae8b14860a799888");
        assert_eq!(hex_of(Algorithm::Sha1), "f7c3bc1d808e04732adf679965ccc34ca7ae3441");
        assert_eq!(hex_of(Algorithm::Sha256), "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225");
        assert_eq!(md5_hex(b""), "d41d8cd98f00b204e9800998ecf8427e");
    }

    #[test]
    fn a_value_has_the_length_its_algorithm_says() {
        for algorithm in Algorithm::ALL {
            let raw = Hasher::once(algorithm, b"");
            assert_eq!(raw.len(), algorithm.bytes());
            assert_eq!(decode(algorithm, &encode(&raw)), Some(raw.clone()));
            assert_eq!(decode(algorithm, &encode(&raw[1..])), None);
            assert_eq!(decode(algorithm, encode(&raw).trim_end_matches('=')), None);
            assert_eq!(decode(algorithm, "?"), None);
        }
        assert_eq!(decode_md5("1B2M2Y8AsgTpgAmY7PhCfg==").map(hex::encode).as_deref(), Some("d41d8cd98f00b204e9800998ecf8427e"));
        assert_eq!(decode_md5("1B2M2Y8AsgTpgAmY7PhC"), None);
    }

    #[test]
    fn names_lead_back() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::from_name(&algorithm.name().to_lowercase()), Some(algorithm));
            assert_eq!(Algorithm::from_header(&algorithm.header().to_uppercase()), Some(algorithm));
        }
        assert_eq!(Algorithm::from_name("MD5"), None);
    }

    #[test]
    fn hashes_do_not_combine() {
        for algorithm in [Algorithm::Sha1, Algorithm::Sha256] {
            let raw = Hasher::once(algorithm, b"a");
            assert_eq!(combine(algorithm, &raw, &raw, 1), None);
        }
        assert_eq!(combine(Algorithm::Crc32, &[0; 3], &[0; 4], 1), None);
    }

    proptest! {
        #[test]
        fn combined_is_the_crc_of_the_whole(a in proptest::collection::vec(any::<u8>(), 0..400), b in proptest::collection::vec(any::<u8>(), 0..400)) {
            for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme] {
                let joined = combine(algorithm, &Hasher::once(algorithm, &a), &Hasher::once(algorithm, &b), b.len() as u64);
                prop_assert_eq!(joined.unwrap(), Hasher::once(algorithm, &[a.clone(), b.clone()].concat()));
            }
        }

        // Lengths that no test can hash: against the other implementation at hand.
        #[test]
        fn combines_as_crc_fast_does(a in any::<u64>(), b in any::<u64>(), bytes in any::<u64>()) {
            for (algorithm, other, mask) in [
                (Algorithm::Crc32, CrcAlgorithm::Crc32IsoHdlc, u64::from(u32::MAX)),
                (Algorithm::Crc32c, CrcAlgorithm::Crc32Iscsi, u64::from(u32::MAX)),
                (Algorithm::Crc64Nvme, CrcAlgorithm::Crc64Nvme, u64::MAX),
            ] {
                let (a, b, size) = (a & mask, b & mask, algorithm.bytes());
                let joined = combine(algorithm, &big_endian(a, size), &big_endian(b, size), bytes);
                prop_assert_eq!(joined.unwrap(), big_endian(crc_fast::checksum_combine(other, a, b, bytes), size));
            }
        }

        #[test]
        fn pieces_make_the_same_value(body in proptest::collection::vec(any::<u8>(), 0..2000), cut in any::<prop::sample::Index>()) {
            let cut = cut.index(body.len() + 1);
            for algorithm in Algorithm::ALL {
                let mut hasher = Hasher::new(algorithm);
                hasher.update(&body[..cut]);
                hasher.update(&body[cut..]);
                prop_assert_eq!(hasher.finish(), Hasher::once(algorithm, &body));
            }
        }
    }
}
