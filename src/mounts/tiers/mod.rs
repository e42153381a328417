//! Storage classes: mounts that keep the bytes of what a lifecycle moved, instead of keys.
//!
//! A mount at the prefix `storage-class:GLACIER_IR` serves no key. It is where the objects of its bucket lie that were moved to that class.
//! Such an object keeps its place on the mount of its key, with everything that is told of it, but without its bytes; an attribute
//! ([`TIER_ATTRIBUTE`]) says where those are. A [`Tiered`] stands between the gateway and the mounts of such a bucket and puts the two
//! together again, so that nobody above knows the difference.
//!
//! What holds, whatever is cut short where:
//! - The bytes are written and acknowledged under a name that no other object ever has, before the object lets go of its own; and it lets go
//!   in one step, if it is still the one that was copied.
//! - Bytes are removed only when nothing refers to them: at once by whoever removed the object, or by a sweep of those that are old enough
//!   that nobody is about to refer to them.

mod facets;
mod name;
mod provider;
mod sweep;
mod transition;

pub use sluice_provider::CLASS_ATTRIBUTE;
use sluice_provider::{Attributes, Key, ObjectInfo, SIZE_ATTRIBUTE};

pub use name::{Blob, class_of, rank};
pub use provider::Tiered;
pub use sweep::Sweeping;
pub use transition::{Carried, Transition};

/// What the prefix of a mount begins with that keeps a storage class.
pub const CLASS_PREFIX: &str = "storage-class:";
/// The storage classes that a mount can keep, by their names in S3, from the dearest to the cheapest: objects move down this list only
/// (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/lifecycle-transition-general-considerations.html>).
pub const CLASSES: [&str; 6] = ["STANDARD_IA", "INTELLIGENT_TIERING", "ONEZONE_IA", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"];
/// The attribute of an object whose bytes lie elsewhere: the class, how many bytes they are, and their name on the class's mount.
/// Seen by nobody above [`Tiered`].
pub(crate) const TIER_ATTRIBUTE: &str = "tier";

/// Where the bytes of an object lie that has none of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tier {
    pub(crate) class: String,
    pub(crate) size: u64,
    pub(crate) name: Key,
}

impl Tier {
    pub(crate) fn of(attributes: &Attributes) -> Option<Self> {
        let mut words = attributes.get(TIER_ATTRIBUTE)?.splitn(3, ' ');
        let (class, size, name) = (words.next()?.to_owned(), words.next()?.parse().ok()?, words.next()?);
        Some(Self { class, size, name: Key::new(name).ok()? })
    }

    fn to_attribute(&self) -> String {
        format!("{} {} {}", self.class, self.size, self.name)
    }
}

/// Whether this is what is left of an object at its own place, seen without the mount that has its bytes: it must not be taken for an
/// empty object.
#[must_use]
pub fn is_stranded(info: &ObjectInfo) -> bool {
    info.size == 0 && info.attributes.get(TIER_ATTRIBUTE).is_some()
}

/// Whether an object of these attributes has its bytes under this name.
#[must_use]
pub fn refers_to(attributes: &Attributes, name: &Key) -> bool {
    Tier::of(attributes).is_some_and(|tier| tier.name == *name)
}

/// An object as it was before its bytes were moved.
fn whole(mut info: ObjectInfo) -> ObjectInfo {
    let Some(tier) = Tier::of(&info.attributes) else { return info };
    info.attributes.remove(TIER_ATTRIBUTE);
    if info.attributes.get(SIZE_ATTRIBUTE).and_then(|size| size.parse().ok()) == Some(tier.size) {
        info.attributes.remove(SIZE_ATTRIBUTE);
    }
    ObjectInfo { size: tier.size, ..info }
}

#[cfg(test)]
mod tests;
