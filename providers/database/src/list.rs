//! Listing, as seeks in the index of names.

use sluice_provider::{Key, ListEntry, ListFrom, ListPage, ListQuery, Result};

use crate::backend::{Backend, on};
use crate::error::corrupt;

/// The most names that one statement reads.
const ROWS: usize = 1000;

/// The first name behind all that begin with a prefix: no byte of UTF-8 is 0xff.
fn behind(prefix: &[u8]) -> Vec<u8> {
    let mut name = prefix.to_vec();
    if let Some(last) = name.last_mut() {
        *last += 1;
    }
    name
}

pub(crate) async fn page(backend: &Backend, space: &str, query: &ListQuery) -> Result<ListPage> {
    let prefix = query.prefix.as_bytes();
    let below = (!prefix.is_empty()).then(|| behind(prefix));
    let mut from = match &query.from {
        ListFrom::Start => prefix.to_vec(),
        // No name lies between a name and the same with a NUL behind it.
        ListFrom::After(key) => [key.as_bytes(), &[0]].concat(),
        ListFrom::AfterPrefix(rolled) if rolled.is_empty() => return Ok(ListPage::default()),
        ListFrom::AfterPrefix(rolled) => behind(rolled.as_bytes()),
        ListFrom::AfterVersion(key, _) => key.as_bytes().to_vec(),
    };
    if from.as_slice() < prefix {
        from = prefix.to_vec();
    }
    let mut page = ListPage::default();
    'seek: loop {
        let wanted = query.limit.saturating_sub(page.entries.len()).saturating_add(1).min(ROWS);
        let limit = i64::try_from(wanted).unwrap_or(1);
        let rows = on!(backend, store => store.names(space, &from, below.as_deref(), limit).await)?;
        let complete = rows.len() < wanted;
        for (name, stored) in rows {
            if name < from {
                // Rolled up with the one before.
                continue;
            }
            let name = String::from_utf8(name).map_err(|e| corrupt("name of an object").caused_by(e))?;
            if page.entries.len() >= query.limit {
                page.more = true;
                break 'seek;
            }
            match query.rolled_up(&name) {
                Some(rolled) => {
                    from = behind(rolled.as_bytes());
                    page.entries.push(ListEntry::Prefix(rolled.to_owned()));
                }
                None => {
                    from = [name.as_bytes(), &[0]].concat();
                    page.entries.push(ListEntry::Object(stored.info(Key::new(&name)?)?));
                }
            }
        }
        if complete {
            break;
        }
    }
    Ok(page)
}
