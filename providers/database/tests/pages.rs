//! What is stored of an object, and what is left of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use sluice_provider::{
    Attributes, Body, ETag, Error, ErrorKind, Key, Object, PartNumber, Provider, PutBody, PutOptions, RangeSpec, ReadOptions,
    Seal, UploadId,
};
use sluice_provider_database::{Database, Kind, Settings};

const PAGE: u64 = 16 * 1024;

struct Mount {
    database: Database,
    _dir: tempfile::TempDir,
}

async fn mount(keep: &str) -> Mount {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("objects.db").display());
    let map = [("url", url.as_str()), ("space", "s"), ("keep_secs", keep), ("durability", "os")];
    let map = map.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    let database = Database::open(Settings::from_map(Kind::Pages, &map).unwrap()).await.unwrap();
    Mount { database, _dir: dir }
}

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

fn seal() -> Seal {
    Seal { etag: ETag::new("e").unwrap(), attributes: Attributes::new() }
}

/// A body of so many chunks of 1 MiB, each filled with its number.
fn body(chunks: u64) -> PutBody {
    let pieces = (0..chunks).map(|n| Ok(Bytes::from(vec![n as u8 | 1; 1 << 20])));
    PutBody::new(futures::stream::iter(pieces).boxed(), Some(chunks << 20), Arc::new(OnceLock::from(seal())))
}

async fn read(object: Object) -> Result<Vec<u8>, Error> {
    match object.body {
        Body::Bytes(bytes) => Ok(bytes.to_vec()),
        Body::Stream(mut stream) => {
            let mut all = Vec::new();
            while let Some(chunk) = stream.next().await {
                all.extend_from_slice(&chunk?);
            }
            Ok(all)
        }
        body => panic!("in a database: {body:?}"),
    }
}

impl Mount {
    async fn put(&self, name: &str, body: PutBody) {
        self.database.put(&key(name), body, &PutOptions::default()).await.unwrap();
    }

    async fn pages(&self) -> i64 {
        let (pages, orphans) = self.database.count_pages().await.unwrap();
        assert_eq!(orphans, 0, "pages that nobody knows of");
        pages
    }

    /// Waits, bounded, until so many pages are left.
    async fn settles_at(&self, pages: i64) {
        for _ in 0..3000 {
            if self.pages().await == pages {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} pages are left instead of {pages}", self.pages().await);
    }
}

#[tokio::test]
async fn of_200_mib_nothing_is_left() {
    let m = mount("0").await;
    m.put("k", body(200)).await;
    assert_eq!(m.pages().await, (200 << 20) / PAGE as i64);
    m.database.delete(&[key("k").into()]).await.remove(0).unwrap();
    m.settles_at(0).await;
}

#[tokio::test]
async fn of_an_upload_the_object_is_left() {
    let m = mount("900").await;
    let facet = m.database.multipart().unwrap();
    let upload = UploadId::new("u").unwrap();
    facet.create(&key("k"), &upload).await.unwrap();
    let mut parts = Vec::new();
    for number in 1..=3 {
        let token = facet.put_part(&key("k"), &upload, PartNumber::new(number).unwrap(), body(2)).await.unwrap();
        parts.push((token, 2 << 20));
    }
    let done = facet.complete(&key("k"), &upload, &parts[..2], &ETag::new("e-2").unwrap(), &PutOptions::default()).await.unwrap();
    assert_eq!(done.size, 4 << 20);
    m.settles_at((4 << 20) / PAGE as i64).await;
}

#[tokio::test]
async fn zeros_are_not_stored() {
    let m = mount("0").await;
    let mut sparse = vec![0; 5 << 20];
    sparse[3_000_000] = 7;
    m.put("k", PutBody::from_bytes(Bytes::from(sparse.clone()), seal())).await;
    assert_eq!(m.pages().await, 1);
    assert!(read(m.database.get(&key("k"), &ReadOptions::default()).await.unwrap()).await.unwrap() == sparse);
    let range = ReadOptions { range: Some(RangeSpec::Between(2_999_999, 3_000_001)), if_match: None };
    assert_eq!(read(m.database.get(&key("k"), &range).await.unwrap()).await.unwrap(), [0, 7, 0]);
}

#[tokio::test]
async fn a_reader_keeps_what_it_opened_and_a_removed_one_is_an_error() {
    let m = mount("900").await;
    m.put("k", body(3)).await;
    let held = m.database.get(&key("k"), &ReadOptions::default()).await.unwrap();
    m.put("k", body(1)).await;
    m.database.sweep().await.unwrap();
    assert_eq!(read(held).await.unwrap().len(), 3 << 20);
    assert_eq!(m.pages().await, (4 << 20) / PAGE as i64);

    let m = mount("0").await;
    m.put("k", body(3)).await;
    let held = m.database.get(&key("k"), &ReadOptions::default()).await.unwrap();
    m.put("k", body(1)).await;
    m.settles_at((1 << 20) / PAGE as i64).await;
    assert_eq!(*read(held).await.unwrap_err().kind(), ErrorKind::Unavailable, "zeros instead of what is gone");
}

#[tokio::test]
async fn what_broke_off_is_removed() {
    let m = mount("900").await;
    let broken = || Err(Error::new(ErrorKind::Unavailable, "a body that breaks off"));
    let pieces = (0..5).map(|_| Ok(Bytes::from(vec![1; 1 << 20]))).chain([broken()]);
    let broken = PutBody::new(futures::stream::iter(pieces.collect::<Vec<_>>()).boxed(), None, Arc::default());
    m.database.put(&key("k"), broken, &PutOptions::default()).await.unwrap_err();
    m.settles_at(0).await;
}
