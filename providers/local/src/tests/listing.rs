//! What listing costs, measured in calls to getdents64, and what it must not show.

use super::*;
use std::fs;
use std::sync::atomic::Ordering;

fn calls(local: &Local) -> u64 {
    local.0.reads_of_directories.load(Ordering::Relaxed)
}

/// Many empty files, none of them young.
fn fill(dir: &Path, count: usize) {
    fs::create_dir_all(dir).unwrap();
    for n in 0..count {
        fs::File::create(dir.join(format!("{n:06}"))).unwrap();
    }
    std::thread::sleep(Duration::from_millis(30));
}

#[tokio::test]
async fn a_page_of_a_large_directory_does_not_read_it_again() {
    let mount = mount();
    assert!(mount.local.0.own_times, "the tests' temporary directory lies on a file system that tells of changes");
    fill(&mount.path("d"), 100_000);
    let page = |from: ListFrom| ListQuery { prefix: "d/".into(), delimiter: None, from, limit: 100 };
    mount.local.list(&page(ListFrom::Start)).await.unwrap();
    let once = calls(&mount.local);
    assert!((2..100).contains(&once), "{once}");
    for n in (0..100_000).step_by(1000) {
        let page = mount.local.list(&page(ListFrom::After(format!("d/{n:06}")))).await.unwrap();
        assert_eq!((page.entries[0].name(), page.more), (format!("d/{:06}", n + 1).as_str(), n < 99_900));
    }
    assert_eq!(calls(&mount.local), once);
    // A change is seen at once, whoever makes it, and does not cost reading the directory again.
    mount.put("d/050000x", "new").await;
    fs::write(mount.path("d/050000w"), "new too").unwrap();
    mount.delete("d/050001").await.unwrap();
    fs::remove_file(mount.path("d/050002")).unwrap();
    let after = mount.local.list(&page(ListFrom::After("d/050000".into()))).await.unwrap();
    let names: Vec<_> = after.entries.iter().take(3).map(ListEntry::name).collect();
    assert_eq!(names, ["d/050000w", "d/050000x", "d/050003"]);
    assert_eq!(calls(&mount.local), once);
}

#[tokio::test]
async fn a_delimiter_does_not_read_what_it_rolls_up() {
    let mount = mount();
    fill(&mount.path("large"), 20_000);
    for n in 0..50 {
        mount.put(&format!("small{n}/x/y/z"), "x").await;
    }
    let before = calls(&mount.local);
    let names = mount.names("", Some("/")).await;
    assert_eq!((names.len(), names[0].as_str()), (51, "large/"));
    // Of the large directory one peek; of each small one three levels with an entry and an end.
    assert!(calls(&mount.local) - before < 50 * 6 + 10, "{}", calls(&mount.local) - before);
}

#[tokio::test]
async fn a_page_does_not_look_before_its_start() {
    let mount = mount();
    for n in 0..30 {
        mount.put(&format!("dir{n:02}/file"), "x").await;
    }
    let before = calls(&mount.local);
    let from = ListFrom::After("dir28/file".into());
    let page = mount.local.list(&ListQuery { from, limit: 10, ..ListQuery::default() }).await.unwrap();
    assert_eq!(page.entries.iter().map(ListEntry::name).collect::<Vec<_>>(), ["dir29/file"]);
    assert!(calls(&mount.local) - before <= 6, "{}", calls(&mount.local) - before);
}

#[tokio::test]
async fn a_directory_larger_than_the_window_is_listed_whole() {
    let mount = mount();
    let mut expected: Vec<String> = Vec::new();
    for n in 0..60 {
        expected.extend([format!("d/{n:02}"), format!("d/{n:02}-x"), format!("d/{n:02}/in")]);
    }
    expected.push(format!("d/{}", "3".repeat(300)));
    for name in &expected {
        mount.put(name, "x").await;
    }
    expected.sort();
    for window in [4, 7, 64, 1000] {
        mount.local.0.shelf.as_ref().unwrap().window.store(window, Ordering::Relaxed);
        for limit in [1, 10, 1000] {
            assert_eq!(names(&mount.local, "", None, limit).await, expected, "window {window}, limit {limit}");
        }
        let mut rolled: Vec<_> = expected.iter().filter(|name| !name.contains("/in")).cloned().collect();
        rolled.extend((0..60).map(|n| format!("d/{n:02}/")));
        rolled.sort();
        assert_eq!(names(&mount.local, "d/", Some("/"), 7).await, rolled, "window {window}");
    }
}

#[tokio::test]
async fn directories_without_objects_are_no_prefixes() {
    let mount = mount();
    fs::create_dir_all(mount.path("empty/deep/er")).unwrap();
    fs::create_dir_all(mount.path("link")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", mount.path("link/passwd")).unwrap();
    fs::create_dir_all(mount.path("full/deep")).unwrap();
    fs::write(mount.path("full/deep/f"), "x").unwrap();
    assert_eq!(mount.names("", Some("/")).await, ["full/"]);
    assert_eq!(mount.names("", None).await, ["full/deep/f"]);
}

#[tokio::test]
async fn the_hidden_space_is_not_listed() {
    let mount = mount();
    mount.put(".sluice/x", "a key like any other").await;
    assert_eq!(mount.names("", None).await, [".sluice/x"]);
    assert_eq!(mount.names(".sluice/", Some("/")).await, [".sluice/x"]);
    for name in [".sluice", ".sluice/staging", ".sluice/locks/00", ".sluice/staging/lock"] {
        assert_eq!(mount.get(name).await, Err(ErrorKind::NotFound), "{name}");
    }
}
