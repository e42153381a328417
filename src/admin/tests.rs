//! The service over a store in memory.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};

use super::*;
use crate::handles::{self, Purpose, Registry};
use crate::lifecycle::{self, Lifecycle};
use crate::meta::{MetaStore, SqliteStore};
use crate::namespaces::{DefaultMount, Namespaces};
use crate::objects::Objects;
use crate::runtime::Drain;
use crate::telemetry::Metrics;
use crate::tokens::{Secret, Tokens};
use crate::uploads::Uploads;

const TOKEN: &str = "the-admin-token";

async fn rig() -> (Admin, Parts) {
    let store: Arc<dyn MetaStore> = Arc::new(SqliteStore::open_in_memory().await.unwrap());
    let default_mount = DefaultMount { provider: "memory".to_owned(), settings: BTreeMap::new() };
    let namespaces = Arc::new(Namespaces::new(Arc::clone(&store), default_mount));
    let handles = Registry::new(handles::Settings::default());
    let uploads = Arc::new(Uploads::new(Arc::clone(&store)));
    let objects = Arc::new(Objects::new(Arc::clone(&uploads), handles.clone()));
    let parts = Parts {
        memory_limit: 0,
        reload: Reload::new(|| async { Err("line 3 is wrong".to_owned()) }),
        lifecycle: Arc::new(Lifecycle::new(Arc::clone(&namespaces), objects, uploads, Default::default())),
        namespaces,
        tokens: Arc::new(Tokens::open(Arc::clone(&store), [7; 32]).await.unwrap()),
        store,
        handles,
        metrics: Box::leak(Box::<Metrics>::default()),
        drain: Drain::new(),
        instance_id: Arc::from("a1b2c3d4"),
        token: Arc::new(Secret::new(TOKEN.to_owned())),
    };
    (Admin::new(parts.clone()), parts)
}

async fn send(admin: &Admin, method: &str, path: &str, token: &str, body: &str) -> (StatusCode, Value, http::HeaderMap) {
    let mut request = Request::builder().method(method).uri(path);
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let answer = admin.call(request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap()).await;
    let (head, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let value = serde_json::from_slice(&body).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned()));
    (head.status, value, head.headers)
}

#[tokio::test]
async fn health_and_metrics_are_open_and_name_the_instance() {
    let (admin, parts) = rig().await;
    let (status, live, headers) = send(&admin, "GET", "/health/live", "", "").await;
    assert_eq!((status, &live["status"], &live["instance_id"]), (StatusCode::OK, &json!("ok"), &json!("a1b2c3d4")));
    assert_eq!(headers["x-sluice-instance"], "a1b2c3d4");
    let (status, ready, _) = send(&admin, "GET", "/health/ready", "", "").await;
    assert_eq!((status, &ready["store"]), (StatusCode::OK, &json!("ok")));
    assert_eq!(ready["version"], env!("CARGO_PKG_VERSION"));
    let (status, text, headers) = send(&admin, "GET", "/metrics", "", "").await;
    assert_eq!(status, StatusCode::OK);
    assert!(text.as_str().unwrap().contains("process_resident_memory_bytes"));
    assert!(headers["content-type"].to_str().unwrap().starts_with("text/plain"));
    parts.drain.begin();
    let (status, ready, _) = send(&admin, "GET", "/health/ready", "", "").await;
    assert_eq!((status, &ready["status"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("draining")));
    assert_eq!(send(&admin, "POST", "/metrics", "", "").await.0, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_not_ready_but_alive() {
    let (admin, parts) = rig().await;
    parts.store.close().await;
    let (status, ready, _) = send(&admin, "GET", "/health/ready", "", "").await;
    assert_eq!((status, &ready["store"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("unavailable")));
    assert_eq!(send(&admin, "GET", "/health/live", "", "").await.0, StatusCode::OK);
}

#[tokio::test]
async fn the_api_wants_the_token() {
    let (admin, _) = rig().await;
    for path in ["/api/v1/keys", "/api/v1/handles", "/api/v1/buckets/b/mounts", "/", "/api/v1/none"] {
        for token in ["", "wrong", "the-admin-toke", "the-admin-token2"] {
            let (status, body, headers) = send(&admin, "GET", path, token, "").await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{path} {token}");
            assert!(headers["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
            assert_eq!(body["error"]["code"], "Unauthorized");
            assert_eq!(body["error"]["request_id"].as_str().unwrap().len(), 16);
        }
    }
    assert_eq!(send(&admin, "GET", "/api/v1/none", TOKEN, "").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_key_lives_from_create_to_delete() {
    let (admin, parts) = rig().await;
    let (status, key, _) = send(&admin, "POST", "/api/v1/keys", TOKEN, r#"{"name":"alice"}"#).await;
    assert_eq!(status, StatusCode::CREATED);
    let access_key = key["access_key"].as_str().unwrap();
    let credential = parts.tokens.credential(access_key).await.unwrap().unwrap();
    assert_eq!(key["secret_key"].as_str().unwrap(), credential.secret.expose());
    let (status, list, _) = send(&admin, "GET", "/api/v1/keys", TOKEN, "").await;
    assert_eq!((status, &list["keys"][0]["name"]), (StatusCode::OK, &json!("alice")));
    assert!(!list.to_string().contains(credential.secret.expose()), "a list shows no secret");
    let own = r#"{"name":"bob","access_key":"SLBOB","secret_key":"bobs-own-secret"}"#;
    assert_eq!(send(&admin, "POST", "/api/v1/keys", TOKEN, own).await.0, StatusCode::CREATED);
    let (status, taken, _) = send(&admin, "POST", "/api/v1/keys", TOKEN, own).await;
    assert_eq!((status, &taken["error"]["code"]), (StatusCode::CONFLICT, &json!("AlreadyExists")));
    let path = format!("/api/v1/keys/{access_key}");
    assert_eq!(send(&admin, "DELETE", &path, TOKEN, "").await.0, StatusCode::NO_CONTENT);
    assert_eq!(send(&admin, "DELETE", &path, TOKEN, "").await.0, StatusCode::NOT_FOUND);
    assert!(parts.tokens.credential(access_key).await.unwrap().is_none());
}

#[tokio::test]
async fn bad_bodies_are_told_apart_and_never_quoted() {
    let (admin, _) = rig().await;
    for body in [
        "",
        "{",
        "[]",
        r#"{"name":7}"#,
        r#"{"name":"a","secret":"hush"}"#,
        r#"{"name":""}"#,
        r#"{"name":"a","access_key":"SLA"}"#,
    ] {
        let (status, answer, _) = send(&admin, "POST", "/api/v1/keys", TOKEN, body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert!(!answer.to_string().contains("hush"), "{answer}");
    }
    let (status, answer, _) = send(&admin, "POST", "/api/v1/keys", TOKEN, &"x".repeat(3 * 1024 * 1024)).await;
    assert_eq!((status, &answer["error"]["code"]), (StatusCode::PAYLOAD_TOO_LARGE, &json!("TooLarge")));
    let (status, _, headers) = send(&admin, "PUT", "/api/v1/keys", TOKEN, "").await;
    assert_eq!((status, headers["allow"].to_str().unwrap()), (StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD, POST"));
}

#[tokio::test]
async fn mounts_of_a_bucket_that_is_not_there_are_a_404() {
    let (admin, _) = rig().await;
    let mount = r#"{"prefix":"a/","provider":"memory"}"#;
    for (method, path, body) in [
        ("GET", "/api/v1/buckets/none-such/mounts", ""),
        ("POST", "/api/v1/buckets/none-such/mounts", mount),
        ("DELETE", "/api/v1/buckets/none-such/mounts?prefix=a%2F", ""),
    ] {
        let (status, answer, _) = send(&admin, method, path, TOKEN, body).await;
        assert_eq!((status, &answer["error"]["code"]), (StatusCode::NOT_FOUND, &json!("NoSuchBucket")), "{method}");
    }
    let (status, _, _) = send(&admin, "DELETE", "/api/v1/buckets/none-such/mounts", TOKEN, "").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn open_handles_are_shown() {
    let (admin, parts) = rig().await;
    let _guard = parts.handles.open("photos", "a/b", Purpose::Read);
    let (_, answer, _) = send(&admin, "GET", "/api/v1/handles", TOKEN, "").await;
    assert_eq!(answer["open"], 1);
    assert_eq!((&answer["handles"][0]["key"], &answer["handles"][0]["purpose"]), (&json!("a/b"), &json!("read")));
}

#[test]
fn the_token_is_made_once_and_for_its_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.token");
    let first = admin_token(&path).unwrap();
    assert_eq!(first.expose().len(), 64);
    assert_eq!(admin_token(&path).unwrap().expose(), first.expose());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::write(&path, "\n").unwrap();
    assert!(admin_token(&path).is_err(), "an empty token would let everybody in");
}

#[tokio::test]
async fn a_plan_counts_all_and_names_some() {
    let (admin, parts) = rig().await;
    let path = "/api/v1/buckets/bucket/lifecycle/plan";
    assert_eq!(send(&admin, "GET", path, TOKEN, "").await.0, StatusCode::NOT_FOUND);
    let namespace = parts.namespaces.create("bucket", "me", "").await.unwrap();
    let (status, plan, _) = send(&admin, "GET", path, TOKEN, "").await;
    assert_eq!((status, &plan["seen"], &plan["steps"]), (StatusCode::OK, &json!(0), &json!([])));
    let (provider, _, _) = namespace.resolve("k").unwrap();
    for key in ["k1", "k2", "k3"] {
        let seal = sluice_provider::Seal { etag: sluice_provider::ETag::new("e").unwrap(), attributes: Default::default() };
        let body = sluice_provider::PutBody::from_bytes(Bytes::from_static(b"xy"), seal);
        provider.put(&sluice_provider::Key::new(key).unwrap(), body, &Default::default()).await.unwrap();
    }
    let rule = lifecycle::Rule {
        id: "all".to_owned(),
        enabled: true,
        expiration: Some(lifecycle::Expiration::Days(1)),
        ..Default::default()
    };
    let document = lifecycle::Configuration { rules: vec![rule] }.to_json();
    parts.namespaces.set_setting("bucket", lifecycle::SETTING, Some(&document)).await.unwrap();
    assert_eq!(send(&admin, "GET", path, TOKEN, "").await.1["expire"], json!(0));
    let later = format!("{path}?at=2200-01-01T00:00:00Z&limit=2");
    let plan = send(&admin, "GET", &later, TOKEN, "").await.1;
    assert_eq!((&plan["expire"], &plan["bytes"], &plan["steps"].as_array().unwrap().len()), (&json!(3), &json!(6), &2));
    assert_eq!((&plan["steps"][0]["key"], &plan["steps"][0]["rule"]), (&json!("k1"), &json!("all")));
    for (method, query) in [("GET", "?at=soon"), ("GET", "?limit=x"), ("GET", "?limit=10001")] {
        assert_eq!(send(&admin, method, &format!("{path}{query}"), TOKEN, "").await.0, StatusCode::BAD_REQUEST, "{query}");
    }
    assert_eq!(send(&admin, "POST", path, TOKEN, "").await.0, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_mount_that_fails_is_named_with_its_reason() {
    let (admin, parts) = rig().await;
    let bucket = crate::meta::BucketRecord { name: "house".into(), owner: "me".into(), created: 0, location: String::new() };
    let mount = |prefix: &str, provider: &str, settings: &[(&str, &str)]| crate::meta::MountRecord {
        bucket: "house".into(),
        prefix: prefix.into(),
        provider: provider.into(),
        settings: settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
    };
    // What stands in the store was sound when it was mounted.
    let mounts = [mount("", "memory", &[]), mount("bad/", "local", &[("root", "/dev/null/none")])];
    parts.store.create_bucket(&bucket, &mounts).await.unwrap();
    let (status, ready, _) = send(&admin, "GET", "/health/ready", "", "").await;
    assert_eq!((status, &ready["status"], &ready["mounts"]["checked"]), (StatusCode::OK, &json!("degraded"), &json!(2)));
    let failed = ready["mounts"]["failed"].as_array().unwrap();
    assert_eq!((failed.len(), &failed[0]["prefix"]), (1, &json!("bad/")));
    assert!(failed[0]["reason"].as_str().unwrap().contains("/dev/null/none"), "{ready}");
    let (_, caps, _) = send(&admin, "GET", "/api/v1/buckets/house/caps", TOKEN, "").await;
    let states: BTreeMap<_, _> =
        caps["mounts"].as_array().unwrap().iter().map(|mount| (mount["prefix"].as_str().unwrap(), &mount["state"])).collect();
    assert_eq!(states[""], "ok");
    assert!(states["bad/"].as_str().unwrap().contains("/dev/null/none"), "{caps}");
}
