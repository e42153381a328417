//! What is stored beside an object: its ETag, its attributes, and the size and modification time of the content they describe.
//!
//! The form is compact, because 60 to 100 bytes fit into the inode of ext4 and cost no block of their own. Numbers are LEB128.
//! `version, flags, size, seconds (zigzag), nanoseconds, etag, then either the attributes or the 16 bytes of a record's id, and after
//! the id, where flags say so, the size that the object is known by`.
//!
//! One flag says that the file is being appended to: what lies beyond the size is no part of the object, yet or any more.

use std::time::{Duration, SystemTime};

use rustix::fs::Stat;
use sluice_provider::{Attributes, ETag};

const VERSION: u8 = 1;
const MD5: u8 = 1;
const RECORD: u8 = 2;
const KNOWN_SIZE: u8 = 4;
const GROWING: u8 = 8;

/// Attribute names that are stored as one byte. Append only: the position is the code.
const NAMES: [&str; 16] = [
    "content-type",
    "content-encoding",
    "content-disposition",
    "content-language",
    "cache-control",
    "expires",
    "checksum.crc32",
    "checksum.crc32c",
    "checksum.crc64nvme",
    "checksum.sha1",
    "checksum.sha256",
    "checksum.type",
    "tags",
    "parts",
    "size",
    "sse",
];

/// The state of a file's content as far as `stat` tells. When it differs from what was stored, somebody else wrote the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Stamp {
    pub(crate) size: u64,
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

impl Stamp {
    #[allow(clippy::unnecessary_cast, reason = "the types of stat differ between platforms")]
    pub(crate) fn of(stat: &Stat) -> Self {
        Self { size: stat.st_size as u64, seconds: stat.st_mtime as i64, nanoseconds: stat.st_mtime_nsec as u32 }
    }

    pub(crate) fn modified(self) -> SystemTime {
        let whole = Duration::from_secs(self.seconds.unsigned_abs());
        let base =
            if self.seconds < 0 { SystemTime::UNIX_EPOCH.checked_sub(whole) } else { SystemTime::UNIX_EPOCH.checked_add(whole) };
        base.unwrap_or(SystemTime::UNIX_EPOCH) + Duration::from_nanos(u64::from(self.nanoseconds))
    }
}

/// The name of a record that holds attributes too large for the inode.
pub(crate) type RecordId = [u8; 16];

/// Where the attributes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Beside {
    Here(Attributes),
    /// In a record; but the size that the object is known by is here too, for listings.
    Record(RecordId, Option<u64>),
}

/// What is stored beside an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) stamp: Stamp,
    pub(crate) etag: ETag,
    pub(crate) beside: Beside,
    /// Somebody is appending to the file, or died while at it.
    pub(crate) growing: bool,
}

fn put_number(mut n: u64, out: &mut Vec<u8>) {
    while n >= 0x80 {
        out.push((n as u8 & 0x7f) | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    put_number(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    fn number(&mut self) -> Option<u64> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            n |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(n);
            }
        }
        None
    }

    fn text(&mut self) -> Option<&'a str> {
        let bytes = usize::try_from(self.number()?).ok()?;
        std::str::from_utf8(self.take(bytes)?).ok()
    }
}

impl Meta {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        let md5 = raw_md5(self.etag.as_str());
        let record = match self.beside {
            Beside::Here(_) => 0,
            Beside::Record(_, None) => RECORD,
            Beside::Record(_, Some(_)) => RECORD | KNOWN_SIZE,
        };
        let flags = record | if md5.is_some() { MD5 } else { 0 } | if self.growing { GROWING } else { 0 };
        out.extend_from_slice(&[VERSION, flags]);
        put_number(self.stamp.size, &mut out);
        put_number(((self.stamp.seconds << 1) ^ (self.stamp.seconds >> 63)) as u64, &mut out);
        put_number(self.stamp.nanoseconds.into(), &mut out);
        match md5 {
            Some(raw) => out.extend_from_slice(&raw),
            None => put_text(self.etag.as_str(), &mut out),
        }
        match &self.beside {
            Beside::Record(id, size) => {
                out.extend_from_slice(id);
                if let Some(size) = size {
                    put_number(*size, &mut out);
                }
            }
            Beside::Here(attributes) => {
                for (name, value) in attributes.iter() {
                    match NAMES.iter().position(|known| *known == name) {
                        Some(at) => out.push(at as u8 + 1),
                        None => {
                            out.push(0);
                            put_text(name, &mut out);
                        }
                    }
                    put_text(value, &mut out);
                }
            }
        }
        out
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` for anything else.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let (version, flags) = (reader.byte()?, reader.byte()?);
        if version != VERSION || flags & !(MD5 | RECORD | KNOWN_SIZE | GROWING) != 0 {
            return None;
        }
        let size = reader.number()?;
        let zigzag = reader.number()?;
        let seconds = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
        let nanoseconds = u32::try_from(reader.number()?).ok().filter(|n| *n < 1_000_000_000)?;
        let etag = if flags & MD5 != 0 {
            let mut text = [0; 32];
            hex::encode_to_slice(reader.take(16)?, &mut text).ok()?;
            ETag::new(std::str::from_utf8(&text).ok()?)
        } else {
            ETag::new(reader.text()?)
        };
        let etag = etag.ok()?;
        let beside = if flags & RECORD != 0 {
            let id = reader.take(16)?.try_into().ok()?;
            let size = if flags & KNOWN_SIZE != 0 { Some(reader.number()?) } else { None };
            Beside::Record(id, size)
        } else {
            let mut attributes = Attributes::new();
            while !reader.0.is_empty() {
                let name = match reader.byte()? {
                    0 => reader.text()?,
                    code => NAMES.get(usize::from(code) - 1)?,
                };
                attributes.set(name, reader.text()?);
            }
            Beside::Here(attributes)
        };
        let (stamp, growing) = (Stamp { size, seconds, nanoseconds }, flags & GROWING != 0);
        reader.0.is_empty().then_some(Self { stamp, etag, beside, growing })
    }
}

/// An ETag that is an MD5 in lower-case hexadecimal, as its 16 bytes.
fn raw_md5(etag: &str) -> Option<[u8; 16]> {
    let mut raw = [0; 16];
    let lower = etag.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (lower && hex::decode_to_slice(etag, &mut raw).is_ok()).then_some(raw)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_plain_object_takes_about_60_bytes() {
        let stamp = Stamp { size: 4096, seconds: 1_800_000_000, nanoseconds: 999_999_999 };
        let attributes = [("content-type", "text/plain"), ("checksum.crc64nvme", "AAAAAAAAAAA=")].into_iter().collect();
        let etag = ETag::new("d41d8cd98f00b204e9800998ecf8427e").unwrap();
        let bytes = Meta { stamp, etag, beside: Beside::Here(attributes), growing: false }.encode();
        assert!(bytes.len() <= 60, "{}", bytes.len());
    }

    proptest! {
        #[test]
        fn reads_what_it_wrote(
            size: u64, seconds: i64, nanoseconds in 0u32..1_000_000_000, id: Option<([u8; 16], Option<u64>)>,
            etag in prop_oneof!["[0-9a-f]{32}", "[0-9A-F]{32}", "[0-9a-f]{32}-[1-9]", "x"],
            growing: bool, pairs in proptest::collection::btree_map("(content-type|tags|[a-z.]{1,20})", ".{0,200}", 0..8),
        ) {
            let beside = id.map_or_else(|| Beside::Here(pairs.into_iter().collect()), |(id, size)| Beside::Record(id, size));
            let meta = Meta { stamp: Stamp { size, seconds, nanoseconds }, etag: ETag::new(etag).unwrap(), beside, growing };
            prop_assert_eq!(Meta::decode(&meta.encode()), Some(meta));
        }

        #[test]
        fn takes_any_bytes_without_a_panic(bytes: Vec<u8>) {
            let _ = Meta::decode(&bytes);
        }

        #[test]
        fn times_survive(seconds in -5_000_000_000i64..5_000_000_000, nanoseconds in 0u32..1_000_000_000) {
            let time = Stamp { size: 0, seconds, nanoseconds }.modified();
            let back = match time.duration_since(SystemTime::UNIX_EPOCH) {
                Ok(after) => i128::try_from(after.as_nanos()).unwrap(),
                Err(before) => -i128::try_from(before.duration().as_nanos()).unwrap(),
            };
            prop_assert_eq!(back, i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds));
        }
    }
}
