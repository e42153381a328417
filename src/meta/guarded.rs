//! The store behind a circuit breaker, with reads tried again.
//!
//! A read that fails is tried three times in all, after 100 and 200 ms and a little more, so that callers who failed together do not come back
//! together, and within [`READ_LIMIT`]. A write is tried once: one that was cut off may have been done. What counts against the breaker is that
//! the database cannot be reached; that it refuses a statement does not.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::*;
use crate::error::{Error, ErrorKind};
use crate::runtime::{Breaker, BreakerLimits, Circuit};

/// How often a read is tried.
const TRIES: u32 = 3;
/// The pause before the second try, in milliseconds; each further one is twice as long.
const FIRST_PAUSE_MS: u64 = 100;
/// How long a read may take with all its tries: less than a request may take to its answer.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub(super) struct Guarded {
    store: Arc<dyn MetaStore>,
    breaker: Breaker,
}

impl Guarded {
    pub(super) fn new(store: Arc<dyn MetaStore>, limits: BreakerLimits) -> Self {
        Self { store, breaker: Breaker::new("the metadata store", limits) }
    }

    async fn read<T, F>(&self, call: impl Fn() -> F + Send + Sync) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send,
        T: Send,
    {
        let Some(leave) = self.breaker.enter() else { return Err(refused()) };
        let tries = async {
            for n in 1.. {
                match call().await {
                    Err(error) if n < TRIES && matches!(error.kind(), ErrorKind::MetaUnavailable) => {
                        tokio::time::sleep(pause(n)).await;
                    }
                    outcome => return outcome,
                }
            }
            Err(refused())
        };
        let outcome = tokio::time::timeout(READ_LIMIT, tries)
            .await
            .unwrap_or_else(|late| Err(Error::new(ErrorKind::MetaUnavailable, "read from metadata store").caused_by(late)));
        match &outcome {
            Err(error) if matches!(error.kind(), ErrorKind::MetaUnavailable) => drop(leave.failed()),
            _ => leave.succeeded(),
        }
        outcome
    }

    async fn write<T, F>(&self, call: impl Fn() -> F + Send + Sync) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send,
        T: Send,
    {
        let Some(leave) = self.breaker.enter() else { return Err(refused()) };
        let outcome = call().await;
        match &outcome {
            Err(error) if matches!(error.kind(), ErrorKind::MetaUnavailable) && !was_answered(error) => drop(leave.failed()),
            _ => leave.succeeded(),
        }
        outcome
    }
}

fn refused() -> Error {
    Error::new(ErrorKind::MetaUnavailable, "ask metadata store").with("circuit", "open")
}

/// The pause before try `n + 1`: longer by up to a quarter, by chance.
fn pause(n: u32) -> Duration {
    let base = FIRST_PAUSE_MS << (n - 1).min(8);
    let mut random = [0; 1];
    // Without randomness it is a plain pause.
    let _ = getrandom::fill(&mut random);
    Duration::from_millis(base + base * u64::from(random[0]) / 1024)
}

/// Whether the database said why: it is there, and this statement cannot be done (a full disk, a lock).
fn was_answered(error: &Error) -> bool {
    let mut cause = error.source();
    while let Some(source) = cause {
        if let Some(sqlx::Error::Database(database)) = source.downcast_ref::<sqlx::Error>() {
            // Class 08 is the connection, 53 are resources, 57P is a server that stops (PostgreSQL); SQLite's codes are numbers.
            return !database
                .code()
                .is_some_and(|code| ["08", "53", "57P"].iter().any(|class| code.len() == 5 && code.starts_with(class)));
        }
        cause = source.source();
    }
    false
}

/// Every method of the trait, as a read or a write.
macro_rules! guarded {
    ($trait:ident { $($how:ident $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)* } { $($direct:tt)* }) => {
        #[async_trait]
        impl $trait for Guarded {
            $(
                async fn $name(&self, $($argument: $type),*) -> Result<$answer> {
                    self.$how(|| self.store.$name($($argument),*)).await
                }
            )*
            $($direct)*
        }
    };
}

guarded! {
    MetaStore {
        write create_bucket(bucket: &BucketRecord, mounts: &[MountRecord]) -> ();
        read bucket(name: &str) -> Option<BucketRecord>;
        read buckets(owner: Option<&str>, prefix: &str, after: &str, limit: usize) -> Vec<BucketRecord>;
        write delete_bucket(name: &str) -> bool;
        write set_bucket_setting(bucket: &str, name: &str, document: Option<&str>) -> bool;
        read bucket_settings(bucket: &str) -> Vec<(String, String)>;
        read mounts(bucket: &str) -> Vec<MountRecord>;
        write add_mount(mount: &MountRecord) -> ();
        write remove_mount(bucket: &str, prefix: &str) -> bool;
        write create_upload(upload: &UploadRecord) -> ();
        read upload(bucket: &str, upload_id: &str) -> Option<UploadRecord>;
        read uploads(bucket: &str, prefix: &str, after: &UploadCursor, limit: usize) -> Vec<UploadRecord>;
        read uploads_before(created_before: i64, limit: usize) -> Vec<UploadRecord>;
        write put_part(upload_id: &str, part: &PartRecord) -> Option<PartRecord>;
        read parts(upload_id: &str, after: u16, limit: usize) -> Vec<PartRecord>;
        write delete_upload(upload_id: &str) -> bool;
        write remember_completed(bucket: &str, key: &str, upload_id: &str, request: &str, etag: &str) -> ();
        read completed(bucket: &str, upload_id: &str) -> Option<(String, String, String)>;
        read value(name: &str) -> Option<String>;
        write value_or_insert(name: &str, value: &str) -> String;
        write replace_value(name: &str, from: &str, to: &str) -> bool;
        read overlay(space: &str, names: &[String]) -> Vec<(String, String)>;
        write swap_overlay(space: &str, name: &str, from: Option<&str>, to: Option<&str>) -> bool;
    } {
        // Health, changes and the end go past the breaker: they are how one sees that the database is back.
        async fn check(&self) -> Result<()> {
            self.store.check().await
        }
        async fn close(&self) {
            self.store.close().await;
        }
        fn circuit(&self) -> Circuit {
            self.breaker.circuit()
        }
    }
}

guarded! {
    IdentityStore {
        write create_account(account: &AccountRecord) -> ();
        read account(id: &str) -> Option<AccountRecord>;
        read account_by_number(number: &str) -> Option<AccountRecord>;
        read account_by_name(name: &str) -> Option<AccountRecord>;
        read accounts(after: &str, limit: usize) -> Vec<AccountRecord>;
        write set_account_active(id: &str, active: bool) -> bool;
        write delete_account(id: &str) -> bool;
        read has_root_key() -> bool;
        write set_account_document(account: &str, kind: &str, name: &str, from: Option<&str>, to: Option<&str>) -> bool;
        read account_documents(account: &str, kind: &str) -> Vec<(String, String)>;
        write create_entity(entity: &EntityRecord) -> ();
        read entity(id: &str) -> Option<EntityRecord>;
        read entity_named(account: &str, kind: EntityKind, name: &str) -> Option<EntityRecord>;
        read entities(account: &str, kind: EntityKind, path: &str, after: &str, limit: usize) -> Vec<EntityRecord>;
        write update_entity(from: &EntityRecord, to: &EntityRecord) -> bool;
        write delete_entity(id: &str) -> bool;
        write add_member(group: &str, user: &str) -> ();
        write remove_member(group: &str, user: &str) -> bool;
        read members(group: &str, after: &str, limit: usize) -> Vec<EntityRecord>;
        read groups_of(user: &str, after: &str, limit: usize) -> Vec<EntityRecord>;
        write create_access_key(key: &AccessKeyRecord) -> ();
        write create_access_keys(keys: &[AccessKeyRecord]) -> ();
        read access_key(access_key: &str) -> Option<AccessKeyRecord>;
        read access_keys(after: &str, limit: usize) -> Vec<AccessKeyRecord>;
        read access_keys_of(account: &str, user: Option<&str>, after: &str, limit: usize) -> Vec<AccessKeyRecord>;
        write update_access_key(key: &AccessKeyRecord) -> bool;
        write delete_access_key(access_key: &str) -> bool;
        write note_key_use(used: &[(String, i64)]) -> ();
        write create_session(session: &SessionRecord) -> ();
        write renew_session(token_hash: &[u8; 32], ended_after: i64, session: &SessionRecord) -> bool;
        read session(token_hash: &[u8; 32]) -> Option<SessionRecord>;
        read credential(access_key: &str) -> Option<CredentialRecord>;
        write revoke(revocation: &RevocationRecord) -> ();
        read revocations(after: &str, limit: usize) -> Vec<RevocationRecord>;
        write put_inline_policy(entity: &str, name: &str, document: &str) -> ();
        read inline_policies(entity: &str) -> Vec<(String, String)>;
        write delete_inline_policy(entity: &str, name: &str) -> bool;
        write create_policy(policy: &PolicyRecord, document: &str) -> ();
        read policy(id: &str) -> Option<PolicyRecord>;
        read policy_named(account: &str, name: &str) -> Option<PolicyRecord>;
        read policies(account: &str, path: &str, after: &str, limit: usize) -> Vec<PolicyRecord>;
        write set_policy_tags(id: &str, tags: &BTreeMap<String, String>) -> bool;
        write delete_policy(id: &str) -> bool;
        write add_policy_version(id: &str, document: &str, created: i64, default: bool, most: usize) -> u32;
        read policy_versions(id: &str) -> Vec<PolicyVersionRecord>;
        write set_default_policy_version(id: &str, version: u32, updated: i64) -> bool;
        write delete_policy_version(id: &str, version: u32) -> bool;
        write attach_policy(entity: &str, policy: &PolicyRef) -> ();
        write detach_policy(entity: &str, arn: &str) -> bool;
        read attached_policies(entity: &str) -> Vec<PolicyRef>;
        read policy_users(account: &str, arn: &str, after: &str, limit: usize) -> Vec<(EntityRecord, PolicyUse)>;
        read applied_policies(entity: &str) -> Vec<AppliedPolicy>;
        read sealed_secrets(after: &str, limit: usize) -> Vec<(String, Vec<u8>)>;
        write reseal(access_key: &str, from: &[u8], to: &[u8]) -> bool;
    } {
        async fn last_change(&self) -> Result<i64> {
            self.store.last_change().await
        }
        async fn changes(&self, after: i64, limit: usize) -> Result<Vec<ChangeRecord>> {
            self.store.changes(after, limit).await
        }
        async fn changed(&self, at_most: Duration) {
            self.store.changed(at_most).await;
        }
        async fn forget_ended(&self, ended_before: i64) -> Result<u64> {
            self.store.forget_ended(ended_before).await
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use tokio::time::Instant;

    use super::*;
    use crate::meta::suite::{bucket, kind};

    /// A store over a database that is gone: closed, which is answered at once.
    async fn guarded() -> (Arc<SqliteStore>, Guarded) {
        let store = Arc::new(SqliteStore::open_in_memory().await.unwrap());
        let limits = BreakerLimits { failures: 5, recovery: Duration::from_secs(30) };
        (store.clone(), Guarded::new(store, limits))
    }

    #[tokio::test]
    async fn what_the_store_says_goes_through() {
        let (_, guarded) = guarded().await;
        guarded.create_bucket(&bucket("b", "me"), &[]).await.unwrap();
        for _ in 0..10 {
            assert_eq!(kind(guarded.create_bucket(&bucket("b", "me"), &[]).await), "BucketAlreadyOwnedByYou");
            assert!(guarded.bucket("none").await.unwrap().is_none());
        }
        assert_eq!(guarded.circuit(), Circuit::default(), "a refusal is an answer");
    }

    #[tokio::test]
    async fn tries_at_0_100_and_300_ms_then_open_after_five_then_at_once_then_one_probe() {
        let (store, guarded) = guarded().await;
        store.close().await;
        tokio::time::pause();
        for _ in 0..5 {
            let begun = Instant::now();
            assert_eq!(kind(guarded.credential("A").await), "MetaUnavailable");
            let took = begun.elapsed();
            assert!((Duration::from_millis(300)..Duration::from_millis(400)).contains(&took), "{took:?}");
        }
        assert_eq!(guarded.circuit().state, CircuitState::Open);
        let begun = Instant::now();
        for _ in 0..100 {
            assert_eq!(kind(guarded.credential("A").await), "MetaUnavailable");
            assert_eq!(kind(guarded.delete_bucket("b").await), "MetaUnavailable");
        }
        assert_eq!(begun.elapsed(), Duration::ZERO, "nothing was waited for");
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(kind(guarded.credential("A").await), "MetaUnavailable");
        assert_eq!(guarded.circuit(), Circuit { state: CircuitState::Open, opened: 2, refused: 200 });
    }

    #[tokio::test]
    async fn a_write_is_tried_once() {
        let (store, guarded) = guarded().await;
        store.close().await;
        tokio::time::pause();
        let begun = Instant::now();
        assert_eq!(kind(guarded.delete_bucket("b").await), "MetaUnavailable");
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
}
