//! Against an issuer of our own on the loopback interface.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::meta::{MetaStore, SqliteStore};
use crate::runtime::unix_millis;
use crate::tokens::{Settings, Tokens};

/// A key of an issuer.
struct Key {
    id: &'static str,
    pair: EcdsaKeyPair,
}

impl Key {
    fn new(id: &'static str) -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        Self { id, pair }
    }

    fn public(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({ "kty": "EC", "crv": "P-256", "use": "sig", "kid": self.id, "x": text(&point[1..33]), "y": text(&point[33..]) })
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let text = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let message = format!("{}.{}", text(header), text(claims));
        let signature = self.pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

/// An issuer: what it answers, by path.
struct Issuer {
    url: String,
    answers: Arc<Mutex<BTreeMap<String, String>>>,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    async fn start(keys: &[&Key]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/idp", listener.local_addr().unwrap());
        let (answers, asked) = (Arc::<Mutex<BTreeMap<String, String>>>::default(), Arc::new(AtomicUsize::new(0)));
        let (served, counted) = (answers.clone(), asked.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    if stream.read_buf(&mut head).await.unwrap() == 0 {
                        break;
                    }
                }
                counted.fetch_add(1, Ordering::SeqCst);
                let path = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or_default().to_owned();
                let found = served.lock().get(&path).cloned();
                let (status, body) = found.map_or(("404 Not Found", String::new()), |body| ("200 OK", body));
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        let issuer = Self { url, answers, asked };
        let metadata = json!({ "issuer": issuer.url, "jwks_uri": format!("{}/keys", issuer.url) });
        issuer.answer("/idp/.well-known/openid-configuration", &metadata.to_string());
        issuer.publish(keys);
        issuer
    }

    fn answer(&self, path: &str, body: &str) {
        self.answers.lock().insert(path.to_owned(), body.to_owned());
    }

    fn publish(&self, keys: &[&Key]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.public()).collect();
        self.answer("/idp/keys", &json!({ "keys": keys }).to_string());
    }

    fn claims(&self) -> Value {
        json!({ "iss": self.url, "sub": "zoe", "aud": "app", "exp": unix_millis() / 1000 + 600 })
    }

    fn provider(&self) -> OpenIdProvider {
        let clients = vec!["app".to_owned()];
        OpenIdProvider { url: self.url.clone(), clients, thumbprints: Vec::new(), tags: BTreeMap::new(), created: 0 }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn tokens(settings: Settings) -> Tokens {
    let store: Arc<dyn MetaStore> = Arc::new(SqliteStore::open_in_memory().await.unwrap());
    Tokens::open_configured(store, [7; 32].into(), None, &settings).await.unwrap()
}

async fn open() -> Tokens {
    tokens(Settings { openid_http: true, ..Settings::default() }).await
}

fn header(key: &Key) -> Value {
    json!({ "alg": "ES256", "kid": key.id, "typ": "JWT" })
}

fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

async fn refusal(tokens: &Tokens, issuer: &Issuer, token: &str) -> String {
    match tokens.web_identity(&issuer.provider(), token).await {
        Ok(who) => panic!("{who:?} was let in"),
        Err(refusal) => format!("{refusal:?}"),
    }
}

#[tokio::test]
async fn a_token_says_who_it_is_and_the_issuer_is_asked_once() {
    let key = Key::new("one");
    let (issuer, tokens) = (Issuer::start(&[&key]).await, open().await);
    let claims = with(issuer.claims(), "groups", json!(["a", "b"]));
    let claims = with(claims, "https://aws.amazon.com/tags", json!({ "principal_tags": { "team": ["red"] } }));
    let token = key.sign(&header(&key), &with(claims, "SUB", json!("root")));
    for _ in 0..3 {
        let who = tokens.web_identity(&issuer.provider(), &token).await.unwrap();
        assert_eq!((who.subject.as_str(), who.audience.as_str()), ("zoe", "app"));
        assert_eq!(who.claims["groups"], ["a", "b"]);
        assert_eq!(who.tags, BTreeMap::from([("team".to_owned(), "red".to_owned())]));
        assert!(!who.claims.contains_key("SUB"), "it would pass for the subject where case does not matter");
    }
    assert_eq!(issuer.asked(), 2, "metadata and keys");
}

#[tokio::test]
async fn what_is_wrong_with_a_token_is_refused() {
    let (key, other) = (Key::new("one"), Key::new("one"));
    let (issuer, tokens) = (Issuer::start(&[&key]).await, open().await);
    let now = unix_millis() / 1000;
    let sign = |claims: Value| key.sign(&header(&key), &claims);
    for (token, why) in [
        (other.sign(&header(&key), &issuer.claims()), "The signature"),
        (sign(with(issuer.claims(), "exp", json!(now - 120))), "Expired"),
        (sign(with(issuer.claims(), "exp", Value::Null)), "misses"),
        (sign(with(issuer.claims(), "nbf", json!(now + 120))), "not valid yet"),
        (sign(with(issuer.claims(), "aud", json!("other"))), "audience"),
        (sign(with(issuer.claims(), "azp", json!("other"))), "audience"),
        (sign(with(issuer.claims(), "sub", json!(""))), "subject"),
        (sign(with(issuer.claims(), "sub", json!("x".repeat(256)))), "subject"),
        (key.sign(&json!({ "alg": "none" }), &issuer.claims()), "cannot be read"),
        (key.sign(&json!({ "alg": "HS256", "kid": "one" }), &issuer.claims()), "RS256 or ES256"),
        (key.sign(&json!({ "alg": "RS256", "kid": "one" }), &issuer.claims()), "verification key"),
        (key.sign(&json!({ "alg": "ES256", "kid": "two" }), &issuer.claims()), "verification key"),
        ("a.b".to_owned(), "cannot be read"),
    ] {
        let refused = refusal(&tokens, &issuer, &token).await;
        assert!(refused.contains(why), "{refused} for {why}");
    }
    let elsewhere = with(issuer.claims(), "iss", json!("http://127.0.0.1:1/idp"));
    assert!(refusal(&tokens, &issuer, &sign(elsewhere)).await.contains("Unreachable"));
    assert!(sign(with(issuer.claims(), "aud", json!(["x", "app"]))).len() < 20_000);
    let several = sign(with(issuer.claims(), "aud", json!(["x", "app"])));
    assert_eq!(tokens.web_identity(&issuer.provider(), &several).await.unwrap().audience, "app");
}

#[tokio::test]
async fn an_issuer_that_is_not_what_it_says_gives_no_keys() {
    let key = Key::new("one");
    let (issuer, token) = (Issuer::start(&[&key]).await, |issuer: &Issuer| key.sign(&header(&key), &issuer.claims()));
    let token = token(&issuer);
    issuer.answer("/idp/.well-known/openid-configuration", r#"{"issuer":"http://other","jwks_uri":"http://other/keys"}"#);
    let tokens = open().await;
    assert!(refusal(&tokens, &issuer, &token).await.contains("another issuer"));
    let asked = issuer.asked();
    assert!(refusal(&tokens, &issuer, &token).await.contains("another issuer"));
    assert_eq!(issuer.asked(), asked, "it is left alone for a while");
    for (answer, why) in [("{", "cannot be read"), (&*" ".repeat(300_000), "limit")] {
        issuer.answer("/idp/.well-known/openid-configuration", answer);
        let refused = refusal(&open().await, &issuer, &token).await;
        assert!(refused.contains(why), "{refused}");
    }
    assert!(refusal(&tokens_over_tls().await, &issuer, &token).await.contains("not reached by TLS"));
}

async fn tokens_over_tls() -> Tokens {
    tokens(Settings::default()).await
}

#[tokio::test]
async fn the_settings_say_which_issuers_may_be_registered() {
    let tokens = tokens(Settings { openid_issuers: vec!["https://idp.example.org/".into()], ..Settings::default() }).await;
    assert!(tokens.check_issuer("https://idp.example.org").is_ok());
    for refused in
        ["https://other.example.org", "http://idp.example.org", "idp.example.org", "https://", "https://a@b", "https://a?b"]
    {
        assert!(tokens.check_issuer(refused).is_err(), "{refused}");
    }
    assert_eq!(issuer_place("https://idp.example.org/a/"), "idp.example.org/a");
}
