//! Keys, and the two things they seal: other keys, and segments of content.

use std::fmt;

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce, Tag};
use sluice_provider as provider;
use zeroize::{Zeroize, Zeroizing};

use crate::error::{Error, ErrorKind, Result};

pub(super) const KEY_BYTES: usize = 32;
pub(super) const TAG_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;
/// A key that another key has sealed: nonce, key, tag.
pub(super) const WRAPPED_BYTES: usize = NONCE_BYTES + KEY_BYTES + TAG_BYTES;

/// A key of AES-256. Wiped when it is dropped, never shown.
#[derive(Clone)]
pub(super) struct DataKey(Zeroizing<[u8; KEY_BYTES]>);

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(…)")
    }
}

impl DataKey {
    /// A new one.
    pub(super) fn random() -> Result<Self> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        fill_random(&mut *key)?;
        Ok(Self(key))
    }

    /// `None` when these are not 32 bytes.
    pub(super) fn from_slice(bytes: &[u8]) -> Option<Self> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        if bytes.len() != KEY_BYTES {
            return None;
        }
        key.copy_from_slice(bytes);
        Some(Self(key))
    }

    /// In hexadecimal, to be sealed as text.
    pub(super) fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(self.0.as_slice()))
    }

    pub(super) fn from_hex(text: &str) -> Option<Self> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        hex::decode_to_slice(text, &mut *key).ok()?;
        Some(Self(key))
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new((&*self.0).into())
    }

    /// Seals another key, for one purpose.
    pub(super) fn wrap(&self, other: &Self, purpose: &[u8]) -> Result<[u8; WRAPPED_BYTES]> {
        let mut wrapped = [0; WRAPPED_BYTES];
        let (nonce, rest) = wrapped.split_at_mut(NONCE_BYTES);
        let (text, tag) = rest.split_at_mut(KEY_BYTES);
        fill_random(nonce)?;
        text.copy_from_slice(&*other.0);
        let nonce = nonce_of(nonce)?;
        let made = self.cipher().encrypt_inout_detached(&nonce, purpose, (&mut *text).into());
        let Ok(made) = made else {
            text.zeroize();
            return Err(internal("wrap key"));
        };
        tag.copy_from_slice(&made);
        Ok(wrapped)
    }

    /// Opens what [`wrap`](Self::wrap) sealed for the same purpose; `None` when another key or purpose sealed it, or it was changed.
    pub(super) fn unwrap(&self, wrapped: &[u8], purpose: &[u8]) -> Option<Self> {
        if wrapped.len() != WRAPPED_BYTES {
            return None;
        }
        let (nonce, rest) = wrapped.split_at_checked(NONCE_BYTES)?;
        let (text, tag) = rest.split_at_checked(KEY_BYTES)?;
        let mut key = Self::from_slice(text)?;
        let nonce = nonce_of(nonce).ok()?;
        let tag = Tag::try_from(tag).ok()?;
        self.cipher().decrypt_inout_detached(&nonce, purpose, key.0.as_mut_slice().into(), &tag).ok()?;
        Some(key)
    }

    /// Vouches for a text: nonce and tag.
    pub(super) fn vouch(&self, text: &[u8]) -> Result<[u8; NONCE_BYTES + TAG_BYTES]> {
        let mut word = [0; NONCE_BYTES + TAG_BYTES];
        let (nonce, tag) = word.split_at_mut(NONCE_BYTES);
        fill_random(nonce)?;
        let nonce = nonce_of(nonce)?;
        let mut nothing = [];
        let made = self.cipher().encrypt_inout_detached(&nonce, text, (&mut nothing[..]).into());
        tag.copy_from_slice(&made.map_err(|_| internal("vouch for text"))?);
        Ok(word)
    }

    /// Whether this key vouched for the text.
    pub(super) fn vouched(&self, text: &[u8], word: &[u8]) -> bool {
        let Some((nonce, tag)) = word.split_at_checked(NONCE_BYTES) else { return false };
        let (Ok(nonce), Ok(tag)) = (nonce_of(nonce), Tag::try_from(tag)) else { return false };
        let mut nothing = [];
        self.cipher().decrypt_inout_detached(&nonce, text, (&mut nothing[..]).into(), &tag).is_ok()
    }

    /// What seals the segments of one stream. A key seals one stream in its life.
    pub(super) fn stream(&self) -> Segments {
        Segments(Box::new(self.cipher()))
    }
}

/// Seals and opens the segments of one stream: the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár
/// (<https://eprint.iacr.org/2015/189>). The nonce is the number of the segment and whether it is the last one; since the key is a
/// random one that seals nothing else, that is unique.
pub(super) struct Segments(Box<Aes256Gcm>);

impl Segments {
    /// Seals in place; answers the tag.
    pub(super) fn seal(&self, number: u64, last: bool, text: &mut [u8]) -> Result<[u8; TAG_BYTES], provider::Error> {
        let nonce = segment_nonce(number, last).ok_or_else(|| fault("an object that is too large to be encrypted"))?;
        let tag = self.0.encrypt_inout_detached(&nonce, &[], text.into());
        tag.map(|tag| tag.into()).map_err(|_| fault("encrypt a segment"))
    }

    /// Opens in place.
    pub(super) fn open(&self, number: u64, last: bool, text: &mut [u8], tag: &[u8]) -> Result<(), provider::Error> {
        let torn = || provider::Error::new(provider::ErrorKind::Corrupt, "decrypt a segment").with("segment", number);
        let nonce = segment_nonce(number, last).ok_or_else(torn)?;
        let tag = Tag::try_from(tag).map_err(|_| torn())?;
        self.0.decrypt_inout_detached(&nonce, &[], text.into(), &tag).map_err(|_| torn())
    }
}

fn segment_nonce(number: u64, last: bool) -> Option<Nonce<<Aes256Gcm as aes_gcm::aead::AeadCore>::NonceSize>> {
    let number = u32::try_from(number).ok()?;
    let mut nonce = [0; NONCE_BYTES];
    nonce[7..11].copy_from_slice(&number.to_be_bytes());
    nonce[11] = u8::from(last);
    Some(Nonce::from(nonce))
}

fn nonce_of(bytes: &[u8]) -> Result<Nonce<<Aes256Gcm as aes_gcm::aead::AeadCore>::NonceSize>> {
    <[u8; NONCE_BYTES]>::try_from(bytes).map(Nonce::from).map_err(|_| internal("nonce"))
}

/// Random bytes of the system.
pub(super) fn fill_random(buffer: &mut [u8]) -> Result<()> {
    getrandom::fill(buffer).map_err(|error| internal("read random bytes").caused_by(error))
}

fn internal(operation: &'static str) -> Error {
    Error::new(ErrorKind::Internal, operation)
}

fn fault(operation: &'static str) -> provider::Error {
    provider::Error::new(provider::ErrorKind::Internal, operation)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_wrapped_key_opens_with_its_own_key_and_purpose_only() {
        let (outer, inner) = (DataKey::random().unwrap(), DataKey::random().unwrap());
        let wrapped = outer.wrap(&inner, b"a").unwrap();
        assert_eq!(*outer.unwrap(&wrapped, b"a").unwrap().0, *inner.0);
        assert!(outer.unwrap(&wrapped, b"b").is_none() && inner.unwrap(&wrapped, b"a").is_none());
        for at in 0..wrapped.len() {
            let mut changed = wrapped;
            changed[at] ^= 1;
            assert!(outer.unwrap(&changed, b"a").is_none() && outer.unwrap(&wrapped[..at], b"a").is_none());
        }
        assert_ne!(outer.wrap(&inner, b"a").unwrap(), wrapped, "a nonce is never used twice");
    }

    #[test]
    fn a_segment_opens_in_its_place_only() {
        let key = DataKey::random().unwrap();
        let mut text = *b"segment";
        let tag = key.stream().seal(3, false, &mut text).unwrap();
        let opens = |number, last, text: &[u8], tag: &[u8]| {
            let mut text = text.to_vec();
            key.stream().open(number, last, &mut text, tag).is_ok().then_some(text)
        };
        assert_eq!(opens(3, false, &text, &tag).unwrap(), b"segment");
        assert!(opens(2, false, &text, &tag).is_none() && opens(3, true, &text, &tag).is_none());
        assert!(opens(1 << 32, false, &text, &tag).is_none());
        for at in 0..text.len() * 8 {
            let mut changed = text;
            changed[at / 8] ^= 1 << (at % 8);
            assert!(opens(3, false, &changed, &tag).is_none());
        }
        for at in 0..tag.len() * 8 {
            let mut changed = tag;
            changed[at / 8] ^= 1 << (at % 8);
            assert!(opens(3, false, &text, &changed).is_none());
        }
    }

    #[test]
    fn a_key_vouches_for_one_text() {
        let key = DataKey::random().unwrap();
        let word = key.vouch(b"1:5,2:6").unwrap();
        assert!(key.vouched(b"1:5,2:6", &word) && !key.vouched(b"1:5", &word) && !key.vouched(b"1:5,2:6", &word[..20]));
        assert!(!DataKey::random().unwrap().vouched(b"1:5,2:6", &word));
    }
}
