//! The sorted index, and listing as a seek in it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use sluice_provider::{CLASS_ATTRIBUTE, Key, ListEntry, ListFrom, ListPage, ListQuery, ObjectInfo, SIZE_ATTRIBUTE};

use crate::blocks::Blocks;
use crate::quota::Hold;

/// The most entries of one page: a page is made under a lock, which must stay short whatever limit is asked for.
pub(crate) const MAX_PAGE_ENTRIES: usize = 10_000;

/// An object as it was published. Never changed: a change publishes another one.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) info: ObjectInfo,
    pub(crate) blocks: Blocks,
    /// For its key and attributes.
    pub(crate) _hold: Hold,
}

/// All objects by key.
pub(crate) type Index = BTreeMap<Key, Arc<Stored>>;

/// One page of the listing. Costs the entries that it returns, not the keys that they roll up.
pub(crate) fn page(index: &Index, query: &ListQuery) -> ListPage {
    let prefix = query.prefix.as_str();
    let limit = query.limit.min(MAX_PAGE_ENTRIES);
    let mut page = ListPage::default();
    let mut start = begin(query);
    'seek: while let Some(from) = start.take() {
        for (key, stored) in index.range::<str, _>((from.as_ref().map(String::as_str), Bound::Unbounded)) {
            #[cfg(test)]
            tests::VISITED.with(|visited| visited.set(visited.get() + 1));
            let Some(rest) = key.as_str().strip_prefix(prefix) else { break 'seek };
            if page.entries.len() >= limit {
                page.more = true;
                break 'seek;
            }
            let cut = query.delimiter.as_deref().and_then(|d| rest.find(d).map(|at| prefix.len() + at + d.len()));
            match cut {
                None => page.entries.push(ListEntry::Object(listed(&stored.info))),
                Some(cut) => {
                    let rolled = &key.as_str()[..cut];
                    page.entries.push(ListEntry::Prefix(rolled.to_owned()));
                    start = successor(rolled).map(Bound::Included);
                    continue 'seek;
                }
            }
        }
    }
    page
}

/// What a listing tells of an object. Attributes may be large, and no listing needs any but the size and the class.
fn listed(info: &ObjectInfo) -> ObjectInfo {
    let ObjectInfo { key, size, etag, modified, attributes } = info;
    let known = [SIZE_ATTRIBUTE, CLASS_ATTRIBUTE].into_iter().filter_map(|name| Some((name, attributes.get(name)?)));
    ObjectInfo { key: key.clone(), size: *size, etag: etag.clone(), modified: *modified, attributes: known.collect() }
}

/// Where the first key of the page may lie; `None` when there is no such place.
pub(crate) fn begin(query: &ListQuery) -> Option<Bound<String>> {
    let from = match &query.from {
        ListFrom::Start => Bound::Included(String::new()),
        ListFrom::After(key) => Bound::Excluded(key.clone()),
        ListFrom::AfterPrefix(prefix) => Bound::Included(successor(prefix)?),
        ListFrom::AfterVersion(key, _) => Bound::Included(key.clone()),
    };
    match from {
        Bound::Included(name) | Bound::Excluded(name) if name < query.prefix => Some(Bound::Included(query.prefix.clone())),
        from => Some(from),
    }
}

/// The least string above all strings that start with `prefix`, if there is one. Code points sort as their UTF-8 does, so it is
/// the prefix with its last character replaced by the next one.
pub(crate) fn successor(prefix: &str) -> Option<String> {
    let mut name = prefix.to_owned();
    while let Some(last) = name.pop() {
        let next = match last {
            '\u{d7ff}' => Some('\u{e000}'),
            _ => char::from_u32(u32::from(last) + 1),
        };
        if let Some(next) = next {
            name.push(next);
            return Some(name);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::cell::Cell;
    use std::time::SystemTime;

    use sluice_provider::{Attributes, ETag};

    use super::*;
    use crate::quota::Quota;

    thread_local! {
        pub(super) static VISITED: Cell<usize> = const { Cell::new(0) };
    }

    fn index(keys: impl IntoIterator<Item = String>) -> Index {
        let quota = Quota::new(u64::MAX);
        let stored = |key: &Key| {
            let info = ObjectInfo {
                key: key.clone(),
                size: 0,
                etag: ETag::new("e").unwrap(),
                modified: SystemTime::UNIX_EPOCH,
                attributes: Attributes::new(),
            };
            Arc::new(Stored { info, blocks: Blocks::default(), _hold: quota.take(0).unwrap() })
        };
        keys.into_iter().map(|key| Key::new(key).unwrap()).map(|key| (key.clone(), stored(&key))).collect()
    }

    fn visited(index: &Index, query: &ListQuery) -> (usize, ListPage) {
        VISITED.with(|visited| visited.set(0));
        let page = page(index, query);
        (VISITED.with(Cell::get), page)
    }

    #[test]
    fn a_page_costs_what_it_returns() {
        let index = index((0..100_000).map(|n| format!("{}/{}/{n}", n % 3, n % 10)));
        let query = |prefix: &str, delimiter: Option<&str>, from, limit| ListQuery {
            prefix: prefix.into(),
            delimiter: delimiter.map(Into::into),
            from,
            limit,
        };
        let (cost, found) = visited(&index, &query("", Some("/"), ListFrom::Start, 1000));
        assert_eq!((cost, found.entries.len(), found.more), (3, 3, false));
        let (cost, found) = visited(&index, &query("1/", Some("/"), ListFrom::AfterPrefix("1/4/".into()), 3));
        assert_eq!((cost, found.entries.len(), found.more), (4, 3, true));
        let (cost, found) = visited(&index, &query("2/", None, ListFrom::After("2/9".into()), 5));
        assert_eq!((cost, found.entries.len(), found.more), (6, 5, true));
        let (cost, found) = visited(&index, &query("none/", None, ListFrom::Start, 5));
        assert!(cost <= 1 && found.entries.is_empty() && !found.more);
    }

    #[test]
    fn a_page_has_an_end_whatever_is_asked_for() {
        let index = index((0..MAX_PAGE_ENTRIES + 5).map(|n| format!("{n:06}")));
        let found = page(&index, &ListQuery { limit: usize::MAX, ..ListQuery::default() });
        assert_eq!((found.entries.len(), found.more), (MAX_PAGE_ENTRIES, true));
    }

    #[test]
    fn the_successor_lies_just_above_the_prefix() {
        for (prefix, above) in [
            ("a/", Some("a0")),
            ("a\u{10ffff}", Some("b")),
            ("\u{10ffff}", None),
            ("", None),
            ("\u{7f}", Some("\u{80}")),
            ("\u{d7ff}", Some("\u{e000}")),
            ("é", Some("ê")),
        ] {
            assert_eq!(successor(prefix).as_deref(), above);
            for tail in ["", "a", "\u{10ffff}"] {
                assert!(above.is_none_or(|above| format!("{prefix}{tail}").as_str() < above));
            }
        }
    }
}
