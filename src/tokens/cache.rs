//! The credential cache, in front of the store.
//!
//! Least recently used goes first (moka's default policy may refuse a new entry, which for a credential would mean a read of the store on every
//! request), and every entry ends after five minutes, and never later than the key itself. Calls for one key that is not cached share one read. Unknown keys are remembered
//! in a small cache of their own, so that a flood of them neither reaches the store twice nor pushes out good ones; for a second only, so
//! that a key that another process creates is usable at once.
//!
//! **Why epochs.** A read that began before a key was deleted may end after it, and would put the deleted key back into the cache.
//! So each entry carries the count of changes at the time its read began, and is good only while the count is the same. There is a
//! count per group of keys, so that one deletion makes few others read again.

use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::future::Cache as Moka;
use moka::notification::RemovalCause;
use moka::policy::EvictionPolicy;

use super::layer::Credential;
use crate::error::{Error, Result};
use crate::runtime::unix_millis;

/// How many groups of keys have a count of changes of their own.
const GROUPS: usize = 256;

/// How often a call reads again because keys of its group changed meanwhile, before it goes to the store by itself.
const ATTEMPTS: usize = 3;

/// How large, how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Credentials.
    pub(super) known: u64,
    pub(super) known_for: Duration,
    /// Keys that are not there.
    pub(super) unknown: u64,
    pub(super) unknown_for: Duration,
    /// What users and roles may do is read again after this.
    pub(super) policies_for: Duration,
    /// So many changes of others are read at once.
    pub(super) page: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            known: 100_000,
            known_for: seconds(300),
            unknown: 10_000,
            unknown_for: seconds(1),
            policies_for: seconds(60),
            page: 1000,
        }
    }
}

/// What the cache has done since the start, for `/metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheCounts {
    /// Lookups that it answered, also "unknown".
    pub hits: u64,
    /// Lookups that needed the store, or waited for one that did.
    pub misses: u64,
    /// Credentials in it now, roughly.
    pub entries: u64,
    /// Credentials that had to go for others.
    pub evictions: u64,
}

#[derive(Debug)]
pub(super) struct Cache {
    /// The name is one with that in the credential.
    known: Moka<Arc<str>, Known>,
    /// The epoch in which the key was not there.
    unknown: Moka<String, u64>,
    epochs: Box<[AtomicU64]>,
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: Arc<AtomicU64>,
}

/// An entry does not outlive its key.
struct EndOfKey;

impl Expiry<Arc<str>, Known> for EndOfKey {
    fn expire_after_create(&self, _: &Arc<str>, known: &Known, _: Instant) -> Option<Duration> {
        let end = known.credential.expires()?;
        let left = end.saturating_sub(unix_millis()).max(0);
        Some(Duration::from_millis(u64::try_from(left).unwrap_or_default()))
    }
}

#[derive(Clone, Debug)]
struct Known {
    credential: Arc<Credential>,
    epoch: u64,
}

/// Why there is nothing to cache.
#[derive(Debug)]
enum Nothing {
    Unknown { epoch: u64 },
    Failed(Error),
}

impl Cache {
    pub(super) fn new(limits: Limits) -> Self {
        let evictions = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&evictions);
        let known = Moka::builder().max_capacity(limits.known).time_to_live(limits.known_for).expire_after(EndOfKey);
        let known = known.eviction_listener(move |_, _, cause| {
            if cause == RemovalCause::Size {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        let unknown = Moka::builder().max_capacity(limits.unknown).time_to_live(limits.unknown_for);
        Self {
            known: known.eviction_policy(EvictionPolicy::lru()).build(),
            unknown: unknown.eviction_policy(EvictionPolicy::lru()).build(),
            epochs: (0..GROUPS).map(|_| AtomicU64::new(0)).collect(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            evictions,
        }
    }

    /// The credential from the cache, or from `read` and then cached.
    pub(super) async fn get<F, Fut>(&self, access_key: &str, read: F) -> Result<Option<Arc<Credential>>>
    where
        F: Fn(Arc<str>) -> Fut + Send + Sync,
        Fut: Future<Output = Result<Option<Arc<Credential>>>> + Send,
    {
        let epoch = self.epoch(access_key);
        let now = || epoch.load(Ordering::SeqCst);
        if let Some(known) = self.known.get(access_key).await
            && known.epoch == now()
        {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(Some(known.credential));
        }
        if self.unknown.get(access_key).await.is_some_and(|epoch| epoch == now()) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(None);
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        // Boxed, so that a hit does not carry the state of a miss around.
        Box::pin(self.load(access_key, read)).await
    }

    async fn load<F, Fut>(&self, access_key: &str, read: F) -> Result<Option<Arc<Credential>>>
    where
        F: Fn(Arc<str>) -> Fut + Send + Sync,
        Fut: Future<Output = Result<Option<Arc<Credential>>>> + Send,
    {
        let epoch = self.epoch(access_key);
        let now = || epoch.load(Ordering::SeqCst);
        let name: Arc<str> = Arc::from(access_key);
        for _ in 0..ATTEMPTS {
            let load = async {
                let epoch = now();
                match read(name.clone()).await {
                    Ok(Some(credential)) => Ok(Known { credential, epoch }),
                    Ok(None) => Err(Nothing::Unknown { epoch }),
                    Err(error) => Err(Nothing::Failed(error)),
                }
            };
            let (found, begun) = match self.known.try_get_with(name.clone(), load).await {
                Ok(Known { credential, epoch }) => (Some(credential), epoch),
                Err(nothing) => match &*nothing {
                    Nothing::Unknown { epoch } => (None, *epoch),
                    Nothing::Failed(_) => return Err(shared(nothing)),
                },
            };
            if begun == now() {
                if found.is_none() {
                    self.unknown.insert(access_key.to_owned(), begun).await;
                }
                return Ok(found);
            }
            self.known.invalidate(access_key).await;
        }
        read(name).await
    }

    /// Forgets a key, after the store has changed. What is being read right now does not come back.
    pub(super) async fn forget(&self, access_key: &str) {
        self.epoch(access_key).fetch_add(1, Ordering::SeqCst);
        self.known.invalidate(access_key).await;
        self.unknown.invalidate(access_key).await;
    }

    /// Forgets all keys. Their entries are still there, and good for nothing.
    pub(super) fn forget_all(&self) {
        for epoch in &self.epochs {
            epoch.fetch_add(1, Ordering::SeqCst);
        }
    }

    pub(super) fn counts(&self) -> CacheCounts {
        CacheCounts {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            entries: self.known.entry_count(),
            evictions: self.evictions.load(Ordering::Relaxed),
        }
    }

    /// For tests: moka counts entries lazily.
    #[cfg(test)]
    pub(super) async fn settle(&self) {
        self.known.run_pending_tasks().await;
        self.unknown.run_pending_tasks().await;
    }

    fn epoch(&self, access_key: &str) -> &AtomicU64 {
        let mut hasher = DefaultHasher::new();
        access_key.hash(&mut hasher);
        let group = usize::try_from(hasher.finish() % GROUPS as u64).unwrap_or_default();
        &self.epochs[group]
    }
}

/// An error that several callers get, each as one of its own.
fn shared(nothing: Arc<Nothing>) -> Error {
    let kind = match &*nothing {
        Nothing::Failed(error) => error.kind().clone(),
        Nothing::Unknown { .. } => crate::error::ErrorKind::Internal,
    };
    Error::new(kind, "look up access key").caused_by(nothing)
}

impl std::fmt::Display for Nothing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown { .. } => f.write_str("unknown access key"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Nothing {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unknown { .. } => None,
            Self::Failed(error) => error.source(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

    use std::sync::atomic::AtomicUsize;

    use futures::future::join_all;
    use tokio::sync::{Notify, Semaphore};

    use super::*;
    use crate::error::ErrorKind;
    use crate::meta::identities::suite::account;
    use crate::tokens::Secret;
    use crate::tokens::layer::NEVER;

    const SHORT: Duration = Duration::from_millis(50);

    /// A source of credentials that counts its reads, and holds them while its gate is closed.
    struct Source {
        reads: AtomicUsize,
        begun: Notify,
        gate: Semaphore,
    }

    impl Source {
        fn open() -> Arc<Self> {
            Self::with_gate(Semaphore::MAX_PERMITS)
        }
        fn closed() -> Arc<Self> {
            Self::with_gate(0)
        }
        fn with_gate(permits: usize) -> Arc<Self> {
            Arc::new(Self { reads: AtomicUsize::new(0), begun: Notify::new(), gate: Semaphore::new(permits) })
        }
        fn reads(&self) -> usize {
            self.reads.load(Ordering::SeqCst)
        }
        /// What a read answers is what was true when it began.
        async fn read(&self, answer: Result<Option<Arc<Credential>>>) -> Result<Option<Arc<Credential>>> {
            self.reads.fetch_add(1, Ordering::SeqCst);
            self.begun.notify_one();
            drop(self.gate.acquire().await.unwrap());
            answer
        }
    }

    fn credential(access_key: &str) -> Arc<Credential> {
        let identity = account("1", "me");
        let secret = Secret::new(format!("secret of {access_key}"));
        let expires = access_key.strip_prefix("ends ").and_then(|end| end.parse().ok()).unwrap_or(NEVER);
        let bond = crate::tokens::actor::Bond::default();
        Arc::new(Credential {
            access_key: access_key.into(),
            secret,
            identity: Arc::new(identity),
            bond,
            expires,
            noted: std::sync::atomic::AtomicI64::new(0),
        })
    }

    #[tokio::test]
    async fn an_entry_does_not_outlive_its_key() {
        let (cache, source) = (Cache::new(Limits::default()), Source::open());
        let soon = format!("ends {}", unix_millis() + 40);
        let later = format!("ends {}", unix_millis() + 3_600_000);
        for key in [&soon, &later] {
            assert!(get(&cache, &source, key).await && get(&cache, &source, key).await);
        }
        assert_eq!(source.reads(), 2);
        tokio::time::sleep(SHORT * 2).await;
        assert!(get(&cache, &source, &later).await);
        assert_eq!(source.reads(), 2);
        assert!(get(&cache, &source, &soon).await);
        assert_eq!(source.reads(), 3);
    }

    #[tokio::test]
    async fn all_may_be_forgotten_at_once() {
        let (cache, source) = (Cache::new(Limits::default()), Source::open());
        for n in 0..1000 {
            assert!(get(&cache, &source, &n.to_string()).await);
        }
        cache.forget_all();
        for n in 0..1000 {
            assert!(!get_unknown(&cache, &source, &n.to_string()).await);
        }
        assert_eq!(source.reads(), 2000);
    }

    async fn get(cache: &Cache, source: &Source, access_key: &str) -> bool {
        cache.get(access_key, |_| source.read(Ok(Some(credential(access_key))))).await.unwrap().is_some()
    }

    async fn get_unknown(cache: &Cache, source: &Source, access_key: &str) -> bool {
        cache.get(access_key, |_| source.read(Ok(None))).await.unwrap().is_some()
    }

    #[tokio::test]
    async fn a_hit_reads_nothing_and_the_counts_are_exact() {
        let (cache, source) = (Cache::new(Limits::default()), Source::open());
        for _ in 0..10 {
            assert!(get(&cache, &source, "a").await);
            assert!(!get_unknown(&cache, &source, "b").await);
        }
        assert_eq!(source.reads(), 2);
        cache.settle().await;
        assert_eq!(cache.counts(), CacheCounts { hits: 18, misses: 2, entries: 1, evictions: 0 });
    }

    #[tokio::test]
    async fn calls_for_one_key_share_one_read() {
        let (cache, source) = (Arc::new(Cache::new(Limits::default())), Source::closed());
        for unknown in [false, true] {
            let calls = join_all((0..100).map(|_| {
                let (cache, source) = (Arc::clone(&cache), Arc::clone(&source));
                tokio::spawn(async move {
                    if unknown { !get_unknown(&cache, &source, "b").await } else { get(&cache, &source, "a").await }
                })
            }));
            let open = async {
                source.begun.notified().await;
                tokio::task::yield_now().await;
                source.gate.add_permits(1);
            };
            let (calls, ()) = tokio::join!(calls, open);
            assert!(calls.into_iter().all(|joined| joined.unwrap()));
        }
        assert_eq!(source.reads(), 2);
    }

    #[tokio::test]
    async fn entries_end() {
        let limits = Limits { known_for: SHORT, unknown_for: SHORT, ..Limits::default() };
        let (cache, source) = (Cache::new(limits), Source::open());
        for reads in [2, 4] {
            assert!(get(&cache, &source, "a").await);
            assert!(!get_unknown(&cache, &source, "b").await);
            assert_eq!(source.reads(), reads);
            tokio::time::sleep(SHORT * 2).await;
        }
    }

    #[tokio::test]
    async fn the_limits_of_the_layer() {
        let cache = Cache::new(Limits::default());
        assert_eq!(cache.known.policy().max_capacity(), Some(100_000));
        assert_eq!(cache.known.policy().time_to_live(), Some(Duration::from_secs(300)));
        assert_eq!(cache.unknown.policy().max_capacity(), Some(10_000));
        assert_eq!(cache.unknown.policy().time_to_live(), Some(Duration::from_secs(1)));
    }

    #[tokio::test]
    async fn the_least_recently_used_goes_first() {
        let (cache, source) = (Cache::new(Limits { known: 100, ..Limits::default() }), Source::open());
        for n in 0..150 {
            assert!(get(&cache, &source, &format!("key{n}")).await);
            // Used all along, and so kept.
            assert!(get(&cache, &source, "key0").await);
            cache.settle().await;
        }
        assert_eq!((cache.counts().entries, cache.counts().evictions), (100, 50));
        assert_eq!(source.reads(), 150);
        for n in [0, 149, 120, 51] {
            assert!(get(&cache, &source, &format!("key{n}")).await);
        }
        assert_eq!(source.reads(), 150);
        assert!(get(&cache, &source, "key1").await);
        assert_eq!(source.reads(), 151);
    }

    #[tokio::test]
    async fn a_flood_of_unknown_keys_pushes_nothing_out() {
        let (cache, source) = (Cache::new(Limits { known: 10, unknown: 10, ..Limits::default() }), Source::open());
        assert!(get(&cache, &source, "good").await);
        for n in 0..1000 {
            assert!(!get_unknown(&cache, &source, &format!("bad{n}")).await);
        }
        cache.settle().await;
        assert!(cache.unknown.entry_count() <= 10);
        let reads = source.reads();
        assert!(get(&cache, &source, "good").await);
        assert_eq!(source.reads(), reads);
    }

    /// The race that the epochs are for: deleted while its read was under way.
    #[tokio::test]
    async fn a_key_forgotten_during_its_read_does_not_come_back() {
        let (cache, source) = (Arc::new(Cache::new(Limits::default())), Source::closed());
        let early = {
            let (cache, source) = (Arc::clone(&cache), Arc::clone(&source));
            tokio::spawn(async move {
                let first = AtomicUsize::new(0);
                let answer = |_: Arc<str>| source.read(Ok((first.fetch_add(1, Ordering::SeqCst) == 0).then(|| credential("a"))));
                cache.get("a", answer).await.unwrap().is_some()
            })
        };
        source.begun.notified().await;
        cache.forget("a").await;
        // Begins after the deletion and joins the read that began before it.
        let late = {
            let (cache, source) = (Arc::clone(&cache), Arc::clone(&source));
            tokio::spawn(async move { get_unknown(&cache, &source, "a").await })
        };
        tokio::task::yield_now().await;
        source.gate.add_permits(100);
        assert!(!late.await.unwrap());
        assert!(!early.await.unwrap());
        assert!(!get_unknown(&cache, &source, "a").await);
    }

    #[tokio::test]
    async fn a_key_created_during_a_read_is_known_at_once() {
        let (cache, source) = (Arc::new(Cache::new(Limits::default())), Source::closed());
        let early = {
            let (cache, source) = (Arc::clone(&cache), Arc::clone(&source));
            tokio::spawn(async move { get_unknown(&cache, &source, "a").await })
        };
        source.begun.notified().await;
        cache.forget("a").await;
        source.gate.add_permits(100);
        early.await.unwrap();
        cache.forget("a").await;
        // As a call that was between its check and its entry would leave it.
        cache.unknown.insert("a".into(), 1).await;
        assert!(get(&cache, &source, "a").await);
    }

    #[tokio::test]
    async fn a_key_that_never_rests_is_read_by_the_call_itself() {
        let (cache, source) = (Cache::new(Limits::default()), Source::open());
        let read = |_: Arc<str>| async {
            cache.forget("a").await;
            source.read(Ok(Some(credential("a")))).await
        };
        assert!(cache.get("a", read).await.unwrap().is_some());
        assert_eq!(source.reads(), ATTEMPTS + 1);
    }

    #[tokio::test]
    async fn a_failure_goes_to_all_who_wait_and_is_not_kept() {
        let (cache, source) = (Arc::new(Cache::new(Limits::default())), Source::closed());
        let calls = join_all((0..10).map(|_| {
            let (cache, source) = (Arc::clone(&cache), Arc::clone(&source));
            tokio::spawn(async move {
                let down = |_: Arc<str>| {
                    source.read(Err(Error::new(ErrorKind::MetaUnavailable, "read access key").with("disk", "gone")))
                };
                cache.get("a", down).await.unwrap_err()
            })
        }));
        let open = async {
            source.begun.notified().await;
            tokio::task::yield_now().await;
            source.gate.add_permits(1);
        };
        let (errors, ()) = tokio::join!(calls, open);
        for error in errors {
            let error = error.unwrap();
            assert!(matches!(error.kind(), ErrorKind::MetaUnavailable));
            assert!(error.to_string().contains("disk gone"), "{error}");
        }
        assert_eq!(source.reads(), 1);
        assert!(get(&cache, &source, "a").await);
    }

    #[tokio::test]
    async fn a_caller_that_leaves_takes_nobody_along() {
        let (cache, source) = (Arc::new(Cache::new(Limits::default())), Source::closed());
        let call = || {
            let (cache, source) = (Arc::clone(&cache), Arc::clone(&source));
            tokio::spawn(async move { get(&cache, &source, "a").await })
        };
        let first = call();
        source.begun.notified().await;
        let second = call();
        tokio::task::yield_now().await;
        first.abort();
        source.begun.notified().await;
        source.gate.add_permits(1);
        assert!(second.await.unwrap());
    }
}
