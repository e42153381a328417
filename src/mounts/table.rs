//! The longest-prefix table.
//!
//! Mounts are kept sorted by prefix, each with the index of its parent: the mount with the longest prefix that is a proper prefix
//! of its own. Of all prefixes that are not greater than a key, every one that the key starts with is the greatest or one of its
//! ancestors, so one binary search and a walk over integers find the mount: O(log mounts + depth).

use std::sync::Arc;

use sluice_provider::{Key, ListFrom, MAX_KEY_BYTES, Provider};

use super::Authorise;
use super::tiers::{Tiered, class_of};

/// A provider at a prefix.
#[derive(Clone, Debug)]
pub struct Mount {
    /// The prefix, empty for the whole bucket.
    pub prefix: Arc<str>,
    /// The kind of provider, for people.
    pub kind: Arc<str>,
    /// The provider. It sees keys without the prefix.
    pub provider: Arc<dyn Provider>,
    /// What decides on requests beside policies; for the gate in front, the mount itself does not ask it.
    pub authoriser: Option<Arc<dyn Authorise>>,
}

/// The mounts of one namespace. Immutable: a change makes a new table.
#[derive(Clone, Debug, Default)]
pub struct MountTable {
    /// Sorted by prefix in byte order, without repetition.
    mounts: Vec<Mount>,
    /// For each mount the index of the next shorter one around it.
    parents: Vec<Option<usize>>,
    /// All mounts as they were opened, those of storage classes too, sorted by prefix.
    opened: Vec<Mount>,
    /// Those that keep a storage class and serve no keys.
    classes: Arc<Vec<Mount>>,
    /// What serves each mount where there are storage classes; none otherwise.
    tiered: Vec<Arc<Tiered>>,
    /// Whether any mount that serves keys has an authoriser.
    authorised: bool,
}

/// Where a segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until<'a> {
    /// With this key, which still belongs to it: another mount begins behind it.
    Key(&'a str),
    /// With the last key of the listing, or of the mount.
    End,
}

/// A stretch of keys, in key order, that one mount serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// The index of the mount.
    pub mount: usize,
    /// Where it begins.
    pub from: ListFrom,
    /// Where it ends.
    pub until: Until<'a>,
}

impl Segment<'_> {
    /// Whether a name lies beyond the end. Names of the mount that are shadowed by the mount that begins there do.
    #[must_use]
    pub fn ends_before(&self, name: &str) -> bool {
        matches!(self.until, Until::Key(last) if name > last)
    }
}

// === impl MountTable ===

impl MountTable {
    /// A table of these mounts. Of two with the same prefix the later one counts.
    #[must_use]
    pub fn new(mounts: Vec<Mount>) -> Self {
        Self::default().renewed(mounts)
    }

    /// A table of these mounts, as they were opened, in the place of this one: what serves a key as before stays the same.
    #[must_use]
    pub fn renewed(&self, mut opened: Vec<Mount>) -> Self {
        opened.reverse();
        opened.sort_by(|a, b| a.prefix.cmp(&b.prefix));
        opened.dedup_by(|later, kept| later.prefix == kept.prefix);
        let (classes, mut mounts): (Vec<_>, Vec<_>) = opened.iter().cloned().partition(|mount| class_of(&mount.prefix).is_some());
        let is = |a: &Mount, b: &Mount| a.prefix == b.prefix && Arc::ptr_eq(&a.provider, &b.provider);
        let same = classes.len() == self.classes.len() && classes.iter().zip(self.classes.iter()).all(|(a, b)| is(a, b));
        let classes = if same { Arc::clone(&self.classes) } else { Arc::new(classes) };
        let mut tiered = Vec::new();
        if !classes.is_empty() {
            for mount in &mut mounts {
                let known =
                    self.mounts.iter().zip(&self.tiered).find(|(known, tiered)| {
                        same && known.prefix == mount.prefix && Arc::ptr_eq(tiered.inner(), &mount.provider)
                    });
                match known {
                    Some((known, known_tiered)) => {
                        mount.provider = Arc::clone(&known.provider);
                        tiered.push(Arc::clone(known_tiered));
                    }
                    None => {
                        let new = Arc::new(Tiered::new(Arc::clone(&mount.provider), Arc::clone(&classes)));
                        mount.provider = Arc::clone(&new) as _;
                        tiered.push(new);
                    }
                }
            }
        }
        let mut around: Vec<usize> = Vec::new();
        let mut parents = Vec::with_capacity(mounts.len());
        for (index, mount) in mounts.iter().enumerate() {
            while around.last().is_some_and(|&top| !mount.prefix.starts_with(&*mounts[top].prefix)) {
                around.pop();
            }
            parents.push(around.last().copied());
            around.push(index);
        }
        let authorised = mounts.iter().any(|mount| mount.authoriser.is_some());
        Self { mounts, parents, opened, classes, tiered, authorised }
    }

    /// The mount with the longest prefix that is shorter than the key and that the key starts with, and the key without it. A key that
    /// equals a mount's prefix belongs to the next shorter mount, so that a provider never sees an empty key. `None` too when the
    /// key is empty or longer than a key may be.
    #[must_use]
    pub fn resolve(&self, key: &str) -> Option<(&Mount, Key)> {
        if key.len() > MAX_KEY_BYTES {
            return None;
        }
        let mount = &self.mounts[self.owner(key)?];
        let key = Key::new(&key[mount.prefix.len()..]).ok()?;
        Some((mount, key))
    }

    /// The mount at exactly this prefix.
    #[must_use]
    pub fn at(&self, prefix: &str) -> Option<&Mount> {
        match self.mounts.binary_search_by(|m| (*m.prefix).cmp(prefix)) {
            Ok(at) => self.mounts.get(at),
            Err(_) => self.classes.iter().find(|mount| *mount.prefix == *prefix),
        }
    }

    /// The mount at exactly this prefix as it was opened.
    #[must_use]
    pub fn opened(&self, prefix: &str) -> Option<&Mount> {
        self.opened.binary_search_by(|m| (*m.prefix).cmp(prefix)).ok().and_then(|at| self.opened.get(at))
    }

    /// The mounts that keep a storage class.
    #[must_use]
    pub fn classes(&self) -> &[Mount] {
        &self.classes
    }

    /// Whether a mount keeps a storage class.
    #[must_use]
    pub fn keeps_class(&self, class: &str) -> bool {
        self.classes.iter().any(|mount| class_of(&mount.prefix) == Some(class))
    }

    /// What serves a key, where there are storage classes, and the key there.
    #[must_use]
    pub fn tiered(&self, key: &str) -> Option<(Arc<Tiered>, Key)> {
        if key.len() > MAX_KEY_BYTES {
            return None;
        }
        let at = self.owner(key)?;
        let inner = Key::new(&key[self.mounts.get(at)?.prefix.len()..]).ok()?;
        Some((Arc::clone(self.tiered.get(at)?), inner))
    }

    /// All mounts that have, or would have if no other were within, this key; with the key there.
    pub fn all_with<'a>(&'a self, key: &'a str) -> impl Iterator<Item = (&'a Mount, Key)> {
        let with = |mount: &'a Mount| Some((mount, Key::new(key.strip_prefix(&*mount.prefix)?).ok()?));
        self.opened.iter().filter(|mount| class_of(&mount.prefix).is_none()).filter_map(with)
    }

    /// Whether any mount has an authoriser.
    #[must_use]
    pub fn asks_authorisers(&self) -> bool {
        self.authorised
    }

    /// The mount of an index, as in [`Segment::mount`].
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&Mount> {
        self.mounts.get(index)
    }

    /// A table with one more mount; it replaces one at the same prefix.
    #[must_use]
    pub fn with(&self, mount: Mount) -> Self {
        let mut mounts = self.opened.clone();
        mounts.push(mount);
        self.renewed(mounts)
    }

    /// A table without the mount at a prefix.
    #[must_use]
    pub fn without(&self, prefix: &str) -> Self {
        self.renewed(self.opened.iter().filter(|m| &*m.prefix != prefix).cloned().collect())
    }

    /// All mounts that serve keys, in prefix order.
    pub fn iter(&self) -> impl Iterator<Item = &Mount> {
        self.mounts.iter()
    }

    /// How many mounts serve keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.mounts.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.mounts.is_empty()
    }

    /// Whether any mount's prefix begins with this (or is this).
    #[must_use]
    pub fn any_within(&self, prefix: &str) -> bool {
        let first = self.mounts.partition_point(|m| &*m.prefix < prefix);
        self.mounts.get(first).is_some_and(|m| m.prefix.starts_with(prefix))
    }

    /// The stretches of keys that begin with `prefix` and lie at or after `from`, in key order, each with the mount that serves it.
    #[must_use]
    pub fn segments<'a>(&'a self, prefix: &'a str, from: &ListFrom) -> Segments<'a> {
        Segments::new(self, prefix, from)
    }

    /// The mounts that lie around a name and satisfy `entered` (which holds for all prefixes up to some point), outermost first.
    fn around(&self, entered: impl Fn(&str) -> bool, name: &str) -> Vec<usize> {
        let mut chain = Vec::new();
        let mut index = self.mounts.partition_point(|m| entered(&m.prefix)).checked_sub(1);
        while let Some(at) = index {
            if name.starts_with(&*self.mounts[at].prefix) {
                chain.push(at);
            }
            index = self.parents[at];
        }
        chain.reverse();
        chain
    }

    /// The index of the mount that serves a key.
    fn owner(&self, key: &str) -> Option<usize> {
        let mut at = self.mounts.partition_point(|m| &*m.prefix < key).checked_sub(1)?;
        let shared = shared_bytes(&self.mounts[at].prefix, key);
        while self.mounts[at].prefix.len() > shared {
            at = self.parents[at]?;
        }
        Some(at)
    }
}

/// How many bytes two names have in common at their beginning.
fn shared_bytes(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

// === impl Segments ===

/// See [`MountTable::segments`].
#[derive(Debug)]
pub struct Segments<'a> {
    table: &'a MountTable,
    prefix: &'a str,
    /// The mounts around the current position, the innermost last.
    around: Vec<usize>,
    /// The next mount to enter.
    next: usize,
    /// Where the next segment begins; `None` at the end.
    from: Option<ListFrom>,
}

impl<'a> Segments<'a> {
    fn new(table: &'a MountTable, prefix: &'a str, from: &ListFrom) -> Self {
        let mounts = &table.mounts;
        let at_start = || {
            // A mount at exactly the prefix is entered behind the key of that name; the one of the empty prefix has no such key.
            let next = mounts.partition_point(|m| &*m.prefix < prefix || m.prefix.is_empty());
            (table.around(|m| m.is_empty() || m < prefix, prefix), next, true)
        };
        let (around, next, more) = match from {
            ListFrom::After(key) if key.as_str() >= prefix => {
                let next = mounts.partition_point(|m| &*m.prefix <= key.as_str());
                (table.around(|m| m <= key.as_str(), key), next, key.starts_with(prefix))
            }
            ListFrom::AfterPrefix(skipped) if prefix.starts_with(skipped.as_str()) => (Vec::new(), mounts.len(), false),
            ListFrom::AfterPrefix(skipped) if skipped.as_str() > prefix => {
                let next = mounts.partition_point(|m| &*m.prefix < skipped.as_str() || m.prefix.starts_with(skipped.as_str()));
                (table.around(|m| m < skipped.as_str(), skipped), next, skipped.starts_with(prefix))
            }
            // At the key itself, whose later versions are still to come.
            ListFrom::AfterVersion(key, _) if key.as_str() >= prefix => {
                let next = mounts.partition_point(|m| &*m.prefix < key.as_str());
                (table.around(|m| m < key.as_str(), key), next, key.starts_with(prefix))
            }
            ListFrom::Start | ListFrom::After(_) | ListFrom::AfterPrefix(_) | ListFrom::AfterVersion(..) => at_start(),
        };
        Self { table, prefix, around, next, from: more.then(|| from.clone()) }
    }

    /// Enters the next mount and answers where its predecessor ends.
    fn enter(&mut self) -> &'a str {
        let prefix: &'a str = &self.table.mounts[self.next].prefix;
        self.from = Some(ListFrom::After(prefix.to_owned()));
        self.around.push(self.next);
        self.next += 1;
        prefix
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Segment<'a>;

    fn next(&mut self) -> Option<Segment<'a>> {
        loop {
            let from = self.from.clone()?;
            let mounts = &self.table.mounts;
            let entering = mounts.get(self.next).filter(|m| m.prefix.starts_with(self.prefix));
            let Some(&mount) = self.around.last() else {
                // No mount serves what lies before the next one.
                entering?;
                self.enter();
                continue;
            };
            let left = &mounts[mount].prefix;
            if entering.is_some_and(|m| m.prefix.starts_with(&**left)) {
                let until = Until::Key(self.enter());
                return Some(Segment { mount, from, until });
            }
            self.around.pop();
            // A mount that is not wholly inside the listing ends with it.
            self.from = (left.len() > self.prefix.len()).then(|| ListFrom::AfterPrefix(left.to_string()));
            return Some(Segment { mount, from, until: Until::End });
        }
    }
}

#[cfg(test)]
mod tests;
