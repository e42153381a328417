//! Plugins that are replaced, and what they were compiled to.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test may panic, and prints its figures")]

mod plugins;

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plugins::{Place, key};
use sluice_provider::{
    Attributes, Body, ETag, ErrorKind, Provider, PutBody, PutOptions, PutWhen, RangeSpec, ReadOptions, Result, Seal,
};
use sluice_provider_memory::Memory;

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
