//! The master keys: one that seals, and others that only open, so that one can take the place of another while gateways run.
//!
//! What is sealed names its key by a short id. A gateway that meets an id which it does not know reads its keys again (from the file or the
//! command that they came from), so that the operator need not tell each one.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use zeroize::Zeroizing;

use super::seal::Seal;
use super::secret::Secret;
use crate::error::{Error, ErrorKind, Result};

/// How often keys are read again at most.
const RELOAD_PAUSE: Duration = Duration::from_secs(1);
/// The most keys at once.
const MOST_KEYS: usize = 16;

/// Master keys, the sealing one first. Wiped when dropped.
pub struct MasterKeys(pub(super) Vec<Zeroizing<[u8; 32]>>);

impl fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKeys({})", self.0.len())
    }
}

impl From<[u8; 32]> for MasterKeys {
    fn from(key: [u8; 32]) -> Self {
        Self(vec![Zeroizing::new(key)])
    }
}

/// Where keys come from, asked again when one is missing. It may block.
pub type KeySource = Arc<dyn Fn() -> Result<MasterKeys> + Send + Sync>;

/// Master keys at work: one that seals, and all that open.
pub struct Keyring {
    /// Never empty.
    seals: ArcSwap<Vec<Seal>>,
    source: Option<KeySource>,
    reloaded: Mutex<Option<Instant>>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("keys", &self.seals.load().len()).finish_non_exhaustive()
    }
}

impl Keyring {
    /// With keys, and where they can be read again.
    ///
    /// # Errors
    /// `InvalidArgument` when there is no key, or there are too many.
    pub fn new(keys: &MasterKeys, source: Option<KeySource>) -> Result<Self> {
        Ok(Self { seals: ArcSwap::from_pointee(seals(keys)?), source, reloaded: Mutex::new(None) })
    }

    /// Seals a text under the first key, for `name`.
    ///
    /// # Errors
    /// `Internal` when the system has no random bytes.
    pub fn seal(&self, name: &str, secret: &str) -> Result<Vec<u8>> {
        match self.seals.load().first() {
            Some(seal) => seal.seal(name, secret),
            None => Err(Error::new(ErrorKind::Internal, "seal secret")),
        }
    }

    /// Opens with whichever key sealed it for `name`.
    ///
    /// # Errors
    /// `Internal` when no key does.
    pub async fn open(&self, name: &str, sealed: &[u8]) -> Result<Secret> {
        let opened = self.open_now(name, sealed);
        if opened.is_err() && !self.knows(sealed) && self.reload().await {
            return self.open_now(name, sealed);
        }
        opened
    }

    fn open_now(&self, name: &str, sealed: &[u8]) -> Result<Secret> {
        let seals = self.seals.load();
        let mut outcome = Err(Error::new(ErrorKind::Internal, "open sealed secret").with("of", name));
        for seal in seals.iter().filter(|seal| seal.may_have_sealed(sealed)) {
            outcome = seal.open(name, sealed);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    fn knows(&self, sealed: &[u8]) -> bool {
        self.seals.load().iter().any(|seal| seal.may_have_sealed(sealed))
    }

    /// Whether this is sealed under the first key, in the present layout.
    pub(super) fn is_current(&self, sealed: &[u8]) -> bool {
        self.seals.load().first().is_some_and(|seal| seal.is_current(sealed))
    }

    /// Reads the keys again, unless that was done a moment ago. Keys that cannot be read leave those that there are.
    pub(super) async fn reload(&self) -> bool {
        let Some(source) = self.source.clone() else { return false };
        {
            let mut reloaded = self.reloaded.lock();
            if reloaded.is_some_and(|at| at.elapsed() < RELOAD_PAUSE) {
                return false;
            }
            *reloaded = Some(Instant::now());
        }
        let read = tokio::task::spawn_blocking(move || source()).await;
        match read
            .map_err(|error| error.to_string())
            .and_then(|keys| keys.and_then(|keys| seals(&keys)).map_err(|e| e.to_string()))
        {
            Ok(seals) => {
                self.seals.store(Arc::new(seals));
                true
            }
            Err(error) => {
                tracing::error!(error, "the master keys cannot be read again: those that are known stay");
                false
            }
        }
    }
}

fn seals(keys: &MasterKeys) -> Result<Vec<Seal>> {
    if keys.0.is_empty() || keys.0.len() > MOST_KEYS {
        let message = "there must be a master key, and 16 at most";
        return Err(Error::new(ErrorKind::InvalidArgument(message.into()), "read master keys"));
    }
    Ok(keys.0.iter().map(|key| Seal::new(key)).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

    use super::*;

    fn keys(bytes: &[u8]) -> MasterKeys {
        MasterKeys(bytes.iter().map(|byte| Zeroizing::new([*byte; 32])).collect())
    }

    fn ring(bytes: &[u8]) -> Keyring {
        Keyring::new(&keys(bytes), None).unwrap()
    }

    #[tokio::test]
    async fn the_first_seals_and_all_open() {
        let old = ring(&[1]).seal("AK", "correct horse").unwrap();
        let both = ring(&[2, 1]);
        let new = both.seal("AK", "correct horse").unwrap();
        for sealed in [&old, &new] {
            assert_eq!(both.open("AK", sealed).await.unwrap().expose(), "correct horse");
        }
        assert!(both.is_current(&new) && !both.is_current(&old));
        assert!(ring(&[1]).open("AK", &new).await.is_err());
        assert_eq!(ring(&[2]).open("AK", &new).await.unwrap().expose(), "correct horse");
        assert!(both.open("other", &old).await.is_err());
        assert!(Keyring::new(&keys(&[]), None).is_err());
        assert!(Keyring::new(&keys(&[0; 17]), None).is_err());
    }

    #[tokio::test]
    async fn a_key_that_is_not_known_is_asked_for_once_in_a_while() {
        let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let source: KeySource = {
            let asked = Arc::clone(&asked);
            Arc::new(move || {
                asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                Ok(keys(&[2, 1]))
            })
        };
        let ring = Keyring::new(&keys(&[1]), Some(source)).unwrap();
        let sealed = super::tests::ring(&[2]).seal("AK", "correct horse").unwrap();
        assert_eq!(ring.open("AK", &sealed).await.unwrap().expose(), "correct horse");
        let stranger = super::tests::ring(&[3]).seal("AK", "correct horse").unwrap();
        for _ in 0..10 {
            assert!(ring.open("AK", &stranger).await.is_err());
        }
        assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 1);
    }
}
