#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use proptest::prelude::*;
use sluice_provider::{
    AttributeChange, Attributes, CopyOptions, DeleteKey, DeleteOutcome, DeleteWhen, ETag, ErrorKind, Guard, ListEntry, ListFrom,
    ListQuery, Object, Provider, PutBody, PutOptions, RangeSpec, ReadOptions, Seal, VersionId, Versioning, Versions, known_size,
    version_of,
};
use sluice_provider_local as local;
use sluice_provider_memory::{Memory, Settings};

use super::*;
use crate::mounts::{Mount, MountTable};
use crate::transfer::md5_hex;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A bucket `b` with a mount of keys and two of storage classes.
struct World {
    table: MountTable,
    keys: Arc<dyn Provider>,
    classes: [Arc<dyn Provider>; 2],
    _roots: Option<tempfile::TempDir>,
}

fn mount(prefix: &str, provider: &Arc<dyn Provider>) -> Mount {
    Mount { prefix: prefix.into(), kind: "test".into(), provider: Arc::clone(provider), authoriser: None }
}

impl World {
    fn of(providers: [Arc<dyn Provider>; 3], roots: Option<tempfile::TempDir>) -> Self {
        let [keys, ir, deep] = providers;
        let mounts = vec![mount("", &keys), mount("storage-class:GLACIER_IR", &ir), mount("storage-class:DEEP_ARCHIVE", &deep)];
        Self { table: MountTable::new(mounts), keys, classes: [ir, deep], _roots: roots }
    }

    fn in_memory() -> Self {
        Self::of(std::array::from_fn(|_| Arc::new(Memory::new(Settings::default())) as _), None)
    }

    fn on_disk() -> Self {
        let roots = tempfile::tempdir().unwrap();
        let open = |at: usize| {
            let root = roots.path().join(at.to_string());
            let map = [("root", root.to_str().unwrap()), ("durability", "os")];
            let map = map.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            Arc::new(local::Local::open(local::Settings::from_map(&map).unwrap()).unwrap()) as Arc<dyn Provider>
        };
        Self::of(std::array::from_fn(open), Some(roots))
    }

    fn served(&self) -> Arc<dyn Provider> {
        Arc::clone(&self.table.at("").unwrap().provider)
    }

    async fn put(&self, key: &str, bytes: &[u8], versioning: Versioning) -> VersionId {
        let attributes = [("content-type", "text/plain"), ("tags", "a=b")].into_iter().collect();
        let put = PutOptions { attributes, ..PutOptions::default() };
        let (served, key) = (self.served(), Key::new(key).unwrap());
        let info = match versioning {
            Versioning::Off => served.put(&key, body(bytes), &put).await.unwrap(),
            versioning => served.versions().unwrap().put_version(&key, body(bytes), &put, versioning).await.unwrap(),
        };
        version_of(&info.attributes)
    }

    async fn carry(&self, key: &str, version: VersionId, class: &str) -> sluice_provider::Result<Carried> {
        let (tiered, inner) = self.table.tiered(key).unwrap();
        let info = tiered.head_version(&inner, Some(&version), &ReadOptions::default()).await?;
        let to = Transition { version, etag: info.etag, modified: info.modified, class: class.to_owned() };
        tiered.carry(&inner, ("b", key), &to).await
    }

    async fn shift(&self, key: &str, version: VersionId, class: &str) -> u64 {
        self.carry(key, version, class).await.unwrap().settle().await.unwrap()
    }

    /// How many names lie on the mounts of the classes.
    async fn blobs(&self) -> [usize; 2] {
        let mut counts = [0; 2];
        for (count, class) in counts.iter_mut().zip(&self.classes) {
            let query = ListQuery { limit: 1000, ..ListQuery::default() };
            *count = class.list(&query).await.unwrap().entries.len();
        }
        counts
    }

    /// How many versions say that their bytes lie in each class.
    async fn stubs(&self) -> [usize; 2] {
        let query = ListQuery { limit: 1000, ..ListQuery::default() };
        let page = self.keys.versions().unwrap().list_versions(&query).await.unwrap();
        let mut counts = [0; 2];
        for entry in page.entries {
            let ListEntry::Object(info) = entry else { continue };
            match Tier::of(&info.attributes).as_ref().map(|tier| tier.class.as_str()) {
                Some("GLACIER_IR") => counts[0] += 1,
                Some("DEEP_ARCHIVE") => counts[1] += 1,
                _ => {}
            }
        }
        counts
    }

    async fn sweep(&self, now: SystemTime) -> u64 {
        let mut removed = 0;
        for class in self.table.classes() {
            let mut sweeping = Sweeping::default();
            while sweeping.page(&self.table, class, "b", now).await.unwrap() {}
            removed += sweeping.removed;
        }
        removed
    }
}

fn body(bytes: &[u8]) -> PutBody {
    let seal = Seal { etag: ETag::new(md5_hex(bytes)).unwrap(), attributes: Attributes::new() };
    PutBody::from_bytes(Bytes::copy_from_slice(bytes), seal)
}

async fn bytes_of(object: Object) -> Bytes {
    let length = object.range.end - object.range.start;
    match crate::transfer::frames(object.body, length).await.unwrap() {
        crate::transfer::Frames::Full(bytes) => bytes,
        crate::transfer::Frames::Stream(stream) => {
            let whole: BytesMut = stream
                .try_fold(BytesMut::new(), |mut all, chunk| async move {
                    all.extend_from_slice(&chunk);
                    Ok(all)
                })
                .await
                .unwrap();
            whole.freeze()
        }
    }
}

fn content(seed: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + seed * 7) as u8).collect()
}

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

#[tokio::test]
async fn nobody_sees_that_the_bytes_lie_elsewhere() {
    for world in [World::in_memory(), World::on_disk()] {
        let bytes = content(1, 300_000);
        let version = world.put("d/k", &bytes, Versioning::Off).await;
        let before = world.served().head(&key("d/k"), &ReadOptions::default()).await.unwrap();
        assert_eq!(world.shift("d/k", version, "GLACIER_IR").await, 300_000);
        let stub = world.keys.head(&key("d/k"), &ReadOptions::default()).await.unwrap();
        assert!(stub.size == 0 && is_stranded(&stub), "its own bytes are gone");
        let (served, at) = (world.served(), key("d/k"));
        let after = served.head(&at, &ReadOptions::default()).await.unwrap();
        assert_eq!((after.size, &after.etag, after.modified), (300_000, &before.etag, before.modified));
        let mut told = after.attributes.clone();
        assert!(told.remove(CLASS_ATTRIBUTE) && told == before.attributes, "{told:?}");
        for (range, expected) in [
            (None, &bytes[..]),
            (Some(RangeSpec::Between(5, 9)), &bytes[5..10]),
            (Some(RangeSpec::From(299_999)), &bytes[299_999..]),
            (Some(RangeSpec::Last(70_000)), &bytes[230_000..]),
        ] {
            let read = ReadOptions { range, if_match: Some(before.etag.clone()) };
            let object = served.get(&at, &read).await.unwrap();
            assert_eq!((object.info.size, object.info.etag.clone()), (300_000, before.etag.clone()));
            assert!(bytes_of(object).await == expected, "{range:?}");
        }
        let beyond = ReadOptions { range: Some(RangeSpec::From(300_000)), if_match: None };
        let error = served.get(&at, &beyond).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::RangeNotSatisfiable { size: 300_000 });
        let page = served.list(&ListQuery { limit: 10, ..ListQuery::default() }).await.unwrap();
        let ListEntry::Object(listed) = &page.entries[0] else { unreachable!("an object") };
        assert_eq!((known_size(listed), listed.attributes.get(CLASS_ATTRIBUTE)), (300_000, Some("GLACIER_IR")));
        // On to the next class: the bytes are at one place only.
        world.shift("d/k", version, "DEEP_ARCHIVE").await;
        assert_eq!(world.blobs().await, [0, 1]);
        let there = world.carry("d/k", version, "DEEP_ARCHIVE").await.unwrap_err();
        assert_eq!(*there.kind(), ErrorKind::PreconditionFailed);
        // Tags change where the object is.
        let change = AttributeChange { if_match: None, set: vec![("tags".into(), Some("c=d".into()))] };
        let changed = served.set_attributes(&at, &change).await.unwrap();
        assert_eq!((changed.size, changed.attributes.get("tags")), (300_000, Some("c=d")));
        // A copy is an object of its own, on the mount of its key, in no class.
        let copied = served.copy(&at, &key("copy"), &CopyOptions::default()).await.unwrap();
        assert_eq!((copied.size, &copied.etag, copied.attributes.get(CLASS_ATTRIBUTE)), (300_000, &before.etag, None));
        assert_eq!(served.delete(&[DeleteKey::from(at)]).await.pop().unwrap().unwrap(), DeleteOutcome::Deleted { size: 300_000 });
        assert_eq!(world.blobs().await, [0, 0], "the bytes went with the object");
        assert!(bytes_of(served.get(&key("copy"), &ReadOptions::default()).await.unwrap()).await == bytes);
    }
}

#[tokio::test]
async fn what_replaces_an_object_frees_its_bytes_and_what_keeps_it_does_not() {
    let world = World::in_memory();
    let first = world.put("k", b"first", Versioning::Off).await;
    world.shift("k", first, "GLACIER_IR").await;
    world.put("k", b"second", Versioning::Off).await;
    assert_eq!(world.blobs().await, [0, 0], "replaced for good");
    world.shift("k", VersionId::Null, "GLACIER_IR").await;
    // The bucket gets versions: the null version becomes an older one and keeps its bytes.
    let third = world.put("k", b"third", Versioning::Enabled).await;
    world.shift("k", third, "GLACIER_IR").await;
    assert_eq!(world.blobs().await, [2, 0]);
    let served = world.served();
    let facet = served.versions().unwrap();
    let null = facet.get_version(&key("k"), &VersionId::Null, &ReadOptions::default()).await.unwrap();
    assert_eq!(bytes_of(null).await, "second");
    facet.mark_deleted(&key("k"), &DeleteWhen::Always, Versioning::Enabled).await.unwrap();
    assert_eq!(world.blobs().await, [2, 0], "a delete marker removes nothing");
    // In a suspended bucket a write ends the null version.
    world.put("k", b"fourth", Versioning::Suspended).await;
    assert_eq!(world.blobs().await, [1, 0]);
    let removed = facet.remove_version(&key("k"), &third, &DeleteWhen::Always, &Guard::none()).await.unwrap().unwrap();
    assert_eq!((removed.size, world.blobs().await), (5, [0, 0]));
}

#[tokio::test]
async fn what_was_replaced_while_it_was_carried_stays_as_it_is() {
    let world = World::in_memory();
    let old = world.put("k", b"old", Versioning::Off).await;
    let carried = world.carry("k", old, "GLACIER_IR").await.unwrap();
    world.put("k", b"new", Versioning::Off).await;
    assert_eq!(*carried.settle().await.unwrap_err().kind(), ErrorKind::PreconditionFailed);
    assert_eq!(world.blobs().await, [0, 0]);
    let served = world.served();
    assert_eq!(bytes_of(served.get(&key("k"), &ReadOptions::default()).await.unwrap()).await, "new");
    // The same bytes written anew are another object: what was carried belongs to the one before.
    let again = world.carry("k", old, "GLACIER_IR").await.unwrap();
    world.put("k", b"new", Versioning::Off).await;
    assert_eq!(*again.settle().await.unwrap_err().kind(), ErrorKind::PreconditionFailed);
    // Tags that changed meanwhile stay as they are.
    let tagged = world.carry("k", old, "GLACIER_IR").await.unwrap();
    let change = AttributeChange { if_match: None, set: vec![("tags".into(), Some("x=y".into()))] };
    served.set_attributes(&key("k"), &change).await.unwrap();
    tagged.settle().await.unwrap();
    let info = served.head(&key("k"), &ReadOptions::default()).await.unwrap();
    assert_eq!((info.attributes.get("tags"), info.size), (Some("x=y"), 3));
    // Two at once: one moves it, the other finds that it has moved.
    let world = World::in_memory();
    let version = world.put("k", b"both", Versioning::Off).await;
    let one = world.carry("k", version, "GLACIER_IR").await.unwrap();
    let other = world.carry("k", version, "DEEP_ARCHIVE").await.unwrap();
    one.settle().await.unwrap();
    assert_eq!(*other.settle().await.unwrap_err().kind(), ErrorKind::PreconditionFailed);
    assert_eq!((world.blobs().await, world.stubs().await), ([1, 0], [1, 0]));
}

#[tokio::test]
async fn bytes_without_an_object_are_swept_when_they_are_old_enough() {
    let world = World::in_memory();
    let long = "ü".repeat(510);
    for name in ["k", &long] {
        let version = world.put(name, b"bytes", Versioning::Off).await;
        // Cut short before the object let go of its own.
        drop(world.carry(name, version, "GLACIER_IR").await.unwrap());
        world.shift(name, version, "GLACIER_IR").await;
    }
    assert_eq!(world.blobs().await, [4, 0]);
    assert_eq!(world.sweep(SystemTime::now()).await, 0, "somebody may be about to refer to them");
    assert_eq!(world.sweep(SystemTime::now() + DAY * 4).await, 2);
    for name in ["k", &long] {
        assert_eq!(bytes_of(world.served().get(&key(name), &ReadOptions::default()).await.unwrap()).await, "bytes");
    }
    // Hidden behind another mount, an object is still there.
    let over: Arc<dyn Provider> = Arc::new(Memory::new(Settings::default()));
    let hidden = World { table: world.table.with(mount("ü", &over)), ..world };
    assert_eq!(hidden.sweep(SystemTime::now() + DAY * 4).await, 0);
    // Removed behind the gateway's back.
    hidden.keys.delete(&[DeleteKey::from(key("k"))]).await;
    assert_eq!(hidden.sweep(SystemTime::now() + DAY * 4).await, 1);
}

#[tokio::test]
async fn bytes_that_are_lost_or_out_of_reach_are_no_empty_object() {
    let world = World::in_memory();
    let version = world.put("k", b"bytes", Versioning::Off).await;
    world.shift("k", version, "GLACIER_IR").await;
    let without = world.table.without("storage-class:GLACIER_IR");
    let served = &without.at("").unwrap().provider;
    assert_eq!(*served.get(&key("k"), &ReadOptions::default()).await.unwrap_err().kind(), ErrorKind::Unavailable);
    let query = ListQuery { limit: 10, from: ListFrom::Start, ..ListQuery::default() };
    let ListEntry::Object(blob) = world.classes[0].list(&query).await.unwrap().entries.remove(0) else { unreachable!("a blob") };
    world.classes[0].delete(&[DeleteKey::from(blob.key)]).await;
    let lost = world.served().get(&key("k"), &ReadOptions::default()).await.unwrap_err();
    assert_eq!(*lost.kind(), ErrorKind::Unavailable);
}

#[test]
fn what_serves_a_key_stays_the_same_while_the_classes_do() {
    let world = World::in_memory();
    let before = world.served();
    let more = world.table.with(mount("a/", &world.keys));
    assert!(Arc::ptr_eq(&more.at("").unwrap().provider, &before));
    assert!(Arc::ptr_eq(&more.without("a/").at("").unwrap().provider, &before));
    assert!(Arc::ptr_eq(&more.opened("").unwrap().provider, &world.keys), "as it was opened");
    let none = more.without("storage-class:GLACIER_IR").without("storage-class:DEEP_ARCHIVE");
    assert!(Arc::ptr_eq(&none.at("").unwrap().provider, &world.keys), "nothing stands between without classes");
    assert!(none.tiered("k").is_none() && none.classes().is_empty() && !more.keeps_class("GLACIER"));
    // What keeps a class serves no key, of its own name neither.
    let (mount, inner) = world.table.resolve("storage-class:GLACIER_IR/x").unwrap();
    assert_eq!((&*mount.prefix, inner.as_str()), ("", "storage-class:GLACIER_IR/x"));
    assert_eq!((world.table.len(), world.table.at("storage-class:GLACIER_IR").is_some()), (1, true));
}

// === the model ===

#[derive(Clone, Debug)]
enum Step {
    Put(usize, usize),
    Delete(usize),
    Remove(usize, usize),
    /// Moved, or carried and cut short, or carried and replaced meanwhile.
    Move(usize, usize, bool, How),
    Copy(usize, usize),
    Sweep,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Whole,
    CutShort,
    Replaced,
}

fn step() -> impl Strategy<Value = Step> {
    let how = prop_oneof![3 => Just(How::Whole), 1 => Just(How::CutShort), 1 => Just(How::Replaced)];
    prop_oneof![
        4 => (0..3usize, 1..3000usize).prop_map(|(key, size)| Step::Put(key, size)),
        1 => (0..3usize).prop_map(Step::Delete),
        2 => (0..3usize, 0..4usize).prop_map(|(key, nth)| Step::Remove(key, nth)),
        6 => (0..3usize, 0..4usize, any::<bool>(), how).prop_map(|(key, nth, deep, how)| Step::Move(key, nth, deep, how)),
        1 => (0..3usize, 0..3usize).prop_map(|(from, to)| Step::Copy(from, to)),
        1 => Just(Step::Sweep),
    ]
}

/// The versions of each key, the newest first; `None` for a marker.
type Model = BTreeMap<usize, Vec<(VersionId, Option<Vec<u8>>)>>;

const NAMES: [&str; 3] = ["a", "d/a", "d/b"];

async fn check(world: &World, model: &Model) {
    let served = world.served();
    for (at, versions) in model {
        let name = key(NAMES[*at]);
        for (version, expected) in versions {
            let Some(expected) = expected else { continue };
            let facet = served.versions().unwrap();
            let info = facet.head_version(&name, Some(version), &ReadOptions::default()).await.unwrap();
            assert_eq!((info.size, info.etag.as_str()), (expected.len() as u64, md5_hex(expected).as_str()));
            let whole = facet.get_version(&name, version, &ReadOptions::default()).await.unwrap();
            assert!(bytes_of(whole).await == *expected);
            let last = ReadOptions { range: Some(RangeSpec::Last(1)), if_match: None };
            let last = facet.get_version(&name, version, &last).await.unwrap();
            assert!(bytes_of(last).await == expected[expected.len() - 1..]);
        }
        let current = served.get(&name, &ReadOptions::default()).await;
        match versions.first() {
            Some((_, Some(expected))) => assert!(bytes_of(current.unwrap()).await == *expected),
            _ => assert_eq!(*current.unwrap_err().kind(), ErrorKind::NotFound),
        }
    }
}

async fn play(world: World, steps: Vec<Step>, versioning: Versioning) {
    let (mut model, mut cut) = (Model::new(), false);
    let written = |model: &mut Model, at: usize, version: VersionId, bytes: Vec<u8>| {
        let versions = model.entry(at).or_default();
        if versioning == Versioning::Off {
            versions.clear();
        }
        versions.insert(0, (version, Some(bytes)));
    };
    for (seed, step) in steps.into_iter().enumerate() {
        match step {
            Step::Put(at, size) => {
                let bytes = content(seed, size);
                let version = world.put(NAMES[at], &bytes, versioning).await;
                written(&mut model, at, version, bytes);
            }
            Step::Delete(at) if versioning == Versioning::Off => {
                world.served().delete(&[DeleteKey::from(key(NAMES[at]))]).await.pop().unwrap().unwrap();
                model.entry(at).or_default().clear();
            }
            Step::Delete(at) => {
                let served = world.served();
                let facet = served.versions().unwrap();
                let marker = facet.mark_deleted(&key(NAMES[at]), &DeleteWhen::Always, versioning).await.unwrap();
                model.entry(at).or_default().insert(0, (version_of(&marker.attributes), None));
            }
            Step::Remove(at, nth) => {
                let Some(versions) = model.get_mut(&at).filter(|versions| nth < versions.len()) else { continue };
                let (version, _) = versions.remove(nth);
                let served = world.served();
                let facet = served.versions().unwrap();
                let removed = facet.remove_version(&key(NAMES[at]), &version, &DeleteWhen::Always, &Guard::none()).await;
                assert!(removed.unwrap().is_some());
            }
            Step::Move(at, nth, deep, how) => {
                let Some((version, Some(_))) = model.get(&at).and_then(|versions| versions.get(nth)).cloned() else { continue };
                let class = if deep { "DEEP_ARCHIVE" } else { "GLACIER_IR" };
                let Ok(carried) = world.carry(NAMES[at], version, class).await else { continue };
                match how {
                    How::Whole => drop(carried.settle().await.unwrap()),
                    How::CutShort => cut = true,
                    How::Replaced => {
                        let bytes = content(seed, 17);
                        let new = world.put(NAMES[at], &bytes, versioning).await;
                        written(&mut model, at, new, bytes);
                        let settled = carried.settle().await;
                        assert_eq!(settled.is_ok(), versioning == Versioning::Enabled, "an older version can still move");
                    }
                }
            }
            Step::Copy(from, to) => {
                let Some((_, Some(bytes))) = model.get(&from).and_then(|versions| versions.first()).cloned() else { continue };
                let (served, from, copy) = (world.served(), key(NAMES[from]), CopyOptions::default());
                let copied = match versioning {
                    Versioning::Off => served.copy(&from, &key(NAMES[to]), &copy).await.unwrap(),
                    _ => {
                        let facet = served.versions().unwrap();
                        facet.copy_version((&from, None), &key(NAMES[to]), &copy, versioning).await.unwrap()
                    }
                };
                written(&mut model, to, version_of(&copied.attributes), bytes);
            }
            Step::Sweep => {
                world.sweep(SystemTime::now() + DAY * 4).await;
                cut = false;
            }
        }
        check(&world, &model).await;
        if !cut {
            assert_eq!(world.blobs().await, world.stubs().await, "all bytes in the classes are somebody's");
        }
    }
    world.sweep(SystemTime::now() + DAY * 4).await;
    assert_eq!(world.blobs().await, world.stubs().await);
    check(&world, &model).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever moves, is cut short, or is replaced meanwhile: every version reads as it was written, and no bytes are left over.
    #[test]
    fn every_version_reads_as_it_was_written(steps in prop::collection::vec(step(), 1..25), keeps in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let versioning = if keeps { Versioning::Enabled } else { Versioning::Off };
        runtime.block_on(play(World::in_memory(), steps, versioning));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn on_disk_too(steps in prop::collection::vec(step(), 1..15), keeps in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let versioning = if keeps { Versioning::Enabled } else { Versioning::Off };
        runtime.block_on(play(World::on_disk(), steps, versioning));
    }
}
