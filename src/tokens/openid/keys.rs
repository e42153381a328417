//! The keys of issuers, read and kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use moka::future::Cache as Moka;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::fetch::Fetch;
use super::token::WebRefusal;
use crate::tokens::Settings;

/// How many issuers are remembered.
const MOST: u64 = 1000;
/// How long keys are good without looking again.
const FRESH: Duration = Duration::from_secs(60 * 60);
/// How long they are good while the issuer does not answer.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);
/// How long an issuer that did not answer is left alone.
const PAUSE: Duration = Duration::from_secs(5);
/// How soon keys are read again because a token names one that is not among them.
const AGAIN: Duration = Duration::from_secs(30);
/// The most keys of an issuer that are looked at.
const MAX_KEYS: usize = 100;

/// The keys of an issuer.
#[derive(Debug)]
pub(super) struct KeySet {
    keys: Vec<Jwk>,
    read: Instant,
}

impl KeySet {
    /// The key of an id; without one, the key that fits, if it is the only one.
    pub(super) fn find(&self, id: Option<&str>, fits: impl Fn(&Jwk) -> bool) -> Option<&Jwk> {
        let mut fitting = self.keys.iter().filter(|key| fits(key));
        match id {
            Some(id) => fitting.find(|key| key.common.key_id.as_deref() == Some(id)),
            None => fitting.next().filter(|_| fitting.next().is_none()),
        }
    }
}

/// Issuers and their keys.
#[derive(Debug)]
pub(in crate::tokens) struct Issuers {
    fetch: Fetch,
    fresh: Moka<String, Arc<KeySet>>,
    stale: Moka<String, Arc<KeySet>>,
    failed: Moka<String, Arc<str>>,
    http: bool,
    admitted: Vec<String>,
}

/// What of an issuer's metadata matters (OpenID Connect Discovery 1.0 section 3).
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

impl Issuers {
    pub(in crate::tokens) fn new(settings: &Settings) -> Self {
        let cache = |lives: Duration| Moka::builder().max_capacity(MOST).time_to_live(lives);
        Self {
            fetch: Fetch::default(),
            fresh: cache(FRESH).build(),
            stale: cache(STALE).build(),
            failed: Moka::builder().max_capacity(MOST).time_to_live(PAUSE).build(),
            http: settings.openid_http,
            admitted: settings.openid_issuers.clone(),
        }
    }

    pub(super) fn allows_http(&self) -> bool {
        self.http
    }

    /// Whether the settings let this issuer in.
    pub(super) fn admits(&self, url: &str) -> bool {
        let same = |listed: &String| listed.trim_end_matches('/') == url.trim_end_matches('/');
        self.admitted.is_empty() || self.admitted.iter().any(same)
    }

    /// The keys of an issuer, from the cache or from itself.
    pub(super) async fn keys(&self, issuer: &str) -> Result<Arc<KeySet>, WebRefusal> {
        if let Some(keys) = self.fresh.get(issuer).await {
            return Ok(keys);
        }
        if let Some(why) = self.failed.get(issuer).await {
            return self.fallback(issuer, why).await;
        }
        match self.fresh.try_get_with_by_ref(issuer, self.read(issuer)).await {
            Ok(keys) => {
                self.stale.insert(issuer.to_owned(), keys.clone()).await;
                Ok(keys)
            }
            Err(why) => {
                let why: Arc<str> = Arc::from(why.as_str());
                tracing::warn!(issuer, why = &*why, "the keys of an identity provider cannot be read");
                self.failed.insert(issuer.to_owned(), why.clone()).await;
                self.fallback(issuer, why).await
            }
        }
    }

    /// As [`keys`](Self::keys), when a token names a key that is not among these.
    pub(super) async fn newer_than(&self, issuer: &str, known: &Arc<KeySet>) -> Result<Option<Arc<KeySet>>, WebRefusal> {
        if known.read.elapsed() < AGAIN || self.failed.contains_key(issuer) {
            return Ok(None);
        }
        // Only if nobody else was faster.
        if self.fresh.get(issuer).await.is_some_and(|keys| Arc::ptr_eq(&keys, known)) {
            self.fresh.invalidate(issuer).await;
        }
        let keys = self.keys(issuer).await?;
        Ok((!Arc::ptr_eq(&keys, known)).then_some(keys))
    }

    async fn fallback(&self, issuer: &str, why: Arc<str>) -> Result<Arc<KeySet>, WebRefusal> {
        self.stale.get(issuer).await.ok_or(WebRefusal::Unreachable(why))
    }

    async fn read(&self, issuer: &str) -> Result<Arc<KeySet>, String> {
        let base = issuer.trim_end_matches('/');
        let metadata: Metadata = document(self.get(&format!("{base}/.well-known/openid-configuration")).await?, "metadata")?;
        if metadata.issuer != issuer {
            return Err("its metadata name another issuer".to_owned());
        }
        let mut keys: JwkSet = document(self.get(&metadata.jwks_uri).await?, "keys")?;
        keys.keys.truncate(MAX_KEYS);
        Ok(Arc::new(KeySet { keys: keys.keys, read: Instant::now() }))
    }

    async fn get(&self, url: &str) -> Result<Bytes, String> {
        let secure = url.starts_with("https://") || (self.http && url.starts_with("http://"));
        if !secure {
            return Err(format!("{url} is not reached by TLS"));
        }
        self.fetch.get(url).await.map_err(|why| format!("{url}: {why}"))
    }
}

fn document<T: DeserializeOwned>(bytes: Bytes, what: &str) -> Result<T, String> {
    serde_json::from_slice(&bytes).map_err(|error| format!("its {what} cannot be read: {error}"))
}
