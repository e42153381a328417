#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use proptest::prelude::*;
use sluice_provider::{AttributeChange, Attributes, DeleteWhen, ETag, Key, ListQuery, PutBody, PutOptions, Seal};

use super::*;
use crate::error::ErrorKind;
use crate::handles::Registry;
use crate::meta::{MountRecord, SqliteStore};
use crate::namespaces::{DefaultMount, Namespaces};
use crate::objects::{Objects, OpenBody, ReadRequest, Removal, attribute};
use crate::uploads::{NewUpload, Uploads};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

struct Bench {
    namespaces: Arc<Namespaces>,
    objects: Arc<Objects>,
    uploads: Arc<Uploads>,
    lifecycle: Lifecycle,
    store: Arc<dyn crate::meta::MetaStore>,
}

impl Bench {
    async fn new() -> Self {
        let store: Arc<dyn crate::meta::MetaStore> = Arc::new(SqliteStore::open_in_memory().await.unwrap());
        let memory = DefaultMount { provider: "memory".to_owned(), settings: BTreeMap::new() };
        let namespaces = Arc::new(Namespaces::new(Arc::clone(&store), memory));
        let uploads = Arc::new(Uploads::new(Arc::clone(&store)));
        let objects = Arc::new(Objects::new(Arc::clone(&uploads), Registry::new(Default::default())));
        let settings = Settings { removals_per_sec: 1_000_000, ..Settings::default() };
        let lifecycle = Lifecycle::new(Arc::clone(&namespaces), Arc::clone(&objects), Arc::clone(&uploads), settings);
        namespaces.create("bucket", "me", "").await.unwrap();
        Self { namespaces, objects, uploads, lifecycle, store }
    }

    async fn configure(&self, rules: Vec<Rule>) {
        let json = Configuration { rules }.to_json();
        self.namespaces.set_setting("bucket", SETTING, Some(&json)).await.unwrap();
    }

    async fn put(&self, key: &str, body: &str, tags: &str) {
        let namespace = self.namespaces.get("bucket").await.unwrap();
        let attributes: Attributes =
            if tags.is_empty() { Attributes::new() } else { [(attribute::TAGS, tags)].into_iter().collect() };
        let seal = Seal { etag: ETag::new(format!("etag-of-{body}")).unwrap(), attributes: Attributes::new() };
        let body = PutBody::from_bytes(Bytes::from(body.to_owned()), seal);
        self.objects.put(&namespace, key, body, PutOptions { attributes, ..PutOptions::default() }).await.unwrap();
    }

    async fn keys(&self) -> Vec<String> {
        let namespace = self.namespaces.get("bucket").await.unwrap();
        let page = self.objects.list(&namespace, &ListQuery { limit: 10_000, ..ListQuery::default() }).await.unwrap();
        page.entries.iter().map(|entry| entry.name().to_owned()).collect()
    }

    /// The keys of a plan, and what it counts.
    async fn plan(&self, at: SystemTime) -> (Vec<String>, Tally) {
        let mut keys = Vec::new();
        let tally = self.lifecycle.plan("bucket", at, |step| keys.push(step.key.clone())).await.unwrap();
        (keys, tally)
    }
}

fn expiring(id: &str, filter: Filter, days: u32) -> Rule {
    Rule { id: id.to_owned(), enabled: true, filter, expiration: Some(Expiration::Days(days)), ..Rule::default() }
}

fn prefixed(prefix: &str) -> Filter {
    Filter { prefix: Some(prefix.to_owned()), ..Filter::default() }
}

#[tokio::test]
async fn a_bucket_without_rules_loses_nothing() {
    let bench = Bench::new().await;
    bench.put("k", "x", "").await;
    assert_eq!(bench.lifecycle.run("bucket", SystemTime::now() + DAY * 9999).await.unwrap(), Tally::default());
    assert_eq!(bench.keys().await, ["k"]);
    assert!(bench.lifecycle.run("nobody", SystemTime::now()).await.is_err());
}

#[tokio::test]
async fn tags_decide_though_listings_leave_them_out() {
    let bench = Bench::new().await;
    bench.put("tagged", "x", "keep=no&a%20b=%2B").await;
    bench.put("other", "x", "keep=yes&a%20b=%2B").await;
    bench.put("plain", "x", "").await;
    let tags = vec![("keep".to_owned(), "no".to_owned()), ("a b".to_owned(), "+".to_owned())];
    bench.configure(vec![expiring("t", Filter { tags, ..Filter::default() }, 1)]).await;
    let later = SystemTime::now() + DAY * 3;
    assert_eq!(bench.plan(later).await.0, ["tagged"]);
    let tally = bench.lifecycle.run("bucket", later).await.unwrap();
    assert_eq!((tally.expired, tally.seen, tally.left), (1, 3, 0));
    assert_eq!(bench.keys().await, ["other", "plain"]);
}

#[tokio::test]
async fn what_was_written_after_the_look_stays() {
    let bench = Bench::new().await;
    bench.put("k", "old", "").await;
    bench.configure(vec![expiring("all", Filter::default(), 1)]).await;
    let namespace = bench.namespaces.get("bucket").await.unwrap();
    let mut scan = scan::Scan::new(namespace, SystemTime::now() + DAY * 3).unwrap();
    let due = bench.lifecycle.next_page(&mut scan).await.unwrap().unwrap();
    assert_eq!(due.len(), 1);
    bench.put("k", "new", "").await;
    let mut tally = Tally::default();
    bench.lifecycle.carry_out(&scan.namespace, &due, &mut tally).await;
    assert_eq!((tally.expired, tally.left), (0, 1));
    assert_eq!(bench.keys().await, ["k"]);
}

#[tokio::test]
async fn unfinished_uploads_are_aborted() {
    let bench = Bench::new().await;
    let namespace = bench.namespaces.get("bucket").await.unwrap();
    for key in ["tmp/a", "tmp/b", "keep"] {
        bench.uploads.create(&namespace, key, NewUpload::default()).await.unwrap();
    }
    let abort = Rule {
        id: "a".to_owned(),
        enabled: true,
        filter: prefixed("tmp/"),
        abort_uploads_after_days: Some(1),
        ..Rule::default()
    };
    bench.configure(vec![abort]).await;
    assert_eq!(bench.lifecycle.run("bucket", SystemTime::now()).await.unwrap().aborted, 0);
    let tally = bench.lifecycle.run("bucket", SystemTime::now() + DAY * 3).await.unwrap();
    assert_eq!((tally.aborted, tally.seen), (2, 3));
    let left = bench.uploads.list(&namespace, "", None, &Default::default(), 10).await.unwrap();
    assert_eq!(left.uploads.iter().map(|upload| upload.key.as_str()).collect::<Vec<_>>(), ["keep"]);
}

#[tokio::test]
async fn uploads_are_looked_at_only_where_a_rule_aborts_some() {
    let bench = Bench::new().await;
    let namespace = bench.namespaces.get("bucket").await.unwrap();
    bench.uploads.create(&namespace, "tmp/a", NewUpload::default()).await.unwrap();
    bench.put("k", "x", "").await;
    let disabled = Rule { id: "off".to_owned(), abort_uploads_after_days: Some(1), ..Rule::default() };
    bench.configure(vec![expiring("e", Filter::default(), 1), disabled.clone()]).await;
    assert_eq!(bench.plan(SystemTime::now()).await.1.seen, 1);
    bench.configure(vec![expiring("e", Filter::default(), 1), Rule { enabled: true, ..disabled }]).await;
    assert_eq!(bench.plan(SystemTime::now()).await.1.seen, 2);
}

#[tokio::test]
async fn of_gateways_that_share_a_store_one_runs() {
    let bench = Bench::new().await;
    bench.put("k", "x", "").await;
    let past = Rule { expiration: Some(Expiration::Date(0)), ..expiring("past", Filter::default(), 1) };
    bench.configure(vec![past]).await;
    let gateway = |name: &str, interval_secs| {
        let settings = Settings { interval_secs, ..Settings::default() };
        let (uploads, objects) = (Arc::clone(&bench.uploads), Arc::clone(&bench.objects));
        let lease = Lease::new(Arc::clone(&bench.store), name.to_owned(), Duration::from_millis(100));
        Lifecycle::new(Arc::clone(&bench.namespaces), objects, uploads, settings).with_lease(lease)
    };
    gateway("one", 3600).run_shared().await;
    assert_eq!(bench.keys().await, Vec::<String>::new());
    bench.put("k", "x", "").await;
    gateway("two", 3600).run_shared().await;
    assert_eq!(bench.keys().await, ["k"], "it has been done within the hour");
    gateway("two", 0).run_shared().await;
    assert_eq!(bench.keys().await, Vec::<String>::new());
}

#[tokio::test]
async fn more_than_a_page_goes_in_one_run() {
    let bench = Bench::new().await;
    for number in 0..2500 {
        bench.put(&format!("{}/{number:05}", if number % 5 == 0 { "keep" } else { "logs" }), "x", "").await;
    }
    bench.configure(vec![expiring("logs", prefixed("logs/"), 1)]).await;
    let later = SystemTime::now() + DAY * 3;
    let (keys, planned) = bench.plan(later).await;
    let done = bench.lifecycle.run("bucket", later).await.unwrap();
    assert_eq!((keys.len(), planned), (2000, done));
    assert_eq!(bench.keys().await.len(), 500);
    assert_eq!(bench.plan(later).await.1.expired, 0);
}

#[tokio::test]
async fn versions_and_markers_go_when_their_time_has_come() {
    let bench = Bench::new().await;
    bench.namespaces.set_setting("bucket", crate::namespaces::Namespace::VERSIONING, Some("Enabled")).await.unwrap();
    for body in ["1", "2", "3"] {
        bench.put("k", body, "").await;
    }
    bench.put("gone", "x", "").await;
    let namespace = bench.namespaces.get("bucket").await.unwrap();
    let removal = Removal { key: Key::new("gone").unwrap(), version: None, when: DeleteWhen::Always };
    assert!(bench.objects.remove(&namespace, vec![removal], false).await.pop().unwrap().unwrap().marker);
    let noncurrent = Some(NoncurrentExpiration { days: 1, keep_newest: Some(1) });
    let rule = |id: &str| Rule { id: id.to_owned(), enabled: true, ..Rule::default() };
    let markers = Rule { expiration: Some(Expiration::DeleteMarkers), ..rule("markers") };
    bench.configure(vec![Rule { noncurrent, ..rule("old") }, markers.clone()]).await;
    assert_eq!(bench.plan(SystemTime::now()).await.0, Vec::<String>::new());
    let later = SystemTime::now() + DAY * 3;
    // Of k the oldest goes, and the newest noncurrent one stays; of `gone` the only noncurrent one stays, and its marker with it.
    let planned = bench.plan(later).await;
    assert_eq!((planned.0, planned.1.versions, planned.1.markers), (vec!["k".to_owned()], 1, 0));
    assert_eq!(bench.lifecycle.run("bucket", later).await.unwrap(), planned.1);
    bench
        .configure(vec![Rule { noncurrent: Some(NoncurrentExpiration { days: 1, keep_newest: None }), ..rule("old") }, markers])
        .await;
    let tally = bench.lifecycle.run("bucket", later).await.unwrap();
    assert_eq!((tally.versions, tally.markers, tally.expired), (2, 0, 0));
    // Now nothing is left beneath the marker.
    let tally = bench.lifecycle.run("bucket", later).await.unwrap();
    assert_eq!((tally.versions, tally.markers, tally.expired), (0, 1, 0));
    assert_eq!(bench.keys().await, ["k"]);
    // A current version that expires leaves a marker and stays as a noncurrent one.
    bench.configure(vec![expiring("all", Filter::default(), 1)]).await;
    assert_eq!(bench.lifecycle.run("bucket", later).await.unwrap().expired, 1);
    assert_eq!(bench.keys().await, Vec::<String>::new());
    let query = ListQuery { limit: 10, ..ListQuery::default() };
    assert_eq!(bench.objects.list_versions(&namespace, &query).await.unwrap().entries.len(), 2);
}

fn moving(id: &str, filter: Filter, days: u32, class: &str) -> Rule {
    let transitions = vec![Move { at: MoveAt::Days(days), class: class.to_owned() }];
    Rule { id: id.to_owned(), enabled: true, filter, transitions, ..Rule::default() }
}

async fn keep_class(bench: &Bench, class: &str) {
    let prefix = format!("storage-class:{class}");
    let settings = BTreeMap::new();
    let record = MountRecord { bucket: "bucket".into(), prefix, provider: "memory".into(), settings };
    bench.namespaces.mount(record).await.unwrap();
}

async fn read(bench: &Bench, key: &str, version: Option<sluice_provider::VersionId>) -> (Option<String>, Bytes) {
    let namespace = bench.namespaces.get("bucket").await.unwrap();
    let opened = bench.objects.get(&namespace, key, &ReadRequest { version, ..ReadRequest::default() }).await.unwrap();
    let OpenBody::Full(bytes) = opened.body else { unreachable!("a small object") };
    (opened.found.info.attributes.get(attribute::STORAGE_CLASS).map(str::to_owned), bytes)
}

fn any_size() -> Filter {
    Filter { larger_than: Some(0), ..Filter::default() }
}

#[tokio::test]
async fn objects_move_to_the_mount_of_their_class_as_the_plan_said() {
    let bench = Bench::new().await;
    for number in 0..30 {
        bench.put(&format!("{}/{number:02}", if number % 3 == 0 { "keep" } else { "cold" }), "content", "").await;
    }
    bench.put("cold/empty", "", "").await;
    let filter = Filter { prefix: Some("cold/".to_owned()), ..any_size() };
    bench.configure(vec![moving("m", filter.clone(), 1, "GLACIER_IR"), moving("x", filter, 1, "DEEP_ARCHIVE")]).await;
    let later = SystemTime::now() + DAY * 3;
    assert_eq!(bench.plan(later).await.1.moved, 0, "no mount keeps the class");
    keep_class(&bench, "GLACIER_IR").await;
    let (keys, planned) = bench.plan(later).await;
    assert_eq!((keys.len(), planned.moved, planned.moved_bytes), (20, 20, 140));
    assert_eq!(bench.lifecycle.run("bucket", later).await.unwrap(), planned);
    for (key, class) in [("cold/01", Some("GLACIER_IR")), ("keep/00", None)] {
        assert_eq!(read(&bench, key, None).await, (class.map(str::to_owned), Bytes::from("content")));
    }
    assert_eq!((bench.plan(later).await.1.moved, bench.keys().await.len()), (0, 31));
    // On to a cheaper class as soon as a mount keeps it, and gone when they expire.
    keep_class(&bench, "DEEP_ARCHIVE").await;
    assert_eq!(bench.lifecycle.run("bucket", later).await.unwrap().moved, 20);
    assert_eq!(read(&bench, "cold/29", None).await.0.as_deref(), Some("DEEP_ARCHIVE"));
    let unmount = async |prefix: &str| bench.namespaces.unmount("bucket", prefix).await;
    assert!(matches!(unmount("storage-class:DEEP_ARCHIVE").await.unwrap_err().kind(), ErrorKind::DeleteConflict));
    assert!(matches!(unmount("").await.unwrap_err().kind(), ErrorKind::DeleteConflict), "their keys would be gone");
    unmount("storage-class:GLACIER_IR").await.unwrap();
    bench.configure(vec![expiring("e", prefixed("cold/"), 1)]).await;
    assert_eq!(bench.lifecycle.run("bucket", later).await.unwrap().expired, 21);
    unmount("storage-class:DEEP_ARCHIVE").await.unwrap();
}

#[tokio::test]
async fn what_is_replaced_before_its_turn_does_not_move() {
    let bench = Bench::new().await;
    keep_class(&bench, "GLACIER").await;
    bench.put("k", "old", "").await;
    bench.put("gone", "old", "").await;
    bench.configure(vec![moving("m", any_size(), 1, "GLACIER")]).await;
    let namespace = bench.namespaces.get("bucket").await.unwrap();
    let mut scan = scan::Scan::new(namespace, SystemTime::now() + DAY * 3).unwrap();
    let due = bench.lifecycle.next_page(&mut scan).await.unwrap().unwrap();
    bench.put("k", "new", "").await;
    let removal = Removal { key: Key::new("gone").unwrap(), version: None, when: DeleteWhen::Always };
    bench.objects.remove(&scan.namespace, vec![removal], false).await.pop().unwrap().unwrap();
    let mut tally = Tally::default();
    bench.lifecycle.carry_out(&scan.namespace, &due, &mut tally).await;
    assert_eq!((due.len(), tally.moved, tally.left), (2, 0, 1));
    assert_eq!(read(&bench, "k", None).await, (None, Bytes::from("new")));
    bench.namespaces.unmount("bucket", "storage-class:GLACIER").await.expect("nothing was left there");
}

#[tokio::test]
async fn what_is_locked_moves_and_is_kept() {
    let bench = Bench::new().await;
    let lock = crate::namespaces::Namespace::OBJECT_LOCK;
    bench.namespaces.set_setting("bucket", crate::namespaces::Namespace::VERSIONING, Some("Enabled")).await.unwrap();
    bench.namespaces.set_setting("bucket", lock, Some("{}")).await.unwrap();
    keep_class(&bench, "GLACIER").await;
    let namespace = bench.namespaces.get("bucket").await.unwrap();
    bench.put("k", "held", "").await;
    let hold = AttributeChange { if_match: None, set: vec![(attribute::LOCK_HOLD.to_owned(), Some("ON".to_owned()))] };
    let held = bench.objects.change(&namespace, "k", None, &hold, &sluice_provider::Guard::none()).await.unwrap();
    let version = sluice_provider::version_of(&held.attributes);
    bench.put("k", "newer", "").await;
    let to = NoncurrentMove { days: 0, keep_newest: None, class: "GLACIER".to_owned() };
    let rule = Rule { noncurrent_transitions: vec![to], ..moving("m", any_size(), 1, "GLACIER") };
    bench.configure(vec![rule]).await;
    let later = SystemTime::now() + DAY * 3;
    assert_eq!(bench.lifecycle.run("bucket", later).await.unwrap().moved, 2);
    assert_eq!(read(&bench, "k", Some(version)).await, (Some("GLACIER".to_owned()), Bytes::from("held")));
    // No way leads to the end of it: not its removal, not a rule, not unmounting its key or its bytes.
    let removal = Removal { key: Key::new("k").unwrap(), version: Some(version), when: DeleteWhen::Always };
    let refused = bench.objects.remove(&namespace, vec![removal], true).await.pop().unwrap().unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::ObjectLocked));
    let noncurrent = Some(NoncurrentExpiration { days: 1, keep_newest: None });
    bench.configure(vec![Rule { noncurrent, ..expiring("e", Filter::default(), 1) }]).await;
    assert_eq!(bench.lifecycle.run("bucket", later).await.unwrap().left, 1);
    for prefix in ["", "storage-class:GLACIER"] {
        let refused = bench.namespaces.unmount("bucket", prefix).await.unwrap_err();
        assert!(matches!(refused.kind(), ErrorKind::ObjectLocked | ErrorKind::DeleteConflict), "{refused}");
    }
    // Nor is it hidden behind another mount; where nothing lies there may be one.
    let over = |prefix: &str| MountRecord {
        bucket: "bucket".into(),
        prefix: prefix.into(),
        provider: "memory".into(),
        settings: BTreeMap::new(),
    };
    let refused = bench.namespaces.mount(over("k")).await.unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::ObjectLocked), "{refused}");
    bench.namespaces.mount(over("elsewhere/")).await.unwrap();
    bench.lifecycle.run("bucket", later + DAY * 9).await.unwrap();
    assert_eq!(read(&bench, "k", Some(version)).await.1, "held");
}

/// A rule without its name: prefix, bounds of the size, days, and whether it is in force.
type Drawn = (Option<&'static str>, (Option<u64>, Option<u64>), u32, bool);

fn drawn((at, (prefix, (larger_than, smaller_than), days, enabled)): (usize, Drawn)) -> Rule {
    let filter = Filter { prefix: prefix.map(str::to_owned), larger_than, smaller_than, ..Filter::default() };
    Rule { enabled, ..expiring(&format!("r{at}"), filter, days) }
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let prefix = prop::option::of(prop::sample::select(vec!["", "a", "a/", "b"]));
    let sizes = (prop::option::of(0u64..4), prop::option::of(0u64..4));
    let rule = (prefix, sizes, 1u32..4, any::<bool>());
    prop::collection::vec(rule, 0..4).prop_map(|rules| rules.into_iter().enumerate().map(drawn).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// A run removes what its plan named, which is what the rules say of each object by itself.
    #[test]
    fn a_run_does_what_its_plan_said(
        rules in rules(),
        objects in prop::collection::btree_map("(a|b|a/|b/)[xy]{1,3}", "[z]{0,4}", 0..20),
        days in 0u32..5,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::new().await;
            for (key, body) in &objects {
                bench.put(key, body, "").await;
            }
            bench.configure(rules.clone()).await;
            let now = SystemTime::now() + DAY * days;
            let configuration = Configuration { rules };
            let due = |key: &str, body: &str| {
                let modified = SystemTime::now();
                let subject = Subject { key, size: body.len() as u64, modified, tags: Some(&[]) };
                configuration.expiry(&subject).is_some_and(|(at, _)| at <= now)
            };
            let (gone, kept): (Vec<_>, Vec<_>) = objects.iter().partition(|(key, body)| due(key, body));
            let names = |pairs: Vec<(&String, &String)>| pairs.into_iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
            let (planned, tally) = bench.plan(now).await;
            assert_eq!(planned, names(gone));
            assert_eq!(bench.lifecycle.run("bucket", now).await.unwrap(), tally);
            assert_eq!(bench.keys().await, names(kept));
        });
    }
}
