//! Who the gateway is to the remote: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN` of the environment, or
//! a profile of the shared credentials file
//! (<https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html>). Never a setting of the mount: those are stored in the clear.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sluice_provider::{Error, ErrorKind, Result};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::Settings;

/// How long what a file said is used: a new key in it counts within this time.
const FRESH: Duration = Duration::from_secs(60);
/// A file of credentials is small.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A key with its secret.
pub(crate) struct Credentials {
    pub(crate) access_key: String,
    pub(crate) secret: Zeroizing<String>,
    pub(crate) session_token: Option<String>,
}

/// Where they come from.
pub(crate) struct CredentialSource {
    file: Option<PathBuf>,
    profile: String,
    environment: bool,
    held: Mutex<Option<(Instant, Arc<Credentials>)>>,
}

impl CredentialSource {
    pub(crate) fn new(settings: &Settings) -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let home = || variable("HOME").map(|home| Path::new(&home).join(".aws/credentials"));
        let named = settings.credentials_file.clone();
        Self {
            // What the operator names for this mount goes before what the process was started with.
            environment: named.is_none() && settings.profile.is_none(),
            file: named.or_else(|| variable("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from)).or_else(home),
            profile: settings.profile.clone().or_else(|| variable("AWS_PROFILE")).unwrap_or_else(|| "default".into()),
            held: Mutex::new(None),
        }
    }

    /// The credentials of now.
    pub(crate) async fn get(&self) -> Result<Arc<Credentials>> {
        if let Some((since, credentials)) = &*self.held.lock()
            && since.elapsed() < FRESH
        {
            return Ok(Arc::clone(credentials));
        }
        let found = match self.in_environment() {
            Some(credentials) => credentials,
            None => self.in_file().await?,
        };
        let found = Arc::new(found);
        *self.held.lock() = Some((Instant::now(), Arc::clone(&found)));
        Ok(found)
    }

    /// Looks again the next time: the remote says that these have expired.
    pub(crate) fn expire(&self) {
        *self.held.lock() = None;
    }

    fn in_environment(&self) -> Option<Credentials> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        if !self.environment {
            return None;
        }
        Some(Credentials {
            access_key: variable("AWS_ACCESS_KEY_ID")?,
            secret: Zeroizing::new(variable("AWS_SECRET_ACCESS_KEY")?),
            session_token: variable("AWS_SESSION_TOKEN"),
        })
    }

    async fn in_file(&self) -> Result<Credentials> {
        let missing = || Error::new(ErrorKind::PermissionDenied, "credentials of an s3 mount").with("profile", &self.profile);
        let Some(file) = self.file.clone() else {
            return Err(missing().with("reason", "neither AWS_ACCESS_KEY_ID nor a credentials file"));
        };
        let path = file.clone();
        let read = tokio::task::spawn_blocking(move || {
            let size = std::fs::metadata(&path)?.len();
            if size > MAX_FILE_BYTES {
                return Err(std::io::Error::other("it is too large"));
            }
            std::fs::read_to_string(&path).map(Zeroizing::new)
        });
        let text = match read.await {
            Ok(Ok(text)) => text,
            Ok(Err(error)) => return Err(missing().with("file", file.display()).caused_by(error)),
            Err(error) => return Err(missing().caused_by(error)),
        };
        profile(&text, &self.profile)
            .ok_or_else(|| missing().with("file", file.display()).with("reason", "no such profile, or not whole"))
    }
}

impl std::fmt::Debug for CredentialSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CredentialSource").field("file", &self.file).field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// A profile of a credentials file.
fn profile(text: &str, wanted: &str) -> Option<Credentials> {
    let (mut inside, mut access_key, mut secret, mut session_token) = (false, None, None, None);
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let name = name.trim();
            inside = name.strip_prefix("profile ").map_or(name, str::trim) == wanted;
        } else if inside
            && !line.starts_with(['#', ';'])
            && let Some((name, value)) = line.split_once('=')
        {
            let value = value.trim();
            match name.trim() {
                _ if value.is_empty() => {}
                "aws_access_key_id" => access_key = Some(value.to_owned()),
                "aws_secret_access_key" => secret = Some(Zeroizing::new(value.to_owned())),
                "aws_session_token" => session_token = Some(value.to_owned()),
                _ => {}
            }
        }
    }
    Some(Credentials { access_key: access_key?, secret: secret?, session_token })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_profile_is_found_among_others() {
        let text = "# mine\n[default]\naws_access_key_id = A\naws_secret_access_key=S=\n\n[profile other]\naws_access_key_id=B\n\
                    aws_secret_access_key = T\naws_session_token = U\n[half]\naws_access_key_id=C\n";
        let found = profile(text, "default").unwrap();
        assert_eq!((found.access_key.as_str(), found.secret.as_str(), found.session_token), ("A", "S=", None));
        let other = profile(text, "other").unwrap();
        assert_eq!((other.access_key.as_str(), other.secret.as_str(), other.session_token.as_deref()), ("B", "T", Some("U")));
        assert!(profile(text, "half").is_none() && profile(text, "none").is_none());
    }

    #[tokio::test]
    async fn what_is_missing_is_said_without_secrets() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("credentials");
        let mut settings = Settings::new("http://127.0.0.1".parse().unwrap(), "b");
        settings.credentials_file = Some(file.clone());
        let source = CredentialSource::new(&settings);
        let error = source.get().await.err().unwrap();
        assert!(*error.kind() == ErrorKind::PermissionDenied && error.to_string().contains("credentials"), "{error}");
        std::fs::write(&file, "[default]\naws_access_key_id = A\naws_secret_access_key = S3CRET\n").unwrap();
        assert_eq!(source.get().await.unwrap().access_key, "A");
        assert!(!format!("{source:?}").contains("S3CRET"));
        std::fs::write(&file, "[default]\naws_access_key_id = B\naws_secret_access_key = S3CRET\n").unwrap();
        assert_eq!(source.get().await.unwrap().access_key, "A", "within its time");
        source.expire();
        assert_eq!(source.get().await.unwrap().access_key, "B");
    }
}
