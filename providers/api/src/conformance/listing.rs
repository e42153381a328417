//! Listing: byte order, roll-up, pages.

use bytes::Bytes;

use super::Subject;
use super::bodies::body;
use super::subject::{Line, assert_same, key};
use crate::{
    AttributeChange, CopyOptions, DeleteKey, DeleteWhen, ListEntry, ListFrom, ListQuery, PutOptions, SIZE_ATTRIBUTE, known_size,
};

/// What the contract says a listing of `keys` (sorted) is, from where the query begins to the end.
pub(super) fn reference<'a>(keys: impl Iterator<Item = &'a str>, query: &ListQuery) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for key in keys.filter(|key| !query.from.skips(key)) {
        let Some(rest) = key.strip_prefix(query.prefix.as_str()) else { continue };
        let cut = query.delimiter.as_ref().and_then(|d| rest.find(d.as_str()).map(|at| at + d.len()));
        let line = match cut {
            Some(cut) => Line::prefix(&key[..query.prefix.len() + cut]),
            None => Line::object(key),
        };
        if lines.last() != Some(&line) {
            lines.push(line);
        }
    }
    lines
}

/// What is wrong with one page by the reference: it must be a beginning of what is due, of at most `limit` entries, with a true
/// `more`.
pub(super) fn compare_page(page: &[Line], more: bool, due: &[Line], query: &ListQuery) -> Result<(), String> {
    let fault = if page.len() > query.limit {
        "larger than its limit"
    } else if !due.starts_with(page) {
        "not what is due"
    } else if page.is_empty() && !due.is_empty() {
        "empty with more to come"
    } else if more != (page.len() < due.len()) {
        "wrong about `more`"
    } else {
        return Ok(());
    };
    Err(format!("a page that is {fault}: {query:?}\n is {page:?}, more: {more}\n of {due:?}"))
}

/// Every prefix, delimiter, beginning and page size over keys that lie close together.
pub async fn pages_follow_the_reference(subject: &Subject) {
    let mut keys = vec![
        "a", "a-b", "a-b/c", "a/", "a/b", "a/b-c", "a/b/", "a/b/c", "a/b/d/e", "a/c", "a//", "a//b", "a0", "aa", "ab", "b",
        "b--c", "b-c--d", "b/--/c", "/", "/a", "é", "é/x", "e\u{301}", "日/本", "z/1", "z/2", "z/3/4",
    ];
    keys.sort_unstable();
    for key in &keys {
        subject.put(key, *key).await;
    }
    let prefixes = ["", "a", "a/", "a/b", "a//", "a-", "b", "b-", "/", "é", "e", "日/", "z/", "zz", "a/b/c", "a/b/c/", "nothing"];
    let delimiters = [None, Some("/"), Some("-"), Some("--"), Some("b"), Some("/b"), Some("é"), Some("none")];
    let begin = |s: &str| [ListFrom::After(s.into()), ListFrom::AfterPrefix(s.into())];
    // Keys that are there, keys that are not, prefixes with and without anything beneath.
    let marks = ["a", "a/", "a/b/", "a/bb", "a-b/c", "b", "b-", "é", "m", "z/2", "~", "\u{10ffff}", "", " "];
    let mut froms = vec![ListFrom::Start];
    froms.extend(marks.into_iter().flat_map(begin));
    let mut limit = 0;
    for prefix in prefixes {
        for delimiter in delimiters {
            for from in &froms {
                let query =
                    ListQuery { prefix: prefix.into(), delimiter: delimiter.map(Into::into), from: from.clone(), limit: 1000 };
                let expected = reference(keys.iter().copied(), &query);
                check_page(subject, &query, &expected).await;
                if expected.len() > 1 {
                    limit = limit % 4 + 1;
                    check_page(subject, &ListQuery { limit, ..query }, &expected).await;
                }
            }
        }
    }
}

/// A walk in pages of any size finds the same entries, each once.
pub async fn every_page_size_walks_the_same(subject: &Subject) {
    let keys = ["a", "a-b", "a/1", "a/2", "a/3/x", "a0", "b/1", "b/2", "c", "d--e", "d--f", "d-g", "日/x", "日/本"];
    for key in keys {
        subject.put(key, key).await;
    }
    for prefix in ["", "a", "a/", "d", "日/"] {
        for delimiter in [None, Some("/"), Some("-"), Some("--")] {
            let mut query =
                ListQuery { prefix: prefix.into(), delimiter: delimiter.map(Into::into), limit: 1, ..ListQuery::default() };
            let expected = reference(keys.iter().copied(), &query);
            for limit in (1..=keys.len() + 1).chain([1000, 100_000, usize::MAX]) {
                query.limit = limit;
                assert_eq!(subject.walk(query.clone()).await, expected, "{query:?}");
            }
            // Each page on its own, with its `more`.
            for limit in 1..=keys.len() + 1 {
                let mut rest = expected.as_slice();
                let mut from = ListFrom::Start;
                while !rest.is_empty() {
                    let query = ListQuery { limit, from, ..query.clone() };
                    let taken = check_page(subject, &query, rest).await;
                    from = rest[taken - 1].after();
                    rest = &rest[taken..];
                }
            }
        }
    }
}

/// A few thousand keys, walked in pages, flat and rolled up.
pub async fn many_keys(subject: &Subject) {
    let mut keys: Vec<String> = (0..2500).map(|n| format!("{}/{}/{n}", n % 3, n % 101)).collect();
    for key in &keys {
        subject.put(key, "").await;
    }
    keys.sort_unstable();
    for (prefix, delimiter, limit) in [
        ("", None, 1000),
        ("", Some("/"), 2),
        ("", Some("/"), 1000),
        ("1/", Some("/"), 7),
        ("1/", None, 333),
        ("2/100/", None, 5),
    ] {
        let query = ListQuery { prefix: prefix.into(), delimiter: delimiter.map(Into::into), limit, ..ListQuery::default() };
        let expected = reference(keys.iter().map(String::as_str), &query);
        assert_eq!(subject.walk(query).await, expected);
    }
}

/// What a listing says of an object is what its head says.
pub async fn entries_carry_metadata(subject: &Subject) {
    for (name, bytes) in [("a", "1"), ("a/b", ""), ("a/c", "three")] {
        subject.put(name, bytes).await;
    }
    let page = subject.provider().list(&ListQuery { limit: 10, ..ListQuery::default() }).await.expect("list");
    assert_eq!((page.entries.len(), page.more), (3, false));
    for entry in &page.entries {
        match entry {
            ListEntry::Object(info) => assert_same(info, &subject.head(info.key.as_str()).await),
            ListEntry::Prefix(prefix) => panic!("a prefix without a delimiter: {prefix:?}"),
        }
    }
}

/// The size that an object is known by comes with every answer, however much is stored beside the object, and conditions mean it.
pub async fn known_sizes_are_listed(subject: &Subject) {
    if !subject.features().attributes {
        return;
    }
    let provider = subject.provider();
    for (name, beside) in [("few", 1), ("many", 40_000)] {
        let attributes = [(SIZE_ATTRIBUTE, "7".to_owned()), ("note", "x".repeat(beside))].into_iter().collect();
        let put = PutOptions { attributes, ..PutOptions::default() };
        provider.put(&key(name), body(&Bytes::from("stored bytes")), &put).await.expect("put");
        let copied = provider.copy(&key(name), &key(&format!("{name} copied")), &CopyOptions::default()).await.expect("copy");
        assert_eq!((copied.size, known_size(&copied)), (12, 7));
        let note = AttributeChange { if_match: None, set: vec![("note".into(), Some("y".repeat(beside)))] };
        provider.set_attributes(&key(name), &note).await.expect("change");
    }
    subject.put("plain", "bytes").await;
    let page = provider.list(&ListQuery { limit: 10, ..ListQuery::default() }).await.expect("list");
    let size = |entry: &ListEntry| match entry {
        ListEntry::Object(info) => (info.key.as_str().to_owned(), info.size, known_size(info)),
        ListEntry::Prefix(prefix) => panic!("a prefix without a delimiter: {prefix:?}"),
    };
    let seen: Vec<_> = page.entries.iter().map(size).collect();
    let due = [("few", 12, 7), ("few copied", 12, 7), ("many", 12, 7), ("many copied", 12, 7), ("plain", 5, 5)];
    assert_eq!(seen, due.map(|(name, stored, known)| (name.to_owned(), stored, known)));
    if subject.features().conditions {
        let when = |size| DeleteWhen::IfMatch { etag: None, modified: None, size: Some(size) };
        let delete = |size| [DeleteKey { key: key("few"), when: when(size) }];
        assert!(provider.delete(&delete(12)).await.iter().all(Result::is_err));
        assert!(provider.delete(&delete(7)).await.iter().all(Result::is_ok));
    }
}

/// Prefixes and markers are strings, not paths: none of them leads anywhere but to keys that start with it.
pub async fn prefixes_are_not_paths(subject: &Subject) {
    subject.put("dir/file", "x").await;
    subject.put("..", "x").await;
    let long = "dir/".repeat(600);
    for prefix in
        ["dir/../", "./", "./dir/", "../", "/", "//", "dir//", "dir/.", "/dir", "dir/file/", "*", "%64ir/", "\u{0}", &long]
    {
        assert!(subject.list(prefix, Some("/")).await.is_empty(), "{prefix:?}");
        assert!(subject.list(prefix, None).await.is_empty(), "{prefix:?}");
    }
    assert_eq!(subject.list("di", Some("/")).await, [Line::prefix("dir/")]);
    assert_eq!(subject.list("dir/f", Some("/")).await, [Line::object("dir/file")]);
    assert_eq!(subject.list(".", Some("/")).await, [Line::object("..")]);
    for mark in ["../x", "./", "dir/../..", &long] {
        for from in [ListFrom::After(mark.into()), ListFrom::AfterPrefix(mark.into())] {
            let query = ListQuery { from, limit: 10, ..ListQuery::default() };
            let expected = reference(["..", "dir/file"].into_iter(), &query);
            check_page(subject, &query, &expected).await;
        }
    }
}

/// Keys that are there all the time are in every walk, whatever comes and goes between its pages.
pub async fn a_walk_among_changes_loses_nothing(subject: &Subject) {
    let stay: Vec<String> = (0..60).map(|n| format!("{}/{n:02}", n % 4)).collect();
    for key in &stay {
        subject.put(key, "stays").await;
    }
    let writer = subject.instance(1);
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = stop.clone();
    let changes = tokio::spawn(async move {
        let mut n = 0_u32;
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            let key = super::subject::key(&format!("{}/{:02}x", n % 5, n % 60));
            let body = super::bodies::body(&bytes::Bytes::from("goes"));
            writer.put(&key, body, &crate::PutOptions::default()).await.expect("put");
            writer.delete(&[key.into()]).await.pop().expect("one outcome").expect("delete");
            n += 1;
            tokio::task::yield_now().await;
        }
    });
    for limit in [1, 3, 7, 10, 1000] {
        let query = ListQuery { limit, ..ListQuery::default() };
        let names: Vec<String> = subject.walk(query).await.into_iter().map(|line| line.name).collect();
        assert!(names.windows(2).all(|w| w[0] < w[1]), "out of order or twice: {names:?}");
        for key in &stay {
            assert!(names.binary_search(key).is_ok(), "{key:?} is missing from a walk in pages of {limit}");
        }
        let rolled = ListQuery { limit, delimiter: Some("/".into()), ..ListQuery::default() };
        let rolled = subject.walk(rolled).await;
        for prefix in ["0/", "1/", "2/", "3/"] {
            assert_eq!(rolled.iter().filter(|line| **line == Line::prefix(prefix)).count(), 1, "{rolled:?}");
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    changes.await.expect("the writer");
}

/// Checks the page of `query` and answers how many entries it has.
async fn check_page(subject: &Subject, query: &ListQuery, expected: &[Line]) -> usize {
    let page = subject.provider().list(query).await.unwrap_or_else(|e| panic!("list {query:?}: {e}"));
    let lines: Vec<Line> = page.entries.iter().map(Line::from).collect();
    compare_page(&lines, page.more, expected, query).unwrap_or_else(|fault| panic!("{fault}"));
    lines.len()
}
