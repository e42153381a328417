//! Topics and streams as those who follow them see them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use sluice_provider::{
    Append, AppendOptions, Attributes, Body, DeleteOutcome, ETag, ErrorKind, Event, Follow, FollowFrom, Growth, Key, ListEntry,
    ListQuery, Provider, PutBody, PutOptions, RangeSpec, ReadOptions, Result, SEQUENCE_ATTRIBUTE, Seal,
};
use sluice_provider_live::{Settings, Streams, Topics};

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

fn body(content: impl Into<Bytes>) -> PutBody {
    PutBody::from_bytes(content.into(), Seal { etag: ETag::new("e").unwrap(), attributes: Attributes::new() })
}

async fn publish(topics: &Topics, name: &str, message: impl Into<Bytes>) -> u64 {
    let info = topics.put(&key(name), body(message), &PutOptions::default()).await.unwrap();
    info.attributes.get(SEQUENCE_ATTRIBUTE).unwrap().parse().unwrap()
}

async fn read(provider: &dyn Provider, name: &str, range: Option<RangeSpec>) -> Result<Vec<u8>> {
    let object = provider.get(&key(name), &ReadOptions { range, if_match: None }).await?;
    let bytes = match object.body {
        Body::Bytes(bytes) => bytes.to_vec(),
        Body::Stream(chunks) => chunks.map(|chunk| chunk.unwrap().to_vec()).concat().await,
        body => panic!("in memory: {body:?}"),
    };
    assert_eq!(bytes.len() as u64, object.range.end - object.range.start);
    Ok(bytes)
}

fn data(sequence: u64, bytes: &str) -> Event {
    Event::Data { sequence, bytes: Bytes::copy_from_slice(bytes.as_bytes()) }
}

fn ring(messages: usize) -> Topics {
    Topics::open(Settings { messages, ..Settings::default() }).unwrap()
}

#[tokio::test]
async fn the_last_messages_are_kept() {
    let topics = ring(3);
    for n in 1..=4 {
        assert_eq!(publish(&topics, "t", format!("message {n}\n")).await, n);
    }
    assert_eq!(read(&topics, "t", None).await.unwrap(), b"message 2\nmessage 3\nmessage 4");
    let info: serde_json::Value = serde_json::from_slice(&read(&topics, "t.info", None).await.unwrap()).unwrap();
    assert_eq!((&info["messages"], &info["retained"], &info["oldest"]), (&4.into(), &3.into(), &2.into()));
    let listed = topics.list(&ListQuery { limit: 10, ..ListQuery::default() }).await.unwrap();
    assert_eq!(listed.entries.iter().map(ListEntry::name).collect::<Vec<_>>(), ["t", "t.info"]);
    let refused = topics.put(&key("t.info"), body("x"), &PutOptions::default()).await.unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::PermissionDenied);
    assert_eq!(*read(&topics, "t", Some(RangeSpec::From(0))).await.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(topics.delete(&[key("t").into()]).await.remove(0).unwrap(), DeleteOutcome::Deleted { size: 29 });
    assert_eq!(*read(&topics, "t.info", None).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_message_has_a_mebibyte_at_most() {
    let topics = ring(2);
    publish(&topics, "t", vec![1; 1 << 20]).await;
    let large = topics.put(&key("t"), body(vec![1; (1 << 20) + 1]), &PutOptions::default()).await;
    assert_eq!(*large.unwrap_err().kind(), ErrorKind::TooLarge);
}

#[tokio::test]
async fn followers_are_told_in_order_and_of_gaps() {
    let topics = ring(3);
    publish(&topics, "t", "1").await;
    let mut all = topics.follow(&key("t"), FollowFrom::Oldest).await.unwrap().events;
    let mut later = topics.follow(&key("t"), FollowFrom::Now).await.unwrap().events;
    assert_eq!(all.next().await.unwrap().unwrap(), data(1, "1"));
    publish(&topics, "t", "2").await;
    assert_eq!(all.next().await.unwrap().unwrap(), data(2, "2"));
    for n in 3..=7 {
        publish(&topics, "t", n.to_string()).await;
    }
    // Both were too slow, by different numbers of messages.
    assert_eq!(all.next().await.unwrap().unwrap(), Event::Lagged(2));
    assert_eq!(all.next().await.unwrap().unwrap(), data(5, "5"));
    assert_eq!(later.next().await.unwrap().unwrap(), Event::Lagged(3));
    let mut again = topics.follow(&key("t"), FollowFrom::Since(6)).await.unwrap().events;
    assert_eq!(again.next().await.unwrap().unwrap(), data(7, "7"));
    topics.delete(&[key("t").into()]).await;
    assert!(again.next().await.is_none(), "a follower of what is deleted comes to its end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_followers_miss_nothing_in_silence() {
    let topics = Arc::new(ring(50));
    publish(&topics, "t", "1").await;
    let mut followers = Vec::new();
    for _ in 0..100 {
        let mut events = topics.follow(&key("t"), FollowFrom::Oldest).await.unwrap().events;
        followers.push(tokio::spawn(async move {
            let (mut next, mut missed) = (1, 0);
            while let Some(event) = events.next().await {
                match event.unwrap() {
                    Event::Lagged(count) => (next, missed) = (next + count, missed + count),
                    Event::Data { sequence, bytes } => {
                        assert_eq!((sequence, bytes.as_ref()), (next, next.to_string().as_bytes()));
                        next += 1;
                    }
                }
            }
            (next, missed)
        }));
    }
    for n in 2..=2000 {
        publish(&topics, "t", n.to_string()).await;
    }
    topics.delete(&[key("t").into()]).await;
    for follower in followers {
        assert_eq!(follower.await.unwrap().0, 2001, "a gap that was not told of");
    }
}

#[tokio::test]
async fn there_are_as_many_followers_as_may_be() {
    let topics = Topics::open(Settings { max_followers: 1, ..Settings::default() }).unwrap();
    publish(&topics, "t", "1").await;
    let one = topics.follow(&key("t"), FollowFrom::Now).await.unwrap();
    assert_eq!(*topics.follow(&key("t"), FollowFrom::Now).await.unwrap_err().kind(), ErrorKind::Busy);
    drop(one);
    topics.follow(&key("t"), FollowFrom::Now).await.unwrap();
    let small = Topics::open(Settings { quota_bytes: 10, ..Settings::default() }).unwrap();
    publish(&small, "t", "12345678").await;
    let full = small.put(&key("u"), body("123"), &PutOptions::default()).await;
    assert_eq!(*full.unwrap_err().kind(), ErrorKind::QuotaExceeded);
    small.delete(&[key("t").into()]).await;
    publish(&small, "u", "123").await;
}

fn at(offset: u64) -> AppendOptions {
    let growth = Growth::new(|info, _| Ok(Seal { etag: info.etag.clone(), attributes: info.attributes.clone() }));
    AppendOptions { offset, put: PutOptions::default(), growth }
}

#[tokio::test]
async fn a_stream_keeps_its_offsets_while_its_window_moves() {
    let streams = Streams::new(Settings { window_bytes: 10, ..Settings::default() });
    for (n, piece) in ["abcd", "efgh", "ijkl"].into_iter().enumerate() {
        streams.append(&key("s"), body(piece), &at(n as u64 * 4)).await.unwrap();
    }
    assert_eq!(streams.head(&key("s"), &ReadOptions::default()).await.unwrap().size, 12);
    assert_eq!(read(&streams, "s", None).await.unwrap(), b"cdefghijkl");
    assert_eq!(read(&streams, "s", Some(RangeSpec::From(6))).await.unwrap(), b"ghijkl");
    assert_eq!(read(&streams, "s", Some(RangeSpec::Between(2, 4))).await.unwrap(), b"cde");
    let before = read(&streams, "s", Some(RangeSpec::Between(1, 4))).await.unwrap_err();
    assert_eq!(*before.kind(), ErrorKind::RangeNotSatisfiable { size: 12 });
    let mut events = streams.follow(&key("s"), FollowFrom::Since(0)).await.unwrap().events;
    assert_eq!(events.next().await.unwrap().unwrap(), Event::Lagged(2));
    assert_eq!(events.next().await.unwrap().unwrap(), data(2, "cd"));
    assert_eq!(events.next().await.unwrap().unwrap(), data(4, "efgh"));
    let beyond = streams.follow(&key("s"), FollowFrom::Since(13)).await.unwrap_err();
    assert_eq!(*beyond.kind(), ErrorKind::RangeNotSatisfiable { size: 12 });
    let mut middle = streams.follow(&key("s"), FollowFrom::Since(6)).await.unwrap().events;
    assert_eq!(middle.next().await.unwrap().unwrap(), data(6, "gh"));
    assert_eq!(middle.next().await.unwrap().unwrap(), data(8, "ijkl"));
    let sealed = streams.seal(&key("s")).await.unwrap();
    assert_eq!(sealed.size, 12);
    assert!(middle.next().await.is_none());
    let refused = streams.append(&key("s"), body("x"), &at(12)).await.unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::Guarded);
    // What replaces it is a new one.
    streams.put(&key("s"), body("new"), &PutOptions::default()).await.unwrap();
    assert_eq!(read(&streams, "s", None).await.unwrap(), b"new");
    assert_eq!(events.next().await.unwrap().unwrap(), data(8, "ijkl"), "the old one is told to its end");
    assert!(events.next().await.is_none());
}
