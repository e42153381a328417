//! What is remembered of directories is what is there, whoever changed it.

use super::*;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::sync::atomic::Ordering;

use proptest::prelude::*;
use sluice_provider::ListPage;

use crate::Snapshots;

/// Keys of ours, some of which lie in the way of others.
const OURS: [&str; 10] = ["a", "a/x", "a-b", "b", "d/", "d/a", "d/b", "d/e/f", ".sluice%", "d//z"];
/// Keys that somebody else writes, too.
const THEIRS: [&str; 8] = ["b", "d/b", "f0", "d/f0", "d/f1", "d/e/f0", "g/h/i", "g/h-i"];

#[derive(Clone, Debug)]
enum Step {
    Put(usize, u8),
    Delete(usize),
    Attributes(usize, u8),
    TheyWrite(usize, u8),
    TheyAppend(usize),
    TheyRename(usize, usize),
    TheyRemove(usize),
    /// They make and remove directories and things that are no objects.
    TheyClutter(u8),
    List {
        prefix: usize,
        delimiter: Option<&'static str>,
        from: Option<usize>,
        limit: usize,
    },
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    let list =
        (0usize..6, prop_oneof![Just(None), Just(Some("/")), Just(Some("-"))], proptest::option::of(0usize..18), 1usize..12);
    prop_oneof![
        3 => (0..OURS.len(), any::<u8>()).prop_map(|(key, content)| Step::Put(key, content)),
        2 => (0..OURS.len()).prop_map(Step::Delete),
        1 => (0..OURS.len(), any::<u8>()).prop_map(|(key, value)| Step::Attributes(key, value)),
        2 => (0..THEIRS.len(), any::<u8>()).prop_map(|(key, content)| Step::TheyWrite(key, content)),
        2 => (0..THEIRS.len()).prop_map(Step::TheyAppend),
        1 => (0..THEIRS.len(), 0..THEIRS.len()).prop_map(|(from, to)| Step::TheyRename(from, to)),
        2 => (0..THEIRS.len()).prop_map(Step::TheyRemove),
        1 => any::<u8>().prop_map(Step::TheyClutter),
        6 => list.prop_map(|(prefix, delimiter, from, limit)| Step::List { prefix, delimiter, from, limit }),
        1 => Just(Step::Sweep),
    ]
}

/// A page of the model.
fn expected(model: &BTreeMap<String, String>, query: &ListQuery) -> (Vec<(String, Option<String>)>, bool) {
    let mut entries: Vec<(String, Option<String>)> = Vec::new();
    for (key, content) in model {
        if !key.starts_with(&query.prefix) || query.from.skips(key) {
            continue;
        }
        let rest = &key[query.prefix.len()..];
        let entry = match query.delimiter.as_deref().and_then(|d| rest.find(d).map(|at| at + d.len())) {
            Some(end) => (key[..query.prefix.len() + end].to_owned(), None),
            None => (key.clone(), Some(content.clone())),
        };
        if entries.last() != Some(&entry) {
            entries.push(entry);
        }
    }
    let more = entries.len() > query.limit;
    entries.truncate(query.limit);
    (entries, more)
}

fn check(page: &ListPage, model: &BTreeMap<String, String>, query: &ListQuery) -> Result<(), TestCaseError> {
    let (entries, more) = expected(model, query);
    let names = |name: &ListEntry| name.name().to_owned();
    let found: Vec<_> = page.entries.iter().map(names).collect();
    let wanted: Vec<_> = entries.iter().map(|(name, _)| name.clone()).collect();
    prop_assert_eq!((&found, page.more), (&wanted, more), "{:?}", query);
    for (entry, (_, content)) in page.entries.iter().zip(&entries) {
        match (entry, content) {
            (ListEntry::Object(info), Some(content)) => {
                prop_assert_eq!(info.etag.as_str(), md5(content.as_bytes()), "{}", info.key.as_str());
                prop_assert_eq!(info.size, content.len() as u64);
            }
            (ListEntry::Prefix(_), None) => {}
            _ => return Err(TestCaseError::fail(format!("{entry:?}"))),
        }
    }
    Ok(())
}

async fn follow(mount: &Mount, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut model: BTreeMap<String, String> = BTreeMap::new();
    let free = |name: &str| !mount.path(name).is_dir();
    for step in steps {
        match step {
            Step::Put(at, content) => {
                let content = content.to_string();
                mount.put(OURS[*at], &content).await;
                model.insert(OURS[*at].to_owned(), content);
            }
            Step::Delete(at) => {
                mount.delete(OURS[*at]).await.unwrap();
                model.remove(OURS[*at]);
            }
            Step::Attributes(at, value) => {
                let change = sluice_provider::AttributeChange {
                    set: vec![("content-type".to_owned(), Some(value.to_string()))],
                    ..sluice_provider::AttributeChange::default()
                };
                let done = mount.local.set_attributes(&key(OURS[*at]), &change).await;
                prop_assert_eq!(done.is_ok(), model.contains_key(OURS[*at]));
            }
            Step::TheyWrite(at, content) => {
                let (path, content) = (mount.path(THEIRS[*at]), format!("theirs {content}"));
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, &content).unwrap();
                model.insert(THEIRS[*at].to_owned(), content);
            }
            Step::TheyAppend(at) => {
                if let Some(content) = model.get_mut(THEIRS[*at]) {
                    fs::File::options().append(true).open(mount.path(THEIRS[*at])).unwrap().write_all(b"+").unwrap();
                    content.push('+');
                }
            }
            Step::TheyRename(from, to) => {
                if from != to
                    && let Some(content) = model.remove(THEIRS[*from])
                {
                    let to_path = mount.path(THEIRS[*to]);
                    fs::create_dir_all(to_path.parent().unwrap()).unwrap();
                    fs::rename(mount.path(THEIRS[*from]), to_path).unwrap();
                    model.insert(THEIRS[*to].to_owned(), content);
                }
            }
            Step::TheyRemove(at) => {
                if model.remove(THEIRS[*at]).is_some() {
                    fs::remove_file(mount.path(THEIRS[*at])).unwrap();
                }
            }
            Step::TheyClutter(which) => {
                let path = mount.path(["empty", "d/empty", "link", "d/link", "d/.sluicex"][usize::from(*which) % 5]);
                if free("d") && path.parent() != Some(&mount.root()) {
                    continue;
                }
                if path.is_symlink() || path.is_file() {
                    fs::remove_file(path).unwrap();
                } else if path.is_dir() {
                    let _ = fs::remove_dir(path);
                } else if *which % 5 < 2 {
                    fs::create_dir(path).unwrap();
                } else if *which % 5 < 4 {
                    symlink("nowhere", path).unwrap();
                } else {
                    fs::write(path, "no key").unwrap();
                }
            }
            Step::List { prefix, delimiter, from, limit } => {
                let from = match from.map(|at| OURS.iter().chain(&THEIRS).nth(at).unwrap()) {
                    None => ListFrom::Start,
                    Some(name) if *limit % 2 == 0 => ListFrom::After((*name).to_owned()),
                    Some(name) => ListFrom::AfterPrefix((*name).to_owned()),
                };
                let prefix = ["", "d/", "d", "a", "g/h", "d/e/"][*prefix].to_owned();
                let query = ListQuery { prefix, delimiter: delimiter.map(str::to_owned), from, limit: *limit };
                let page = mount.local.list(&query).await.unwrap();
                check(&page, &model, &query)?;
            }
            Step::Sweep => drop(mount.local.sweep().await.unwrap()),
        }
    }
    for (delimiter, limit) in [(None, 1000), (Some("/"), 3)] {
        let query = ListQuery { delimiter: delimiter.map(str::to_owned), limit, ..ListQuery::default() };
        check(&mount.local.list(&query).await.unwrap(), &model, &query)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_listing_shows_what_is_there(
        steps in proptest::collection::vec(step(), 1..80),
        snapshots in prop_oneof![3 => Just(Snapshots::Auto), 1 => Just(Snapshots::Times), 1 => Just(Snapshots::Off)],
        window in prop_oneof![3 => Just(None), 1 => (1usize..6).prop_map(Some)],
    ) {
        let mount = mount_with(|settings| settings.snapshots = snapshots);
        if let (Some(window), Some(shelf)) = (window, &mount.local.0.shelf) {
            shelf.window.store(window, Ordering::Relaxed);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(follow(&mount, &steps))?;
    }
}

async fn page(local: &Local, prefix: &str) -> Vec<(String, u64)> {
    let page = local.list(&ListQuery { prefix: prefix.into(), limit: 1000, ..ListQuery::default() }).await.unwrap();
    let entry = |entry: &ListEntry| match entry {
        ListEntry::Object(info) => (info.key.as_str().to_owned(), info.size),
        ListEntry::Prefix(prefix) => (prefix.clone(), 0),
    };
    page.entries.iter().map(entry).collect()
}

#[tokio::test]
async fn what_is_left_out_may_reach_beyond_what_is_held() {
    let mount = mount();
    if let Some(shelf) = &mount.local.0.shelf {
        shelf.window.store(1, Ordering::Relaxed);
    }
    fs::create_dir(mount.path("d")).unwrap();
    for name in ["d/f1", "d/f2", "d/f3", "d/g"] {
        fs::write(mount.path(name), name).unwrap();
    }
    let query = ListQuery { prefix: "d/".into(), from: ListFrom::AfterPrefix("d/f".into()), limit: 10, ..ListQuery::default() };
    let listed = mount.local.list(&query).await.unwrap();
    assert_eq!(listed.entries.iter().map(ListEntry::name).collect::<Vec<_>>(), ["d/g"]);
}

#[tokio::test]
async fn two_gateways_and_an_editor_see_each_other_at_once() {
    let mount = mount();
    let other = Local::open(settings(&mount.root())).unwrap();
    for n in 0..200 {
        let name = format!("d/{n:03}");
        match n % 3 {
            0 => mount.put(&name, "x").await,
            1 => drop(other.put(&key(&name), body(b"x"), &PutOptions::default()).await.unwrap()),
            _ => fs::write(mount.path(&name), "x").unwrap(),
        }
        for local in [&mount.local, &other] {
            let found = page(local, "d/").await;
            assert_eq!((found.len(), &found[n].0), (n + 1, &name));
        }
    }
    // In place, without any change of the directory.
    fs::File::options().append(true).open(mount.path("d/100")).unwrap().write_all(b"yz").unwrap();
    for local in [&mount.local, &other] {
        assert_eq!(page(local, "d/").await[100].1, 3);
    }
}

#[tokio::test]
async fn an_object_with_other_links_is_looked_at_every_time() {
    let mount = mount();
    mount.put("d/a", "x").await;
    fs::create_dir(mount.path("e")).unwrap();
    fs::hard_link(mount.path("d/a"), mount.path("e/b")).unwrap();
    for size in 1..4 {
        assert_eq!(page(&mount.local, "d/").await, [("d/a".to_owned(), size)]);
        fs::File::options().append(true).open(mount.path("e/b")).unwrap().write_all(b"+").unwrap();
    }
}

#[tokio::test]
async fn attributes_are_those_of_now_wherever_they_lie() {
    for xattrs in [true, false] {
        let mount = mount_with(|settings| settings.xattrs = xattrs);
        mount.put("d/a", "x").await;
        for kind in ["text/a", "text/b", "text/c"] {
            let set = vec![("content-type".to_owned(), Some(kind.to_owned()))];
            let change = sluice_provider::AttributeChange { set, ..sluice_provider::AttributeChange::default() };
            mount.local.set_attributes(&key("d/a"), &change).await.unwrap();
            for _ in 0..2 {
                let page = mount.local.list(&ListQuery { limit: 10, ..ListQuery::default() }).await.unwrap();
                let [ListEntry::Object(info)] = &page.entries[..] else { panic!("{page:?}") };
                assert_eq!(info.attributes.get("content-type"), Some(kind), "xattrs: {xattrs}");
            }
        }
    }
}

#[tokio::test]
async fn more_changes_than_the_kernel_can_tell_are_not_missed() {
    let mount = mount();
    fs::create_dir(mount.path("d")).unwrap();
    fs::write(mount.path("d/first"), "x").unwrap();
    assert_eq!(page(&mount.local, "d/").await.len(), 1);
    // The queue holds 16 384 events.
    for _ in 0..10_000 {
        fs::write(mount.path("d/a"), "x").unwrap();
        fs::remove_file(mount.path("d/a")).unwrap();
    }
    fs::write(mount.path("d/last"), "x").unwrap();
    assert_eq!(page(&mount.local, "d/").await.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["d/first", "d/last"]);
}

#[tokio::test]
async fn many_writes_of_our_own_do_not_overflow_the_queue() {
    let mount = mount();
    mount.put("d/first", "x").await;
    assert_eq!(page(&mount.local, "d/").await.len(), 1);
    let before = mount.local.0.reads_of_directories.load(Ordering::Relaxed);
    for round in 0..60 {
        for n in 0..200 {
            mount.put(&format!("d/{n}"), &round.to_string()).await;
        }
    }
    assert_eq!(page(&mount.local, "d/").await.len(), 201);
    assert_eq!(mount.local.0.reads_of_directories.load(Ordering::Relaxed), before);
}

#[tokio::test]
async fn a_directory_that_is_replaced_by_another_is_not_remembered() {
    let mount = mount();
    for n in 0..20 {
        mount.put(&format!("d/{n:02}"), "x").await;
        assert_eq!(page(&mount.local, "d/").await, [(format!("d/{n:02}"), 1)]);
        if n % 2 == 0 {
            mount.delete(&format!("d/{n:02}")).await.unwrap();
        } else {
            fs::rename(mount.path("d"), mount.dir.path().join(format!("moved{n}"))).unwrap();
        }
        assert_eq!(page(&mount.local, "d/").await, []);
    }
}

#[tokio::test]
async fn a_directory_is_read_by_one_thread_at_a_time_and_all_see_it() {
    let mount = std::sync::Arc::new(mount());
    fs::create_dir(mount.path("d")).unwrap();
    for n in 0..5000 {
        fs::write(mount.path(&format!("d/{n:04}")), "").unwrap();
    }
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let local = mount.local.clone();
            tokio::spawn(async move { names(&local, "d/", None, 1000).await.len() })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), 5000);
    }
}

#[tokio::test]
async fn a_page_that_is_at_hand_takes_no_hop_to_another_thread() {
    let mount = mount();
    for n in 0..2000 {
        mount.put(&format!("d/{n:04}"), "x").await;
    }
    assert_eq!(names(&mount.local, "d/", None, 1000).await.len(), 2000);
    mount.local.0.lists.close();
    assert_eq!(names(&mount.local, "d/", None, 1000).await.len(), 2000);
    let refused = async |query: ListQuery| *mount.local.list(&query).await.unwrap_err().kind() == ErrorKind::Unavailable;
    // Nobody has looked here, and nobody knows what lies beneath a directory.
    assert!(refused(ListQuery { delimiter: Some("/".into()), limit: 10, ..ListQuery::default() }).await);
    // Looked at again before it is shown.
    fs::write(mount.path("d/0005"), "more").unwrap();
    assert!(refused(ListQuery { prefix: "d/".into(), limit: 10, ..ListQuery::default() }).await);
}

/// What is too old to be shown is not held until somebody lists again.
#[tokio::test]
async fn what_was_seen_goes_by_itself() {
    let mount = mount();
    const HOLDS: Duration = Duration::from_millis(300);
    mount.local.0.shelf.as_ref().unwrap().holds.store(300, Ordering::Relaxed);
    mount.put("d/f", "x").await;
    mount.put("e/f", "x").await;
    // Twice: one who comes by makes way for the next.
    for _ in 0..2 {
        let since = std::time::Instant::now();
        assert_eq!(names(&mount.local, "d/", None, 10).await.len(), 1);
        assert!(mount.local.0.is_seen("d/") || since.elapsed() >= HOLDS);
        tokio::time::sleep(HOLDS / 2).await;
        // Too young for the one who comes first.
        assert_eq!(names(&mount.local, "e/", None, 10).await.len(), 1);
        until(|| !mount.local.0.is_seen("d/") && !mount.local.0.is_seen("e/")).await;
    }
}

async fn until(holds: impl Fn() -> bool) {
    let since = std::time::Instant::now();
    while !holds() {
        assert!(since.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Also what a listing saw that nobody waited for to its end.
#[tokio::test]
async fn what_was_seen_for_nobody_goes_by_itself() {
    let mount = mount();
    mount.local.0.shelf.as_ref().unwrap().holds.store(300, Ordering::Relaxed);
    for n in 0..200 {
        mount.put(&format!("d/{n}"), "x").await;
    }
    let query = ListQuery { prefix: "d/".into(), limit: 10, ..ListQuery::default() };
    let since = std::time::Instant::now();
    while !mount.local.0.is_seen("d/") {
        assert!(since.elapsed() < Duration::from_secs(20));
        let mut listing = mount.local.list(&query);
        let _ = std::future::poll_fn(|cx| std::task::Poll::Ready(listing.as_mut().poll(cx).is_pending())).await;
        // It is not begun at all when it is dropped too soon.
        std::thread::sleep(Duration::from_millis(20));
    }
    until(|| !mount.local.0.is_seen("d/")).await;
}
