//! Sealing: AES-256-GCM (NIST SP 800-38D) under the master key.
//!
//! A sealed secret is a version byte, a random nonce of 12 bytes, the ciphertext and its tag of 16 bytes. The name it belongs to is
//! authenticated with it, so that a row's secret cannot be put into another row.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use zeroize::Zeroize;

use super::secret::{Secret, fill_random};
use crate::error::{Error, ErrorKind, Result};

/// The only layout so far.
const VERSION: u8 = 1;
const NONCE_BYTES: usize = 12;

/// Seals and opens. The key schedule is wiped when it is dropped.
pub(super) struct Seal(Aes256Gcm);

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(…)")
    }
}

impl Seal {
    pub(super) fn new(master_key: &[u8; 32]) -> Self {
        Self(Aes256Gcm::new(master_key.into()))
    }

    /// Seals `secret` for `name`.
    pub(super) fn seal(&self, name: &str, secret: &str) -> Result<Vec<u8>> {
        let mut nonce = [0; NONCE_BYTES];
        fill_random(&mut nonce)?;
        let payload = Payload { msg: secret.as_bytes(), aad: name.as_bytes() };
        let ciphertext = self.0.encrypt(&Nonce::from(nonce), payload).map_err(|_| failure("seal secret", name))?;
        Ok([&[VERSION][..], &nonce, &ciphertext].concat())
    }

    /// Opens what was sealed for `name`.
    ///
    /// # Errors
    /// `Internal` when it was changed, was sealed for another name or under another key, or has a layout from the future.
    pub(super) fn open(&self, name: &str, sealed: &[u8]) -> Result<Secret> {
        const OPERATION: &str = "open sealed secret";
        let Some((&VERSION, rest)) = sealed.split_first() else { return Err(failure(OPERATION, name)) };
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_BYTES>().ok_or_else(|| failure(OPERATION, name))?;
        let payload = Payload { msg: ciphertext, aad: name.as_bytes() };
        let plain = self.0.decrypt(&Nonce::from(*nonce), payload).map_err(|_| failure(OPERATION, name))?;
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
        assert_eq!(sealed.len(), 1 + 12 + 13 + 16);
        assert_eq!(seal.open("AK", &sealed).unwrap().expose(), "correct horse");
        assert!(seal.open("AL", &sealed).is_err());
        assert!(Seal::new(&[2; 32]).open("AK", &sealed).is_err());
        assert_ne!(seal.seal("AK", "correct horse").unwrap(), sealed, "a nonce is never used twice");
        assert!(!sealed.windows(5).any(|window| window == b"horse"));
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
