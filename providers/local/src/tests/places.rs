//! Where objects lie, and how they make room for each other.

use super::*;
use std::fs;

#[tokio::test]
async fn ordinary_keys_are_ordinary_files() {
    let mount = mount();
    mount.put("a/b/c.txt", "hello").await;
    assert_eq!(fs::read(mount.path("a/b/c.txt")).unwrap(), b"hello");
}

#[tokio::test]
async fn an_object_steps_aside_for_a_directory_and_stays_there() {
    let mount = mount();
    mount.put_with("a", "object", &[("content-type", "text/x")]).await;
    mount.put("a/b", "inside").await;
    assert!(mount.path("a").is_dir() && mount.path(".sluice=a").is_file());
    assert_eq!(mount.attributes("a").await.get("content-type"), Some("text/x"));
    assert_eq!(mount.names("", None).await, ["a", "a/b"]);
    mount.delete("a/b").await.unwrap();
    assert!(!mount.path("a").exists());
    assert_eq!(mount.get("a").await.unwrap(), "object");
    mount.put("a", "again").await;
    assert_eq!((mount.get("a").await.unwrap(), mount.names("", None).await), ("again".into(), vec!["a".to_owned()]));
    mount.delete("a").await.unwrap();
    assert_eq!(mount.get("a").await, Err(ErrorKind::NotFound));
    mount.put("a", "plain").await;
    assert!(mount.path("a").is_file());
}

#[tokio::test]
async fn every_state_that_a_crash_can_leave_is_an_object() {
    let mount = mount();
    // Moved aside, the directory not made yet.
    fs::write(mount.path(".sluice=a"), "aside").unwrap();
    assert_eq!((mount.get("a").await.unwrap(), mount.names("", None).await), ("aside".into(), vec!["a".to_owned()]));
    mount.put("a/b", "inside").await;
    assert_eq!(mount.names("", None).await, ["a", "a/b"]);
    // Both places taken: the plain one counts, and the other does not come back.
    fs::write(mount.path("c"), "plain").unwrap();
    fs::write(mount.path(".sluice=c"), "stale").unwrap();
    assert_eq!(mount.get("c").await.unwrap(), "plain");
    assert_eq!(mount.names("", None).await, ["a", "a/b", "c"]);
    mount.delete("c").await.unwrap();
    assert_eq!(mount.get("c").await, Err(ErrorKind::NotFound));
    fs::write(mount.path("c"), "plain").unwrap();
    fs::write(mount.path(".sluice=c"), "stale").unwrap();
    mount.put("c/d", "x").await;
    assert_eq!(mount.get("c").await.unwrap(), "plain");
}

#[tokio::test]
async fn names_that_are_not_canonical_are_nobodys() {
    let mount = mount();
    fs::create_dir_all(mount.path(".sluice+ab")).unwrap();
    for name in [".sluice%plain", ".sluice%%zz", ".sluice+ab/c", ".sluicex", ".sluice%"] {
        fs::write(mount.path(name), "x").unwrap();
    }
    assert_eq!(mount.names("", None).await, [""; 0]);
    assert_eq!(mount.names("", Some("/")).await, [""; 0]);
}

#[tokio::test]
async fn a_long_name_steps_aside_too() {
    let mount = mount();
    for long in ["x".repeat(250), "y".repeat(255), "é".repeat(300)] {
        mount.put(&long, "object").await;
        mount.put(&format!("{long}/b"), "inside").await;
        mount.put(&long, "object").await;
        assert_eq!(mount.names("", None).await, [long.clone(), format!("{long}/b")]);
        assert_eq!(mount.names("", Some("/")).await, [long.clone(), format!("{long}/")]);
        mount.delete(&format!("{long}/b")).await.unwrap();
        assert_eq!(mount.get(&long).await.unwrap(), "object");
        mount.delete(&long).await.unwrap();
        let left: Vec<_> = fs::read_dir(mount.root()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, [".sluice"]);
    }
}

#[tokio::test]
async fn deletion_removes_the_directories_it_empties_and_no_others() {
    let mount = mount();
    fs::create_dir(mount.path("kept")).unwrap();
    mount.put("a/b/c/d", "1").await;
    mount.put("a/e", "2").await;
    mount.delete("a/b/c/d").await.unwrap();
    assert!(mount.path("a").is_dir() && !mount.path("a/b").exists());
    mount.delete("a/e").await.unwrap();
    assert!(!mount.path("a").exists() && mount.path("kept").is_dir());
}

#[tokio::test]
async fn a_refused_write_leaves_no_directories() {
    let mount = mount();
    let put = PutOptions { when: PutWhen::IfPresent, ..PutOptions::default() };
    let refused = mount.local.put(&key("a/b/c"), body(b"x"), &put).await.unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::NotFound);
    assert!(!mount.path("a").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_and_deleters_of_one_directory_do_not_lose_each_other() {
    let mount = mount();
    let other = Local::open(settings(&mount.root())).unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let local = if writer % 2 == 0 { mount.local.clone() } else { other.clone() };
        tasks.spawn(async move {
            let name = key(&format!("dir/sub/{writer}"));
            for _ in 0..50 {
                local.put(&name, body(b"x"), &PutOptions::default()).await.unwrap();
                local.head(&name, &ReadOptions::default()).await.unwrap();
                let outcome = local.delete(&[name.clone().into()]).await.pop().unwrap().unwrap();
                assert_eq!(outcome, DeleteOutcome::Deleted { size: 1 });
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert!(!mount.path("dir").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn deletions_that_come_together_each_have_their_own_answer() {
    for durability in [Durability::Os, Durability::Fsync] {
        let mount = mount_with(|settings| settings.durability = durability);
        for number in 0..40 {
            mount.put(&format!("dir{}/{number}", number % 3), &"x".repeat(number)).await;
        }
        let mut tasks = tokio::task::JoinSet::new();
        // Each key is deleted by three, alone and among others; one of them is cut off before it could end.
        for number in 0..40 {
            let name = key(&format!("dir{}/{number}", number % 3));
            for with in [None, Some("none/such"), None] {
                let (local, name) = (mount.local.clone(), name.clone());
                tasks.spawn(async move {
                    let keys: Vec<_> = with.map(key).into_iter().chain([name]).map(Into::into).collect();
                    let outcomes = local.delete(&keys).await;
                    assert_eq!(outcomes.len(), keys.len());
                    if keys.len() > 1 {
                        assert_eq!(*outcomes[0].as_ref().unwrap(), DeleteOutcome::Absent);
                    }
                    (number, *outcomes.last().unwrap().as_ref().unwrap())
                });
            }
            let (local, name) = (mount.local.clone(), key("none/such/either"));
            tokio::spawn(async move { local.delete(&[name.into()]).await }).abort();
        }
        let mut deleted = [0; 40];
        while let Some(done) = tasks.join_next().await {
            if let (number, DeleteOutcome::Deleted { size }) = done.unwrap() {
                assert_eq!(size, number as u64);
                deleted[number] += 1;
            }
        }
        assert_eq!(deleted, [1; 40]);
        assert!(["dir0", "dir1", "dir2"].iter().all(|dir| !mount.path(dir).exists()));
        mount.put("again", "x").await;
        assert_eq!(mount.delete("again").await.unwrap(), DeleteOutcome::Deleted { size: 1 });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_object_is_never_hidden_while_directories_come_and_go_beside_it() {
    let mount = mount();
    let other = Local::open(settings(&mount.root())).unwrap();
    for round in 0..40 {
        let (object, inside) = (format!("{round}"), format!("{round}/x"));
        mount.put(&object, "object").await;
        let put = tokio::spawn({
            let (other, inside) = (other.clone(), key(&inside));
            async move { other.put(&inside, body(b"x"), &PutOptions::default()).await.unwrap() }
        });
        while !put.is_finished() {
            assert_eq!(mount.get(&object).await.unwrap(), "object");
        }
        put.await.unwrap();
        assert_eq!(mount.names(&object, None).await, [object, inside]);
        mount.delete(&format!("{round}/x")).await.unwrap();
        mount.delete(&format!("{round}")).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_racing_first_writers_on_two_instances_one_wins() {
    let mount = mount();
    let other = Local::open(settings(&mount.root())).unwrap();
    for round in 0..20 {
        let mut tasks = tokio::task::JoinSet::new();
        for writer in 0..8 {
            let local = if writer % 2 == 0 { mount.local.clone() } else { other.clone() };
            let (name, put) = (key(&format!("k{round}/x")), PutOptions { when: PutWhen::IfAbsent, ..PutOptions::default() });
            tasks.spawn(async move { local.put(&name, body(writer.to_string().as_bytes()), &put).await });
        }
        let outcomes = tasks.join_all().await;
        assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1, "{outcomes:?}");
    }
}
