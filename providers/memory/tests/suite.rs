//! The conformance suite finds what it is there to find: each known mistake, put into a sound provider, breaks a promise.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use futures::FutureExt;
use sluice_provider::conformance::{
    self, Subject, atomic, attributes, concurrency, conditions, keys, listing, multipart, objects,
};
use sluice_provider::{
    Append, AttributeChange, Attributes, CopyOptions, DeleteKey, DeleteOutcome, DeleteWhen, ETag, Features, Follow, Key,
    ListEntry, ListFrom, ListPage, ListQuery, Multipart, Object, ObjectInfo, PartNumber, Provider, PutBody, PutOptions, PutWhen,
    ReadOptions, Rename, Result, Seal, UploadId, Versions,
};
use sluice_provider_memory::{Memory, Settings};

/// Mistakes that were seen in the field.
/// How long a racer that looked before it wrote waits in between.
const GAP: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    /// The condition is checked, then the body is read and published without it.
    CheckThenWrite,
    /// A condition is taken and ignored.
    IgnoredCondition,
    /// What came of a broken body is published.
    PublishedBroken,
    /// The old object is gone when the body of the new one begins.
    TruncatedAtOnce,
    /// `a/` is taken for `a`.
    TrailingSlash,
    /// Names are folded to lower case.
    CaseFolded,
    /// Entries come in the order of directories: `a/b` before `a-b`.
    DirectoryOrder,
    /// A page begins after its marker only if the marker is there.
    MarkerMustExist,
    /// A full page always claims that more follows.
    AlwaysMore,
    /// Metadata and body are of two opens.
    TwoOpens,
    /// Attributes are changed by writing the object anew.
    RewrittenAttributes,
    /// A copy leaves the attributes behind.
    BareCopy,
    /// Deletes report success for whatever was asked.
    BlindDelete,
    /// The attributes of the seal are lost.
    LostSeal,
    /// A complete refuses, but has used up the parts.
    SpentParts,
    /// An abort frees nothing.
    IdleAbort,
    /// Parts are joined in the order of their arrival.
    ArrivalOrder,
}

#[derive(Debug)]
struct Faulty(Memory, Fault);

impl Faulty {
    fn has(&self, fault: Fault) -> bool {
        self.1 == fault
    }

    fn name(&self, key: &Key) -> Key {
        match self.1 {
            Fault::TrailingSlash if key.as_str().len() > 1 => {
                Key::new(key.as_str().strip_suffix('/').unwrap_or(key.as_str())).unwrap()
            }
            Fault::CaseFolded => Key::new(key.as_str().to_ascii_lowercase()).unwrap(),
            _ => key.clone(),
        }
    }

    async fn current(&self, key: &Key) -> Option<ETag> {
        self.0.head(key, &ReadOptions::default()).await.ok().map(|info| info.etag)
    }
}

#[async_trait]
impl Provider for Faulty {
    fn features(&self) -> Features {
        self.0.features()
    }

    async fn head(&self, key: &Key, read: &ReadOptions) -> Result<ObjectInfo> {
        self.0.head(&self.name(key), read).await
    }

    async fn get(&self, key: &Key, read: &ReadOptions) -> Result<Object> {
        let mut object = self.0.get(&self.name(key), read).await?;
        if self.has(Fault::TwoOpens) {
            tokio::task::yield_now().await;
            object.info = self.0.head(&self.name(key), &ReadOptions::default()).await?;
        }
        Ok(object)
    }

    async fn put(&self, key: &Key, mut body: PutBody, put: &PutOptions) -> Result<ObjectInfo> {
        let (key, mut put) = (self.name(key), put.clone());
        match self.1 {
            Fault::IgnoredCondition => put.when = PutWhen::Always,
            Fault::CheckThenWrite => {
                std::mem::take(&mut put.when).check(self.current(&key).await.as_ref())?;
                // The gap between the look and the write, as wide as it takes for every racer to be in it.
                let mut came = BytesMut::new();
                while let Some(chunk) = body.chunk().await? {
                    came.extend_from_slice(&chunk);
                }
                tokio::time::sleep(GAP).await;
                body = PutBody::from_bytes(came.freeze(), body.seal()?);
            }
            Fault::TruncatedAtOnce => drop(self.0.delete(&[key.clone().into()]).await),
            Fault::PublishedBroken => {
                let mut came = BytesMut::new();
                while let Ok(Some(chunk)) = body.chunk().await {
                    came.extend_from_slice(&chunk);
                }
                let broken = Seal { etag: ETag::new("broken").unwrap(), attributes: Attributes::new() };
                body = PutBody::from_bytes(came.freeze(), body.seal().unwrap_or(broken));
            }
            Fault::LostSeal => {
                let mut came = BytesMut::new();
                while let Some(chunk) = body.chunk().await? {
                    came.extend_from_slice(&chunk);
                }
                let seal = Seal { etag: body.seal()?.etag, attributes: Attributes::new() };
                body = PutBody::from_bytes(came.freeze(), seal);
            }
            _ => {}
        }
        self.0.put(&key, body, &put).await
    }

    async fn delete(&self, keys: &[DeleteKey]) -> Vec<Result<DeleteOutcome>> {
        let keys: Vec<_> = keys.iter().map(|k| DeleteKey { key: self.name(&k.key), when: k.when.clone() }).collect();
        if self.has(Fault::BlindDelete) {
            let keys: Vec<_> = keys.into_iter().map(|k| DeleteKey { key: k.key, when: DeleteWhen::Always }).collect();
            self.0.delete(&keys).await;
            return keys.iter().map(|_| Ok(DeleteOutcome::Deleted { size: 0 })).collect();
        }
        self.0.delete(&keys).await
    }

    async fn copy(&self, from: &Key, to: &Key, copy: &CopyOptions) -> Result<ObjectInfo> {
        let mut copy = copy.clone();
        if self.has(Fault::BareCopy) {
            copy.attributes.get_or_insert_default();
        }
        self.0.copy(&self.name(from), &self.name(to), &copy).await
    }

    async fn set_attributes(&self, key: &Key, change: &AttributeChange) -> Result<ObjectInfo> {
        if self.has(Fault::RewrittenAttributes) {
            let mut attributes =
                self.0.head(key, &ReadOptions { range: None, if_match: change.if_match.clone() }).await?.attributes;
            attributes.apply(change);
            tokio::task::yield_now().await;
            return self.0.copy(key, key, &CopyOptions { attributes: Some(attributes), ..CopyOptions::default() }).await;
        }
        self.0.set_attributes(&self.name(key), change).await
    }

    async fn list(&self, query: &ListQuery) -> Result<ListPage> {
        let mut query = query.clone();
        if let (Fault::MarkerMustExist, ListFrom::After(marker)) = (self.1, &query.from) {
            let there = match Key::new(marker) {
                Ok(key) => self.current(&key).await.is_some(),
                Err(_) => false,
            };
            if !there {
                query.from = ListFrom::Start;
            }
        }
        let mut page = self.0.list(&query).await?;
        match self.1 {
            Fault::AlwaysMore => page.more |= page.entries.len() == query.limit,
            Fault::DirectoryOrder => page.entries.sort_by(|a: &ListEntry, b| a.name().split('/').cmp(b.name().split('/'))),
            _ => {}
        }
        Ok(page)
    }

    async fn check(&self) -> Result<()> {
        self.0.check().await
    }

    fn multipart(&self) -> Option<&dyn Multipart> {
        Some(self)
    }

    fn versions(&self) -> Option<&dyn Versions> {
        None
    }

    fn appends(&self) -> Option<&dyn Append> {
        None
    }

    fn renames(&self) -> Option<&dyn Rename> {
        None
    }

    fn follows(&self) -> Option<&dyn Follow> {
        None
    }
}

#[async_trait]
impl Multipart for Faulty {
    async fn create(&self, key: &Key, upload: &UploadId) -> Result<()> {
        self.0.create(&self.name(key), upload).await
    }

    async fn put_part(&self, key: &Key, upload: &UploadId, part: PartNumber, body: PutBody) -> Result<String> {
        self.0.put_part(&self.name(key), upload, part, body).await
    }

    async fn discard_part(&self, key: &Key, upload: &UploadId, token: &str) -> Result<()> {
        self.0.discard_part(&self.name(key), upload, token).await
    }

    async fn complete(
        &self,
        key: &Key,
        upload: &UploadId,
        parts: &[(String, u64)],
        etag: &ETag,
        put: &PutOptions,
    ) -> Result<ObjectInfo> {
        let (key, mut parts) = (self.name(key), parts.to_vec());
        if self.has(Fault::ArrivalOrder) {
            parts.sort_by_key(|(token, _)| token.split_once('-').and_then(|(_, n)| n.parse::<u64>().ok()));
        }
        let done = self.0.complete(&key, upload, &parts, etag, put).await;
        if self.has(Fault::SpentParts) {
            self.0.abort(&key, upload).await?;
        }
        done
    }

    async fn abort(&self, key: &Key, upload: &UploadId) -> Result<()> {
        if self.has(Fault::IdleAbort) { Ok(()) } else { self.0.abort(&self.name(key), upload).await }
    }
}

fn subject(fault: Fault) -> Subject {
    Subject::new(Faulty(Memory::new(Settings::default()), fault))
}

/// The promise breaks with this fault.
async fn finds(fault: Fault, promise: impl AsyncFn(&Subject)) {
    let subject = subject(fault);
    let outcome = AssertUnwindSafe(promise(&subject)).catch_unwind().await;
    assert!(outcome.is_err(), "{fault:?} was not found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_fault_breaks_a_promise() {
    finds(Fault::CheckThenWrite, conditions::one_of_many_creates).await;
    finds(Fault::CheckThenWrite, conditions::one_of_many_replaces).await;
    finds(Fault::CheckThenWrite, conditions::a_put_or_a_delete).await;
    finds(Fault::IgnoredCondition, conditions::puts_under_conditions).await;
    finds(Fault::IgnoredCondition, conditions::a_counter_loses_no_step).await;
    finds(Fault::PublishedBroken, atomic::a_broken_body_changes_nothing).await;
    finds(Fault::TruncatedAtOnce, atomic::a_broken_body_changes_nothing).await;
    finds(Fault::TruncatedAtOnce, atomic::nothing_shows_before_the_end).await;
    finds(Fault::TruncatedAtOnce, atomic::a_dropped_put_leaves_no_trace).await;
    finds(Fault::TruncatedAtOnce, atomic::dropped_anywhere_it_is_before_or_after).await;
    finds(Fault::TrailingSlash, keys::an_object_and_what_lies_below_it).await;
    finds(Fault::TrailingSlash, keys::hard_keys_live_side_by_side).await;
    finds(Fault::CaseFolded, keys::hard_keys_live_side_by_side).await;
    finds(Fault::CaseFolded, keys::hard_keys_are_listed_alone).await;
    finds(Fault::DirectoryOrder, listing::pages_follow_the_reference).await;
    finds(Fault::MarkerMustExist, listing::pages_follow_the_reference).await;
    finds(Fault::AlwaysMore, listing::every_page_size_walks_the_same).await;
    finds(Fault::TwoOpens, concurrency::readers_never_see_a_mix).await;
    finds(Fault::RewrittenAttributes, attributes::a_change_keeps_the_object).await;
    finds(Fault::RewrittenAttributes, attributes::racing_changes_all_arrive).await;
    finds(Fault::BareCopy, objects::copies).await;
    finds(Fault::BlindDelete, objects::deletes_tell_what_they_found).await;
    finds(Fault::BlindDelete, conditions::deletes_under_conditions).await;
    finds(Fault::BlindDelete, conditions::one_of_many_deletes).await;
    finds(Fault::LostSeal, objects::the_seal_is_stored).await;
    finds(Fault::SpentParts, multipart::complete_under_conditions).await;
    finds(Fault::IdleAbort, multipart::abort_frees_everything).await;
    finds(Fault::ArrivalOrder, multipart::parts_become_one_object).await;
}

#[test]
fn the_model_finds_what_shows_without_a_race() {
    for fault in [
        Fault::IgnoredCondition,
        Fault::TrailingSlash,
        Fault::CaseFolded,
        Fault::DirectoryOrder,
        Fault::MarkerMustExist,
        Fault::AlwaysMore,
        Fault::BareCopy,
        Fault::BlindDelete,
        Fault::ArrivalOrder,
    ] {
        let outcome = std::panic::catch_unwind(|| conformance::model(|| async { subject(fault) }, 300));
        assert!(outcome.is_err(), "{fault:?} was not found");
    }
}
