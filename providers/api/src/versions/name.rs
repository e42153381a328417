//! The names of versions.
//!
//! 24 bytes, written as 32 characters of an alphabet that sorts as the bytes do: the time of birth in nanoseconds, inverted, so that
//! the newest comes first, and 128 random bits, so that no name tells another.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::{Error, ErrorKind, Result};

/// The 64 letters, digits and signs in the order of their bytes.
const ALPHABET: &[u8; 64] = b"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";
const BYTES: usize = 24;
const CHARACTERS: usize = 32;

/// The name of a version. Sorts from the newest to the oldest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version([u8; BYTES]);

impl Version {
    /// What sorts behind every name.
    pub const OLDEST: Self = Self([0xff; BYTES]);

    /// A name for what is born now, newer than `before` whatever the clock says, with a place [just before](Self::just_before) it.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] without random numbers.
    pub fn after(before: Option<&Self>) -> Result<Self> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|e| Error::new(ErrorKind::Unavailable, "random version").with("cause", e))?;
        let now =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
        let born = before.map_or(now, |before| now.max(before.born().saturating_add(2)));
        Ok(Self::new(born, random))
    }

    /// The place just before this one, for what it replaced and has no name of its own.
    #[must_use]
    pub fn just_before(&self) -> Self {
        Self::new(self.born().saturating_sub(1), [0xff; 16])
    }

    fn new(born: u64, random: [u8; 16]) -> Self {
        let mut bytes = [0; BYTES];
        let (time, rest) = bytes.split_at_mut(8);
        time.copy_from_slice(&(u64::MAX - born).to_be_bytes());
        rest.copy_from_slice(&random);
        Self(bytes)
    }

    /// When it was born, in nanoseconds since the epoch.
    fn born(&self) -> u64 {
        let (time, _) = self.0.split_at(8);
        u64::MAX - time.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
    }

    /// Reads a name.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when no version can have it.
    pub fn parse(name: &str) -> Result<Self> {
        let none = || Error::new(ErrorKind::NotFound, "version name");
        if name.len() != CHARACTERS {
            return Err(none());
        }
        let mut bytes = [0; BYTES];
        for (four, three) in name.as_bytes().chunks_exact(4).zip(bytes.chunks_exact_mut(3)) {
            let mut bits: u32 = 0;
            for character in four {
                let value = ALPHABET.binary_search(character).map_err(|_| none())?;
                bits = (bits << 6) | u32::try_from(value).unwrap_or(0);
            }
            let [_, high, middle, low] = bits.to_be_bytes();
            three.copy_from_slice(&[high, middle, low]);
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        for three in self.0.chunks_exact(3) {
            let bits = three.iter().fold(0_u32, |bits, byte| (bits << 8) | u32::from(*byte));
            for shift in [18, 12, 6, 0] {
                let value = usize::try_from((bits >> shift) & 63).unwrap_or(0);
                f.write_char(char::from(ALPHABET.get(value).copied().unwrap_or(b'-')))?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The name of a version that somebody else gave: a remote whose names are not [`Version`]s. It tells nothing of the order.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ForeignVersion {
    length: u8,
    /// What is behind the name is zero, so that equal names are equal.
    bytes: [u8; Self::MAX_BYTES],
}

impl ForeignVersion {
    /// The longest that is read. S3 allows 1024 bytes; AWS, Ceph and MinIO use 32 to 36, Backblaze about 100.
    pub const MAX_BYTES: usize = 127;

    /// Reads a name: printable ASCII without blanks, as URLs and headers can carry it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when no version can have it.
    pub fn parse(name: &str) -> Result<Self> {
        let none = || Error::new(ErrorKind::NotFound, "version name");
        let mut bytes = [0; Self::MAX_BYTES];
        let place = bytes.get_mut(..name.len()).filter(|place| !place.is_empty()).ok_or_else(none)?;
        if !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(none());
        }
        place.copy_from_slice(name.as_bytes());
        let length = u8::try_from(name.len()).map_err(|e| none().caused_by(e))?;
        Ok(Self { length, bytes })
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.bytes.get(..usize::from(self.length)).and_then(|name| std::str::from_utf8(name).ok()).unwrap_or_default()
    }
}

impl fmt::Debug for ForeignVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which version of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VersionId {
    /// The one without a name.
    Null,
    /// The one of this name.
    Named(Version),
    /// The one that a remote calls so. What reads as a [`Version`] is [`Named`](Self::Named), whoever gave it.
    Foreign(ForeignVersion),
}

impl VersionId {
    /// The name, if it is one that tells the order.
    #[must_use]
    pub fn name(&self) -> Option<&Version> {
        match self {
            Self::Null | Self::Foreign(_) => None,
            Self::Named(version) => Some(version),
        }
    }

    /// Reads `null` or a name, of whoever gave it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when no version can have it.
    pub fn parse(name: &str) -> Result<Self> {
        if name == "null" {
            return Ok(Self::Null);
        }
        Version::parse(name).map(Self::Named).or_else(|_| ForeignVersion::parse(name).map(Self::Foreign))
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Named(version) => version.fmt(f),
            Self::Foreign(version) => f.write_str(version.as_str()),
        }
    }
}

/// The place of an older version among those of its key, for providers that keep them side by side: sorts from the newest to the
/// oldest, and tells all that is not in the attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// Its name, or for the null version the name that it would have.
    pub order: Version,
    /// Whether it is a null version.
    pub null: bool,
    /// Whether it is a delete marker.
    pub marker: bool,
}

impl Slot {
    /// Which version lies here.
    #[must_use]
    pub fn id(&self) -> VersionId {
        if self.null { VersionId::Null } else { VersionId::Named(self.order) }
    }

    /// Reads what [`Display`](fmt::Display) writes; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (order, kind) = text.split_at_checked(CHARACTERS)?;
        let (null, marker) = match kind {
            "" => (false, false),
            ".null" => (true, false),
            ".marker" => (false, true),
            ".null.marker" => (true, true),
            _ => return None,
        };
        Some(Self { order: Version::parse(order).ok()?, null, marker })
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let null = if self.null { ".null" } else { "" };
        let marker = if self.marker { ".marker" } else { "" };
        write!(f, "{}{null}{marker}", self.order)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_newer_name_sorts_first_as_bytes_and_as_text() {
        let mut names = vec![Version::after(None).unwrap()];
        for _ in 0..100 {
            names.push(Version::after(names.last()).unwrap());
        }
        assert!(names.windows(2).all(|pair| pair[1] < pair[0]));
        assert!(names.windows(2).all(|pair| pair[1].to_string() < pair[0].to_string()));
        let ahead = Version::new(u64::MAX - 5, [7; 16]);
        assert!(Version::after(Some(&ahead)).unwrap() < ahead, "a clock that went back");
        assert!(
            ahead < ahead.just_before()
                && Version::after(Some(&ahead)).unwrap().just_before() > Version::new(u64::MAX - 4, [0; 16])
        );
    }

    #[test]
    fn a_name_that_a_remote_gave_stays_as_it_is() {
        let uuid = "8f3a9c1e-0b7d-4c52-9d6e-1a2b3c4d5e6f";
        let (aws, long) = ("L4kqtJlcpXroDTDmpUMLUo7dA8wO6Xh.", "x".repeat(ForeignVersion::MAX_BYTES));
        for name in [uuid, aws, "v1", "4_z27c8_f100920_d20150809_m232316_c100_v0009990_t0003", "a/b+c=&?\"%", &long] {
            let id = VersionId::parse(name).unwrap();
            assert!(matches!(id, VersionId::Foreign(_)), "{name}");
            assert_eq!((id.to_string().as_str(), id.name()), (name, None));
            assert_eq!(VersionId::parse(name).unwrap(), id);
        }
        assert_ne!(VersionId::parse("a").unwrap(), VersionId::parse("aa").unwrap());
        assert_eq!(VersionId::parse("null").unwrap(), VersionId::Null);
        let own = Version::after(None).unwrap();
        assert_eq!(VersionId::parse(&own.to_string()).unwrap(), VersionId::Named(own));
        for bad in ["", "a b", "a\n", "\0", "é", &format!("{long}x")] {
            assert!(VersionId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_are_read_back_and_nothing_else_is_one() {
        let version = Version::after(None).unwrap();
        assert_eq!(Version::parse(&version.to_string()).unwrap(), version);
        assert_eq!(version.to_string().len(), 32);
        for bad in ["", "null", "x", &"é".repeat(16), &"~".repeat(32), &"a".repeat(33)] {
            assert!(Version::parse(bad).is_err(), "{bad}");
        }
        for (null, marker) in [(false, false), (false, true), (true, false), (true, true)] {
            let slot = Slot { order: version, null, marker };
            assert_eq!(Slot::parse(&slot.to_string()), Some(slot));
        }
        assert_eq!(Slot::parse(&format!("{version}.else")), None);
    }
}
