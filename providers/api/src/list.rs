//! Listing.

use std::ops::Bound;

use crate::{Key, ObjectInfo, Result, VersionId};

/// Where a page begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListFrom {
    /// At the first key.
    #[default]
    Start,
    /// After this key, which need not exist.
    After(String),
    /// After every key that starts with this prefix.
    AfterPrefix(String),
    /// After this version of this key, which need not exist. Of a listing without versions: at this key.
    AfterVersion(String, VersionId),
}

impl ListFrom {
    /// Whether `key` lies before the start, so that it is left out.
    #[must_use]
    pub fn skips(&self, key: &str) -> bool {
        match self {
            Self::Start => false,
            Self::After(after) => key <= after.as_str(),
            Self::AfterPrefix(prefix) => key < prefix.as_str() || key.starts_with(prefix.as_str()),
            Self::AfterVersion(at, _) => key < at.as_str(),
        }
    }
}

/// Which page of which listing.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// Only keys that start with this.
    pub prefix: String,
    /// Keys that contain this, non-empty, string after the prefix are rolled up into one entry that ends with its first occurrence.
    pub delimiter: Option<String>,
    /// Where to begin. It selects keys before they are rolled up.
    pub from: ListFrom,
    /// The largest number of entries to return; at least 1.
    pub limit: usize,
}

impl ListQuery {
    /// The lower bound of the names of this page, for a sorted map of all names; `None` when none can be on it.
    #[must_use]
    pub fn begin(&self) -> Option<Bound<String>> {
        let from = match &self.from {
            ListFrom::Start => Bound::Included(String::new()),
            ListFrom::After(key) => Bound::Excluded(key.clone()),
            ListFrom::AfterPrefix(prefix) => Bound::Included(end_of_prefix(prefix)?),
            ListFrom::AfterVersion(key, _) => Bound::Included(key.clone()),
        };
        match from {
            Bound::Included(name) | Bound::Excluded(name) if name < self.prefix => Some(Bound::Included(self.prefix.clone())),
            from => Some(from),
        }
    }

    /// What a name below the prefix of the query is rolled up into, if it is.
    #[must_use]
    pub fn rolled_up<'a>(&self, name: &'a str) -> Option<&'a str> {
        let delimiter = self.delimiter.as_deref()?;
        let at = name.get(self.prefix.len()..)?.find(delimiter)?;
        name.get(..self.prefix.len() + at + delimiter.len())
    }

    /// A page out of a sorted map, of at most `most` entries whatever the query wants. `seek` looks into the map from a lower bound on,
    /// `info` tells of what it finds. Costs the entries that it returns, not the keys that they roll up.
    ///
    /// # Errors
    /// Those of `info`.
    pub fn page_of<'a, T: 'a, I: Iterator<Item = (&'a Key, T)>>(
        &self,
        most: usize,
        seek: impl Fn((Bound<&str>, Bound<&str>)) -> I,
        info: impl Fn(&Key, T) -> Result<ObjectInfo>,
    ) -> Result<ListPage> {
        let limit = self.limit.min(most);
        let mut page = ListPage::default();
        let mut start = self.begin();
        'seek: while let Some(from) = start.take() {
            for (key, found) in seek((from.as_ref().map(String::as_str), Bound::Unbounded)) {
                if !key.as_str().starts_with(&self.prefix) {
                    break 'seek;
                }
                if page.entries.len() >= limit {
                    page.more = true;
                    break 'seek;
                }
                match self.rolled_up(key.as_str()) {
                    None => page.entries.push(ListEntry::Object(info(key, found)?)),
                    Some(rolled) => {
                        page.entries.push(ListEntry::Prefix(rolled.to_owned()));
                        start = end_of_prefix(rolled).map(Bound::Included);
                        continue 'seek;
                    }
                }
            }
        }
        Ok(page)
    }
}

/// The least string above all strings that start with `prefix`, if there is one. Code points sort as their UTF-8 does, so it is
/// the prefix with its last character replaced by the next one.
#[must_use]
pub fn end_of_prefix(prefix: &str) -> Option<String> {
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

/// One line of a listing.
#[derive(Clone, Debug)]
pub enum ListEntry {
    /// An object.
    Object(ObjectInfo),
    /// Keys rolled up under their common prefix, which ends with the delimiter. At least one object lies beneath it.
    Prefix(String),
}

impl ListEntry {
    /// The key or the common prefix: what the listing is sorted by.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Object(info) => info.key.as_str(),
            Self::Prefix(prefix) => prefix,
        }
    }
}

/// A page.
#[derive(Clone, Debug, Default)]
pub struct ListPage {
    /// At most `limit` entries, sorted by name in UTF-8 byte order, without repetition.
    pub entries: Vec<ListEntry>,
    /// Whether at least one further entry follows.
    pub more: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_lies_just_above_the_prefix() {
        for (prefix, above) in [
            ("a/", Some("a0")),
            ("a\u{10ffff}", Some("b")),
            ("\u{10ffff}", None),
            ("", None),
            ("\u{7f}", Some("\u{80}")),
            ("\u{d7ff}", Some("\u{e000}")),
            ("é", Some("ê")),
        ] {
            assert_eq!(end_of_prefix(prefix).as_deref(), above);
            for tail in ["", "a", "\u{10ffff}"] {
                assert!(above.is_none_or(|above| format!("{prefix}{tail}").as_str() < above));
            }
        }
    }
}
