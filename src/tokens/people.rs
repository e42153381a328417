//! Who has which canonical id: what lists of owners and grants ask for, over and over.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache as Moka;

use crate::error::Result;
use crate::meta::AccountRecord;

/// How many identities are remembered.
const MOST: u64 = 10_000;
/// How long: a name is for people to read, so that an old one does no harm.
const KNOWN_FOR: Duration = Duration::from_secs(300);

/// Identities by id. An id that nobody has is not remembered: identities are created by other processes too.
#[derive(Debug)]
pub(super) struct People(Moka<String, Arc<AccountRecord>>);

impl People {
    pub(super) fn new() -> Self {
        Self(Moka::builder().max_capacity(MOST).time_to_live(KNOWN_FOR).build())
    }

    /// The identity from the cache, or from `read` and then cached.
    pub(super) async fn get<F>(&self, id: &str, read: impl FnOnce() -> F) -> Result<Option<Arc<AccountRecord>>>
    where
        F: Future<Output = Result<Option<AccountRecord>>>,
    {
        if let Some(known) = self.0.get(id).await {
            return Ok(Some(known));
        }
        let Some(found) = read().await?.map(Arc::new) else { return Ok(None) };
        self.0.insert(id.to_owned(), found.clone()).await;
        Ok(Some(found))
    }

    /// The identity that was read, once for all who hold it: credentials of one account share one.
    pub(super) async fn shared(&self, read: AccountRecord) -> Arc<AccountRecord> {
        if let Some(known) = self.0.get(&read.id).await
            && *known == read
        {
            return known;
        }
        let new = Arc::new(read);
        self.0.insert(new.id.clone(), new.clone()).await;
        new
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::meta::identities::suite::account;

    #[tokio::test]
    async fn somebody_is_asked_for_once_and_nobody_is_not_remembered() {
        let people = People::new();
        let zoe = account("1", "zoe");
        assert!(people.get("1", || async { Ok(None) }).await.unwrap().is_none());
        assert_eq!(*people.get("1", || async { Ok(Some(zoe.clone())) }).await.unwrap().unwrap(), zoe);
        assert_eq!(*people.get("1", || async { Ok(None) }).await.unwrap().unwrap(), zoe);
        let (one, two) = (people.shared(zoe.clone()).await, people.shared(zoe.clone()).await);
        assert!(Arc::ptr_eq(&one, &two));
        assert!(!people.shared(AccountRecord { active: false, ..zoe }).await.active, "a change is seen");
    }
}
