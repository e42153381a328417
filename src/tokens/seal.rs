//! Sealing: AES-256-GCM (NIST SP 800-38D) under the master key.
//!
//! A sealed secret is a version byte, the id of its key (8 bytes, from layout 2 on), a random nonce of 12 bytes, the ciphertext and its tag of
//! 16 bytes. The name it belongs to is authenticated with it, so that a row's secret cannot be put into another row.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use zeroize::{Zeroize, Zeroizing};

use super::secret::{Secret, fill_random};
use crate::error::{Error, ErrorKind, Result};
use crate::transfer::{Algorithm, Hasher};

/// The present layout.
const VERSION: u8 = 2;
/// The first layout, which does not name its key.
const NAMELESS: u8 = 1;
const NONCE_BYTES: usize = 12;
const ID_BYTES: usize = 8;

/// Seals and opens with one key. The key schedule is wiped when it is dropped.
pub(super) struct Seal {
    cipher: Aes256Gcm,
    id: [u8; ID_BYTES],
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(…)")
    }
}

impl Seal {
    pub(super) fn new(master_key: &[u8; 32]) -> Self {
        // A digest of the key among other bytes: it tells two keys apart, and nothing about either.
        let named = Zeroizing::new([&b"sluice master key "[..], master_key].concat());
        let mut id = [0; ID_BYTES];
        for (to, from) in id.iter_mut().zip(Hasher::once(Algorithm::Sha256, &named)) {
            *to = from;
        }
        Self { cipher: Aes256Gcm::new(master_key.into()), id }
    }

    /// Seals `secret` for `name`.
    pub(super) fn seal(&self, name: &str, secret: &str) -> Result<Vec<u8>> {
        let mut nonce = [0; NONCE_BYTES];
        fill_random(&mut nonce)?;
        let payload = Payload { msg: secret.as_bytes(), aad: name.as_bytes() };
        let ciphertext = self.cipher.encrypt(&Nonce::from(nonce), payload).map_err(|_| failure("seal secret", name))?;
        Ok([&[VERSION][..], &self.id, &nonce, &ciphertext].concat())
    }

    /// Whether this was sealed under this key, as far as can be seen.
    pub(super) fn may_have_sealed(&self, sealed: &[u8]) -> bool {
        sealed.first() == Some(&NAMELESS) || self.is_current(sealed)
    }

    /// Whether this names this key.
    pub(super) fn is_current(&self, sealed: &[u8]) -> bool {
        sealed.split_first().is_some_and(|(version, rest)| *version == VERSION && rest.starts_with(&self.id))
    }

    /// Opens what was sealed for `name`.
    ///
    /// # Errors
    /// `Internal` when it was changed, was sealed for another name or under another key, or has a layout from the future.
    pub(super) fn open(&self, name: &str, sealed: &[u8]) -> Result<Secret> {
        const OPERATION: &str = "open sealed secret";
        let rest = match sealed.split_first() {
            Some((&NAMELESS, rest)) => rest,
            Some((&VERSION, rest)) => rest.strip_prefix(&self.id).ok_or_else(|| failure(OPERATION, name))?,
            _ => return Err(failure(OPERATION, name)),
        };
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_BYTES>().ok_or_else(|| failure(OPERATION, name))?;
        let payload = Payload { msg: ciphertext, aad: name.as_bytes() };
        let plain = self.cipher.decrypt(&Nonce::from(*nonce), payload).map_err(|_| failure(OPERATION, name))?;
        String::from_utf8(plain).map(Secret::new).map_err(|error| {
            error.into_bytes().zeroize();
            failure(OPERATION, name)
        })
    }
}

/// Says whose secret it is, never what it is.
fn failure(operation: &'static str, name: &str) -> Error {
    Error::new(ErrorKind::Internal, operation).with("of", name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

    use super::*;

    #[test]
    fn what_is_sealed_opens_with_its_own_key_and_name_only() {
        let seal = Seal::new(&[1; 32]);
        let sealed = seal.seal("AK", "correct horse").unwrap();
        assert_eq!(sealed.len(), 1 + 8 + 12 + 13 + 16);
        assert_eq!(seal.open("AK", &sealed).unwrap().expose(), "correct horse");
        assert!(seal.open("AL", &sealed).is_err());
        assert!(Seal::new(&[2; 32]).open("AK", &sealed).is_err());
        assert_ne!(seal.seal("AK", "correct horse").unwrap(), sealed, "a nonce is never used twice");
        assert!(!sealed.windows(5).any(|window| window == b"horse"));
    }

    #[test]
    fn the_first_layout_is_still_read() {
        let seal = Seal::new(&[1; 32]);
        let sealed = seal.seal("AK", "correct horse").unwrap();
        let nameless = [&[NAMELESS][..], &sealed[1 + ID_BYTES..]].concat();
        assert_eq!(seal.open("AK", &nameless).unwrap().expose(), "correct horse");
        assert!(seal.may_have_sealed(&nameless) && !seal.is_current(&nameless));
    }

    #[test]
    fn any_change_is_noticed() {
        let seal = Seal::new(&[1; 32]);
        let sealed = seal.seal("AK", "correct horse").unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            let error = seal.open("AK", &changed).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Internal));
            assert!(!error.to_string().contains("horse"));
            assert!(seal.open("AK", &sealed[..at]).is_err(), "cut off at {at}");
        }
    }
}
