//! When keys were last used, without a write per request.
//!
//! A use is noted at most once a minute for a cached key, gathered here, and written in batches. What is gathered is bounded, and what
//! cannot be written is left out: it only ever makes a key look older than it is.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::layer::{Credential, Tokens};
use crate::runtime::unix_millis;

/// How many keys are gathered between two writes.
const MOST: usize = 100_000;
/// How many are written in one transaction.
const BATCH: usize = 500;
/// How long a use stands for those after it, in milliseconds.
const STANDS_FOR: i64 = 60_000;

/// Uses that are not written yet: keys, and when.
#[derive(Debug, Default)]
pub(super) struct KeyUses(Mutex<HashMap<String, i64>>);

impl KeyUses {
    fn note(&self, access_key: &str, at: i64) {
        let mut gathered = self.0.lock();
        if let Some(known) = gathered.get_mut(access_key) {
            *known = at.max(*known);
        } else if gathered.len() < MOST {
            gathered.insert(access_key.to_owned(), at);
        }
    }

    fn take(&self) -> Vec<(String, i64)> {
        std::mem::take(&mut *self.0.lock()).into_iter().collect()
    }
}

impl Tokens {
    /// Notes that a lasting key was used now.
    pub fn note_use(&self, credential: &Credential) {
        if credential.is_temporary() {
            return;
        }
        let now = unix_millis();
        if now.saturating_sub(credential.noted.load(Ordering::Relaxed)) >= STANDS_FOR {
            credential.noted.store(now, Ordering::Relaxed);
            self.uses.note(&credential.access_key, now);
        }
    }

    /// When a key was last used, as far as this gateway knows: what the store says, or a later moment that is still to be written.
    #[must_use]
    pub fn last_use(&self, access_key: &str, written: Option<i64>) -> Option<i64> {
        self.uses.0.lock().get(access_key).copied().max(written)
    }

    /// Writes what was gathered.
    pub async fn write_uses(&self) {
        for batch in self.uses.take().chunks(BATCH) {
            if let Err(error) = self.store.note_key_use(batch).await {
                tracing::debug!(%error, keys = batch.len(), "when keys were last used is not written");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::sync::Arc;

    use super::*;
    use crate::meta::{MetaStore, SqliteStore};

    #[tokio::test]
    async fn uses_are_gathered_once_a_minute_and_written_together() {
        let store: Arc<dyn MetaStore> = Arc::new(SqliteStore::open_in_memory().await.unwrap());
        let tokens = Tokens::open(store.clone(), [7; 32]).await.unwrap();
        let created = tokens.create_key("me", false, None, None).await.unwrap().access_key;
        let key = tokens.credential(&created).await.unwrap().unwrap();
        let written = async || store.access_key(&created).await.unwrap().unwrap().last_used;
        tokens.note_use(&key);
        let first = tokens.last_use(&created, None).unwrap();
        tokens.note_use(&key);
        assert_eq!(tokens.last_use(&created, None), Some(first));
        assert_eq!(written().await, None, "not with the request");
        tokens.write_uses().await;
        assert_eq!((written().await, tokens.last_use(&created, None)), (Some(first), None));
        tokens.note_use(&key);
        assert_eq!(tokens.last_use(&created, None), None, "the minute is not over");
        key.noted.store(first - STANDS_FOR, Ordering::Relaxed);
        tokens.note_use(&key);
        assert!(tokens.last_use(&created, Some(first)).unwrap() >= first);
    }

    #[test]
    fn what_is_gathered_is_bounded() {
        let uses = KeyUses::default();
        for n in 0..MOST + 10 {
            uses.note(&n.to_string(), 1);
        }
        uses.note("1", 7);
        uses.note("1", 5);
        let taken = uses.take();
        assert_eq!(taken.len(), MOST);
        assert!(taken.contains(&("1".to_owned(), 7)));
    }
}
