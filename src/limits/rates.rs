//! Token buckets (GCRA, by governor): one for each sender and one for each bucket.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use super::Settings;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub enum Sender<'a> {
    /// The access key whose signature was verified.
    Key(&'a str),
    /// Nobody in particular, from this address.
    Address(IpAddr),
}

/// Whose rate is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    /// The sender's.
    User,
    /// The bucket's.
    Bucket,
}

/// The rates that hold now. Clones are the same; they can be exchanged while requests run.
#[derive(Clone, Default)]
pub struct Rates(Arc<Inner>);

#[derive(Default)]
struct Inner {
    table: ArcSwapOption<Table>,
    users_refused: AtomicU64,
    buckets_refused: AtomicU64,
}

type Plain<C> = NoOpMiddleware<<C as Clock>::Instant>;
type Keyed<K, C> = RateLimiter<K, DashMapStateStore<K>, C, Plain<C>>;
type Direct<C> = RateLimiter<NotKeyed, InMemoryState, C, Plain<C>>;

/// The rates of one configuration.
struct Table<C: Clock = DefaultClock> {
    keys: Kind<String, C>,
    addresses: Keyed<IpAddr, C>,
    buckets: Kind<String, C>,
}

/// One rate for all, and rates of their own for some.
struct Kind<K: std::hash::Hash + Eq + Clone, C: Clock> {
    all: Keyed<K, C>,
    own: HashMap<String, Option<Direct<C>>>,
}

// === impl Rates ===

impl Rates {
    /// Rates by these settings.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let rates = Self::default();
        rates.set(settings);
        rates
    }

    /// Exchanges the rates. Everybody begins with a full second's worth.
    pub fn set(&self, settings: &Settings) {
        let table = settings.enabled.then(|| Arc::new(Table::new(settings, &DefaultClock::default())));
        self.0.table.store(table);
    }

    /// Takes one request of a sender's rate.
    ///
    /// # Errors
    /// [`Exceeded::User`] when it is used up.
    pub fn take_user(&self, sender: Sender<'_>) -> Result<(), Exceeded> {
        // Nearly always off: no count is touched then.
        let table = self.0.table.load();
        let Some(table) = table.as_deref() else { return Ok(()) };
        if table.admits_user(sender) {
            return Ok(());
        }
        self.0.users_refused.fetch_add(1, Ordering::Relaxed);
        Err(Exceeded::User)
    }

    /// Takes one request of a bucket's rate. The bucket should be known to exist: names that anybody can think of would fill the table.
    ///
    /// # Errors
    /// [`Exceeded::Bucket`] when it is used up.
    pub fn take_bucket(&self, bucket: &str) -> Result<(), Exceeded> {
        let table = self.0.table.load();
        let Some(table) = table.as_deref() else { return Ok(()) };
        if table.buckets.admits(bucket) {
            return Ok(());
        }
        self.0.buckets_refused.fetch_add(1, Ordering::Relaxed);
        Err(Exceeded::Bucket)
    }

    /// How many requests were refused for their sender's rate, and for their bucket's.
    #[must_use]
    pub fn refused(&self) -> (u64, u64) {
        (self.0.users_refused.load(Ordering::Relaxed), self.0.buckets_refused.load(Ordering::Relaxed))
    }

    /// Forgets senders and buckets whose rate is whole again. To be called now and then.
    pub fn forget_quiet(&self) {
        if let Some(table) = self.0.table.load().as_deref() {
            table.forget_quiet();
        }
    }

    /// How many senders and buckets are remembered.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.0.table.load().as_deref().map_or(0, Table::remembered)
    }
}

impl fmt::Debug for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rates").field("on", &self.0.table.load().is_some()).finish_non_exhaustive()
    }
}

// === impl Table ===

impl<C: Clock + Clone> Table<C> {
    fn new(settings: &Settings, clock: &C) -> Self {
        // Validated before; what cannot be read has no rate of its own.
        let own = |list: &[String]| overrides(list).unwrap_or_default();
        let addresses = RateLimiter::new(quota(settings.user_per_sec), DashMapStateStore::default(), clock.clone());
        Self {
            keys: Kind::new(settings.user_per_sec, own(&settings.users), clock),
            addresses,
            buckets: Kind::new(settings.bucket_per_sec, own(&settings.buckets), clock),
        }
    }

    fn admits_user(&self, sender: Sender<'_>) -> bool {
        match sender {
            Sender::Key(key) => self.keys.admits(key),
            Sender::Address(address) => self.addresses.check_key(&address.to_canonical()).is_ok(),
        }
    }

    fn forget_quiet(&self) {
        self.keys.all.retain_recent();
        self.addresses.retain_recent();
        self.buckets.all.retain_recent();
        self.keys.all.shrink_to_fit();
        self.addresses.shrink_to_fit();
        self.buckets.all.shrink_to_fit();
    }

    fn remembered(&self) -> usize {
        self.keys.all.len() + self.addresses.len() + self.buckets.all.len()
    }
}

impl<C: Clock + Clone> Kind<String, C> {
    fn new(all: u32, own: HashMap<String, u32>, clock: &C) -> Self {
        let direct = |rate: u32| (rate > 0).then(|| RateLimiter::direct_with_clock(quota(rate), clock.clone()));
        let own = own.into_iter().map(|(name, rate)| (name, direct(rate))).collect();
        Self { all: RateLimiter::new(quota(all), DashMapStateStore::default(), clock.clone()), own }
    }

    fn admits(&self, name: &str) -> bool {
        match self.own.get(name) {
            Some(None) => true,
            Some(Some(rate)) => rate.check().is_ok(),
            None => self.all.check_key(&name.to_owned()).is_ok(),
        }
    }
}

/// So many a second, and a second's worth at once.
fn quota(rate: u32) -> Quota {
    Quota::per_second(NonZeroU32::new(rate).unwrap_or(NonZeroU32::MIN))
}

/// Reads `NAME=RATE` entries.
pub(super) fn overrides(entries: &[String]) -> Result<HashMap<String, u32>, String> {
    let mut rates = HashMap::new();
    for entry in entries {
        let rate = entry.rsplit_once('=').and_then(|(name, rate)| Some((name.trim(), rate.trim().parse().ok()?)));
        match rate {
            Some((name, rate)) if !name.is_empty() => drop(rates.insert(name.to_owned(), rate)),
            _ => return Err(format!("`{entry}` must be NAME=RATE")),
        }
    }
    Ok(rates)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::time::Duration;

    use governor::clock::FakeRelativeClock;

    use super::*;

    fn table(settings: &Settings) -> (Table<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (Table::new(settings, &clock), clock)
    }

    fn admitted(count: usize, mut take: impl FnMut() -> bool) -> usize {
        (0..count).filter(|_| take()).count()
    }

    #[test]
    fn a_second_of_the_rate_at_once_and_then_the_rate() {
        let (table, clock) = table(&Settings::default());
        let one = || table.admits_user(Sender::Key("SLONE"));
        assert_eq!(admitted(300, one), 100);
        assert_eq!(admitted(50, || table.admits_user(Sender::Key("SLOTHER"))), 50, "another key has its own");
        clock.advance(Duration::from_millis(100));
        assert_eq!(admitted(300, one), 10);
        clock.advance(Duration::from_secs(3));
        assert_eq!(admitted(300, one), 100, "no more than a second's worth is saved up");
    }

    #[test]
    fn fifteen_users_share_a_bucket() {
        let (table, _clock) = table(&Settings::default());
        let mut through = 0;
        for user in 0..15 {
            let key = format!("SL{user}");
            through += admitted(100, || table.admits_user(Sender::Key(&key)) && table.buckets.admits("shared"));
        }
        assert_eq!(through, 1000);
    }

    #[test]
    fn some_have_a_rate_of_their_own() {
        let list = |entry: &str| vec![entry.to_owned(), "SLFREE=0".to_owned()];
        let settings = Settings { users: list("SLFAST=500"), buckets: list("wide=5000"), ..Settings::default() };
        let (table, _clock) = table(&settings);
        assert_eq!(admitted(1000, || table.admits_user(Sender::Key("SLFAST"))), 500);
        assert_eq!(admitted(1000, || table.admits_user(Sender::Key("SLFREE"))), 1000);
        assert_eq!(admitted(9000, || table.buckets.admits("wide")), 5000);
        let address = |text: &str| Sender::Address(text.parse().unwrap());
        assert_eq!(admitted(200, || table.admits_user(address("192.0.2.1"))), 100);
        // The same address, as a socket of the other family shows it.
        assert_eq!(admitted(200, || table.admits_user(address("::ffff:192.0.2.1"))), 0);
    }

    #[test]
    fn a_million_keys_are_forgotten_when_they_are_quiet() {
        let (table, clock) = table(&Settings::default());
        for number in 0..1_000_000 {
            assert!(table.admits_user(Sender::Key(&number.to_string())));
        }
        assert_eq!(table.remembered(), 1_000_000);
        clock.advance(Duration::from_secs(2));
        table.forget_quiet();
        assert_eq!(table.remembered(), 0);
    }

    #[test]
    fn off_admits_everybody_and_remembers_nobody() {
        let rates = Rates::new(&Settings::default());
        for _ in 0..5000 {
            rates.take_user(Sender::Key("SLONE")).unwrap();
            rates.take_bucket("bucket").unwrap();
        }
        assert_eq!((rates.remembered(), rates.refused()), (0, (0, 0)));
        rates.set(&Settings { enabled: true, user_per_sec: 1, ..Settings::default() });
        rates.take_user(Sender::Key("SLONE")).unwrap();
        assert_eq!(rates.take_user(Sender::Key("SLONE")), Err(Exceeded::User));
        assert_eq!(rates.refused(), (1, 0));
    }

    #[test]
    fn entries_that_say_nothing_are_refused() {
        for entry in ["SLKEY", "=5", "SLKEY=fast", "SLKEY=-1"] {
            assert!(Settings { users: vec![entry.to_owned()], ..Settings::default() }.validate().is_err(), "{entry}");
        }
        assert!(Settings { user_per_sec: 0, ..Settings::default() }.validate().is_err());
        Settings { users: vec!["a=b=7".to_owned()], ..Settings::default() }.validate().unwrap();
    }
}
