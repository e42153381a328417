//! Records of a log: a head with checksums, and what it tells.
//!
//! ```text
//! head, 24 bytes    length of the body u32 · flags u32 · CRC-64/NVME of the body u64 · CRC-64/NVME of the head u64
//! body              kind u8 · life u64 · and of a message: number u64 · created u64 · modified u64 · key · etag · count u32 of
//!                   attributes, name and value each · the message, to the end
//! ```
//! Numbers are little-endian, times nanoseconds since 1970, texts a length u32 and UTF-8.
//!
//! The checksum of a head covers where the record lies, and an identity of the log that nobody outside knows: neither bytes that another log
//! left on the disk nor a message that looks like a record is taken for one.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use sluice_provider::{Attributes, ETag, Key};

/// Bytes of a head.
pub(crate) const HEAD: usize = 24;
/// All that lies before this record had been flushed when it was written.
pub(crate) const FIRST: u32 = 1;

const MESSAGE: u8 = 1;
const DELETION: u8 = 2;

/// What tells this log from every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogId(pub(crate) [u8; 16]);

/// Where a record lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) log: LogId,
    pub(crate) segment: u64,
    pub(crate) offset: u64,
}

/// What a record tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Message(Message),
    /// A topic is gone. What its name means from now on is another life.
    Deletion {
        life: u64,
    },
}

/// A message, with what is to be known of its topic when it is the last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) life: u64,
    pub(crate) sequence: u64,
    pub(crate) created: SystemTime,
    pub(crate) modified: SystemTime,
    pub(crate) key: Key,
    pub(crate) etag: ETag,
    pub(crate) attributes: Attributes,
    pub(crate) bytes: Bytes,
}

fn crc(parts: &[&[u8]]) -> u64 {
    let mut digest = Digest::new(CrcAlgorithm::Crc64Nvme);
    for part in parts {
        digest.update(part);
    }
    digest.finalize()
}

fn head_crc(place: Place, head: &[u8]) -> u64 {
    crc(&[&place.log.0, &place.segment.to_le_bytes(), &place.offset.to_le_bytes(), head])
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    // No text here is near four gigabytes: keys, tags and headers are bounded far below.
    out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn nanoseconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

impl Record {
    /// Adds the record to `out`, which begins at `base`; answers how many bytes it has.
    pub(crate) fn encode(&self, out: &mut Vec<u8>, base: Place, flags: u32) -> u64 {
        let start = out.len();
        out.extend_from_slice(&[0; HEAD]);
        match self {
            Self::Deletion { life } => {
                out.push(DELETION);
                out.extend_from_slice(&life.to_le_bytes());
            }
            Self::Message(message) => {
                out.push(MESSAGE);
                let (created, modified) = (nanoseconds(message.created), nanoseconds(message.modified));
                for number in [message.life, message.sequence, created, modified] {
                    out.extend_from_slice(&number.to_le_bytes());
                }
                put_text(out, message.key.as_str());
                put_text(out, message.etag.as_str());
                let count = message.attributes.iter().count();
                out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
                for (name, value) in message.attributes.iter() {
                    put_text(out, name);
                    put_text(out, value);
                }
                out.extend_from_slice(&message.bytes);
            }
        }
        let record = &mut out[start..];
        let (head, body) = record.split_at_mut(HEAD);
        head[0..4].copy_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
        head[4..8].copy_from_slice(&flags.to_le_bytes());
        head[8..16].copy_from_slice(&crc(&[body]).to_le_bytes());
        let check = head_crc(Place { offset: base.offset + start as u64, ..base }, &head[..16]);
        head[16..24].copy_from_slice(&check.to_le_bytes());
        record.len() as u64
    }

    /// What a body tells; `None` for one that makes no sense. The message is a copy: it does not keep all that was read.
    fn decode(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let kind = reader.take(1)?[0];
        let life = reader.long()?;
        if kind == DELETION {
            return Some(Self::Deletion { life });
        }
        if kind != MESSAGE {
            return None;
        }
        let sequence = reader.long()?;
        let (created, modified) = (reader.time()?, reader.time()?);
        let (key, etag) = (Key::new(reader.text()?).ok()?, ETag::new(reader.text()?).ok()?);
        let mut attributes = Attributes::new();
        for _ in 0..reader.short()? {
            let (name, value) = (reader.text()?, reader.text()?);
            attributes.set(name, value);
        }
        let bytes = Bytes::copy_from_slice(reader.0);
        Some(Self::Message(Message { life, sequence, created, modified, key, etag, attributes, bytes }))
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn short(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn long(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn time(&mut self) -> Option<SystemTime> {
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(self.long()?))
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.short()?).ok()?;
        std::str::from_utf8(self.take(length)?).ok()
    }
}

/// A head that is whole: how long the body is, its checksum, and the flags.
fn head(bytes: &[u8], place: Place) -> Option<(usize, u64, u32)> {
    let head = bytes.get(..HEAD)?;
    let mut reader = Reader(head);
    let (length, flags) = (usize::try_from(reader.short()?).ok()?, reader.short()?);
    let (body, check) = (reader.long()?, reader.long()?);
    (head_crc(place, &head[..16]) == check).then_some((length, body, flags))
}

/// The record at the beginning of `bytes`, which lie at `place`, and its length; `None` when there is no whole one.
pub(crate) fn read(bytes: &[u8], place: Place) -> Option<(Record, usize)> {
    let (length, check, _) = head(bytes, place)?;
    let body = bytes.get(HEAD..HEAD.checked_add(length)?)?;
    if crc(&[body]) != check {
        return None;
    }
    Some((Record::decode(body)?, HEAD + length))
}

/// Whether somewhere after the beginning of `bytes`, which lie at `place`, a record begins before which all had been flushed.
pub(crate) fn flushed_before(bytes: &[u8], place: Place) -> bool {
    let at = |skip: usize| head(bytes.get(skip..)?, Place { offset: place.offset + skip as u64, ..place });
    (1..bytes.len().saturating_sub(HEAD - 1)).any(|skip| at(skip).is_some_and(|(_, _, flags)| flags & FIRST != 0))
}
