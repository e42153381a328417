//! Each limit is shown by a plugin that breaks it: the call is an error, the plugin goes on in another instance, and so does every other
//! mount meanwhile.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod plugins;

use std::sync::Arc;

use plugins::{Place, key};
use sluice_provider::{Body, ErrorKind, ListQuery, Provider, ReadOptions};

async fn get(mount: &Arc<dyn Provider>, name: &str) -> Result<String, ErrorKind> {
    match mount.get(&key(name), &ReadOptions::default()).await {
        Err(error) => Err(*error.kind()),
        Ok(object) => match object.body {
            Body::Bytes(bytes) => Ok(String::from_utf8(bytes.to_vec()).unwrap()),
            other => panic!("{other:?}"),
        },
    }
}

const SETTINGS: [(&str, &str); 4] =
    [("plugin", "unruly"), ("memory_bytes", "33554432"), ("max_body_bytes", "1000"), ("timeout_ms", "60000")];

async fn unruly(place: &Place, settings: &[(&str, &str)]) -> Arc<dyn Provider> {
    place.install("unruly", &plugins::unruly());
    let mut all: Vec<(&str, &str)> = SETTINGS.to_vec();
    all.retain(|(name, _)| !settings.iter().any(|(other, _)| other == name));
    all.extend(settings);
    place.mount(&all, None).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_breaks_a_call_breaks_nothing_else() {
    let place = Place::new();
    let mount = unruly(&place, &[("instructions", "20000000")]).await;
    assert_eq!(get(&mount, "h").await.unwrap(), "hello");
    for (name, kind, what) in [
        ("l", ErrorKind::TimedOut, "an endless loop takes its instructions"),
        ("m", ErrorKind::Unavailable, "one that eats memory"),
        ("s", ErrorKind::Unavailable, "one that takes stack without end"),
        ("t", ErrorKind::Unavailable, "a trap"),
        ("w", ErrorKind::Corrupt, "another size than that of the body"),
        ("e", ErrorKind::Corrupt, "no entity tag"),
        ("p", ErrorKind::Corrupt, "a pointer to nowhere"),
        ("o", ErrorKind::Corrupt, "a body that is too large"),
        ("b", ErrorKind::Corrupt, "a body that is not even read"),
        ("f", ErrorKind::Corrupt, "an attribute that is not for it to tell"),
        ("x", ErrorKind::NotFound, "none"),
    ] {
        assert_eq!(get(&mount, name).await, Err(kind), "{what}");
        assert_eq!(get(&mount, "h").await.unwrap(), "hello", "after {what}");
    }
    let listed = mount.list(&ListQuery { limit: 10, ..ListQuery::default() }).await.unwrap_err();
    assert_eq!(*listed.kind(), ErrorKind::Corrupt, "{listed}");
    mount.check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loops_end_in_time_and_hold_up_nobody() {
    let place = Place::new();
    // More instructions than any machine does in that time: it is the clock that ends it.
    let mount = unruly(&place, &[("timeout_ms", "300"), ("instructions", "1000000000000000")]).await;
    let other = place.mount(&[("plugin", "unruly"), ("timeout_ms", "60000")], None).await.unwrap();
    let loops = (0..4).map(|_| {
        let mount = Arc::clone(&mount);
        tokio::spawn(async move { get(&mount, "l").await })
    });
    let loops: Vec<_> = loops.collect();
    assert_eq!(get(&other, "h").await.unwrap(), "hello");
    for ended in loops {
        assert_eq!(ended.await.unwrap(), Err(ErrorKind::TimedOut));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_calls_at_once_and_no_more() {
    let place = Place::new();
    let mount = unruly(&place, &[("instructions", "20000000"), ("instances", "1")]).await;
    let looping = {
        let mount = Arc::clone(&mount);
        tokio::spawn(async move { get(&mount, "l").await })
    };
    assert_eq!(looping.await.unwrap(), Err(ErrorKind::TimedOut));
    // One instance makes all calls, one after the other, until it breaks.
    for expected in ["1", "2", "3"] {
        assert_eq!(get(&mount, "c").await.unwrap(), expected);
    }
    assert_eq!(get(&mount, "t").await, Err(ErrorKind::Unavailable));
    assert_eq!(get(&mount, "c").await.unwrap(), "1", "the memory of one that broke is gone");
}

#[tokio::test]
async fn what_is_no_plugin_is_refused_with_the_reason() {
    let place = Place::new();
    for (name, wasm, reason) in [
        ("text", b"no wasm at all".to_vec(), "text.wasm"),
        ("module", wat::parse_str("(module)").unwrap(), "component"),
        ("empty", wat::parse_str("(component)").unwrap(), "it exports none of"),
        ("newer", plugins::newer(), "write-check@2.0.0"),
    ] {
        place.install(name, &wasm);
        let error = place.mount(&[("plugin", name)], None).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains(reason), "{name}: {error}");
    }
    let error = place.mount(&[("plugin", "absent")], None).await.unwrap_err();
    assert!(error.to_string().contains("absent.wasm"), "{error}");
    place.install("check", &plugins::check());
    let error = place.mount(&[("plugin", "check")], None).await.unwrap_err();
    assert!(error.to_string().contains("over"), "{error}");
}
