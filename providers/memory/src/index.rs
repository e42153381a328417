//! The sorted index, and listing as a seek in it.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use sluice_provider::{CLASS_ATTRIBUTE, Key, ListPage, ListQuery, ObjectInfo, Result, SIZE_ATTRIBUTE};

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

/// One page of the listing.
pub(crate) fn page(index: &Index, query: &ListQuery) -> Result<ListPage> {
    let seek = |range: (Bound<&str>, Bound<&str>)| {
        let found = index.range::<str, _>(range);
        #[cfg(test)]
        let found = found.inspect(|_| tests::VISITED.with(|visited| visited.set(visited.get() + 1)));
        found
    };
    query.page_of(MAX_PAGE_ENTRIES, seek, |_, stored| Ok(listed(&stored.info)))
}

/// What a listing tells of an object. Attributes may be large, and no listing needs any but the size and the class.
fn listed(info: &ObjectInfo) -> ObjectInfo {
    let ObjectInfo { key, size, etag, modified, attributes } = info;
    let known = [SIZE_ATTRIBUTE, CLASS_ATTRIBUTE].into_iter().filter_map(|name| Some((name, attributes.get(name)?)));
    ObjectInfo { key: key.clone(), size: *size, etag: etag.clone(), modified: *modified, attributes: known.collect() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::cell::Cell;
    use std::time::SystemTime;

    use sluice_provider::{Attributes, ETag, ListFrom};

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
        let page = page(index, query).unwrap();
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
        let found = page(&index, &ListQuery { limit: usize::MAX, ..ListQuery::default() }).unwrap();
        assert_eq!((found.entries.len(), found.more), (MAX_PAGE_ENTRIES, true));
    }
}
