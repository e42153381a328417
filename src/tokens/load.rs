//! A million registered keys, measured: `cargo t --release --lib tokens::load -- --ignored --nocapture`. The figures are in
//! `docs/performance/tokens.md`. With `SLUICE_TEST_POSTGRES` also on a server; `SLUICE_LOAD_KEYS` is how many keys.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Tokens;
use crate::meta::identities::suite::{account, key};
use crate::meta::{AccessKeyRecord, MetaStore, SqliteStore};

const COLD: usize = 10_000;
const WARM: usize = 100_000;

/// Resident memory in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// The n-th of numbers that visit `0..count` in no order.
fn scattered(n: usize, count: usize) -> usize {
    n.wrapping_mul(7_368_787) % count
}

fn name(n: usize) -> String {
    format!("SL{n:018}")
}

fn say(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!("{what}: p50 {:?}, p99 {:?}, worst {:?} of {}", at(0.5), at(0.99), at(1.0), times.len());
}

async fn measure(store: Arc<dyn MetaStore>, count: usize) {
    let tokens = Tokens::open(Arc::clone(&store), [7; 32]).await.unwrap();
    let begun = Instant::now();
    store.create_account(&account("1", "one")).await.unwrap();
    for first in (0..count).step_by(10_000) {
        let keys: Vec<AccessKeyRecord> = (first..count.min(first + 10_000))
            .map(|n| {
                let sealed_secret = tokens.seal.seal(&name(n), "0123456789012345678901234567890123456789").unwrap();
                AccessKeyRecord { sealed_secret, ..key(&name(n), "1") }
            })
            .collect();
        store.create_access_keys(&keys).await.unwrap();
    }
    println!("{count} keys loaded in {:?}", begun.elapsed());

    let tokens = Tokens::open(store, [7; 32]).await.unwrap();
    let look = async |n: usize| {
        let access_key = name(scattered(n, count));
        let begun = Instant::now();
        assert!(tokens.credential(&access_key).await.unwrap().is_some());
        begun.elapsed()
    };
    let mut times = Vec::with_capacity(WARM);
    for n in 0..COLD {
        times.push(look(n).await);
    }
    say("cold", std::mem::take(&mut times));
    for n in 0..WARM {
        times.push(look(n % COLD).await);
    }
    say("warm", times);

    let before = resident();
    for n in COLD..150_000.min(count) {
        look(n).await;
    }
    tokens.settle().await;
    let counts = tokens.cache_counts();
    println!("{counts:?}");
    let grown = resident().saturating_sub(before);
    println!(
        "memory of {} more entries: {} bytes each",
        counts.entries - COLD as u64,
        grown / (counts.entries as usize - COLD).max(1)
    );
    assert!(counts.entries <= 100_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: minutes"]
async fn a_million_keys() {
    let count = std::env::var("SLUICE_LOAD_KEYS").ok().and_then(|count| count.parse().ok()).unwrap_or(1_000_000);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sluice.db");
    println!("SQLite");
    let store = Arc::new(SqliteStore::open(&path).await.unwrap());
    measure(store.clone(), count).await;
    store.close().await;
    println!("{} bytes on disk", std::fs::metadata(&path).unwrap().len());
    if std::env::var_os("SLUICE_TEST_POSTGRES").is_some() {
        println!("PostgreSQL");
        let dsn = crate::meta::postgres::tests::schema().await;
        measure(Arc::new(crate::meta::PostgresStore::open(&dsn, 20).await.unwrap()), count).await;
    }
}
