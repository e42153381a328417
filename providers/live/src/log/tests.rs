#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use proptest::prelude::*;
use sluice_provider::{
    Attributes, Body, DeleteOutcome, ETag, Error, ErrorKind, Event, Follow, FollowFrom, Key, ListQuery, Provider, PutBody,
    PutOptions, PutWhen, ReadOptions, Result, SEQUENCE_ATTRIBUTE, Seal,
};

use super::*;
use crate::{Settings, Topics};

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

fn settings(log: &Path, messages: usize) -> Settings {
    Settings { messages, log: Some(log.to_owned()), ..Settings::default() }
}

/// How long the thread that has answered the last call of a mount may take to let go of it.
const PATIENT: Duration = Duration::from_secs(60);

/// A mount with segments of four kilobytes.
fn try_open(log: &Path, messages: usize) -> Result<Topics> {
    Topics::open_with(settings(log, messages), 4096, PATIENT)
}

fn open(log: &Path, messages: usize) -> Topics {
    try_open(log, messages).unwrap()
}

async fn put(topics: &Topics, name: &str, message: impl Into<Bytes>, when: PutWhen) -> Result<u64> {
    let seal = Seal { etag: ETag::new("e").unwrap(), attributes: Attributes::new() };
    let attributes = [("content-type", "text/x")].into_iter().collect();
    let info = topics.put(&key(name), PutBody::from_bytes(message.into(), seal), &PutOptions { when, attributes }).await?;
    Ok(info.attributes.get(SEQUENCE_ATTRIBUTE).unwrap().parse().unwrap())
}

async fn publish(topics: &Topics, name: &str, message: impl Into<Bytes>) -> u64 {
    put(topics, name, message, PutWhen::Always).await.unwrap()
}

async fn read(topics: &Topics, name: &str) -> Result<Vec<u8>> {
    match topics.get(&key(name), &ReadOptions::default()).await?.body {
        Body::Bytes(bytes) => Ok(bytes.to_vec()),
        Body::Stream(chunks) => Ok(chunks.map(|chunk| chunk.unwrap().to_vec()).concat().await),
        body => panic!("in memory: {body:?}"),
    }
}

async fn names(topics: &Topics) -> Vec<String> {
    let listed = topics.list(&ListQuery { limit: 1000, ..ListQuery::default() }).await.unwrap();
    listed.entries.iter().map(|entry| entry.name().to_owned()).filter(|name| !name.ends_with(".info")).collect()
}

fn files(log: &Path) -> BTreeMap<String, u64> {
    let files = fs::read_dir(log).unwrap().map(|entry| entry.unwrap());
    files.map(|file| (file.file_name().into_string().unwrap(), file.metadata().unwrap().len())).collect()
}

fn segment_path(log: &Path, number: u64) -> std::path::PathBuf {
    log.join(segment::name(number))
}

fn kind(opened: Result<Topics>) -> (ErrorKind, String) {
    let error: Error = opened.unwrap_err();
    (*error.kind(), error.to_string())
}

#[tokio::test]
async fn topics_are_what_they_were_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("made/of/several");
    let topics = open(&log, 3);
    for n in 1..=5 {
        assert_eq!(publish(&topics, "a/topic", format!("message {n}\n")).await, n);
    }
    publish(&topics, "gone", "x").await;
    publish(&topics, "empty", "").await;
    assert!(matches!(topics.delete(&[key("gone").into()]).await.remove(0), Ok(DeleteOutcome::Deleted { size: 1 })));
    let before = topics.head(&key("a/topic"), &ReadOptions::default()).await.unwrap();
    assert!(topics.features().persistent);
    drop(topics);
    let topics = open(&log, 3);
    let after = topics.head(&key("a/topic"), &ReadOptions::default()).await.unwrap();
    assert_eq!((after.size, after.etag, after.attributes), (before.size, before.etag, before.attributes));
    assert_eq!(after.modified, before.modified);
    assert_eq!(read(&topics, "a/topic").await.unwrap(), b"message 3\nmessage 4\nmessage 5");
    assert_eq!(names(&topics).await, ["a/topic", "empty"]);
    // Numbers go on, followers too, and what was there before the ring is told of as missed.
    let mut events = topics.follow(&key("a/topic"), FollowFrom::Since(1)).await.unwrap().events;
    assert_eq!(events.next().await.unwrap().unwrap(), Event::Lagged(1));
    assert_eq!(publish(&topics, "a/topic", "more").await, 6);
    assert_eq!(publish(&topics, "gone", "again").await, 1, "it is another topic");
    drop(topics);
    // Those who followed know that it is not the end of the topic.
    let told: Vec<_> = events.collect().await;
    assert_eq!(told.len(), 5);
    assert!(told.last().unwrap().is_err());
    let topics = open(&log, 2);
    assert_eq!(read(&topics, "a/topic").await.unwrap(), b"message 5\nmore");
    assert_eq!(read(&topics, "gone").await.unwrap(), b"again");
    assert_eq!(read(&topics, "empty").await.unwrap(), b"");
}

#[tokio::test]
async fn a_tail_that_is_not_whole_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let topics = open(&log, 10);
    publish(&topics, "t", "one").await;
    publish(&topics, "t", "two").await;
    let whole = files(&log)[&segment::name(1)] as usize;
    // What looks like a record that was written later, but does not lie where it says.
    let first = fs::read(segment_path(&log, 1)).unwrap()[HEADER..whole].to_vec();
    publish(&topics, "t", [b"three ".as_slice(), &first].concat()).await;
    drop(topics);
    let bytes = fs::read(segment_path(&log, 1)).unwrap();
    for end in whole..bytes.len() {
        let mut torn = vec![bytes[..end].to_vec()];
        if end % 5 == 0 {
            let (mut zeros, mut flipped) = (bytes[..end].to_vec(), bytes.clone());
            zeros.resize(bytes.len(), 0);
            flipped[end] ^= 0x10;
            torn.extend([zeros, flipped]);
        }
        for torn in torn {
            fs::write(segment_path(&log, 1), torn).unwrap();
            let topics = open(&log, 10);
            assert_eq!(read(&topics, "t").await.unwrap(), b"one\ntwo");
            if end % 40 == 0 {
                assert_eq!(publish(&topics, "t", "other").await, 3);
                drop(topics);
                assert_eq!(read(&open(&log, 10), "t").await.unwrap(), b"one\ntwo\nother");
            }
        }
    }
}

#[tokio::test]
async fn damage_elsewhere_is_not_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let topics = open(&log, 100);
    for n in 0..3 {
        publish(&topics, "t", vec![b'a' + n; 3000]).await;
    }
    publish(&topics, "t", "last").await;
    drop(topics);
    assert_eq!(files(&log).len(), 3, "a lock and two segments");
    // In the first segment, at the beginning of each, and before a record in the last that is whole.
    for (number, at) in [(1, HEADER + 100), (1, 3), (2, 3), (2, HEADER + 100)] {
        let path = segment_path(&log, number);
        let bytes = fs::read(&path).unwrap();
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        fs::write(&path, damaged).unwrap();
        let (kind, text) = kind(try_open(&log, 100));
        assert_eq!(kind, ErrorKind::Corrupt, "{text}");
        assert!(text.contains(&segment::name(number)) && text.contains("log"), "{text}");
        fs::write(&path, bytes).unwrap();
    }
    // A segment that was being begun is nothing; one that is missing is.
    fs::write(segment_path(&log, 3), b"sluice").unwrap();
    assert_eq!(read(&open(&log, 1), "t").await.unwrap(), b"last");
    fs::rename(segment_path(&log, 2), segment_path(&log, 7)).unwrap();
    assert_eq!(kind(try_open(&log, 100)).0, ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_log_has_one_owner_and_a_place() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let topics = open(&log, 3);
    let (kind_of, text) = kind(Topics::open_with(settings(&log, 3), 4096, Duration::ZERO));
    assert_eq!(kind_of, ErrorKind::Busy);
    assert!(text.contains("another gateway or mount"), "{text}");
    drop(topics);
    // Names that would be paths elsewhere are names of topics.
    let topics = open(&log, 3);
    for name in ["../out", "a/../../../out", "/etc/out", "a//b", "..", "0000000000000001.topics", "topics.lock"] {
        publish(&topics, name, "x").await;
    }
    drop(topics);
    assert_eq!(names(&open(&log, 3)).await.len(), 7);
    assert_eq!(files(&log).keys().collect::<Vec<_>>(), ["0000000000000001.topics", "topics.lock"]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    fs::write(dir.path().join("file"), "x").unwrap();
    let (_, text) = kind(try_open(&dir.path().join("file/log"), 3));
    assert!(text.contains("file/log") && text.contains("directory"), "{text}");
    let small = Settings { quota_bytes: 3, ..settings(&log, 3) };
    let (kind, text) = kind(Topics::open_with(small, 4096, PATIENT));
    assert_eq!(kind, ErrorKind::QuotaExceeded, "{text}");
}

/// Twice what is kept, what is being written, and what is not worth giving up yet.
fn bound(topics: &Topics) -> u64 {
    topics.log_weight().1 * 2 + 4 * 4096
}

#[tokio::test]
async fn what_is_on_disk_is_bounded_by_what_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let mut topics = open(&log, 3);
    publish(&topics, "quiet", "kept all the time").await;
    let mut most = 0;
    for n in 1..=1000_u32 {
        publish(&topics, &format!("t{}", n % 5), vec![n as u8; 200]).await;
        let (bytes, _) = topics.log_weight();
        assert!(bytes <= bound(&topics), "{bytes} bytes after {n}, {:?}", topics.log_weight());
        most = most.max(bytes);
        if n % 300 == 0 {
            drop(topics);
            topics = open(&log, 3);
        }
    }
    assert!(most < 5 * 4096, "{most}");
    let on_disk: u64 = files(&log).values().sum();
    assert_eq!(on_disk, topics.log_weight().0);
    assert_eq!(read(&topics, "quiet").await.unwrap(), b"kept all the time");
    let all: Vec<_> = (0..5).map(|n| key(&format!("t{n}")).into()).collect();
    assert!(topics.delete(&all).await.iter().all(Result::is_ok));
    for _ in 0..40 {
        publish(&topics, "quiet", vec![1; 200]).await;
    }
    assert!(topics.log_weight().0 <= bound(&topics));
    drop(topics);
    let topics = open(&log, 3);
    assert_eq!(names(&topics).await, ["quiet"]);
    assert_eq!(publish(&topics, "quiet", "x").await, 42);
    // Of those that had left the ring some may still be on disk: with a larger ring none is shown behind a gap.
    drop(topics);
    let topics = open(&log, 1000);
    let mut events = topics.follow(&key("quiet"), FollowFrom::Oldest).await.unwrap().events;
    let Event::Data { sequence: first, .. } = events.next().await.unwrap().unwrap() else { panic!() };
    for n in first + 1..=42 {
        assert!(matches!(events.next().await.unwrap().unwrap(), Event::Data { sequence, .. } if sequence == n));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_publishers_are_written_in_one_order() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let topics = std::sync::Arc::new(open(&log, 1000));
    let publishers = (0..200).map(|n: u32| {
        let topics = std::sync::Arc::clone(&topics);
        tokio::spawn(async move {
            publish(&topics, &format!("own{n}"), "x").await;
            let won = put(&topics, "new", "x", PutWhen::IfAbsent).await.is_ok();
            (publish(&topics, "t", n.to_string()).await, n, won)
        })
    });
    let mut answers = Vec::new();
    for publisher in publishers.collect::<Vec<_>>() {
        answers.push(publisher.await.unwrap());
    }
    answers.sort_unstable();
    assert!(answers.iter().map(|(sequence, ..)| *sequence).eq(1..=200), "each has a number of its own");
    assert_eq!(answers.iter().filter(|(.., won)| *won).count(), 1);
    let wanted: Vec<_> = answers.iter().map(|(_, n, _)| n.to_string()).collect();
    drop(topics);
    let topics = open(&log, 1000);
    assert_eq!(read(&topics, "t").await.unwrap(), wanted.join("\n").as_bytes());
    assert_eq!(names(&topics).await.len(), 202);
}

#[tokio::test]
async fn conditions_hold_with_a_log_as_without() {
    let dir = tempfile::tempdir().unwrap();
    let topics = open(&dir.path().join("log"), 3);
    let refused = put(&topics, "t", "x", PutWhen::IfPresent).await.unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::NotFound);
    publish(&topics, "t", "1").await;
    let tag = topics.head(&key("t"), &ReadOptions::default()).await.unwrap().etag;
    assert_eq!(put(&topics, "t", "2", PutWhen::IfMatch(tag.clone())).await.unwrap(), 2);
    let refused = put(&topics, "t", "3", PutWhen::IfMatch(tag)).await.unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::PreconditionFailed);
    // What tells of a topic is nobody's to write, and at once with the topic itself.
    let (one, other) = tokio::join!(put(&topics, "u", "x", PutWhen::Always), put(&topics, "u.info", "x", PutWhen::Always),);
    assert_eq!((one.unwrap(), *other.unwrap_err().kind()), (1, ErrorKind::PermissionDenied));
    let twice = ["u", "u"].map(|name| key(name).into());
    let (deleted, again) = tokio::join!(topics.delete(&twice), publish(&topics, "u", "y"));
    assert!(matches!(deleted[..], [Ok(DeleteOutcome::Deleted { .. }), Ok(DeleteOutcome::Absent)]), "{deleted:?}");
    assert_eq!(again, 1);
}

#[test]
fn what_could_not_be_written_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let directory = Directory { path: &log, durable: true, segment_bytes: 4096, messages: 10, patience: Duration::ZERO };
    let record = |sequence, text: &'static str| {
        Record::Message(Message {
            life: 1,
            sequence,
            created: std::time::SystemTime::UNIX_EPOCH,
            modified: std::time::SystemTime::UNIX_EPOCH,
            key: key("t"),
            etag: ETag::new("e").unwrap(),
            attributes: Attributes::new(),
            bytes: Bytes::from_static(text.as_bytes()),
        })
    };
    let (mut opened, lives, _) = directory.open().unwrap();
    assert!(lives.is_empty());
    let first = opened.append(&[record(1, "one")]).unwrap();
    // Written in part: half a record lies behind the end, and the file takes no more.
    let good = opened.active.take().unwrap();
    good.write_all_at(b"half a record", files(&log)[&segment::name(1)]).unwrap();
    opened.active = Some(fs::File::open(segment_path(&log, 1)).unwrap());
    opened.append(&[record(2, "lost")]).unwrap_err();
    opened.append(&[record(2, "lost as well")]).unwrap_err();
    opened.active = Some(good);
    let second = opened.append(&[record(2, "two")]).unwrap();
    drop((first, second, opened));
    let (opened, lives, next) = directory.open().unwrap();
    assert_eq!(next, 2);
    let messages: Vec<_> = lives[0].messages.iter().map(|(bytes, _)| bytes.clone()).collect();
    assert_eq!(messages, ["one", "two"]);
    assert_eq!(opened.weight().0, files(&log).values().sum::<u64>());
}

#[tokio::test]
async fn publishers_are_told_that_nothing_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let topics = open(&log, 10);
    publish(&topics, "t", vec![b'x'; 5000]).await;
    // The next segment cannot be begun.
    fs::create_dir(segment_path(&log, 2)).unwrap();
    for _ in 0..2 {
        let refused = put(&topics, "t", "lost", PutWhen::Always).await.unwrap_err();
        assert_eq!(*refused.kind(), ErrorKind::Unavailable, "{refused}");
        assert!(topics.delete(&[key("t").into()]).await.remove(0).is_err());
        assert!(put(&topics, "new", "lost", PutWhen::Always).await.is_err());
    }
    assert!(topics.check().await.unwrap_err().to_string().contains("log"));
    assert_eq!(names(&topics).await, ["t"], "what is not written is not shown");
    assert_eq!(read(&topics, "t").await.unwrap().len(), 5000);
    fs::remove_dir(segment_path(&log, 2)).unwrap();
    assert_eq!(publish(&topics, "t", "two").await, 2);
    topics.check().await.unwrap();
    drop(topics);
    assert_eq!(read(&open(&log, 1), "t").await.unwrap(), b"two");
}

#[derive(Clone, Debug)]
enum Step {
    Publish(u8, u16),
    Delete(u8),
    Open(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..4_u8, 0..1500_u16).prop_map(|(topic, bytes)| Step::Publish(topic, bytes)),
        1 => (0..4_u8).prop_map(Step::Delete),
        1 => (1..6_u8).prop_map(Step::Open),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever happens, and whenever it is opened again: what is acknowledged is there, and nothing else.
    #[test]
    fn a_log_is_what_happened(steps in prop::collection::vec(step(), 1..120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let log = dir.path().join("log");
            let opened = |ring: usize| {
                Topics::open_with(Settings { durable: false, ..settings(&log, ring) }, 4096, PATIENT).unwrap()
            };
            let mut ring = 3;
            let mut topics = opened(ring);
            let mut model: BTreeMap<u8, Vec<Vec<u8>>> = BTreeMap::new();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Publish(topic, bytes) => {
                        let mut message = vec![topic; usize::from(bytes)];
                        message.extend_from_slice(number.to_string().as_bytes());
                        let sequence = publish(&topics, &topic.to_string(), message.clone()).await;
                        let messages = model.entry(topic).or_default();
                        messages.push(message);
                        assert_eq!(sequence, messages.len() as u64);
                    }
                    Step::Delete(topic) => {
                        let gone = topics.delete(&[key(&topic.to_string()).into()]).await.remove(0).unwrap();
                        assert_eq!(matches!(gone, DeleteOutcome::Deleted { .. }), model.remove(&topic).is_some());
                    }
                    Step::Open(messages) => {
                        drop(topics);
                        // A smaller ring from now on, or the same: what left a ring does not come back.
                        ring = ring.min(usize::from(messages));
                        topics = opened(ring);
                    }
                }
                assert!(topics.log_weight().0 <= topics.log_weight().1 * 3 + 4 * 4096 + 8192, "{:?}", topics.log_weight());
            }
            drop(topics);
            let topics = opened(ring);
            assert_eq!(names(&topics).await, model.keys().map(u8::to_string).collect::<Vec<_>>());
            for (topic, messages) in model {
                let kept = messages[messages.len().saturating_sub(ring)..].join(&b'\n');
                assert_eq!(read(&topics, &topic.to_string()).await.unwrap(), kept);
            }
        });
    }
}
