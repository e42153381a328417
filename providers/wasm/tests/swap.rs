//! Plugins that are replaced, and what they were compiled to.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test may panic, and prints its figures")]

mod plugins;

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use plugins::{Place, key};
use sluice_provider::{
    Append, AttributeChange, Attributes, Body, CopyOptions, DeleteKey, DeleteOutcome, ETag, ErrorKind, Features, Follow, Key,
    ListPage, ListQuery, Multipart, Object, ObjectInfo, Provider, PutBody, PutOptions, PutWhen, RangeSpec, ReadOptions, Rename,
    Result, Seal, Versions,
};
use sluice_provider_memory::Memory;
use tokio::sync::Notify;

async fn put(mount: &dyn Provider, name: &str, bytes: &'static [u8], when: PutWhen) -> Result<ETag> {
    let seal = Seal { etag: ETag::new("stored").unwrap(), attributes: Attributes::new() };
    let options = PutOptions { when, attributes: Attributes::new() };
    Ok(mount.put(&key(name), PutBody::from_bytes(bytes.into(), seal), &options).await?.etag)
}

async fn get(mount: &dyn Provider, name: &str, range: Option<RangeSpec>) -> Result<(ETag, String)> {
    let object = mount.get(&key(name), &ReadOptions { range, if_match: None }).await?;
    match object.body {
        Body::Bytes(bytes) => Ok((object.info.etag, String::from_utf8(bytes.to_vec()).unwrap())),
        other => panic!("{other:?}"),
    }
}

fn memory() -> Arc<dyn Provider> {
    Arc::new(Memory::new(sluice_provider_memory::Settings::default()))
}

/// Waits, a minute at most.
async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_is_swapped_under_way() {
    let place = Place::new();
    place.install("mark", &plugins::transform('a'));
    let inner = memory();
    let mount = place.mount(&[("plugin", "mark")], Some(Arc::clone(&inner))).await.unwrap();
    put(&*mount, "k", b"xyz", PutWhen::Always).await.unwrap();
    let (first, body) = get(&*mount, "k", None).await.unwrap();
    assert_eq!(body, "ayz");
    // Calls without end while it is swapped: none fails, and each is of one plugin or of the other.
    let (swapped, calling) = (Arc::new(std::sync::atomic::AtomicBool::new(false)), Arc::clone(&mount));
    let stop = Arc::clone(&swapped);
    let calls = tokio::spawn(async move {
        while !stop.load(std::sync::atomic::Ordering::SeqCst) {
            let (_, body) = get(&*calling, "k", None).await.unwrap();
            assert!(["ayz", "byz"].contains(&body.as_str()), "{body}");
        }
    });
    place.install("mark", &plugins::transform('b'));
    until("the new plugin is in use", || async { get(&*mount, "k", None).await.unwrap().1 == "byz" }).await;
    swapped.store(true, std::sync::atomic::Ordering::SeqCst);
    calls.await.unwrap();
    let (second, _) = get(&*mount, "k", None).await.unwrap();
    assert_ne!(first, second, "another plugin makes another object");
    // One that cannot be used changes nothing.
    place.install("mark", b"broken");
    place.install("other", &plugins::check());
    until("the directory was looked at", || async { place.mount(&[("plugin", "other")], Some(memory())).await.is_ok() }).await;
    assert_eq!(get(&*mount, "k", None).await.unwrap().1, "byz");
    // One that does something else is not let in the place of one that transforms.
    place.install("mark", &plugins::check());
    until("what cannot be mounted there is an error", || async { get(&*mount, "k", None).await.is_err() }).await;
    // And one that is gone is an error of its mount.
    std::fs::remove_file(place.root.path().join("plugins/mark.wasm")).unwrap();
    until("it is gone", || async {
        get(&*mount, "k", None).await.is_err_and(|error| error.to_string().contains("is not loaded"))
    })
    .await;
    assert_eq!(*mount.check().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(get(&*inner, "k", None).await.unwrap().1, "xyz");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_transformed_is_an_object_of_its_own() {
    let place = Place::new();
    place.install("mark", &plugins::transform('a'));
    let mount = place.mount(&[("plugin", "mark")], Some(memory())).await.unwrap();
    let told = put(&*mount, "k", b"wxyz", PutWhen::Always).await.unwrap();
    let (etag, body) = get(&*mount, "k", Some(RangeSpec::Between(0, 1))).await.unwrap();
    assert_eq!((etag.clone(), body.as_str()), (told, "ax"));
    assert!(etag.as_str().starts_with("stored-w"));
    let head = mount.head(&key("k"), &ReadOptions { range: None, if_match: Some(etag.clone()) }).await.unwrap();
    assert_eq!((head.size, head.attributes.get("content-type")), (4, Some("text/x-made")));
    let stored = Some(ETag::new("stored").unwrap());
    let refused = mount.head(&key("k"), &ReadOptions { range: None, if_match: stored }).await.unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::PreconditionFailed);
    put(&*mount, "k", b"new", PutWhen::IfMatch(etag)).await.unwrap();
    let absent = put(&*mount, "k", b"new", PutWhen::IfAbsent).await.unwrap_err();
    assert_eq!(*absent.kind(), ErrorKind::PreconditionFailed);
}

/// A provider whose reads and writes end when they may.
#[derive(Debug)]
struct Held {
    inner: Arc<dyn Provider>,
    begun: Notify,
    may_end: Notify,
}

impl Held {
    async fn held(&self) {
        self.begun.notify_one();
        self.may_end.notified().await;
    }
}

#[async_trait]
impl Provider for Held {
    fn features(&self) -> Features {
        self.inner.features()
    }
    async fn head(&self, key: &Key, read: &ReadOptions) -> Result<ObjectInfo> {
        self.inner.head(key, read).await
    }
    async fn get(&self, key: &Key, read: &ReadOptions) -> Result<Object> {
        let object = self.inner.get(key, read).await;
        self.held().await;
        object
    }
    async fn put(&self, key: &Key, body: PutBody, put: &PutOptions) -> Result<ObjectInfo> {
        let info = self.inner.put(key, body, put).await;
        self.held().await;
        info
    }
    async fn delete(&self, keys: &[DeleteKey]) -> Vec<Result<DeleteOutcome>> {
        self.inner.delete(keys).await
    }
    async fn copy(&self, from: &Key, to: &Key, copy: &CopyOptions) -> Result<ObjectInfo> {
        self.inner.copy(from, to, copy).await
    }
    async fn set_attributes(&self, key: &Key, change: &AttributeChange) -> Result<ObjectInfo> {
        self.inner.set_attributes(key, change).await
    }
    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        self.inner.list(query).await
    }
    async fn check(&self) -> Result<()> {
        self.inner.check().await
    }
    fn multipart(&self) -> Option<&dyn Multipart> {
        None
    }
    fn versions(&self) -> Option<&dyn Versions> {
        None
    }
    fn appends(&self) -> Option<&dyn Append> {
        None
    }
    fn renames(&self) -> Option<&dyn Rename> {
        None
    }
    fn follows(&self) -> Option<&dyn Follow> {
        None
    }
}

/// Puts the plugin of this mark in the place of another, and returns when the gateway uses it.
async fn swap(place: &Place, mount: &dyn Provider, mark: char) {
    place.install("mark", &plugins::slow_transform(mark, COUNT));
    until("the new plugin is in use", || async { get(mount, "k", None).await.unwrap().1.starts_with(mark) }).await;
}

/// A second or more, also of a fast machine.
const COUNT: u64 = 2_000_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_plugin_made_never_has_the_entity_tag_of_another() {
    let place = Place::new();
    place.install("mark", &plugins::slow_transform('a', COUNT));
    let inner = memory();
    let settings = [("plugin", "mark"), ("timeout_ms", "60000"), ("instructions", "1000000000000")];
    let mount = place.mount(&settings, Some(Arc::clone(&inner))).await.unwrap();
    put(&*mount, "k", b"xyz", PutWhen::Always).await.unwrap();
    put(&*mount, "slow", b"xyz", PutWhen::Always).await.unwrap();
    let of_a = get(&*mount, "k", None).await.unwrap();
    swap(&place, &*mount, 'b').await;
    let of_b = get(&*mount, "k", None).await.unwrap();
    assert_eq!((of_a.1.as_str(), of_b.1.as_str()), ("ayz", "byz"));
    assert_ne!(of_a.0, of_b.0);

    // Swapped while the plugin runs.
    let slow = tokio::spawn({
        let mount = Arc::clone(&mount);
        async move { get(&*mount, "slow", None).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    swap(&place, &*mount, 'a').await;
    assert!(!slow.is_finished(), "the swap came too late to show anything");
    assert_eq!(slow.await.unwrap().unwrap(), of_b);

    // Swapped while the store is read: a condition, the bytes and their entity tag are of the plugin that the request began with.
    let held = Arc::new(Held { inner: Arc::clone(&inner), begun: Notify::new(), may_end: Notify::new() });
    let over = place.mount(&settings, Some(Arc::clone(&held) as Arc<dyn Provider>)).await.unwrap();
    for (mark, asked) in [('b', &of_a), ('a', &of_b)] {
        let reading = tokio::spawn({
            let (over, read) = (Arc::clone(&over), ReadOptions { range: None, if_match: Some(asked.0.clone()) });
            async move { over.get(&key("k"), &read).await }
        });
        held.begun.notified().await;
        swap(&place, &*mount, mark).await;
        held.may_end.notify_one();
        let object = reading.await.unwrap().unwrap();
        assert_eq!(object.info.etag, asked.0);
        assert!(matches!(object.body, Body::Bytes(bytes) if bytes == asked.1), "before {mark}");
    }

    // And while it is written.
    let writing = tokio::spawn({
        let (over, etag) = (Arc::clone(&over), of_a.0.clone());
        async move { put(&*over, "k", b"xyz", PutWhen::IfMatch(etag)).await }
    });
    held.begun.notified().await;
    swap(&place, &*mount, 'b').await;
    held.may_end.notify_one();
    assert_eq!(writing.await.unwrap().unwrap(), of_a.0);
}

#[tokio::test]
async fn nothing_is_written_that_is_refused() {
    let place = Place::new();
    place.install("check", &plugins::check());
    let inner = memory();
    put(&*inner, "bad", b"!", PutWhen::Always).await.unwrap();
    let mount = place.mount(&[("plugin", "check"), ("max_body_bytes", "10")], Some(Arc::clone(&inner))).await.unwrap();
    put(&*mount, "good", b"yes", PutWhen::Always).await.unwrap();
    let kind = |result: Result<ETag>| *result.unwrap_err().kind();
    assert_eq!(kind(put(&*mount, "good", b"!no", PutWhen::Always).await), ErrorKind::PermissionDenied);
    assert_eq!(kind(put(&*mount, "large", b"more than ten bytes", PutWhen::Always).await), ErrorKind::TooLarge);
    assert_eq!(get(&*inner, "good", None).await.unwrap().1, "yes");
    let copied = mount.copy(&key("bad"), &key("copy"), &sluice_provider::CopyOptions::default()).await;
    assert_eq!(*copied.unwrap_err().kind(), ErrorKind::PermissionDenied);
    // What is encrypted cannot be checked, so it is not taken.
    let options = PutOptions { when: PutWhen::Always, attributes: [("sse", "{}")].into_iter().collect() };
    let seal = Seal { etag: ETag::new("e").unwrap(), attributes: Attributes::new() };
    let sealed = mount.put(&key("sealed"), PutBody::from_bytes("x".into(), seal), &options).await.unwrap_err();
    assert_eq!(*sealed.kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn machine_code_is_kept_and_only_trusted_where_nobody_else_writes() {
    let place = Place::new();
    place.install("check", &plugins::check());
    let settings = [("plugin", "check")];
    drop(place.mount(&settings, Some(memory())).await.unwrap());
    let cache = place.root.path().join("cache");
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&cache), 0o700);
    let files: Vec<_> = cache.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    let [file] = files.as_slice() else { panic!("{files:?}") };
    assert_eq!(mode(file) & 0o077, 0);
    let inode = || std::os::unix::fs::MetadataExt::ino(&file.metadata().unwrap());
    let first = inode();
    // Another process uses it as it is.
    let again = || async {
        let host = plugins::host(place.root.path());
        sluice_provider_wasm::open(&host, plugins::read(&settings), Some(memory())).await.unwrap();
    };
    again().await;
    assert_eq!(inode(), first);
    // Not what is damaged, and not what others can write: it is compiled again, and replaced where the directory is our own.
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, &bytes).unwrap();
    again().await;
    let second = inode();
    assert_ne!(second, first);
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o666)).unwrap();
    again().await;
    let third = inode();
    assert_ne!(third, second);
    std::fs::set_permissions(&cache, std::fs::Permissions::from_mode(0o777)).unwrap();
    again().await;
    assert_eq!(inode(), third, "nothing is put where others can write");
}

/// Figures, for whoever asks: `cargo test -p sluice-provider-wasm --release --test swap -- --ignored --nocapture figures`. Of a plugin of a
/// few kilobytes, and of the sample in the file that `SLUICE_FIGURES_PLUGIN` names, if there is one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures"]
async fn figures() {
    started_and_called("a few kilobytes", &plugins::unruly(), "h").await;
    if let Some(path) = std::env::var_os("SLUICE_FIGURES_PLUGIN") {
        started_and_called(&path.to_string_lossy(), &std::fs::read(&path).unwrap(), "hello").await;
    }
    swapped().await;
    let place = Place::new();
    place.install("guard", &plugins::authoriser());
    let guard = sluice_provider_wasm::Authoriser::new(&place.host, &plugins::read(&[("plugin", "guard")]));
    guard.load().await.unwrap();
    let began = Instant::now();
    for _ in 0..1000 {
        guard.decide(sluice_provider_wasm::Request::default()).await.unwrap();
    }
    println!("a decision: {:?}", began.elapsed() / 1000);
}

async fn started_and_called(what: &str, wasm: &[u8], key: &str) {
    let place = Place::new();
    place.install("plugin", wasm);
    let settings = [("plugin", "plugin"), ("timeout_ms", "60000")];
    let began = Instant::now();
    while place.mount(&settings, None).await.is_err() {}
    println!("{what}: compiled and mounted: {:?}", began.elapsed());
    let began = Instant::now();
    let host = plugins::host(place.root.path());
    let mount = sluice_provider_wasm::open(&host, plugins::read(&settings), None).await.unwrap();
    get(&*mount, key, None).await.unwrap();
    println!("{what}: another process, from its machine code to the end of the first call: {:?}", began.elapsed());
    let began = Instant::now();
    for _ in 0..1000 {
        get(&*mount, key, None).await.unwrap();
    }
    println!("{what}: warm call: {:?}", began.elapsed() / 1000);
}

/// From the moment when a file is there to the first answer of what is in it, for what was compiled before.
async fn swapped() {
    let place = Place::new();
    let both = [('a', plugins::transform('a')), ('b', plugins::transform('b'))];
    let mount = {
        place.install("mark", &both[1].1);
        drop(place.mount(&[("plugin", "mark")], Some(memory())).await.unwrap());
        place.install("mark", &both[0].1);
        place.mount(&[("plugin", "mark")], Some(memory())).await.unwrap()
    };
    put(&*mount, "k", b"xyz", PutWhen::Always).await.unwrap();
    let mut took: Vec<Duration> = Vec::new();
    for round in 1..=40 {
        let (mark, wasm) = &both[round % 2];
        let began = Instant::now();
        place.install("mark", wasm);
        while !get(&*mount, "k", None).await.unwrap().1.starts_with(*mark) {}
        took.push(began.elapsed());
    }
    took.sort();
    println!("a swap: {:?} in the middle of 40, {:?} the longest", took[20], took[39]);
}
