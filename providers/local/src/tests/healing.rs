//! What is left when somebody stops half way.

use super::*;
use futures::StreamExt;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};

/// A body that yields some bytes and then never ends.
fn endless(bytes: usize) -> PutBody {
    let head = futures::stream::iter([Ok(Bytes::from(vec![1; bytes]))]);
    PutBody::new(head.chain(futures::stream::pending()).boxed(), None, Arc::new(OnceLock::new()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_put_removes_what_it_staged() {
    let mount = mount();
    for bytes in [10, 3 << 20] {
        let (local, body) = (mount.local.clone(), endless(bytes));
        let put = tokio::spawn(async move { local.put(&key("a/f"), body, &PutOptions::default()).await.map(drop) });
        if bytes > 10 {
            while mount.hidden("staging").is_empty() {
                tokio::task::yield_now().await;
            }
        }
        put.abort();
        assert!(put.await.unwrap_err().is_cancelled());
        mount.emptied("staging").await;
        assert_eq!(mount.names("", None).await, [""; 0]);
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_leaves_the_old_object() {
    let mount = mount();
    mount.put("f", "old").await;
    for bytes in [10, 3 << 20] {
        let fault = Err(Error::new(ErrorKind::Body(sluice_provider::BodyFault::Incomplete), "test"));
        let chunks = futures::stream::iter([Ok(Bytes::from(vec![1; bytes])), fault]).boxed();
        let body = PutBody::new(chunks, None, Arc::new(OnceLock::new()));
        let refused = mount.local.put(&key("f"), body, &PutOptions::default()).await.unwrap_err();
        assert!(matches!(refused.kind(), ErrorKind::Body(_)));
        mount.emptied("staging").await;
        assert_eq!(mount.get("f").await.unwrap(), "old");
    }
}

const ROOT: &str = "SLUICE_TEST_ROOT_OF_A_PROCESS_TO_KILL";

/// Not a test of its own: the process that `a_killed_writer_leaves_the_old_object_and_nothing_else` kills.
#[tokio::test]
async fn writes_until_it_is_killed() {
    let Some(root) = std::env::var_os(ROOT) else { return };
    let local = Local::open(settings(Path::new(&root))).unwrap();
    let put = tokio::spawn({
        let local = local.clone();
        async move { local.put(&key("f"), endless(3 << 20), &PutOptions::default()).await.map(drop) }
    });
    let staging = Path::new(&root).join(".sluice/staging");
    let staged = || {
        let mut found = Vec::new();
        files(&staging, &mut found);
        found.iter().any(|path| fs::metadata(path).is_ok_and(|file| file.len() >= 1 << 20))
    };
    while !staged() {
        tokio::task::yield_now().await;
    }
    eprintln!("staged");
    put.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_killed_writer_leaves_the_old_object_and_nothing_else() {
    let mount = mount();
    mount.put("f", "old").await;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::healing::writes_until_it_is_killed", "--nocapture", "--test-threads=1"])
        .env(ROOT, mount.root())
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("staged")));
    // While it lives, nobody takes its files away.
    assert_eq!(mount.local.sweep().await.unwrap().files, 0);
    assert_eq!(mount.hidden("staging").len(), 1);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(mount.get("f").await.unwrap(), "old");
    let swept = mount.local.sweep().await.unwrap();
    assert_eq!((swept.processes, swept.files), (1, 1));
    assert!(mount.hidden("staging").is_empty());
    assert_eq!((mount.get("f").await.unwrap(), mount.names("", None).await), ("old".into(), vec!["f".to_owned()]));
}

#[tokio::test]
async fn opening_a_root_sweeps_what_the_dead_left_and_their_records() {
    for xattrs in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = settings(dir.path());
        settings.xattrs = xattrs;
        // A process that dies between sealing a file and publishing it leaves both.
        let dead = Local::open(settings.clone()).unwrap();
        let mut staged = dead.0.space.stage().unwrap();
        let attributes = [("meta.big", "x".repeat(5000))].into_iter().collect();
        dead.0.seal(&mut staged, &key("f"), ETag::new("x").unwrap(), attributes).unwrap();
        let process = dead.0.space.process().to_owned();
        let staging = dir.path().join(".sluice/staging");
        let name = staged.name().to_owned();
        // Its lock goes with it: swap the lock file for one that nobody holds.
        fs::remove_file(staging.join(format!("{process}.lock"))).unwrap();
        fs::write(staging.join(format!("{process}.lock")), "").unwrap();
        std::mem::forget(staged);
        let next = Local::open(settings).unwrap();
        assert!(!staging.join(process).join(name).exists());
        let mut records = Vec::new();
        files(&dir.path().join(".sluice/records"), &mut records);
        assert!(records.is_empty(), "{records:?}");
        drop((dead, next));
    }
}

/// A publication that swaps a file with what turns out to be a directory gives it back; if the process ends before that, the
/// directory lies in staging, with somebody's files in it.
#[tokio::test]
async fn what_is_not_ours_in_staging_is_kept_and_keeps_nothing_else() {
    let mount = mount();
    mount.put("f", "there").await;
    let staging = mount.path(".sluice/staging");
    fs::create_dir_all(staging.join("dead/1")).unwrap();
    fs::write(staging.join("dead/1/theirs"), "theirs").unwrap();
    fs::write(staging.join("dead/2"), "ours").unwrap();
    fs::write(staging.join("dead.lock"), "").unwrap();
    fs::create_dir(staging.join("other")).unwrap();
    fs::write(staging.join("other/3"), "ours").unwrap();
    let next = Local::open(settings(&mount.root())).unwrap();
    let there = next.head(&key("f"), &ReadOptions::default()).await.unwrap();
    assert_eq!(there.size, 5);
    assert_eq!(fs::read(staging.join("dead/1/theirs")).unwrap(), b"theirs");
    assert!(!staging.join("dead/2").exists() && !staging.join("other").exists());
    assert_eq!(next.sweep().await.unwrap().files, 0);
}

/// Tells when it is dropped.
struct Told(Option<tokio::sync::oneshot::Sender<()>>);

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.0.take().map(|told| told.send(()));
    }
}

#[tokio::test]
async fn a_publication_keeps_its_body_when_nobody_waits_for_it() {
    use futures::StreamExt;
    for size in [10, 3 << 20] {
        let mount = mount();
        let held: Vec<_> = fs::read_dir(mount.path(".sluice/locks"))
            .unwrap()
            .map(|entry| {
                let file = fs::File::open(entry.unwrap().path()).unwrap();
                rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
                file
            })
            .collect();
        let (told, mut dropped) = tokio::sync::oneshot::channel();
        let told = Told(Some(told));
        let seal = std::sync::Arc::new(std::sync::OnceLock::new());
        seal.set(sluice_provider::Seal { etag: ETag::new("e").unwrap(), attributes: Attributes::new() }).unwrap();
        let chunks = vec![Ok(Bytes::from(vec![1; size / 2])), Ok(Bytes::from(vec![2; size / 2]))];
        let stream = futures::stream::iter(chunks).inspect(move |_| {
            let _ = &told;
        });
        let body = PutBody::new(stream.boxed(), Some(size as u64), seal);
        let putting = tokio::spawn({
            let local = mount.local.clone();
            async move { local.put(&key("f"), body, &PutOptions::default()).await }
        });
        // Staged whole, and waiting for the lock of the key.
        while mount.hidden("staging").iter().all(|path| fs::metadata(path).map_or(0, |file| file.len()) < size as u64) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        putting.abort();
        assert!(putting.await.unwrap_err().is_cancelled());
        assert!(dropped.try_recv().is_err() && !mount.path("f").exists(), "{size}");
        drop(held);
        dropped.await.unwrap();
        assert_eq!(fs::metadata(mount.path("f")).unwrap().len(), size as u64);
    }
}

#[tokio::test]
async fn a_sweep_lets_go_of_what_nobody_uses() {
    let mount = mount();
    for n in 0..200 {
        mount.put(&format!("d/{n}"), "x").await;
    }
    let before = mount.local.0.locks.open_files();
    assert!(before > 32, "{before}");
    mount.local.sweep().await.unwrap();
    assert_eq!(mount.local.0.locks.open_files(), 0);
    mount.put("d/1", "again").await;
    assert_eq!(mount.get("d/1").await.unwrap(), "again");
}

#[tokio::test]
async fn check_notices_that_the_root_is_gone() {
    let mount = mount();
    mount.local.check().await.unwrap();
    fs::rename(mount.root(), mount.dir.path().join("moved")).unwrap();
    assert_eq!(*mount.local.check().await.unwrap_err().kind(), ErrorKind::Unavailable);
}
