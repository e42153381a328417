//! A plugin that decides on requests: what it says, and that its silence is no leave.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod plugins;

use std::time::Duration;

use plugins::Place;
use sluice_provider::ErrorKind;
use sluice_provider_wasm::{Authoriser, Principal, Request, Verdict};

const SETTINGS: [(&str, &str); 3] = [("plugin", "guard"), ("memory_bytes", "33554432"), ("timeout_ms", "60000")];

fn request(key: &str) -> Request {
    let principal = Principal { account: "an account".into(), arn: "arn:aws:iam::1:user/x".into(), access_key: "AKEY".into() };
    Request {
        principal: Some(principal),
        operation: "GetObject".into(),
        bucket: "bucket".into(),
        key: key.into(),
        source_address: Some("127.0.0.1".into()),
        ..Request::default()
    }
}

async fn asked(authoriser: &Authoriser, request: Request) -> Result<Verdict, ErrorKind> {
    authoriser.decide(request).await.map_err(|error| *error.kind())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_says_yes_or_no_and_whatever_else_is_an_error() {
    let place = Place::new();
    place.install("guard", &plugins::authoriser());
    let settings = [&SETTINGS[..], &[("instructions", "20000000")]].concat();
    let guard = Authoriser::new(&place.host, &plugins::read(&settings));
    guard.load().await.unwrap();
    assert_eq!(asked(&guard, request("in/a")).await, Ok(Verdict::Allow));
    assert_eq!(asked(&guard, request("in/d")).await, Ok(Verdict::Deny));
    assert_eq!(asked(&guard, request("in/n")).await, Ok(Verdict::Abstain));
    // It is told who asks, and for what.
    assert_eq!(asked(&guard, request("in/u")).await, Ok(Verdict::Allow));
    assert_eq!(asked(&guard, Request { principal: None, ..request("in/u") }).await, Ok(Verdict::Deny));
    assert_eq!(asked(&guard, request("in/r")).await, Ok(Verdict::Allow));
    assert_eq!(asked(&guard, Request { operation: "PutObject".into(), ..request("in/r") }).await, Ok(Verdict::Deny));
    for (key, kind, what) in [
        ("l", ErrorKind::TimedOut, "an endless loop takes its instructions"),
        ("m", ErrorKind::Unavailable, "one that eats memory"),
        ("t", ErrorKind::Unavailable, "a trap"),
        ("w", ErrorKind::Corrupt, "an answer that is none"),
    ] {
        assert_eq!(asked(&guard, request(key)).await, Err(kind), "{what}");
        assert_eq!(asked(&guard, request("a")).await, Ok(Verdict::Allow), "after {what}");
    }
    // Names of any length: what does not fit into its memory is no leave.
    let long = Request { bucket: "b".repeat(64 * 1024 * 1024), ..request("a") };
    assert!(asked(&guard, long).await.is_err());
    assert_eq!(asked(&guard, request("a")).await, Ok(Verdict::Allow));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clock_ends_what_takes_too_long() {
    let place = Place::new();
    place.install("guard", &plugins::authoriser());
    let settings = [("plugin", "guard"), ("timeout_ms", "300"), ("instructions", "1000000000000000"), ("instances", "1")];
    let guard = Authoriser::new(&place.host, &plugins::read(&settings));
    guard.load().await.unwrap();
    assert_eq!(asked(&guard, request("l")).await, Err(ErrorKind::TimedOut));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_not_there_lets_nothing_through() {
    let place = Place::new();
    let guard = Authoriser::new(&place.host, &plugins::read(&SETTINGS));
    assert!(guard.load().await.unwrap_err().to_string().contains("guard.wasm"));
    assert_eq!(asked(&guard, request("a")).await, Err(ErrorKind::Unavailable));
    // It comes by itself as soon as the file is there.
    place.install("guard", &plugins::authoriser());
    while asked(&guard, request("a")).await != Ok(Verdict::Allow) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // What takes its place and is no authoriser has no opinion that counts.
    place.install("guard", &plugins::check());
    while asked(&guard, request("a")).await == Ok(Verdict::Allow) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let error = guard.decide(request("a")).await.unwrap_err();
    assert!(error.to_string().contains("no authoriser"), "{error}");
    // Nor can an authoriser be mounted as something else.
    place.install("guard", &plugins::authoriser());
    guard.load().await.unwrap();
    let error = place.mount(&SETTINGS, None).await.unwrap_err();
    assert!(error.to_string().contains("authorise"), "{error}");
}

/// The client tests have no compiler of their own for these: they use the files beside them. To write them again:
/// `SLUICE_WRITE_PLUGINS=1 cargo test -p sluice-provider-wasm --test authoriser`.
#[test]
fn the_plugins_of_the_client_tests_are_those_of_these_tests() {
    let place = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../compat-tests/clients/plugins"));
    for (name, wasm) in [
        ("authoriser", plugins::authoriser()),
        ("check", plugins::check()),
        ("shout-a", plugins::transform('a')),
        ("shout-b", plugins::transform('b')),
        ("unruly", plugins::unruly()),
    ] {
        let path = place.join(format!("{name}.wasm"));
        if std::env::var_os("SLUICE_WRITE_PLUGINS").is_some() {
            std::fs::create_dir_all(place).unwrap();
            std::fs::write(&path, &wasm).unwrap();
        }
        assert!(std::fs::read(&path).unwrap() == wasm, "{} is of another text: see above", path.display());
    }
}
