//! A million registered keys, measured: `cargo bench --ignore-rust-version --bench keys`, or `bash compat-tests/run keys` for both stores.
//!
//! Arguments are stores, as `postgres://…` or the name of a directory for a file of SQLite; none: SQLite in a temporary directory.
//! `SLUICE_LOAD_KEYS` is how many keys. It ends badly when a target is missed. The figures are in `docs/performance/tokens.md`.
#![allow(missing_docs, reason = "a program")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a measurement")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice::meta::{AccessKeyRecord, AccountRecord, EntityKind, EntityRecord, MetaStore, PostgresStore, SqliteStore};
use sluice::tokens::{Keyring, Tokens};

/// The gateway's allocator, with a count of what is in use.
mod heap {
    #![allow(unsafe_code, reason = "an allocator is unsafe by nature; this one only counts")]

    use std::alloc::{GlobalAlloc, Layout};
    use std::sync::atomic::{AtomicUsize, Ordering};

    static IN_USE: AtomicUsize = AtomicUsize::new(0);

    struct Counting(mimalloc::MiMalloc);

    #[global_allocator]
    static ALLOCATOR: Counting = Counting(mimalloc::MiMalloc);

    // SAFETY: every call is passed on as it came, and what it answers is answered.
    unsafe impl GlobalAlloc for Counting {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
            // SAFETY: as the caller promises.
            unsafe { self.0.alloc(layout) }
        }
        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
            // SAFETY: as the caller promises.
            unsafe { self.0.dealloc(block, layout) }
        }
        unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
            IN_USE.fetch_add(new_size, Ordering::Relaxed);
            IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
            // SAFETY: as the caller promises.
            unsafe { self.0.realloc(block, layout, new_size) }
        }
    }

    /// Bytes that were asked for and not given back.
    pub(super) fn in_use() -> usize {
        IN_USE.load(Ordering::Relaxed)
    }
}

/// Keys that are looked up for the first time.
const COLD: usize = 10_000;
/// Lookups of keys that are cached.
const WARM: usize = 100_000;
/// Keys that are touched in all: more than the cache holds.
const TOUCHED: usize = 150_000;
/// What the cache holds.
const CAPACITY: usize = 100_000;
/// What its entries may cost.
const MOST_MEMORY: f64 = 60e6;
const KEYS_OF_AN_ACCOUNT: usize = 1000;

/// Resident memory in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// The n-th of numbers that visit `0..count` in no order, each once.
fn scattered(n: usize, count: usize) -> usize {
    // A prime that does not divide `count`.
    n.wrapping_mul(7_368_787) % count
}

fn name(n: usize) -> String {
    format!("SL{n:018}")
}

fn account(n: usize) -> String {
    format!("{n:064}")
}

fn user(n: usize) -> String {
    format!("AIDA{n:017}")
}

/// Loads keys: one half the accounts' own, one half their users'.
async fn load(store: &dyn MetaStore, count: usize) {
    let keyring = Keyring::new(&[7; 32].into(), None).unwrap();
    for n in 0..count.div_ceil(KEYS_OF_AN_ACCOUNT) {
        let record = AccountRecord {
            id: account(n),
            number: format!("{:012}", 100_000_000_000 + n),
            name: format!("tenant-{n}"),
            root: false,
            active: true,
            created: 0,
        };
        store.create_account(&record).await.unwrap();
        let user = EntityRecord {
            id: user(n),
            account: account(n),
            kind: EntityKind::User,
            path: "/".into(),
            name: "user".into(),
            description: String::new(),
            trust: None,
            max_session_secs: 0,
            boundary: None,
            tags: BTreeMap::new(),
            created: 0,
        };
        store.create_entity(&user).await.unwrap();
    }
    let begun = Instant::now();
    let numbers: Vec<usize> = (0..count).collect();
    for batch in numbers.chunks(10_000) {
        let record = |n: &usize| AccessKeyRecord {
            access_key: name(*n),
            sealed_secret: keyring.seal(&name(*n), "0123456789012345678901234567890123456789").unwrap(),
            account: account(n / KEYS_OF_AN_ACCOUNT),
            user: (n % 2 == 1).then(|| user(n / KEYS_OF_AN_ACCOUNT)),
            active: true,
            expires: None,
            service: None,
            created: 0,
            last_used: None,
        };
        store.create_access_keys(&batch.iter().map(record).collect::<Vec<_>>()).await.unwrap();
    }
    println!("  {count} keys loaded in {:.1} s", begun.elapsed().as_secs_f64());
}

/// Prints a figure with its target; true when it is met.
fn say(what: &str, figure: &str, met: bool) -> bool {
    println!("  {what}: {figure}{}", if met { "" } else { "  MISSED" });
    met
}

fn lookups(what: &str, mut times: Vec<Duration>, limit: Duration) -> bool {
    times.sort_unstable();
    let at = |per_mille: usize| times[(times.len() - 1) * per_mille / 1000];
    let figure = format!("p50 {:?}, p99 {:?}, worst {:?} of {}", at(500), at(990), at(1000), times.len());
    say(what, &format!("{figure} (p99 < {limit:?})"), at(990) < limit)
}

async fn measure(store: Arc<dyn MetaStore>, count: usize) -> bool {
    load(&*store, count).await;
    let tokens = Tokens::open(store, [7; 32]).await.unwrap();
    let look = async |n: usize| {
        let access_key = name(scattered(n, count));
        let begun = Instant::now();
        assert!(tokens.credential(&access_key).await.unwrap().is_some());
        begun.elapsed()
    };
    // Connections are made and statements prepared once.
    for n in count - 100..count {
        look(n).await;
    }
    let (heap, rss) = (heap::in_use(), resident());
    let (cold, warm, touched) = (COLD.min(count / 2), WARM, TOUCHED.min(count - 100));
    let mut times = Vec::with_capacity(WARM);
    for n in 0..cold {
        times.push(look(n).await);
    }
    let mut met = lookups("cold lookup", std::mem::take(&mut times), Duration::from_millis(10));
    for n in 0..warm {
        times.push(look(n % cold).await);
    }
    met &= lookups("warm lookup", std::mem::take(&mut times), Duration::from_millis(1));
    drop(times);

    for n in cold..touched {
        look(n).await;
    }
    // Entries go, and are counted, a moment later.
    let settled = Instant::now();
    let accounted = || {
        let counts = tokens.cache_counts();
        counts.entries <= CAPACITY as u64 && counts.entries + counts.evictions == 100 + touched as u64
    };
    while !accounted() && settled.elapsed() < Duration::from_secs(10) {
        tokio::time::sleep(Duration::from_millis(350)).await;
        look(touched - 1).await;
    }
    let more = tokens.cache_counts().hits - warm as u64;
    let counts = tokens.cache_counts();
    let exact = (counts.hits, counts.misses) == (warm as u64 + more, 100 + touched as u64) && more < 100;
    met &= say("hits and misses", &format!("{} and {}", counts.hits, counts.misses), exact);
    met &= say("entries and evictions", &format!("{} and {}", counts.entries, counts.evictions), accounted());
    let entries = counts.entries as f64 - 100.0;
    let per_entry = |bytes: usize| bytes as f64 / entries;
    let heap = per_entry(heap::in_use().saturating_sub(heap));
    let figure = format!("{heap:.0} bytes of heap each, {:.0} of resident memory", per_entry(resident().saturating_sub(rss)));
    met &= say("an entry", &format!("{figure} (heap of 100 000: < 60 MB)"), heap * CAPACITY as f64 <= MOST_MEMORY);
    met
}

async fn all() -> bool {
    let count = std::env::var("SLUICE_LOAD_KEYS").map_or(1_000_000, |count| count.parse().expect("SLUICE_LOAD_KEYS is a number"));
    let mut stores: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let temporary = tempfile::tempdir().unwrap();
    if stores.is_empty() {
        stores.push(temporary.path().to_str().unwrap().to_owned());
    }
    let mut met = true;
    for at in stores {
        if at.starts_with("postgres") {
            println!("PostgreSQL");
            met &= measure(Arc::new(PostgresStore::open(&at, 20).await.unwrap()), count).await;
            continue;
        }
        println!("SQLite");
        let path = Path::new(&at).join("keys.db");
        let store = Arc::new(SqliteStore::open(&path).await.unwrap());
        met &= measure(store.clone(), count).await;
        store.close().await;
        println!("  {} MB on disk", std::fs::metadata(&path).unwrap().len() / 1_000_000);
    }
    met
}

fn main() -> std::process::ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if runtime.block_on(all()) { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}
