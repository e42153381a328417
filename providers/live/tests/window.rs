//! What leaves a stream because it is old. Time is that of the test.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use sluice_provider::{
    Append, AppendOptions, Attributes, Body, ETag, ErrorKind, Event, Follow, FollowFrom, Growth, Key, Provider, PutBody,
    PutOptions, RangeSpec, ReadOptions, Result, SEQUENCE_ATTRIBUTE, Seal,
};
use sluice_provider_live::{Settings, Streams};
use tokio::time::advance;

fn key() -> Key {
    Key::new("s").unwrap()
}

fn body(content: &str) -> PutBody {
    let seal = Seal { etag: ETag::new("e").unwrap(), attributes: Attributes::new() };
    PutBody::from_bytes(Bytes::copy_from_slice(content.as_bytes()), seal)
}

async fn append(streams: &Streams, offset: u64, content: &str) -> Result<u64> {
    let growth = Growth::new(|info, _| Ok(Seal { etag: info.etag.clone(), attributes: info.attributes.clone() }));
    let options = AppendOptions { offset, put: PutOptions::default(), growth };
    Ok(streams.append(&key(), body(content), &options).await?.size)
}

async fn read(streams: &Streams, range: Option<RangeSpec>) -> Result<(Vec<u8>, Option<String>)> {
    let object = streams.get(&key(), &ReadOptions { range, if_match: None }).await?;
    let bytes = match object.body {
        Body::Bytes(bytes) => bytes.to_vec(),
        Body::Stream(chunks) => chunks.map(|chunk| chunk.unwrap().to_vec()).concat().await,
        body => panic!("in memory: {body:?}"),
    };
    Ok((bytes, object.info.attributes.get(SEQUENCE_ATTRIBUTE).map(str::to_owned)))
}

fn minute(quota_bytes: u64) -> Streams {
    Streams::new(Settings { window: Some(Duration::from_secs(60)), window_bytes: 10, quota_bytes, ..Settings::default() })
}

#[tokio::test(start_paused = true)]
async fn bytes_leave_when_they_are_old() {
    let streams = minute(1000);
    append(&streams, 0, "abcd").await.unwrap();
    advance(Duration::from_secs(40)).await;
    append(&streams, 4, "ef").await.unwrap();
    let mut events = streams.follow(&key(), FollowFrom::Oldest).await.unwrap().events;
    let mut at_end = streams.follow(&key(), FollowFrom::Now).await.unwrap().events;
    advance(Duration::from_secs(19)).await;
    assert_eq!(read(&streams, None).await.unwrap(), (b"abcdef".to_vec(), None));
    advance(Duration::from_secs(1)).await;
    // The first four are a minute old. Those that are left keep their offsets.
    assert_eq!(read(&streams, None).await.unwrap(), (b"ef".to_vec(), Some("4".to_owned())));
    assert_eq!(read(&streams, Some(RangeSpec::From(5))).await.unwrap().0, b"f");
    let gone = read(&streams, Some(RangeSpec::Between(3, 5))).await.unwrap_err();
    assert_eq!(*gone.kind(), ErrorKind::RangeNotSatisfiable { size: 6 });
    assert_eq!(streams.head(&key(), &ReadOptions::default()).await.unwrap().size, 6);
    assert_eq!(events.next().await.unwrap().unwrap(), Event::Lagged(4));
    advance(Duration::from_secs(40)).await;
    // All of it is, also for a follower that has already begun.
    assert_eq!(events.next().await.unwrap().unwrap(), Event::Lagged(2));
    assert_eq!(read(&streams, None).await.unwrap(), (Vec::new(), Some("6".to_owned())));
    // Who was at the end has missed nothing.
    assert!(at_end.next().now_or_never().is_none());
    append(&streams, 6, "ghij").await.unwrap();
    let new = Event::Data { sequence: 6, bytes: Bytes::from_static(b"ghij") };
    assert_eq!(at_end.next().await.unwrap().unwrap(), new);
    assert_eq!(events.next().await.unwrap().unwrap(), new);
    // The window in bytes holds as well.
    append(&streams, 10, "klmnopqr").await.unwrap();
    assert_eq!(read(&streams, None).await.unwrap(), (b"ijklmnopqr".to_vec(), Some("8".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn what_is_old_makes_room_though_nobody_asks_for_it() {
    let streams = minute(10);
    append(&streams, 0, "abcdefgh").await.unwrap();
    let other = Key::new("other").unwrap();
    let full = streams.put(&other, body("12345678"), &PutOptions::default()).await.unwrap_err();
    assert_eq!(*full.kind(), ErrorKind::QuotaExceeded);
    // By the clock of the runtime, which goes on as nothing else is to be done.
    tokio::time::sleep(Duration::from_secs(61)).await;
    streams.put(&other, body("12345678"), &PutOptions::default()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(61)).await;
    append(&streams, 8, "12345678").await.unwrap();
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(append(&streams, 16, "0123456789").await.unwrap(), 26);
}
