//! Versions of a remote: the promises of the contract that a mount can keep, through a second gateway whose buckets lie in memory, and
//! what it refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod remote;
mod server;

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use remote::{Remote, shared};
use server::{DATE, Server, answer, bucket_and, fault};
use sluice_provider::conformance::{Subject, versions as promises};
use sluice_provider::{
    AttributeChange, CopyOptions, DeleteKey, DeleteWhen, ETag, ErrorKind, Guard, Key, ListEntry, ListQuery, Multipart,
    PartNumber, Provider, PutBody, PutOptions, ReadOptions, Seal, UploadId, VersionId, Versioning, Versions, is_marker,
    version_of,
};
use sluice_provider_s3::{Answers, S3, Settings};

static REMOTE: Mutex<Weak<Remote>> = Mutex::new(Weak::new());

async fn fresh() -> Subject {
    let remote = shared(&REMOTE, "memory");
    let mut settings = remote.settings_with_versions();
    settings.native_part_bytes = u64::MAX;
    let (one, two) = (S3::open(settings.clone()).await.unwrap(), S3::open(settings).await.unwrap());
    Subject::new(one).with_peer(two).with_hard_keys([".sluice-s3", ".sluice-s30", ".sluice-", "sluice-s3/"]).keeping(remote)
}

macro_rules! kept {
    ($($promise:ident),* $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $promise() {
            promises::$promise(&fresh().await).await;
        }
    )*};
}

// All but those that need the null version of a suspended bucket, plain writes beside versions, or a version without its bytes.
kept!(
    what_is_replaced_is_kept,
    a_marker_hides_the_key,
    versions_of_hard_keys,
    pages_of_versions,
    racing_writers_lose_nothing,
    racing_removals_take_only_theirs,
    conditions_look_at_the_current_one,
    a_guard_has_the_last_word,
    attributes_of_versions,
    uploads_become_versions,
);

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

fn body(text: &str) -> PutBody {
    let seal = Seal { etag: ETag::new(text).unwrap(), attributes: sluice_provider::Attributes::new() };
    PutBody::from_bytes(Bytes::copy_from_slice(text.as_bytes()), seal)
}

async fn put(mount: &S3, name: &str, text: &str) -> VersionId {
    let info = mount.put_version(&key(name), body(text), &PutOptions::default(), Versioning::Enabled).await.unwrap();
    version_of(&info.attributes)
}

/// The names and versions of a listing, markers with a cross.
async fn listed(mount: &S3, limit: usize) -> Vec<String> {
    let page = mount.list_versions(&ListQuery { limit, ..ListQuery::default() }).await.unwrap();
    let told = |entry| match entry {
        ListEntry::Object(info) if is_marker(&info) => format!("{}@{}†", info.key, version_of(&info.attributes)),
        ListEntry::Object(info) => format!("{}@{}", info.key, version_of(&info.attributes)),
        ListEntry::Prefix(prefix) => prefix,
    };
    page.entries.into_iter().map(told).collect()
}

async fn open() -> (S3, Settings, Arc<Remote>) {
    let remote = shared(&REMOTE, "memory");
    let mut settings = remote.settings_with_versions();
    settings.answers = Answers::Quick;
    (S3::open(settings.clone()).await.unwrap(), settings, remote)
}

/// What the remote has of the mount's own, all versions and markers of it.
fn hidden(remote: &Remote, settings: &Settings, what: &str) -> usize {
    let prefix = format!(".sluice-s3/{what}");
    let listed = remote.send("GET", &settings.bucket, &[("prefix", &prefix), ("versions", "")], "");
    listed.matches("<Key>").count()
}

fn without<T>(outcome: sluice_provider::Result<T>) -> ErrorKind {
    *outcome.err().expect("a refusal").kind()
}

/// A bucket without versioning, or where it is suspended, is not mounted so; and one where it ends does not stay quiet.
#[tokio::test(flavor = "multi_thread")]
async fn the_remote_must_have_versions() {
    let remote = shared(&REMOTE, "memory");
    let mut settings = remote.settings();
    assert!(S3::open(settings.clone()).await.unwrap().versions().is_none(), "nobody asked for it");
    settings.versions = true;
    let refusal = S3::open(settings.clone()).await.unwrap_err();
    assert_eq!(*refusal.kind(), ErrorKind::Unavailable);
    assert!(refusal.to_string().contains("not Enabled"), "{refusal}");
    remote.set_versioning(&settings.bucket, "Enabled");
    let mount = S3::open(settings.clone()).await.unwrap();
    mount.check().await.unwrap();
    remote.set_versioning(&settings.bucket, "Suspended");
    assert!(mount.check().await.unwrap_err().to_string().contains("not Enabled"));
    assert!(S3::open(settings).await.is_err());
    let put = mount.put_version(&key("k"), body("a"), &PutOptions::default(), Versioning::Enabled).await.unwrap_err();
    assert!(put.to_string().contains("made no version"), "{put}");
    let marked = mount.mark_deleted(&key("k"), &DeleteWhen::Always, Versioning::Enabled).await.unwrap_err();
    assert!(marked.to_string().contains("made no marker"), "{marked}");
}

/// What S3 has no one call for.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_refused() {
    let (mount, _, _remote) = open().await;
    let features = mount.version_features();
    assert!(!features.suspends && !features.locks && !features.own_names);
    let (put_options, copy) = (PutOptions::default(), CopyOptions::default());
    let id = put(&mount, "k", "a").await;
    let suspended = Versioning::Suspended;
    assert_eq!(without(mount.put_version(&key("k"), body("b"), &put_options, suspended).await), ErrorKind::Unsupported);
    assert_eq!(without(mount.copy_version((&key("k"), None), &key("c"), &copy, suspended).await), ErrorKind::Unsupported);
    assert_eq!(without(mount.mark_deleted(&key("k"), &DeleteWhen::Always, suspended).await), ErrorKind::Unsupported);
    let change = AttributeChange { if_match: None, set: Vec::new() };
    let hollow = mount.hollow_version(&key("k"), &id, &change, &Guard::none()).await;
    assert_eq!(without(hollow), ErrorKind::Unsupported);
    assert_eq!(listed(&mount, 10).await, [format!("k@{id}")]);
}

/// What was there before, and what others write there, are versions too; they have no record whose attributes could be changed.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_wrote_is_there() {
    let remote = shared(&REMOTE, "memory");
    let mut settings = remote.settings();
    S3::open(settings.clone()).await.unwrap().put(&key("k"), body("before"), &PutOptions::default()).await.unwrap();
    remote.set_versioning(&settings.bucket, "Enabled");
    settings.versions = true;
    let mount = S3::open(settings).await.unwrap();
    let info = mount.head(&key("k"), &ReadOptions::default()).await.unwrap();
    assert_eq!(version_of(&info.attributes), VersionId::Null);
    let new = put(&mount, "k", "after").await;
    assert_eq!(listed(&mount, 10).await, [format!("k@{new}"), "k@null".into()]);
    let null = mount.get_version(&key("k"), &VersionId::Null, &ReadOptions::default()).await.unwrap();
    assert_eq!((null.info.size, null.info.etag.as_str()), (6, "before"));
    let change = AttributeChange { if_match: None, set: vec![("a".into(), Some("b".into()))] };
    let changed = mount.change_version(&key("k"), Some(&VersionId::Null), &change, &Guard::none()).await;
    assert_eq!(without(changed), ErrorKind::Unsupported);
    assert_eq!(listed(&mount, 10).await.len(), 2, "a change is no version");
    mount.change_version(&key("k"), None, &change, &Guard::none()).await.unwrap();
    assert_eq!(listed(&mount, 10).await.len(), 2, "a change is no version");
    let removed = mount.remove_version(&key("k"), &VersionId::Null, &DeleteWhen::Always, &Guard::none()).await.unwrap();
    assert_eq!(removed.unwrap().size, 6);
    assert_eq!(listed(&mount, 10).await, [format!("k@{new}")]);
}

/// A copy of an older version makes the newest one, and takes the place of a marker.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_version_comes_back() {
    let (mount, _, _remote) = open().await;
    let first = put(&mount, "k", "one").await;
    let second = put(&mount, "k", "two").await;
    let marker = mount.mark_deleted(&key("k"), &DeleteWhen::Always, Versioning::Enabled).await.unwrap();
    let marker = version_of(&marker.attributes);
    let copy = CopyOptions::default();
    let refused = mount.copy_version((&key("k"), Some(&marker)), &key("k"), &copy, Versioning::Enabled).await;
    assert_eq!(without(refused), ErrorKind::NotFound);
    let third = mount.copy_version((&key("k"), Some(&first)), &key("k"), &copy, Versioning::Enabled).await.unwrap();
    let third = version_of(&third.attributes);
    let due = [format!("k@{third}"), format!("k@{marker}†"), format!("k@{second}"), format!("k@{first}")];
    assert_eq!(listed(&mount, 10).await, due);
    let info = mount.head(&key("k"), &ReadOptions::default()).await.unwrap();
    assert_eq!((info.etag.as_str(), version_of(&info.attributes)), ("one", third));
}

/// In a bucket of the gateway without versioning, the remote makes versions all the same, and nothing of them is lost or told.
#[tokio::test(flavor = "multi_thread")]
async fn without_versioning_the_remote_makes_them_all_the_same() {
    let (mount, _, _remote) = open().await;
    let written = mount.put(&key("k"), body("one"), &PutOptions::default()).await.unwrap();
    assert_eq!(version_of(&written.attributes), VersionId::Null);
    mount.put(&key("k"), body("two"), &PutOptions::default()).await.unwrap();
    mount.delete(&[DeleteKey { key: key("k"), when: DeleteWhen::Always }]).await.pop().unwrap().unwrap();
    assert_eq!(without(mount.head(&key("k"), &ReadOptions::default()).await), ErrorKind::NotFound);
    let page = mount.list_versions(&ListQuery { limit: 10, ..ListQuery::default() }).await.unwrap();
    assert_eq!(page.entries.len(), 3);
    for entry in page.entries {
        let ListEntry::Object(info) = entry else { panic!("a prefix") };
        let found = mount.head_version(&info.key, Some(&version_of(&info.attributes)), &ReadOptions::default()).await;
        assert_eq!(is_marker(&found.unwrap()), is_marker(&info), "its record is still there");
    }
}

/// The mount's own things leave no versions behind, and a record stays as long as a version names it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_hidden_does_not_pile_up() {
    let (mount, settings, remote) = open().await;
    assert_eq!(hidden(&remote, &settings, ""), 0, "the probe of the mount");
    let (upload, part) = (UploadId::new("u").unwrap(), PartNumber::new(1).unwrap());
    mount.create(&key("k"), &upload).await.unwrap();
    let dropped = mount.put_part(&key("k"), &upload, part, body("old")).await.unwrap();
    let token = mount.put_part(&key("k"), &upload, part, body("part")).await.unwrap();
    mount.discard_part(&key("k"), &upload, &dropped).await.unwrap();
    let (etag, options) = (ETag::new("parts").unwrap(), PutOptions::default());
    let parts = [(token, 4)];
    let old = mount.complete_version(&key("k"), &upload, &parts, &etag, &options, Versioning::Enabled).await.unwrap();
    assert_eq!((hidden(&remote, &settings, "u/"), hidden(&remote, &settings, "p/")), (0, 0));
    let new = put(&mount, "k", "new").await;
    mount.mark_deleted(&key("k"), &DeleteWhen::Always, Versioning::Enabled).await.unwrap();
    mount.sweep_records(Duration::ZERO).await.unwrap();
    assert_eq!(hidden(&remote, &settings, "r/"), 2);
    let old = version_of(&old.attributes);
    for (id, tag) in [(&old, "parts"), (&new, "new")] {
        assert_eq!(mount.head_version(&key("k"), Some(id), &ReadOptions::default()).await.unwrap().etag.as_str(), tag);
    }
    mount.remove_version(&key("k"), &old, &DeleteWhen::Always, &Guard::none()).await.unwrap().unwrap();
    // A sweep goes on where the last one ended, and then begins anew.
    for _ in 0..2 {
        mount.sweep_records(Duration::ZERO).await.unwrap();
    }
    assert_eq!(hidden(&remote, &settings, "r/"), 1);
    assert_eq!(listed(&mount, 1).await.len(), 1);
    assert_eq!(listed(&mount, 10).await.len(), 2, "what is hidden is not listed");
}

/// Names that are not like the gateway's own are passed on as they are, and markers are told from the headers of a refusal.
#[tokio::test]
async fn names_of_the_remote_stay_as_they_are() {
    const NAME: &str = "8f3a9c1e-0b7d-4c52+9d6e/1a2b3c4d5e6f";
    const ESCAPED: &str = "versionId=8f3a9c1e-0b7d-4c52%2B9d6e%2F1a2b3c4d5e6f";
    let version = |name: &str| format!("x-amz-version-id: {name}\r\netag: \"tag\"\r\nlast-modified: {DATE}\r\n");
    let server = Server::start(bucket_and(move |head, _| {
        let line = head.lines().next().unwrap_or_default();
        match line {
            _ if line.contains("versioning=") => {
                answer("200 OK", "", "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>")
            }
            _ if line.starts_with("HEAD") && line.contains(ESCAPED) => {
                answer("200 OK", &format!("{}content-length: 3\r\n", version(NAME)), "")
            }
            _ if line.starts_with("HEAD") && line.contains("versionId=marker") => {
                answer("405 Method Not Allowed", &format!("x-amz-delete-marker: true\r\n{}", version("marker")), "")
            }
            _ if line.starts_with("HEAD") && line.contains("versionId=nonsense") => answer("400 Bad Request", "", ""),
            _ if line.starts_with("GET") && line.contains(ESCAPED) => answer("200 OK", &version(NAME), "abc"),
            _ if line.starts_with("GET") => fault("405 Method Not Allowed", "MethodNotAllowed"),
            _ if line.starts_with("DELETE") => answer("204 No Content", &version(NAME), ""),
            _ => fault("500 Internal Server Error", "InternalError"),
        }
    }))
    .await;
    let dir = tempfile::tempdir().unwrap();
    let mut settings = server.settings(&dir);
    settings.versions = true;
    let mount = S3::open(settings).await.unwrap();
    let (id, read) = (VersionId::parse(NAME).unwrap(), ReadOptions::default());
    assert_eq!(version_of(&mount.head_version(&key("k"), Some(&id), &read).await.unwrap().attributes), id);
    let object = mount.get_version(&key("k"), &id, &read).await.unwrap();
    assert_eq!((object.info.size, version_of(&object.info.attributes)), (3, id));
    let marker = VersionId::parse("marker").unwrap();
    let told = mount.head_version(&key("k"), Some(&marker), &read).await.unwrap();
    assert!(is_marker(&told) && version_of(&told.attributes) == marker);
    assert_eq!(httpdate::fmt_http_date(told.modified), DATE);
    let nonsense = VersionId::parse("nonsense").unwrap();
    assert_eq!(without(mount.head_version(&key("k"), Some(&nonsense), &read).await), ErrorKind::NotFound);
    assert!(mount.remove_version(&key("k"), &nonsense, &DeleteWhen::Always, &Guard::none()).await.unwrap().is_none());
    assert!(server.asked("DELETE").is_empty(), "what is not there is not deleted");
    mount.remove_version(&key("k"), &id, &DeleteWhen::Always, &Guard::none()).await.unwrap().unwrap();
    assert_eq!(server.asked("DELETE /b/k?versionId=8f3a9c1e").len(), 1);
    // A delete that removed the object, because the remote has no versions any more, is no marker.
    let marked = mount.mark_deleted(&key("k"), &DeleteWhen::Always, Versioning::Enabled).await;
    assert_eq!(without(marked), ErrorKind::Unavailable);
}
