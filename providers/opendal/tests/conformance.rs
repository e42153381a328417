//! The contract, over the services that need no server.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use opendal::Operator;
use opendal::services::{Fs, Memory};
use sluice_provider::conformance::Subject;
use sluice_provider::{Attributes, Body, ETag, Key, ListQuery, Provider, PutBody, PutOptions, ReadOptions, Seal};
use sluice_provider_opendal::{Layout, MemoryOverlay, OpenDal, Overlay, Service, Settings};
use tokio::sync::{Mutex, Notify};

/// What is hard for this provider alone.
const HARD: [&str; 8] = ["%41", "%2E", "%!sluice/stage/x", "%+a", "a%", "a%/b", "%/x", "x/%!sluice/y"];

async fn memory() -> Subject {
    let operator = Operator::new(Memory::default()).unwrap();
    let settings = Settings::new(Service::Memory);
    Subject::new(OpenDal::over(operator, settings, Arc::new(MemoryOverlay::default()))).with_hard_keys(HARD)
}

async fn files() -> Subject {
    let root = tempfile::tempdir().unwrap();
    let operator = Operator::new(Fs::default().root(root.path().to_str().unwrap())).unwrap();
    let mut settings = Settings::new(Service::Fs);
    settings.layout = Layout::Marked;
    let provider = OpenDal::over(operator, settings, Arc::new(MemoryOverlay::default()));
    Subject::new(provider).with_hard_keys(HARD).keeping(root)
}

mod in_memory {
    use super::memory;

    sluice_provider::conformance!(memory);
}

/// What the service and its directories have a part in. That names are read back is the affair of the room that makes them, and the keys
/// that are hundreds of directories deep take long over files.
mod in_files {
    use super::files;

    sluice_provider::conformance! { @groups files;
        objects {
            a_read_only_store_refuses_writes
            put_is_read_back
            absent_is_not_found
            put_replaces
            empty_objects
            large_bodies_in_odd_chunks
            ranges
            reads_with_a_condition
            deletes_tell_what_they_found
            copies
            copies_onto_itself
            the_seal_is_stored
        }
        atomic {
            a_broken_body_changes_nothing
            nothing_shows_before_the_end
            a_dropped_put_leaves_no_trace
            dropped_anywhere_it_is_before_or_after
            a_dropped_attribute_change_is_whole
            a_refused_put_changes_nothing
        }
        conditions { puts_under_conditions one_of_many_deletes }
        keys { an_object_and_what_lies_below_it no_phantom_prefixes }
        listing { entries_carry_metadata known_sizes_are_listed prefixes_are_not_paths }
        attributes {
            attributes_come_back
            a_change_keeps_the_object
            racing_changes_all_arrive
            a_change_never_undoes_a_put
        }
        multipart {
            parts_become_one_object
            parts_at_the_same_time
            a_part_sent_again
            discarding_spares_the_rest
            a_broken_part_spares_the_rest
            the_same_complete_twice
            abort_frees_everything
            no_upload_no_parts
            uploads_do_not_show
            a_dropped_complete_is_whole
        }
        concurrency { readers_never_see_a_mix the_last_writer_stays_whole neighbours_come_and_go an_open_object_stays_as_it_was }
    }
}

/// Keys that are hard for directories, side by side, in the order of S3.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hard_names_of_files() {
    let root = tempfile::tempdir().unwrap();
    let operator = Operator::new(Fs::default().root(root.path().to_str().unwrap())).unwrap();
    let mut settings = Settings::new(Service::Fs);
    settings.layout = Layout::Marked;
    let provider = OpenDal::over(operator, settings, Arc::new(MemoryOverlay::default()));
    let (long, wide) = ("s".repeat(300), "é".repeat(200));
    let mut names: Vec<String> = HARD.iter().map(|name| (*name).to_owned()).collect();
    names.extend(["a", "a/", "a/b", "a//b", "..", "../x", ".", "/", " a", "a\\b", "\0", &long, &wide].map(str::to_owned));
    names.extend([format!("{long}x"), format!("{long}/x"), format!("{wide}/"), "s".repeat(245), "s".repeat(255)]);
    for name in &names {
        let seal = Seal { etag: ETag::new("x").unwrap(), attributes: Attributes::new() };
        let body = PutBody::from_bytes(name.clone().into(), seal);
        provider.put(&Key::new(name).unwrap(), body, &PutOptions::default()).await.unwrap();
    }
    names.sort_unstable();
    let page = provider.list(&ListQuery { limit: 1000, ..ListQuery::default() }).await.unwrap();
    assert_eq!(page.entries.iter().map(|entry| entry.name().to_owned()).collect::<Vec<_>>(), names);
    for name in &names {
        let object = provider.get(&Key::new(name).unwrap(), &ReadOptions::default()).await.unwrap();
        let Body::Bytes(bytes) = object.body else { unreachable!() };
        assert_eq!(bytes, name.as_bytes());
        let deleted = provider.delete(&[Key::new(name).unwrap().into()]).await;
        assert!(deleted.iter().all(Result::is_ok));
    }
    assert!(provider.list(&ListQuery { limit: 1, ..ListQuery::default() }).await.unwrap().entries.is_empty());
}

/// Records that are stored when the test says so.
#[derive(Debug, Default)]
struct Held {
    records: MemoryOverlay,
    asked: Notify,
    go_on: Mutex<()>,
}

#[async_trait]
impl Overlay for Held {
    async fn read(&self, space: &str, names: &[&str]) -> sluice_provider::Result<Vec<Option<String>>> {
        self.records.read(space, names).await
    }

    async fn swap(&self, space: &str, name: &str, from: Option<&str>, to: Option<&str>) -> sluice_provider::Result<bool> {
        self.asked.notify_one();
        let _held = self.go_on.lock().await;
        self.records.swap(space, name, from, to).await
    }
}

/// A service without ETags tells nothing that distinguishes two states of one size. Between an object and its record nobody sees the
/// bytes of the one with the ETag of the other.
#[tokio::test]
async fn the_record_is_that_of_the_bytes() {
    let held = Arc::new(Held::default());
    let operator = Operator::new(Memory::default()).unwrap();
    let provider = OpenDal::over(operator, Settings::new(Service::Memory), Arc::<Held>::clone(&held));
    let put = |content: &'static str| {
        let provider = provider.clone();
        async move {
            let seal = Seal { etag: ETag::new(content).unwrap(), attributes: Attributes::new() };
            let body = PutBody::from_bytes(content.into(), seal);
            provider.put(&Key::new("k").unwrap(), body, &PutOptions::default()).await.unwrap();
        }
    };
    put("one").await;
    held.asked.notified().await;
    let lock = held.go_on.lock().await;
    let putting = tokio::spawn(put("two"));
    held.asked.notified().await;
    let getting = tokio::spawn({
        let provider = provider.clone();
        async move { provider.get(&Key::new("k").unwrap(), &ReadOptions::default()).await.unwrap() }
    });
    // Long enough for whoever does not wait.
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(lock);
    putting.await.unwrap();
    let object = getting.await.unwrap();
    let Body::Bytes(bytes) = object.body else { unreachable!() };
    assert_eq!((object.info.etag.as_str(), &bytes[..]), ("two", &b"two"[..]));
}
