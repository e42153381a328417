//! Listing, as seeks in a sorted map.

use std::collections::BTreeMap;
use std::ops::Bound;

use sluice_provider::{Key, ListEntry, ListFrom, ListPage, ListQuery, ObjectInfo, Result};

/// The most entries of one page, which is made under a lock.
const MOST: usize = 10_000;

/// The least string above all that begin with a prefix, if there is one.
fn behind(prefix: &str) -> Option<String> {
    let mut name = prefix.to_owned();
    while let Some(last) = name.pop() {
        let next = if last == '\u{d7ff}' { Some('\u{e000}') } else { char::from_u32(u32::from(last) + 1) };
        if let Some(next) = next {
            name.push(next);
            return Some(name);
        }
    }
    None
}

/// One page. Costs the entries that it returns, not the keys that they roll up.
pub(crate) fn page<T>(
    objects: &BTreeMap<Key, T>,
    query: &ListQuery,
    info: impl Fn(&Key, &T) -> Result<ObjectInfo>,
) -> Result<ListPage> {
    let prefix = query.prefix.as_str();
    let limit = query.limit.min(MOST);
    let mut page = ListPage::default();
    let mut from = match &query.from {
        ListFrom::Start => Bound::Included(String::new()),
        ListFrom::After(key) => Bound::Excluded(key.clone()),
        ListFrom::AfterVersion(key, _) => Bound::Included(key.clone()),
        ListFrom::AfterPrefix(rolled) => match behind(rolled) {
            Some(name) => Bound::Included(name),
            None => return Ok(page),
        },
    };
    if let Bound::Included(name) | Bound::Excluded(name) = &from
        && name.as_str() < prefix
    {
        from = Bound::Included(prefix.to_owned());
    }
    loop {
        let mut rolled_up = None;
        for (key, object) in objects.range::<str, _>((from.as_ref().map(String::as_str), Bound::Unbounded)) {
            let Some(rest) = key.as_str().strip_prefix(prefix) else { return Ok(page) };
            if page.entries.len() >= limit {
                page.more = true;
                return Ok(page);
            }
            let cut = query.delimiter.as_deref().and_then(|d| rest.find(d).map(|at| prefix.len() + at + d.len()));
            match cut.and_then(|cut| key.as_str().get(..cut)) {
                None => page.entries.push(ListEntry::Object(info(key, object)?)),
                Some(rolled) => {
                    page.entries.push(ListEntry::Prefix(rolled.to_owned()));
                    rolled_up = Some(behind(rolled));
                    break;
                }
            }
        }
        match rolled_up {
            Some(Some(name)) => from = Bound::Included(name),
            Some(None) | None => return Ok(page),
        }
    }
}
