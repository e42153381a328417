//! The checksums of S3 (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html>).

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
#[derive(Debug)]
pub struct Hasher(Algorithm);

impl Hasher {
    /// Begins.
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Self {
        Self(algorithm)
    }
    /// Takes more bytes.
    pub fn update(&mut self, _bytes: &[u8]) {
        todo!()
    }
    /// The raw value, big endian.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        todo!()
    }
}

/// The CRC of two byte strings joined, from the CRCs of each and the length of the second. `None` for hashes that cannot be combined.
#[must_use]
pub fn combine(_algorithm: Algorithm, _first: &[u8], _second: &[u8], _second_bytes: u64) -> Option<Vec<u8>> {
    todo!()
}
