//! What the rooms between a request and its provider cost: `cargo bench --ignore-rust-version --bench rooms`.
//!
//! Wall-clock figures of one machine, to be compared with those of the same machine only.
#![allow(missing_docs, reason = "the macros of criterion make a function")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench may panic")]

use std::collections::{BTreeMap, HashMap};
use std::hint::black_box;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sluice::handles::{self, Purpose, Registry};
use sluice::meta::{EntityKind, EntityRecord, MetaStore, SqliteStore};
use sluice::mounts::{Mount, MountTable};
use sluice::namespaces::{DefaultMount, Namespaces};
use sluice::tokens::policy::Target;
use sluice::tokens::{Secret, Tokens};
use sluice_provider::{Attributes, ETag, Key, ListFrom, ListQuery, Provider, PutBody, PutOptions, ReadOptions, Seal};
use sluice_provider_local::{Durability, Local, Settings, Snapshots};
use sluice_provider_memory::Memory;

const THREADS: [usize; 3] = [1, 2, 8];

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}

/// So many rounds on each of so many threads at once.
fn together(threads: usize, rounds: u64, work: impl Fn(usize, u64) + Sync) -> Duration {
    let began = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let work = &work;
            scope.spawn(move || (0..rounds).for_each(|round| work(thread, round)));
        }
    });
    began.elapsed()
}

/// Opening and closing a handle: the registry with its 64 shards, and what it would be with one lock.
fn handles(c: &mut Criterion) {
    let mut group = c.benchmark_group("handles, open and close");
    for threads in THREADS {
        group.throughput(Throughput::Elements(threads as u64));
        let registry = Registry::new(handles::Settings::default());
        group.bench_with_input(BenchmarkId::new("64 shards, threads", threads), &threads, |b, &threads| {
            b.iter_custom(|rounds| {
                together(threads, rounds, |_, _| drop(black_box(registry.open("bucket", "a/key", Purpose::Read))))
            });
        });
        let one: Mutex<HashMap<u64, Arc<(String, String)>>> = Mutex::default();
        group.bench_with_input(BenchmarkId::new("one lock, threads", threads), &threads, |b, &threads| {
            b.iter_custom(|rounds| {
                together(threads, rounds, |thread, round| {
                    let (id, entry) = (thread as u64 * rounds + round, Arc::new(("bucket".to_owned(), "a/key".to_owned())));
                    one.lock().unwrap().insert(id, entry);
                    black_box(one.lock().unwrap().remove(&id));
                })
            });
        });
    }
    // As many as a gateway with the most connections could hold, ten times over, are open meanwhile.
    let registry = Registry::new(handles::Settings::default());
    let held: Vec<_> = (0..100_000).map(|n| registry.open("bucket", &format!("held/{n:06}"), Purpose::Read)).collect();
    for threads in THREADS {
        group.throughput(Throughput::Elements(threads as u64));
        group.bench_with_input(BenchmarkId::new("64 shards, 100 000 open, threads", threads), &threads, |b, &threads| {
            b.iter_custom(|rounds| {
                together(threads, rounds, |_, _| drop(black_box(registry.open("bucket", "a/key", Purpose::Read))))
            });
        });
    }
    drop(held);
    group.finish();
}

/// The median, the 99th percentile and the longest of a hundred thousand single calls: criterion tells means.
fn percentiles(what: &str, mut call: impl FnMut()) {
    let mut took: Vec<Duration> = (0..100_000)
        .map(|_| {
            let began = Instant::now();
            call();
            began.elapsed()
        })
        .collect();
    took.sort_unstable();
    eprintln!("{what}: median {:?}, p99 {:?}, longest {:?}", took[50_000], took[99_000], took[99_999]);
}

/// Finding the mount of a key. The aim: 10 000 mounts cost at most three times what 10 do, and the 99th percentile is below 1 ms.
fn mounts(c: &mut Criterion) {
    let mut group = c.benchmark_group("mounts, resolve");
    for count in [10_usize, 100, 10_000] {
        let provider: Arc<dyn Provider> = Arc::new(Memory::new(sluice_provider_memory::Settings::default()));
        let mount = |prefix: String| Mount {
            prefix: prefix.into(),
            kind: "memory".into(),
            provider: Arc::clone(&provider),
            authoriser: None,
        };
        let mut all: Vec<Mount> = (1..count).map(|n| mount(format!("team-{:05}/", n * 7))).collect();
        all.push(mount(String::new()));
        let table = MountTable::new(all);
        let keys: Vec<String> = (0..256).map(|n| format!("team-{:05}/some/key", n * count * 7 / 256)).collect();
        let mut at = 0;
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter(|| {
                at = (at + 1) % keys.len();
                black_box(table.resolve(&keys[at]).is_some())
            });
        });
        percentiles(&format!("mounts, resolve/{count}"), || {
            at = (at + 1) % keys.len();
            black_box(table.resolve(&keys[at]).is_some());
        });
    }
    group.finish();
}

/// An access key that is in the cache.
fn tokens(c: &mut Criterion) {
    let runtime = runtime();
    let tokens = runtime.block_on(async {
        let store: Arc<dyn MetaStore> = Arc::new(SqliteStore::open_in_memory().await.unwrap());
        let tokens = Tokens::open(store, [7; 32]).await.unwrap();
        for n in 0..1000 {
            let secret = Secret::new("correct-horse-battery-staple".into());
            tokens.create_key(&format!("user-{n}"), false, Some(format!("KEY{n:05}")), Some(secret)).await.unwrap();
        }
        tokens
    });
    let keys: Vec<String> = (0..1000).map(|n| format!("KEY{n:05}")).collect();
    let mut at = 0;
    c.bench_function("tokens, a known access key of 1000", |b| {
        b.iter(|| {
            at = (at + 1) % keys.len();
            black_box(runtime.block_on(tokens.credential(&keys[at])).unwrap().is_some())
        });
    });
}

/// What a request whose key and policies are cached costs in the token layer, apart from the signature: the key is looked up twice (for
/// its secret, and for who it is), the user found with its policies, and these asked. The aim is less than 5 microseconds.
fn allowed_request(c: &mut Criterion) {
    let runtime = runtime();
    let (tokens, key) = runtime.block_on(async {
        let store: Arc<dyn MetaStore> = Arc::new(SqliteStore::open_in_memory().await.unwrap());
        let tokens = Tokens::open(Arc::clone(&store), [7; 32]).await.unwrap();
        let account = tokens.create_key("tenant", false, None, None).await.unwrap().identity;
        let user = EntityRecord {
            id: tokens.new_id("AIDA").unwrap(),
            account: account.id.clone(),
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
        let policy = r#"{"Version":"2012-10-17","Statement":[
            {"Effect":"Deny","Action":"s3:DeleteObject","Resource":"arn:aws:s3:::bucket/kept/*"},
            {"Effect":"Allow","Action":["s3:GetObject","s3:PutObject"],"Resource":"arn:aws:s3:::bucket/${aws:username}/*",
             "Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}}]}"#;
        store.put_inline_policy(&user.id, "own", policy).await.unwrap();
        let (key, _) = tokens.create_key_for(&account, Some(&user.id)).await.unwrap();
        (tokens, key.access_key)
    });
    let values = |key: &str| if key == "aws:sourceip" { vec!["10.1.2.3".to_owned()] } else { Vec::new() };
    c.bench_function("tokens, a cached request that is allowed", |b| {
        b.iter(|| {
            runtime.block_on(async {
                black_box(tokens.credential(&key).await.unwrap().is_some());
                let credential = tokens.credential(&key).await.unwrap().unwrap();
                tokens.note_use(&credential);
                let actor = tokens.actor(credential).await.unwrap().unwrap();
                assert!(actor.may("s3:GetObject", Target::s3("bucket/user/key"), &values));
            });
        });
    });
}

/// A namespace that is open.
fn namespaces(c: &mut Criterion) {
    let runtime = runtime();
    let mut group = c.benchmark_group("namespaces, get an open one");
    for count in [1_usize, 1000, 10_000] {
        let namespaces = runtime.block_on(async {
            let store: Arc<dyn MetaStore> = Arc::new(SqliteStore::open_in_memory().await.unwrap());
            let namespaces = Namespaces::new(store, DefaultMount { provider: "memory".into(), settings: BTreeMap::new() });
            for n in 0..count {
                namespaces.create(&format!("bucket-{n:05}"), "owner", "").await.unwrap();
            }
            namespaces
        });
        let names: Vec<String> = (0..count).map(|n| format!("bucket-{n:05}")).collect();
        let mut at = 0;
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter(|| {
                at = (at + 1) % names.len();
                black_box(runtime.block_on(namespaces.get(&names[at])).is_ok())
            });
        });
    }
    group.finish();
}

fn local(root: &Path, snapshots: Snapshots) -> Local {
    Local::open(Settings { durability: Durability::Os, snapshots, ..Settings::new(root) }).unwrap()
}

async fn put(provider: &dyn Provider, key: &str) {
    let seal = Seal { etag: ETag::new("d41d8cd98f00b204e9800998ecf8427e").unwrap(), attributes: Attributes::new() };
    let body = PutBody::from_bytes(bytes::Bytes::new(), seal);
    provider.put(&Key::new(key).unwrap(), body, &PutOptions::default()).await.unwrap();
}

/// The hop to a thread that may block: none for metadata that the kernel has at hand, one for a page of a listing.
fn pool(c: &mut Criterion) {
    let (runtime, dir) = (runtime(), tempfile::tempdir().unwrap());
    let local = local(&dir.path().join("root"), Snapshots::Auto);
    runtime.block_on(put(&local, "object"));
    let mut group = c.benchmark_group("blocking pool");
    let key = Key::new("object").unwrap();
    group.bench_function("metadata at hand, no hop", |b| {
        b.iter(|| black_box(runtime.block_on(local.head(&key, &ReadOptions::default())).unwrap()));
    });
    let query = ListQuery { limit: 1, ..ListQuery::default() };
    group.bench_function("a page of one, one hop", |b| b.iter(|| black_box(runtime.block_on(local.list(&query)).unwrap())));
    group.bench_function("an empty hop", |b| {
        b.iter(|| runtime.block_on(async { tokio::task::spawn_blocking(|| black_box(1)).await.unwrap() }));
    });
    group.finish();
}

/// A page of 1000, anywhere in a directory of so many.
fn listing(c: &mut Criterion) {
    let runtime = runtime();
    let mut group = c.benchmark_group("listing, a page of 1000");
    group.sample_size(20);
    for count in [1000_usize, 100_000] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("d")).unwrap();
        for n in 0..count {
            std::fs::File::create(root.join(format!("d/object-{n:07}"))).unwrap();
        }
        let pages: Vec<ListQuery> = (0..8)
            .map(|page| {
                let from = ListFrom::After(format!("d/object-{:07}", page * (count / 8)));
                ListQuery { limit: 1000, from, ..ListQuery::default() }
            })
            .collect();
        for (name, snapshots) in [("auto", Snapshots::Auto), ("times", Snapshots::Times), ("off", Snapshots::Off)] {
            let local = local(&root, snapshots);
            let mut at = 0;
            group.bench_function(BenchmarkId::new(format!("local, snapshots = {name}"), count), |b| {
                b.iter(|| {
                    at = (at + 1) % pages.len();
                    black_box(runtime.block_on(local.list(&pages[at])).unwrap().entries.len())
                });
            });
        }
        let memory = Memory::new(sluice_provider_memory::Settings::default());
        runtime.block_on(async {
            for n in 0..count {
                put(&memory, &format!("d/object-{n:07}")).await;
            }
        });
        let mut at = 0;
        group.bench_function(BenchmarkId::new("memory", count), |b| {
            b.iter(|| {
                at = (at + 1) % pages.len();
                black_box(runtime.block_on(memory.list(&pages[at])).unwrap().entries.len())
            });
        });
    }
    group.finish();
}

criterion_group!(rooms, handles, mounts, tokens, allowed_request, namespaces, pool, listing);
criterion_main!(rooms);
