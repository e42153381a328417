//! What is stored beside the bytes.

use std::collections::BTreeMap;

use crate::{ETag, ObjectInfo};

/// The attribute that holds the size in bytes that an object is known by, in decimal digits, where that is not the number of its stored
/// bytes: what is stored may be encrypted. Every answer carries it, those of listings too, which may leave out all others.
pub const SIZE_ATTRIBUTE: &str = "size";

/// The attribute that tells the storage class of an object, as S3 names it, where that is not STANDARD. A listing that leaves attributes out
/// carries it where it can.
pub const CLASS_ATTRIBUTE: &str = "storage-class";

/// The size in bytes that an object is known by: [`SIZE_ATTRIBUTE`], or else how many bytes are stored.
#[must_use]
pub fn known_size(info: &ObjectInfo) -> u64 {
    info.attributes.get(SIZE_ATTRIBUTE).and_then(|size| size.parse().ok()).unwrap_or(info.size)
}

/// Named text values stored with an object, opaque to the provider. Names are ASCII of at most 255 bytes, values UTF-8. A
/// provider with [`Features::attributes`](crate::Features) keeps at least 64 KiB of them per object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes(BTreeMap<String, String>);

impl Attributes {
    /// None at all.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Sets a value, replacing the one before.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    /// Removes a name; answers whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        self.0.remove(name).is_some()
    }

    /// All pairs in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// The pairs whose name starts with `prefix`, in order, the prefix removed.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0
            .range::<str, _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded))
            .map_while(move |(n, v)| Some((n.strip_prefix(prefix)?, v.as_str())))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Applies the changes of an [`AttributeChange`].
    pub fn apply(&mut self, change: &AttributeChange) {
        for (name, value) in &change.set {
            match value {
                Some(value) => self.set(name, value),
                None => drop(self.remove(name)),
            }
        }
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Attributes {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(n, v)| (n.into(), v.into())).collect())
    }
}

impl<N: Into<String>, V: Into<String>> Extend<(N, V)> for Attributes {
    fn extend<I: IntoIterator<Item = (N, V)>>(&mut self, pairs: I) {
        self.0.extend(pairs.into_iter().map(|(n, v)| (n.into(), v.into())));
    }
}

/// A change of attributes in one step.
#[derive(Clone, Debug, Default)]
pub struct AttributeChange {
    /// Only when the object has this ETag.
    pub if_match: Option<ETag>,
    /// Names to set (`Some`) and to remove (`None`).
    pub set: Vec<(String, Option<String>)>,
}
