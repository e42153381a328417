//! Who the gateway is to the remote: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN` of the environment, a web
//! identity, a profile of the shared credentials file (<https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html>), or what the
//! machine is given ([`Chain`]). Never a setting of the mount: those are stored in the clear.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use sluice_provider::{Error, ErrorKind, Result};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::Settings;
use crate::chain::{Chain, Given, small_file};

/// How long what a file said is used: a new key in it counts within this time.
const FRESH: Duration = Duration::from_secs(60);
/// How long before their end credentials are renewed.
const EARLY: Duration = Duration::from_secs(300);
/// For how long they are used at most, whatever they say.
const MOST_HELD: Duration = Duration::from_secs(12 * 3600);
/// A file of credentials is small.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A key with its secret.
pub(crate) struct Credentials {
    pub(crate) access_key: String,
    pub(crate) secret: Zeroizing<String>,
    pub(crate) session_token: Option<String>,
}

/// How a variable of the environment is read.
pub(crate) type Variables = dyn Fn(&str) -> Option<String>;

/// Where they come from.
pub(crate) struct CredentialSource {
    file: Option<PathBuf>,
    profile: String,
    environment: Option<Arc<Credentials>>,
    /// What is asked where there is neither; `None` when the operator named a file or a profile.
    chain: Option<Chain>,
    held: Mutex<Option<Held>>,
    /// One asks at a time; the others wait for what it finds.
    asking: tokio::sync::Mutex<()>,
}

/// What was found.
struct Held {
    credentials: Arc<Credentials>,
    since: Instant,
    /// When it is looked for again.
    again: Instant,
    /// Until when it holds, where that is known.
    until: Option<SystemTime>,
}

impl CredentialSource {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self::with(settings, &|name: &str| std::env::var(name).ok())
    }

    /// With other variables than those of the process.
    pub(crate) fn with(settings: &Settings, variables: &Variables) -> Self {
        let variable = |name: &str| variables(name).filter(|value| !value.is_empty());
        let home = || variable("HOME").map(|home| Path::new(&home).join(".aws/credentials"));
        let named = settings.credentials_file.clone();
        // What the operator names for this mount goes before what the process was started with.
        let standard = named.is_none() && settings.profile.is_none();
        let keys = || Some((variable("AWS_ACCESS_KEY_ID")?, variable("AWS_SECRET_ACCESS_KEY")?));
        let environment = keys().filter(|_| standard).map(|(access_key, secret)| {
            let (secret, session_token) = (Zeroizing::new(secret), variable("AWS_SESSION_TOKEN"));
            Arc::new(Credentials { access_key, secret, session_token })
        });
        Self {
            environment,
            chain: standard.then(|| Chain::new(variables, &settings.region)),
            file: named.or_else(|| variable("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from)).or_else(home),
            profile: settings.profile.clone().or_else(|| variable("AWS_PROFILE")).unwrap_or_else(|| "default".into()),
            held: Mutex::new(None),
            asking: tokio::sync::Mutex::new(()),
        }
    }

    /// The credentials of now.
    pub(crate) async fn get(&self) -> Result<Arc<Credentials>> {
        if let Some(environment) = &self.environment {
            return Ok(Arc::clone(environment));
        }
        if let Some(credentials) = self.fresh() {
            return Ok(credentials);
        }
        let _asking = self.asking.lock().await;
        // Somebody else has found them meanwhile.
        if let Some(credentials) = self.fresh() {
            return Ok(credentials);
        }
        let now = Instant::now();
        match self.find().await {
            Ok(Given { credentials, until }) => {
                let credentials = Arc::new(credentials);
                let again = now + until.map_or(FRESH, renewal);
                *self.held.lock() = Some(Held { credentials: Arc::clone(&credentials), since: now, again, until });
                Ok(credentials)
            }
            Err(error) => match &mut *self.held.lock() {
                Some(held) if held.until.is_some_and(|until| until > SystemTime::now()) => {
                    tracing::warn!(%error, "credentials cannot be renewed; those at hand still hold");
                    held.again = now + FRESH;
                    Ok(Arc::clone(&held.credentials))
                }
                _ => Err(error),
            },
        }
    }

    fn fresh(&self) -> Option<Arc<Credentials>> {
        let held = self.held.lock();
        held.as_ref().filter(|held| Instant::now() < held.again).map(|held| Arc::clone(&held.credentials))
    }

    /// Looks again the next time: the remote says that these have expired. Those that were given for a time a moment ago are as good as
    /// any, and who gives them is not to be asked for each refusal.
    pub(crate) fn expire(&self) {
        if let Some(held) = &mut *self.held.lock()
            && (held.until.is_none() || held.since.elapsed() > FRESH)
        {
            held.again = Instant::now();
        }
    }

    /// In the order of the AWS tools: web identity, file, container, instance.
    async fn find(&self) -> Result<Given> {
        let Some(chain) = &self.chain else { return self.in_file().await };
        if let Some(given) = chain.web_identity().await {
            return given;
        }
        let missing = match self.in_file().await {
            Ok(given) => return Ok(given),
            Err(error) => error,
        };
        match chain.machine().await {
            Some(Ok(given)) => Ok(given),
            Some(Err(error)) => Err(missing.with("nor", error)),
            None => Err(missing),
        }
    }

    async fn in_file(&self) -> Result<Given> {
        let missing = || Error::new(ErrorKind::PermissionDenied, "credentials of an s3 mount").with("profile", &self.profile);
        let Some(file) = self.file.clone() else {
            return Err(missing().with("reason", "neither AWS_ACCESS_KEY_ID nor a credentials file"));
        };
        let text = read_small(&file).await.map_err(|e| missing().with("file", file.display()).caused_by(e))?;
        let credentials = profile(&text, &self.profile)
            .ok_or_else(|| missing().with("file", file.display()).with("reason", "no such profile, or not whole"))?;
        Ok(Given { credentials, until: None })
    }

    /// As if all that could be asked were gone.
    #[cfg(test)]
    pub(crate) fn fail_from_now_on(&mut self) {
        self.chain = None;
        self.file = None;
        if let Some(held) = self.held.get_mut() {
            held.again = Instant::now();
        }
    }
}

/// When credentials that hold until then are renewed: five minutes before, or half way.
fn renewal(until: SystemTime) -> Duration {
    let left = until.duration_since(SystemTime::now()).unwrap_or_default();
    left.checked_sub(EARLY).unwrap_or_default().max(left / 2).min(MOST_HELD)
}

/// Reads a file of credentials, or of a token, off the threads that poll.
pub(crate) async fn read_small(file: &Path) -> std::io::Result<Zeroizing<String>> {
    let path = file.to_owned();
    tokio::task::spawn_blocking(move || small_file(&path, MAX_FILE_BYTES)).await.map_err(std::io::Error::other)?
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
