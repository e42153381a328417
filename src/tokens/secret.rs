//! Secrets in memory, and how new ones are made.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};

/// Upper-case letters and digits without `0`, `1`, `8` and `9`, which are easily misread: 32, so that five bits make one character.
const READABLE: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The base64 characters that need no quoting in a shell, a URL or a configuration file.
const SECRET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// A secret that is wiped when dropped and never printed.
pub struct Secret(Zeroizing<Box<str>>);

impl Secret {
    /// Takes a secret.
    #[must_use]
    pub fn new(secret: String) -> Self {
        Self::copied(&Zeroizing::new(secret))
    }

    /// Exactly as large as it is: a text that is cut to its size where it lies may leave a copy that nobody wipes.
    fn copied(secret: &Zeroizing<String>) -> Self {
        Self(Zeroizing::new(Box::from(secret.as_str())))
    }

    /// The secret itself: for signing, and for showing it once.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `candidate` is the secret. The time it takes tells nothing but the length.
    #[must_use]
    pub fn matches(&self, candidate: &str) -> bool {
        self.0.as_bytes().ct_eq(candidate.as_bytes()).into()
    }

    /// A new one: 40 characters, 238 random bits.
    pub(super) fn generate() -> Result<Self> {
        random_text(40, SECRET).map(|text| Self::copied(&text))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A new access key: 20 characters beginning with `SL`, 90 random bits.
pub(super) fn generate_access_key() -> Result<String> {
    Ok(format!("SL{}", *random_text(18, READABLE)?))
}

/// A new id: a prefix and 17 readable characters, 85 random bits.
pub(super) fn generate_id(prefix: &str) -> Result<String> {
    Ok(format!("{prefix}{}", *random_text(17, READABLE)?))
}

/// A new session token: 120 characters, more than 700 random bits, none of which needs quoting in a URL.
pub(super) fn generate_token() -> Result<Secret> {
    random_text(120, SECRET).map(|text| Secret::copied(&text))
}

/// A new canonical id: 64 hexadecimal digits.
pub(super) fn generate_account_id() -> Result<String> {
    let mut id = [0; 32];
    fill_random(&mut id)?;
    Ok(hex::encode(id))
}

/// A new account number: 12 decimal digits, the first of them not zero, so that a spreadsheet does not shorten it.
pub(super) fn generate_account_number() -> Result<String> {
    Ok(format!("{}{}", *random_text(1, b"123456789")?, *random_text(11, b"0123456789")?))
}

/// Fills the buffer from the operating system's generator.
pub(super) fn fill_random(buffer: &mut [u8]) -> Result<()> {
    getrandom::fill(buffer).map_err(|error| Error::new(ErrorKind::Internal, "read random bytes").caused_by(error))
}

/// Text of `length` characters, each as likely as another: bytes beyond the last whole alphabet are thrown away.
fn random_text(length: usize, alphabet: &[u8]) -> Result<Zeroizing<String>> {
    let mask = alphabet.len().next_power_of_two() - 1;
    let mut text = Zeroizing::new(String::with_capacity(length));
    let mut random = Zeroizing::new([0_u8; 64]);
    while text.len() < length {
        fill_random(&mut *random)?;
        let drawn = random.iter().filter_map(|byte| alphabet.get(usize::from(*byte) & mask)).map(|byte| char::from(*byte));
        let missing = length - text.len();
        text.extend(drawn.take(missing));
    }
    Ok(text)
}
