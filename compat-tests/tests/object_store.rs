//! The `object_store` crate, as Delta Lake, Polars and DataFusion use it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::sync::Arc;

use bytes::Bytes;
use compat_tests::{ACCESS_KEY, Gateway, SECRET_KEY};
use futures::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3, AmazonS3Builder, S3CopyIfNotExists};
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, UpdateVersion,
};

const CONFIGS: [&str; 2] = ["", "[default_mount]\nprovider = \"memory\"\n"];

/// A store over a new bucket. Bucket creation is not in the crate, so a signed request of curl makes it.
fn store(gateway: &Gateway) -> AmazonS3 {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let made = std::process::Command::new("curl")
        .args([
            "-sS",
            "--fail",
            "-X",
            "PUT",
            "--aws-sigv4",
            "aws:amz:us-east-1:s3",
            "-H",
            "x-amz-content-sha256: UNSIGNED-PAYLOAD",
        ])
        .args(["--user", &format!("{ACCESS_KEY}:{SECRET_KEY}"), &format!("{}/lake", gateway.endpoint)])
        .output()
        .expect("curl");
    assert!(made.status.success(), "{made:?}");
    AmazonS3Builder::new()
        .with_endpoint(&gateway.endpoint)
        .with_allow_http(true)
        .with_bucket_name("lake")
        .with_region("us-east-1")
        .with_access_key_id(ACCESS_KEY)
        .with_secret_access_key(SECRET_KEY)
        .with_copy_if_not_exists(S3CopyIfNotExists::Multipart)
        .build()
        .unwrap()
}

#[tokio::test]
async fn everyday_calls() {
    for config in CONFIGS {
        let gateway = Gateway::start(config);
        let store = store(&gateway);
        let body = Bytes::from(vec![7_u8; 100_000]);
        for name in ["a", "a/b", "table/part=1/x y+z%.parquet", "table/part=2/ü.parquet"] {
            store.put(&Path::parse(name).unwrap(), body.clone().into()).await.unwrap();
        }
        let path = Path::parse("table/part=1/x y+z%.parquet").unwrap();
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), body);
        assert_eq!(store.head(&path).await.unwrap().size, 100_000);
        for (range, expected) in [(GetRange::Bounded(5..15), 10), (GetRange::Suffix(100), 100), (GetRange::Offset(99_990), 10)] {
            let options = GetOptions { range: Some(range), ..GetOptions::default() };
            assert_eq!(store.get_opts(&path, options).await.unwrap().bytes().await.unwrap().len(), expected);
        }
        assert_eq!(store.get_ranges(&path, &[0..10, 50_000..50_010, 99_999..100_000]).await.unwrap().len(), 3);
        let listed: Vec<_> =
            store.list(Some(&Path::from("table"))).map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap();
        assert_eq!(listed.len(), 2);
        let level = store.list_with_delimiter(None).await.unwrap();
        assert_eq!((level.common_prefixes.len(), level.objects.len()), (2, 1));
        store.copy(&path, &Path::from("copy")).await.unwrap();
        store.rename(&Path::from("copy"), &Path::from("renamed")).await.unwrap();
        let all: Vec<_> = store.list(None).map_ok(|meta| meta.location).try_collect().await.unwrap();
        assert_eq!(all.len(), 5);
        let deleted = store.delete_stream(futures::stream::iter(all.into_iter().map(Ok)).boxed()).collect::<Vec<_>>().await;
        assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
        assert!(matches!(store.head(&path).await, Err(Error::NotFound { .. })));
    }
}

/// The commit protocol of Delta Lake: a log entry is created by exactly one writer.
#[tokio::test]
async fn conditional_writes() {
    for config in CONFIGS {
        let gateway = Gateway::start(config);
        let store = Arc::new(store(&gateway));
        for version in 0..5 {
            let path = Path::from(format!("_delta_log/{version:020}.json"));
            let writers = (0..10).map(|writer| {
                let (store, path) = (store.clone(), path.clone());
                tokio::spawn(async move { store.put_opts(&path, format!("{writer}").into(), PutMode::Create.into()).await })
            });
            let results = futures::future::join_all(writers).await;
            let won = results.iter().filter(|result| result.as_ref().unwrap().is_ok()).count();
            assert_eq!(won, 1);
            for result in results {
                assert!(matches!(result.unwrap(), Ok(_) | Err(Error::AlreadyExists { .. })));
            }
        }
        let path = Path::from("counter");
        let first = store.put(&path, "1".into()).await.unwrap();
        let update = |version| PutOptions { mode: PutMode::Update(version), ..PutOptions::default() };
        let second = store.put_opts(&path, "2".into(), update(UpdateVersion::from(first.clone()))).await.unwrap();
        let stale = store.put_opts(&path, "3".into(), update(UpdateVersion::from(first))).await.unwrap_err();
        assert!(matches!(stale, Error::Precondition { .. }), "{stale}");
        let options = GetOptions { if_match: second.e_tag, ..GetOptions::default() };
        assert_eq!(store.get_opts(&path, options).await.unwrap().bytes().await.unwrap(), "2");
        // A copy that must not overwrite: an upload of one copied part, completed with an unsigned If-None-Match.
        store.copy_if_not_exists(&path, &Path::from("new")).await.unwrap();
        let taken = store.copy_if_not_exists(&path, &Path::from("new")).await.unwrap_err();
        assert!(matches!(taken, Error::AlreadyExists { .. }), "{taken}");
        assert_eq!(store.get(&Path::from("new")).await.unwrap().bytes().await.unwrap(), "2");
    }
}

#[tokio::test]
async fn multipart_uploads() {
    for config in CONFIGS {
        let gateway = Gateway::start(config);
        let store = store(&gateway);
        let path = Path::from("m");
        let id = store.create_multipart_opts(&path, PutMultipartOptions::default()).await.unwrap();
        let mut parts = Vec::new();
        for (index, size) in [5 << 20, 6 << 20, 10].into_iter().enumerate() {
            let body = vec![u8::try_from(index).unwrap(); size];
            parts.push(store.put_part(&path, &id, index, body.into()).await.unwrap());
        }
        store.complete_multipart(&path, &id, parts).await.unwrap();
        assert_eq!(store.head(&path).await.unwrap().size, (11 << 20) + 10);
        let id = store.create_multipart(&path).await.unwrap();
        store.put_part(&path, &id, 0, vec![9_u8; 10].into()).await.unwrap();
        store.abort_multipart(&path, &id).await.unwrap();
        // An empty object through the writer: one empty part.
        let mut writer = store.put_multipart(&Path::from("empty")).await.unwrap();
        writer.complete().await.unwrap();
        assert_eq!(store.head(&Path::from("empty")).await.unwrap().size, 0);
        assert_eq!(store.head(&path).await.unwrap().size, (11 << 20) + 10);
    }
}
