//! Request ids: unique, unguessable enough, and cheap.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The id of a request: 16 upper-case hexadecimal digits, as in `x-amz-request-id`. In the extensions of every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(pub Arc<str>);

static SEED: LazyLock<u64> = LazyLock::new(|| {
    let mut bytes = [0; 8];
    random(&mut bytes);
    u64::from_le_bytes(bytes)
});
static COUNT: AtomicU64 = AtomicU64::new(0);
static HOST_ID: LazyLock<String> = LazyLock::new(|| {
    let mut bytes = [0; 48];
    random(&mut bytes);
    STANDARD.encode(bytes)
});

/// What `x-amz-id-2` and the `HostId` of an error document say: names this process, the same for its whole life.
#[must_use]
pub fn host_id() -> &'static str {
    &HOST_ID
}

// === impl RequestId ===

impl RequestId {
    /// A new one. A counter, passed through a bijection (the finalizer of splitmix64) from a random start: no two are alike in 2^64
    /// requests of a process, and neighbours do not look alike.
    #[must_use]
    pub fn next() -> Self {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut x = SEED.wrapping_add(count.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^= x >> 31;
        let mut digits = [0; 16];
        for (i, digit) in digits.iter_mut().enumerate() {
            let nibble = (x >> (60 - 4 * i)) & 0xF;
            *digit = b"0123456789ABCDEF"[usize::try_from(nibble).unwrap_or(0)];
        }
        Self(Arc::from(std::str::from_utf8(&digits).unwrap_or("0000000000000000")))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Random bytes; where the system has none, the clock and the process id, which is enough for an id that is no secret.
fn random(bytes: &mut [u8]) {
    if getrandom::fill(bytes).is_err() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos());
        let seed = now ^ (u128::from(std::process::id()) << 64);
        for (byte, value) in bytes.iter_mut().zip(seed.to_le_bytes().into_iter().cycle()) {
            *byte = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_unique_and_of_sixteen_upper_case_hex_digits() {
        let mut seen = HashSet::new();
        for _ in 0..10_000 {
            let id = RequestId::next();
            assert_eq!(id.0.len(), 16);
            assert!(id.0.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b)), "{id}");
            assert!(seen.insert(id.0));
        }
    }
}
