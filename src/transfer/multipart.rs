//! ETag and checksums of an object that is made of parts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};

use super::checksum::big_endian;
use super::crc::{self, Shift};
use super::{Algorithm, Hasher};

/// The raw MD5 of a part from its ETag; `None` when the ETag is not one.
#[must_use]
pub fn md5_of_etag(etag: &str) -> Option<[u8; 16]> {
    let mut raw = [0; 16];
    hex::decode_to_slice(etag, &mut raw).ok()?;
    Some(raw)
}

/// The ETag of an object made of parts with these raw MD5s, in order: the MD5 of the MD5s, and how many there were
/// (`…-3`). A part's MD5 is [`md5_of_etag`] of its ETag.
#[must_use]
pub fn multipart_etag(parts: &[[u8; 16]]) -> String {
    format!("{}-{}", hex::encode(Md5::digest(parts.as_flattened())), parts.len())
}

/// The composite checksum of parts with these raw checksums, in order: the checksum of the checksums in base64, and how many
/// there were (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html>).
#[must_use]
pub fn composite(algorithm: Algorithm, parts: &[impl AsRef<[u8]>]) -> String {
    let mut hasher = Hasher::new(algorithm);
    for part in parts {
        hasher.update(part.as_ref());
    }
    format!("{}-{}", STANDARD.encode(hasher.finish()), parts.len())
}

/// The raw checksum of the whole object, from the raw checksum and the size in bytes of each part, in order. `None` for
/// hashes, which cannot be joined, and when a raw value has the wrong length. Costs the number of parts, not of bytes.
#[must_use]
pub fn full_object(algorithm: Algorithm, parts: &[(impl AsRef<[u8]>, u64)]) -> Option<Vec<u8>> {
    let (mut whole, mut known) = (0, (0, Shift::new(algorithm, 0)?));
    for (raw, bytes) in parts {
        if known.0 != *bytes {
            known = (*bytes, Shift::new(algorithm, *bytes)?);
        }
        whole = known.1.join(whole, crc::value(algorithm, raw.as_ref())?);
    }
    Some(big_endian(whole, algorithm.bytes()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::super::{decode, md5_hex};
    use super::*;

    #[test]
    fn the_etag_is_the_md5_of_the_binary_md5s() {
        let parts = [md5_of_etag(&md5_hex(b"a")).unwrap(), md5_of_etag(&md5_hex(b"b")).unwrap()];
        // printf 'a' | md5sum, printf 'b' | md5sum, both through xxd -r -p into md5sum
        assert_eq!(
            multipart_etag(&parts),
            format!("{}-2", md5_hex(&hex::decode("0cc175b9c0f1b6a831c399e26977266192eb5ffee6ae2fec3ad71c777531578f").unwrap()))
        );
        assert_eq!(md5_of_etag("0cc175b9c0f1b6a831c399e269772661-2"), None);
        assert_eq!(md5_of_etag("zzc175b9c0f1b6a831c399e269772661"), None);
    }

    #[test]
    fn composite_hashes_the_raw_checksums() {
        let parts = [Hasher::once(Algorithm::Sha256, b"a"), Hasher::once(Algorithm::Sha256, b"b")];
        let text = composite(Algorithm::Sha256, &parts);
        let (base64, count) = text.rsplit_once('-').unwrap();
        assert_eq!(count, "2");
        assert_eq!(decode(Algorithm::Sha256, base64).unwrap(), Hasher::once(Algorithm::Sha256, &parts.concat()));
    }

    #[test]
    fn hashes_have_no_full_object() {
        assert_eq!(full_object(Algorithm::Sha256, &[(vec![0; 32], 1)]), None);
        assert_eq!(full_object(Algorithm::Crc32, &[(vec![0; 5], 1)]), None);
    }

    #[test]
    fn ten_thousand_parts_are_joined_in_no_time() {
        let parts = vec![(vec![7; 8], 8 << 20); 10_000];
        let began = Instant::now();
        assert!(full_object(Algorithm::Crc64Nvme, &parts).is_some());
        assert!(began.elapsed() < Duration::from_millis(500), "took {:?}", began.elapsed());
    }

    proptest! {
        #[test]
        fn full_object_is_the_crc_of_the_whole(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..12)) {
            for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme] {
                let summed: Vec<_> = parts.iter().map(|p| (Hasher::once(algorithm, p), p.len() as u64)).collect();
                prop_assert_eq!(full_object(algorithm, &summed).unwrap(), Hasher::once(algorithm, &parts.concat()));
            }
        }
    }
}
