//! What is over before its time, on every gateway.
//!
//! The store has the truth, for as long as what was revoked could be used. Here is only what makes it fast: keys that are known to be
//! revoked are refused before any cache or store is asked, and everything else that a revocation may touch is read again. What does not
//! fit here is found in the store: this never lets anybody in.
//!
//! Gateways hear of each other's changes by [`Tokens::follow_changes`]: the store tells at once (PostgreSQL) or is asked five times a second
//! (SQLite). While the store cannot be asked, nothing can be revoked in it either; what a gateway that is cut off has cached ends after
//! five minutes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use moka::policy::EvictionPolicy;
use moka::sync::Cache as Moka;

use super::layer::Tokens;
use crate::error::Result;
use crate::meta::{CHANGES_KEPT_SECS, ChangeRecord, RevocationRecord, Revoked, Topic};
use crate::runtime::unix_millis;
use crate::transfer::{Algorithm, Hasher};

/// How many revoked keys are known without asking the store.
const MOST: u64 = 500_000;
/// For how long: a day, and an hour for clocks that differ.
const KNOWN_FOR: Duration = Duration::from_secs(25 * 60 * 60);
/// How long one wait for changes lasts at most.
const WAIT: Duration = Duration::from_millis(500);
/// The pause after the store could not be asked.
const PAUSE: Duration = Duration::from_millis(250);

/// How long after its end a session may still be renewed.
pub const RENEWAL_GRACE: Duration = Duration::from_secs(4 * 60 * 60);

/// SHA-256 of a session token, by which the store knows it.
#[must_use]
pub fn hash_of_token(token: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    for (to, from) in hash.iter_mut().zip(Hasher::once(Algorithm::Sha256, token.as_bytes())) {
        *to = from;
    }
    hash
}

/// Keys that are known to be revoked.
#[derive(Debug)]
pub(super) struct RevokedKeys(Moka<String, ()>);

impl RevokedKeys {
    pub(super) fn new() -> Self {
        Self::with(MOST, KNOWN_FOR)
    }

    fn with(most: u64, known_for: Duration) -> Self {
        Self(Moka::builder().max_capacity(most).time_to_live(known_for).eviction_policy(EvictionPolicy::lru()).build())
    }

    pub(super) fn contains(&self, access_key: &str) -> bool {
        self.0.contains_key(access_key)
    }

    fn insert(&self, access_key: &str) {
        self.0.insert(access_key.to_owned(), ());
    }
}

impl Tokens {
    /// Revokes: refused by this gateway when this returns, and by every other on the same store within a second.
    ///
    /// # Errors
    /// `MetaUnavailable`: then it is not certain that it is revoked.
    pub async fn revoke(&self, what: Revoked, reason: &str) -> Result<()> {
        let record = RevocationRecord { what, before: unix_millis(), until: None, reason: reason.to_owned() };
        let until = self.end_of(&record.what).await?;
        let record = RevocationRecord { until, ..record };
        self.store.revoke(&record).await?;
        self.revoked(&record.what).await;
        tracing::info!(what = revoked_name(&record.what), reason, "revoked");
        Ok(())
    }

    /// When a revocation may be forgotten: when what it names has ended by itself, and could not be renewed either.
    async fn end_of(&self, what: &Revoked) -> Result<Option<i64>> {
        let grace = i64::try_from(RENEWAL_GRACE.as_millis()).unwrap_or(i64::MAX);
        match what {
            Revoked::Token(hash) => Ok(self.store.session(hash).await?.map(|session| session.expires.saturating_add(2 * grace))),
            _ => Ok(None),
        }
    }

    /// Takes a revocation into account here.
    async fn revoked(&self, what: &Revoked) {
        match what {
            Revoked::Key(access_key) => {
                self.revoked_keys.insert(access_key);
                self.cache.forget(access_key).await;
            }
            Revoked::Presigned(access_key) => self.cache.forget(access_key).await,
            // Whose keys those are, the cache does not know.
            Revoked::Token(_) | Revoked::Sessions(_) | Revoked::Account(_) => self.cache.forget_all(),
        }
    }

    /// Takes a change that was made elsewhere into account.
    pub(super) async fn heard(&self, change: &ChangeRecord) {
        match change.topic {
            Some(Topic::Key) => self.cache.forget(&change.subject).await,
            Some(Topic::Revocation) => match Revoked::parse(&change.subject) {
                Some(what) => self.revoked(&what).await,
                None => self.cache.forget_all(),
            },
            // Nothing of a user, a group or a role is in a credential but its id.
            Some(Topic::Entity) => self.all_policies_changed(),
            Some(Topic::Document | Topic::Bucket) => {}
            Some(Topic::Account | Topic::Policy) | None => {
                self.all_policies_changed();
                self.cache.forget_all();
            }
        }
    }

    /// Follows the changes that other gateways and commands make, for ever. What is about a bucket is passed on to `buckets`: its name, or
    /// `None` when changes may have been missed.
    pub async fn follow_changes(self: Arc<Self>, buckets: impl Fn(Option<&str>) + Send + Sync) {
        let kept = Duration::from_secs(CHANGES_KEPT_SECS / 2);
        let mut heard = Instant::now();
        let mut more = false;
        loop {
            // Behind a full page there may be another, of which nobody will be told once more.
            if !std::mem::take(&mut more) {
                self.store.changed(WAIT).await;
            }
            let after = self.last_change.load(Ordering::SeqCst);
            match self.store.changes(after, self.page).await {
                Ok(changes) => {
                    more = changes.len() >= self.page;
                    if heard.elapsed() > kept {
                        // Some may be gone from the store by now.
                        self.all_policies_changed();
                        self.cache.forget_all();
                        buckets(None);
                    }
                    heard = Instant::now();
                    for change in &changes {
                        self.heard(change).await;
                        match change.topic {
                            Some(Topic::Bucket) => buckets(Some(&change.subject)),
                            None => buckets(None),
                            Some(_) => {}
                        }
                        self.last_change.store(change.number, Ordering::SeqCst);
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "changes cannot be followed");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Forgets, in the store, what has ended: a bounded number at a time.
    ///
    /// # Errors
    /// `MetaUnavailable`.
    pub async fn sweep(&self) -> Result<u64> {
        let grace = i64::try_from(RENEWAL_GRACE.as_millis()).unwrap_or(i64::MAX);
        self.store.forget_ended(unix_millis().saturating_sub(2 * grace)).await
    }
}

/// For the log: a token's hash is nobody's business.
fn revoked_name(what: &Revoked) -> String {
    match what {
        Revoked::Token(_) => "token".to_owned(),
        other => other.to_text(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

    use super::*;

    #[test]
    fn tokens_are_known_by_their_hash() {
        // FIPS 180-2, B.1
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex::encode(hash_of_token("abc")), expected);
    }

    #[test]
    fn revoked_keys_are_bounded_and_end() {
        let keys = RevokedKeys::with(10, Duration::from_secs(60));
        for n in 0..100 {
            keys.insert(&n.to_string());
        }
        keys.0.run_pending_tasks();
        assert_eq!(keys.0.entry_count(), 10);
        assert!(keys.contains("99") && !keys.contains("1"), "what does not fit is found in the store");
        let policy = RevokedKeys::new().0.policy();
        assert_eq!(policy.max_capacity(), Some(500_000));
        assert_eq!(policy.time_to_live(), Some(Duration::from_secs(90_000)));
        assert_eq!(RENEWAL_GRACE, Duration::from_secs(14_400));
    }
}
