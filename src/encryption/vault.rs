//! The keys of SSE-KMS that a file holds.
//!
//! Each line is a name and one or several keys: the first one wraps, the others only open. A key takes the place of another when it is
//! written before it; what the old one wrapped stays readable as long as it stands behind.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use zeroize::Zeroizing;

use crate::error::{EncryptionFault, Error, ErrorKind, Result};
use crate::tokens::{Keyring, Secret, parse_master_keys};

/// How often the file is read again at most.
const RELOAD_PAUSE: Duration = Duration::from_secs(1);
/// A file that is larger holds something else.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// The longest name of a key, in bytes: an ARN of AWS has some 75.
const MAX_NAME_BYTES: usize = 256;

type Keys = HashMap<String, Arc<Keyring>>;

/// Named keys.
pub(super) struct Vault {
    file: Option<PathBuf>,
    keys: ArcSwap<Keys>,
    reloaded: Mutex<Option<Instant>>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("file", &self.file).field("keys", &self.keys.load().len()).finish_non_exhaustive()
    }
}

impl Vault {
    /// Without any.
    pub(super) fn empty() -> Self {
        Self { file: None, keys: ArcSwap::default(), reloaded: Mutex::new(None) }
    }

    /// Reads the keys. Blocks: for start-up.
    ///
    /// # Errors
    /// `InvalidArgument` when the file cannot be read, may be read by others, or holds something else. The error does not hold keys.
    pub(super) fn open(file: Option<PathBuf>) -> Result<Self> {
        let keys = file.as_deref().map(read).transpose()?.unwrap_or_default();
        Ok(Self { file, keys: ArcSwap::from_pointee(keys), reloaded: Mutex::new(None) })
    }

    /// Whether there is a key of this name.
    pub(super) async fn has(&self, name: &str) -> bool {
        self.named(name).await.is_ok()
    }

    /// Seals with the first key of this name.
    ///
    /// # Errors
    /// `Encryption` when there is none.
    pub(super) async fn seal(&self, name: &str, purpose: &str, secret: &str) -> Result<Vec<u8>> {
        self.named(name).await?.seal(purpose, secret)
    }

    /// Opens with whichever key of this name sealed it.
    ///
    /// # Errors
    /// `Encryption` when there is no key of this name, `Internal` when none of them opens it.
    pub(super) async fn unseal(&self, name: &str, purpose: &str, sealed: &[u8]) -> Result<Secret> {
        let opened = self.named(name).await?.open(purpose, sealed).await;
        if opened.is_err() && self.reload().await {
            return self.named(name).await?.open(purpose, sealed).await;
        }
        opened
    }

    async fn named(&self, name: &str) -> Result<Arc<Keyring>> {
        if let Some(key) = self.find(name) {
            return Ok(key);
        }
        self.reload().await;
        let none = || Error::new(ErrorKind::Encryption(EncryptionFault::NoSuchKey(name.to_owned())), "look for a key");
        self.find(name).ok_or_else(none)
    }

    /// By its name, or by an ARN or alias that ends in it.
    fn find(&self, name: &str) -> Option<Arc<Keyring>> {
        let keys = self.keys.load();
        let short = || name.rsplit_once('/').and_then(|(_, short)| keys.get(short));
        keys.get(name).or_else(short).cloned()
    }

    /// Reads the file again, unless that was done a moment ago. Keys that cannot be read leave those that there are.
    async fn reload(&self) -> bool {
        let Some(file) = self.file.clone() else { return false };
        {
            let mut reloaded = self.reloaded.lock();
            if reloaded.is_some_and(|at| at.elapsed() < RELOAD_PAUSE) {
                return false;
            }
            *reloaded = Some(Instant::now());
        }
        let keys = tokio::task::spawn_blocking(move || read(&file)).await;
        match keys.map_err(|e| e.to_string()).and_then(|keys| keys.map_err(|e| e.to_string())) {
            Ok(keys) => {
                self.keys.store(Arc::new(keys));
                true
            }
            Err(error) => {
                tracing::error!(error, "the keyring cannot be read again: the keys that are known stay");
                false
            }
        }
    }
}

fn read(path: &Path) -> Result<Keys> {
    let refused =
        |message: String| Error::new(ErrorKind::InvalidArgument(message.into()), "read the keyring").with("path", path.display());
    let unreadable = |e: std::io::Error| refused(format!("the keyring cannot be read: {e}"));
    let file = File::open(path).map_err(unreadable)?;
    // Asked of the open file, which cannot be exchanged any more.
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
        return Err(refused("the keyring is no file of at most 1 MiB".to_owned()));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(refused("the keyring is open to group or others: run `chmod 600` on it".to_owned()));
    }
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(metadata.len()).unwrap_or_default() + 1));
    file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(unreadable)?;
    parse(&text).map_err(refused)
}

fn parse(text: &str) -> Result<Keys, String> {
    let mut keys = Keys::new();
    for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line.trim())) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, rest) = line.split_once(char::is_whitespace).ok_or_else(|| format!("line {number} has a name and no key"))?;
        let sound = |b: u8| b.is_ascii_alphanumeric() || b"-_.:/".contains(&b);
        if name.len() > MAX_NAME_BYTES || !name.bytes().all(sound) {
            return Err(format!("the name in line {number} has other characters than letters, digits and -_.:/"));
        }
        // What cannot be read must not be repeated: it may be a key with a typing error.
        let ring = parse_master_keys(rest).and_then(|keys| Keyring::new(&keys, None));
        let ring = ring
            .map_err(|_| format!("line {number}: a key is 64 hexadecimal digits or base64 of 32 bytes, 16 of a name at most"))?;
        if keys.insert(name.to_owned(), Arc::new(ring)).is_some() {
            return Err(format!("the name in line {number} is in an earlier line too: all keys of a name stand in one"));
        }
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn written(path: &Path, text: &str) {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    #[tokio::test]
    async fn keys_are_found_and_rotate_while_it_runs() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let (old, new) = ("ab".repeat(32), "cd".repeat(32));
        written(&path, &format!("# keys of tests\n\nfirst {old}\n"));
        let vault = Vault::open(Some(path.clone())).unwrap();
        let sealed = vault.seal("first", "purpose", "secret").await.unwrap();
        for name in ["first", "alias/first", "arn:aws:kms:eu-west-1:1:key/first"] {
            assert_eq!(vault.unseal(name, "purpose", &sealed).await.unwrap().expose(), "secret");
        }
        assert!(vault.unseal("first", "other", &sealed).await.is_err());
        *vault.reloaded.lock() = None;
        written(&path, &format!("first {new} {old}\nsecond {old}\n"));
        assert!(vault.has("second").await);
        assert_eq!(vault.unseal("first", "purpose", &sealed).await.unwrap().expose(), "secret");
        let fresh = vault.seal("first", "purpose", "secret").await.unwrap();
        assert!(vault.unseal("second", "purpose", &fresh).await.is_err(), "it is the new key that seals");
        let error = vault.seal("third", "purpose", "secret").await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Encryption(EncryptionFault::NoSuchKey(name)) if name == "third"));
    }

    #[test]
    fn a_file_of_something_else_is_refused_without_repeating_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let key = "ab".repeat(32);
        for text in ["name", "name hunter2hunter2", &format!("a {key}\na {key}"), &format!("na,me {key}")] {
            written(&path, text);
            let error = Vault::open(Some(path.clone())).unwrap_err().to_string();
            assert!(!error.contains("hunter2") && !error.contains(&key), "{error}");
        }
        written(&path, &format!("name {key}"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Vault::open(Some(path.clone())).unwrap_err().to_string().contains("chmod 600"));
        assert!(Vault::open(Some(directory.path().join("none"))).is_err());
    }
}
