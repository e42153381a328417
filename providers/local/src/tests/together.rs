//! What is made together with others, and what others have no part in.
use super::*;

use std::fs::{self, File};

use rustix::fs::{FlockOperation, flock};
use sluice_provider::Result as ProviderResult;

use crate::lock::fnv1a;
use crate::small::Putting;
use crate::together::{Answer, Asked};

fn small(name: &str, content: &str, when: PutWhen) -> Putting {
    with_body(name, content, when, body(content.as_bytes()))
}

fn with_body(name: &str, content: &str, when: PutWhen, body: PutBody) -> Putting {
    let attributes = [("content-type", name)].into_iter().collect();
    let chunks = vec![Bytes::copy_from_slice(content.as_bytes())];
    Putting::new(key(name), (chunks, content.len()), body.seal().unwrap().etag, attributes, when, body)
}

impl Mount {
    /// Has one thread make everything that was joined, as one batch.
    fn make(&self) -> tokio::task::JoinHandle<()> {
        let store = std::sync::Arc::clone(&self.local.0);
        tokio::task::spawn_blocking(move || store.puts.serve(|batch| store.put_all(batch)))
    }

    fn join(&self, putting: Putting) -> Answer<ProviderResult<sluice_provider::ObjectInfo>> {
        let (asked, answer) = Asked::new(putting);
        self.local.0.puts.join(asked);
        answer
    }
}

#[tokio::test]
async fn puts_of_one_batch_are_each_what_they_would_be_alone() {
    let mount = mount();
    mount.put("dir/old", "old").await;
    mount.put("dir/taken", "taken").await;
    mount.put("dir/object", "steps aside").await;
    fs::create_dir(mount.path("dir/directory")).unwrap();
    fs::write(mount.path("dir/directory/foreign"), "kept").unwrap();
    let given_up = mount.join(small("dir/given up", "x", PutWhen::Always));
    drop(given_up);
    let stored = ["dir/old", "dir/new", "top", "made/for/it", "dir/object/inside", "dir/directory", "dir/ü", "dir//twice"];
    let answers: Vec<_> = stored.iter().map(|name| mount.join(small(name, &format!("is {name}"), PutWhen::Always))).collect();
    let absent = mount.join(small("dir/absent", "first", PutWhen::IfAbsent));
    let refused = mount.join(small("dir/taken", "second", PutWhen::IfAbsent));
    let again = mount.join(small("dir/absent", "second", PutWhen::IfAbsent));
    mount.make().await.unwrap();
    for (name, answer) in stored.iter().zip(answers) {
        let info = answer.wait().await.unwrap().unwrap();
        assert_eq!((info.key.as_str(), info.size), (*name, name.len() as u64 + 3));
        assert_eq!(mount.get(name).await.unwrap(), format!("is {name}"));
        assert_eq!(mount.attributes(name).await.get("content-type"), Some(*name));
        let now = mount.local.head(&key(name), &ReadOptions::default()).await.unwrap();
        assert_eq!((now.modified, now.size), (info.modified, info.size), "{name}");
    }
    absent.wait().await.unwrap().unwrap();
    for refused in [refused, again] {
        assert_eq!(*refused.wait().await.unwrap().unwrap_err().kind(), ErrorKind::PreconditionFailed);
    }
    assert_eq!(mount.get("dir/absent").await.unwrap(), "first");
    assert_eq!(mount.get("dir/taken").await.unwrap(), "taken");
    assert_eq!(mount.get("dir/object").await.unwrap(), "steps aside");
    assert_eq!(mount.get("dir/given up").await.unwrap_err(), ErrorKind::NotFound);
    mount.emptied("staging").await;
}

#[tokio::test]
async fn a_key_that_another_process_holds_keeps_nobody_else_waiting() {
    let mount = mount();
    mount.put("held", "old").await;
    let shard = |name: &str| fnv1a(name.as_bytes()) % 64;
    let free = (0..).map(|number| format!("free{number}")).find(|name| shard(name) != shard("held")).unwrap();
    let lock = File::open(mount.path(&format!(".sluice/locks/{:02x}", shard("held")))).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let held = mount.join(small("held", "new", PutWhen::Always));
    let other = mount.join(small(&free, "x", PutWhen::Always));
    let making = mount.make();
    tokio::time::timeout(Duration::from_secs(5), other.wait()).await.unwrap().unwrap().unwrap();
    making.await.unwrap();
    assert_eq!(mount.get("held").await.unwrap(), "old");
    flock(&lock, FlockOperation::Unlock).unwrap();
    held.wait().await.unwrap().unwrap();
    assert_eq!(mount.get("held").await.unwrap(), "new");
    mount.emptied("staging").await;
}

#[tokio::test]
async fn the_body_is_kept_until_the_put_has_ended_and_no_longer() {
    struct Right(std::sync::Arc<std::sync::atomic::AtomicBool>);
    impl Drop for Right {
        fn drop(&mut self) {
            self.0.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    }
    let mount = mount();
    let given_back = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let right = Right(std::sync::Arc::clone(&given_back));
    let seal = std::sync::Arc::new(std::sync::OnceLock::from(body(b"x").seal().unwrap()));
    let stream = futures::stream::once(async { Ok(Bytes::from_static(b"x")) });
    let stream = futures::StreamExt::boxed(futures::StreamExt::map(stream, move |chunk| {
        let _ = &right;
        chunk
    }));
    let answer = mount.join(with_body("k", "x", PutWhen::Always, PutBody::new(stream, Some(1), seal)));
    assert!(!given_back.load(std::sync::atomic::Ordering::SeqCst));
    mount.make().await.unwrap();
    answer.wait().await.unwrap().unwrap();
    assert!(given_back.load(std::sync::atomic::Ordering::SeqCst), "before its caller was told");
}

#[tokio::test]
async fn keys_of_one_batch_are_each_deleted_as_they_would_be_alone() {
    for durability in [Durability::Os, Durability::Fsync] {
        for record in [false, true] {
            let mount = mount_with(|settings| settings.durability = durability);
            mount.put("a/plain", "12").await;
            mount.put("a/b/deep", "123").await;
            // An older state lies at the side of what another program made.
            mount.put("a/aside", "older").await;
            mount.put("a/aside/inside", "1").await;
            mount.delete("a/aside/inside").await.unwrap();
            fs::write(mount.path("a/aside"), "newer!").unwrap();
            // At the side only.
            mount.put("a/beside", "1234").await;
            mount.put("a/beside/inside", "1").await;
            if record {
                mount.put_with("a/large", "1", &[("content-type", &"x".repeat(3000))]).await;
            }
            fs::create_dir(mount.path("a/kept")).unwrap();
            std::os::unix::fs::symlink("plain", mount.path("a/link")).unwrap();
            let long = "l".repeat(255);
            mount.put(&format!("a/{long}"), "long").await;
            let names = [
                "a/plain",
                "a/plain",
                "a/b/deep",
                "a/aside",
                "a/beside",
                "a/none",
                "a/b/none",
                "a/kept",
                "a/link",
                &format!("a/{long}"),
            ];
            let keys: Vec<_> = names.iter().map(|name| key(name).into()).collect();
            let outcomes: Vec<_> = mount.local.delete(&keys).await.into_iter().map(Result::unwrap).collect();
            let deleted = |size| DeleteOutcome::Deleted { size };
            let absent = DeleteOutcome::Absent;
            assert_eq!(
                outcomes,
                [deleted(2), absent, deleted(3), deleted(6), deleted(4), absent, absent, absent, absent, deleted(4)]
            );
            for name in names {
                assert_eq!(mount.get(name).await.unwrap_err(), ErrorKind::NotFound, "{name}");
            }
            assert!(!mount.path("a/b").exists() && mount.path("a/kept").is_dir() && mount.path("a/link").is_symlink());
            assert_eq!(mount.get("a/beside/inside").await.unwrap(), "1");
            fs::remove_file(mount.path("a/link")).unwrap();
            fs::remove_dir(mount.path("a/kept")).unwrap();
            let last: Vec<_> = ["a/beside/inside", "a/large"].iter().map(|name| key(name).into()).collect();
            assert!(mount.local.delete(&last).await.iter().all(Result::is_ok));
            assert!(!mount.path("a").exists());
            assert!(mount.hidden("records").is_empty());
        }
    }
}

#[tokio::test]
async fn those_who_gave_up_are_not_served() {
    let mount = mount();
    let store = &mount.local.0;
    drop(mount.join(small("k", "x", PutWhen::Always)));
    store.puts.serve(|batch: Vec<Asked<Putting, _>>| assert!(batch.is_empty()));
    assert_eq!(mount.get("k").await.unwrap_err(), ErrorKind::NotFound);
}
